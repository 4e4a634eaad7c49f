//! Whether the cluster can be reached, what its errors lead to, and where partitions end that are not read.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::{Breach, Consumer, End};
use crate::kafka::client::{self, Client, Meaning};
use crate::kafka::lag::Ends;

/// How often a broker that was down is asked whether it is back, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often brokers are asked where paused partitions end, and how long the answer may take.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_TIMEOUT: Duration = Duration::from_millis(250);

/// Whether brokers can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Unknown,
    Up,
    /// Down, and when to ask next.
    Down(Instant),
    /// They are there and do not let us in; when to ask next.
    TurnedAway(Instant),
    /// They are, and a topic is not, or not for us; when to ask next. Records of others do not change that.
    Lacking(Instant),
}

impl Consumer {
    pub(super) fn failed(&mut self, error: &KafkaError) -> Option<End> {
        if self.stored.is_some() && error.rdkafka_error_code() == Some(Code::AutoOffsetReset) {
            let what = format!("a partition has not the offset that comes next: {}", client::describe(error));
            return Some(End::Broken(Breach { what, advice: "where to go on is asked anew" }));
        }
        match client::meaning(error) {
            Meaning::Passing => {
                tracing::debug!(source = %self.inlet.source(), %error, "librdkafka reports");
                None
            }
            Meaning::Down(advice) => {
                let (code, due) = (error.rdkafka_error_code(), Instant::now() + PROBE_EVERY);
                if matches!(self.reach, Reach::TurnedAway(_)) && code == Some(Code::AllBrokersDown) {
                    // That none is left follows from what was said, and tells less.
                    self.reach = Reach::TurnedAway(due);
                    return None;
                }
                self.reach = match code {
                    Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => Reach::TurnedAway(due),
                    Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed) => {
                        Reach::Lacking(due)
                    }
                    _ => Reach::Down(due),
                };
                self.down(&client::describe(error), advice);
                None
            }
            Meaning::Fatal => Some(End::Broken(Breach {
                what: client::describe(error),
                advice: "if it comes again, another member may use the same group.instance.id",
            })),
        }
    }

    /// Says that nothing comes, why, and what to do.
    pub(in crate::kafka) fn down(&self, what: &str, advice: &str) {
        let why = format!("Kafka at {}: {what}; {advice}", self.settings.brokers);
        if self.inlet.health().down(why.clone()) {
            tracing::warn!(source = %self.inlet.source(), "{why}; trying again");
        }
    }

    /// Something came, or may: the cluster is there.
    pub(super) fn heard(&mut self) {
        if !matches!(self.reach, Reach::Lacking(_)) {
            self.reached();
        }
    }

    fn reached(&mut self) {
        if self.reach != Reach::Up {
            self.reach = Reach::Up;
            self.inlet.health().up();
        }
    }

    /// Asks now and then where partitions end, all at a time: for how far we are behind, while nothing is fetched that would tell.
    pub(super) fn look_ahead(&mut self, client: &Client) {
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let mut asked = client::list(&self.assignment.all());
        let ends = asked.set_all_offsets(Offset::End).and_then(|()| client.offsets_for_times(asked, LOOK_TIMEOUT));
        match ends {
            Ok(ends) => client.context().they_end(Ends::of(&ends)),
            Err(error) => tracing::debug!(%error, "where partitions end is not known for now"),
        }
    }

    /// librdkafka tells when brokers go, not when they come back: ask, while they are gone.
    pub(super) fn probe(&mut self, client: &Client) {
        let (Reach::Down(due) | Reach::TurnedAway(due) | Reach::Lacking(due)) = self.reach else { return };
        if Instant::now() < due {
            return;
        }
        let named = self.settings.topics.iter().filter(|topic| !topic.starts_with('^')).map(String::as_str);
        let is_there = |topic: &str| {
            let answer = client.fetch_metadata(Some(topic), PROBE_TIMEOUT);
            answer.is_ok_and(|metadata| metadata.topics().iter().all(|t| t.error().is_none()))
        };
        let any_named = named.clone().next().is_some();
        let is_back = if any_named {
            named.clone().all(is_there)
        } else {
            // Of patterns it is enough that somebody answers.
            client.fetch_metadata(None, PROBE_TIMEOUT).is_ok()
        };
        if is_back {
            self.reached();
        } else if let Reach::Down(due) | Reach::TurnedAway(due) | Reach::Lacking(due) = &mut self.reach {
            *due = Instant::now() + PROBE_EVERY;
        }
    }
}
