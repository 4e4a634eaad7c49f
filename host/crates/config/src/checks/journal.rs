//! `journal = true`: what it asks of the rest of the configuration.

use super::Checker;
use crate::document::Place;
use crate::settings::{Config, Journal, Offsets, Qos, SinkSettings, SourceSettings};

impl Checker<'_> {
    pub(super) fn journal(&mut self, config: &Config) {
        let goes_back = config
            .sinks
            .values()
            .any(|sink| matches!(sink, SinkSettings::Timescale(sink) if sink.offsets == Offsets::WithPoints));
        for (name, source) in &config.sources {
            let (kind, journal) = match source {
                SourceSettings::Mqtt(source) => ("mqtt", source.journal),
                SourceSettings::Kafka(source) => ("kafka", source.journal),
            };
            if journal == Journal::Off {
                continue;
            }
            let place = Place::default().key("sources").key(kind).key(name.as_str());
            let at = place.key("journal");
            if goes_back {
                let what = "a database with `exactly_once` may give back what it had stored, and rules would have had that already";
                self.error(&at, what, "remove `journal`, or `exactly_once`");
            }
            match source {
                SourceSettings::Kafka(source) if !source.lane_by.keeps_partitions() => {
                    let what = "with journal each Kafka partition keeps to one lane, so `lane_by` cannot choose";
                    self.error(
                        &place.key("lane_by"),
                        what,
                        "remove it, or write \"partition\"; records of one key are of one partition",
                    );
                }
                SourceSettings::Mqtt(source) => {
                    if source.subscriptions.iter().any(|s| s.qos == Qos::AtMostOnce) {
                        let what = "`journal` does nothing for what is subscribed to at QoS 0: it never comes again";
                        self.warn(&at, what, "subscribe at QoS 1");
                    }
                    if source.share.is_some() {
                        let what = "of a shared subscription a broker may give to another host what this one has not acknowledged: that host's rules count it too";
                        self.warn(
                            &at,
                            what,
                            "nothing need be done if the broker keeps it for this one, as mosquitto does",
                        );
                    }
                }
                SourceSettings::Kafka(_) => {}
            }
        }
    }
}
