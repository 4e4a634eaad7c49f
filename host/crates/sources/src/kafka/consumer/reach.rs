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
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);

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
                self.reach = Reach::Down(Instant::now() + PROBE_EVERY);
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

    pub(super) fn reached(&mut self) {
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
        let Reach::Down(due) = self.reach else { return };
        if Instant::now() < due {
            return;
        }
        let topic = self.settings.topics.iter().find(|topic| !topic.starts_with('^'));
        let answer = client.fetch_metadata(topic.map(String::as_str), PROBE_TIMEOUT);
        if answer.is_ok_and(|metadata| topic.is_none() || metadata.topics().iter().all(|t| t.error().is_none())) {
            self.reached();
        } else {
            self.reach = Reach::Down(Instant::now() + PROBE_EVERY);
        }
    }
}
