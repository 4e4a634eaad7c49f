//! `exactly_once = "kafka"`: what it asks of the rest of the configuration.

use super::Checker;
use crate::document::Place;
use crate::settings::{Config, Offsets, SinkSettings, SourceSettings};

impl Checker<'_> {
    /// Has the Kafka sources give their offsets to the sink that stores them, where there is one.
    pub(super) fn exactly_once(&mut self, config: &mut Config) {
        let place = |kind: &str, kind_of: &str, name: &str| Place::default().key(kind).key(kind_of).key(name);
        let exact = config.sinks.iter().filter(|(_, sink)| match sink {
            SinkSettings::Timescale(sink) => sink.offsets == Offsets::WithPoints,
            _ => false,
        });
        let mut places = exact.map(|(name, _)| place("sinks", "timescale", name.as_str()).key("exactly_once"));
        let Some(first) = places.next() else { return };
        for other in places {
            let what = "two sinks cannot both be exact: after a crash one may have stored what the other has not";
            self.error(&other, what, "keep one of them");
        }
        let mut kafka = 0;
        for (name, source) in &mut config.sources {
            match source {
                SourceSettings::Kafka(source) => {
                    kafka += 1;
                    source.offsets = Offsets::WithPoints;
                    if !source.lane_by.keeps_partitions() {
                        let at = place("sources", "kafka", name.as_str()).key("lane_by");
                        let what =
                            "with exactly_once each Kafka partition keeps to one lane, so `lane_by` cannot choose";
                        self.error(
                            &at,
                            what,
                            "remove it, or write \"partition\"; records of one key are of one partition",
                        );
                    }
                }
                SourceSettings::Mqtt(_) => {
                    let what = format!("`exactly_once` does not hold for what comes from `{name}`");
                    self.warn(
                        &first,
                        what,
                        "nothing need be done: what comes by MQTT is stored at least once, as ever",
                    );
                }
            }
        }
        if kafka == 0 {
            let what = "there is no Kafka source, so there are no offsets to be stored";
            self.error(&first, what, "remove it, or add [sources.kafka.…]");
        }
    }
}
