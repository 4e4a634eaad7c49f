//! `[dead_letters]`, and what keeps a copy of them from coming back as telemetry.

use super::Checker;
use crate::document::Place;
use crate::raw::RawDeadLetters;
use crate::settings::{Config, DeadLetters, SinkSettings, SourceSettings};

const SECONDS_A_DAY: u64 = 86_400;

impl Checker<'_> {
    pub(super) fn dead_letters(&mut self, place: &Place, raw: RawDeadLetters) -> DeadLetters {
        let mib: u64 = self.number(place, "max_mib", raw.max_mib, 1024, 1..=1_048_576);
        let days: u64 = self.number(place, "max_age_days", raw.max_age_days, 30, 1..=36_500);
        DeadLetters { max_bytes: mib << 20, max_age: std::time::Duration::from_secs(days * SECONDS_A_DAY) }
    }

    /// A copy of a dead letter that is taken in again dies again, and is copied again, without end.
    pub(super) fn no_dead_letter_circle(&mut self, config: &Config) {
        for (sink_name, sink) in &config.sinks {
            let SinkSettings::Mqtt(sink) = sink else { continue };
            let Some(prefix) = &sink.dead_letters else { continue };
            for (source_name, source) in &config.sources {
                let SourceSettings::Mqtt(source) = source else { continue };
                let (from, to) = (&source.endpoint, &sink.endpoint);
                if (&from.host, from.port) != (&to.host, to.port) {
                    continue;
                }
                let taken = source.subscriptions.iter().find(|s| reaches_below(s.filter.as_str(), prefix));
                if let Some(subscription) = taken {
                    let at = Place::default().key("sinks").key("mqtt").key(sink_name.as_str()).key("dead_letters");
                    self.error(
                        &at,
                        format!(
                            "the source `{source_name}` takes in what is published below `{prefix}`, by `{}`: a dead \
                             letter would come back, die again, and so on",
                            subscription.filter
                        ),
                        "choose levels that no source subscribes to, or narrow its `topics`",
                    );
                }
            }
        }
    }
}

/// Whether `filter` can match a topic that begins with the levels of `prefix` and has more.
fn reaches_below(filter: &str, prefix: &str) -> bool {
    let mut levels = filter.split('/');
    for level in prefix.split('/') {
        match levels.next() {
            Some("#") => return true,
            Some("+") => {}
            Some(literal) if literal == level => {}
            _ => return false,
        }
    }
    levels.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::reaches_below;

    /// Guarantees: every filter by which a copy could come back is found, and no other is refused.
    #[test]
    fn filters_that_reach_below() {
        for filter in ["#", "+/#", "site/#", "site/dead/#", "site/dead/+/x", "+/+/+", "site/dead/x"] {
            assert!(reaches_below(filter, "site/dead"), "{filter}");
        }
        for filter in ["site", "site/dead", "site/+", "dev/#", "site/alerts/#", "+/live/#"] {
            assert!(!reaches_below(filter, "site/dead"), "{filter}");
        }
    }
}
