//! `[sinks.…]`, all kinds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Checker;
use super::spool::{Needs, SpoolDefaults};
use crate::document::Place;
use crate::raw::{RawNdjsonSink, RawSinks, RawSqliteSink};
use crate::settings::{Name, NdjsonSink, SinkSettings, SpoolSettings, SqliteSink};

impl Checker<'_> {
    /// The sinks, and the spools of those that have one.
    pub(super) fn sinks(
        &mut self,
        place: &Place,
        raw: RawSinks,
        data_dir: &Path,
        defaults: SpoolDefaults,
    ) -> (BTreeMap<Name, SinkSettings>, BTreeMap<Name, SpoolSettings>) {
        let (mut sinks, mut spools) = (BTreeMap::new(), BTreeMap::new());
        let mut files: BTreeMap<PathBuf, Name> = BTreeMap::new();
        let mut claim = |this: &mut Self, at: &Place, name: &Name, path: &Path| {
            if let Some(other) = files.insert(path.to_owned(), name.clone()) {
                let what = format!("{} is written by the sink `{other}` too", path.display());
                this.error(&at.key("path"), what, "give each sink its own `path`");
            }
        };
        for (name, mut sink) in raw.sqlite {
            let at = place.key("sqlite").key(&name);
            let name = self.name(&at, &name);
            let spool = self.spool(&at, sink.spool.take(), defaults, Needs::OwnDisk);
            spools.extend(spool.map(|spool| (name.clone(), spool)));
            let settings = self.sqlite_sink(&at, &name, sink, data_dir);
            claim(self, &at, &name, &settings.path);
            self.add(&mut sinks, &at, name, SinkSettings::Sqlite(settings));
        }
        for (name, mut sink) in raw.timescale {
            let at = place.key("timescale").key(&name);
            let name = self.name(&at, &name);
            // What is acknowledged from a spool has not been stored together with its offset.
            let needs = if sink.exactly_once.is_some() { Needs::Transactions } else { Needs::NoOrder };
            let spool = self.spool(&at, sink.spool.take(), defaults, needs);
            spools.extend(spool.map(|spool| (name.clone(), spool)));
            let settings = self.timescale_sink(&at, sink);
            self.add(&mut sinks, &at, name, SinkSettings::Timescale(settings));
        }
        for (name, mut sink) in raw.mqtt {
            let at = place.key("mqtt").key(&name);
            let name = self.name(&at, &name);
            let spool = self.spool(&at, sink.spool.take(), defaults, Needs::Order);
            spools.extend(spool.map(|spool| (name.clone(), spool)));
            let settings = self.mqtt_sink(&at, &name, sink);
            self.add(&mut sinks, &at, name, SinkSettings::Mqtt(settings));
        }
        for (name, mut sink) in raw.kafka {
            let at = place.key("kafka").key(&name);
            let name = self.name(&at, &name);
            // Alerts and messages that come late must not come out of order.
            let in_order = sink.alerts.is_some() || sink.messages.is_some();
            let needs = if in_order { Needs::Order } else { Needs::NoOrder };
            let spool = self.spool(&at, sink.spool.take(), defaults, needs);
            spools.extend(spool.map(|spool| (name.clone(), spool)));
            let settings = self.kafka_sink(&at, sink);
            self.add(&mut sinks, &at, name, SinkSettings::Kafka(settings));
        }
        for (name, sink) in raw.ndjson {
            let at = place.key("ndjson").key(&name);
            let name = self.name(&at, &name);
            let settings = self.ndjson_sink(&at, sink);
            if let Some(path) = &settings.path {
                claim(self, &at, &name, path);
            }
            self.add(&mut sinks, &at, name, SinkSettings::Ndjson(settings));
        }
        for name in raw.discard.into_keys() {
            let at = place.key("discard").key(&name);
            let name = self.name(&at, &name);
            self.add(&mut sinks, &at, name, SinkSettings::Discard);
        }
        (sinks, spools)
    }

    fn sqlite_sink(&mut self, at: &Place, name: &Name, raw: RawSqliteSink, data_dir: &Path) -> SqliteSink {
        match raw.path {
            None => SqliteSink { path: data_dir.join(format!("{name}.db")) },
            Some(path) => SqliteSink { path: self.file(&at.key("path"), &path) },
        }
    }

    fn ndjson_sink(&mut self, at: &Place, raw: RawNdjsonSink) -> NdjsonSink {
        let (points, alerts) = (raw.points.unwrap_or(true), raw.alerts.unwrap_or(true));
        let dead_letters = raw.dead_letters.unwrap_or(false);
        if !(points || alerts || dead_letters) {
            self.error(at, "this sink would write nothing", "set one of `points`, `alerts`, `dead_letters` to true");
        }
        // "-" is how other tools say standard output.
        let path = raw.path.filter(|path| path != "-").map(|path| self.file(&at.key("path"), &path));
        NdjsonSink { path, points, alerts, dead_letters }
    }

    fn file(&mut self, at: &Place, path: &str) -> PathBuf {
        if path.is_empty() || path.ends_with('/') {
            self.error(at, "this is no name of a file", "write one, as in \"out/points.db\"");
        }
        self.path(path)
    }
}
