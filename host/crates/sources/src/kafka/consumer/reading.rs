//! What comes: events, one at a time, and records, many at a time.

use std::time::Duration;

use rdkafka::message::Message;
use tidegate_kafka_batch::{MOST, Record};
use tidegate_model::Marks;

use super::{Breach, Consumer, End, Intake};
use crate::kafka::assignment::Spot;
use crate::kafka::client::Member;

/// How long a poll may wait when nothing comes: the delay of settlements and of the phase.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// The same while parcels wait for room in a lane.
const BEHIND_WAIT: Duration = Duration::from_millis(2);
/// The most events taken before records are looked at.
const MOST_EVENTS: usize = 1_000;
/// The most records read before settlements are looked at.
const BURST: usize = 10_000;

impl Consumer {
    /// Takes what the client has to say beside records, rebalances among it. That is a poll as well: the group wants to see one, also while
    /// nothing is read. Waits so long for the first.
    pub(super) fn hear(&mut self, client: &Member, mut wait: Duration) -> Option<End> {
        for _ in 0..MOST_EVENTS {
            match client.poll(std::mem::take(&mut wait)) {
                None => {}
                // It would be taken out of its order, or left out.
                Some(Ok(record)) => {
                    let (topic, partition) = (record.topic(), record.partition());
                    let what = format!("a record of partition {partition} of {topic} came by the wrong queue");
                    return Some(End::Broken(Breach { what, advice: "the partition is read again by a new client" }));
                }
                Some(Err(error)) => {
                    let end = self.failed(&error);
                    if end.is_some() {
                        return end;
                    }
                }
            }
            if !client.has_events() {
                break;
            }
        }
        None
    }

    /// Takes what is at hand, waiting for the first, and hands it over.
    pub(super) fn read(&mut self, client: &Member) -> Option<End> {
        let mut wait = if self.parcels.is_empty() { IDLE_WAIT } else { BEHIND_WAIT };
        let (mut received_us, mut end) = (None, None);
        let mut left = BURST;
        while left > 0 && end.is_none() && !self.parcels.is_full() {
            let most = left.min(self.settings.max_in_flight.saturating_sub(self.assignment.in_flight())).min(MOST);
            let came = client.read(wait, most, |record| match record {
                // What is left here is read again by the next client.
                _ if end.is_some() => {}
                Ok(record) => {
                    let now = *received_us.get_or_insert_with(|| self.inlet.now_us());
                    self.take(&record, now);
                }
                Err(error) => end = self.failed(&error),
            });
            if came < most || most == 0 {
                break;
            }
            wait = Duration::ZERO;
            left -= came;
        }
        if end.is_some() {
            return end;
        }
        if received_us.is_some() {
            self.heard();
        }
        if self.parcels.try_send().is_err() {
            self.lanes_gone(client);
        }
        None
    }

    fn take(&mut self, record: &Record<'_>, received_us: i64) {
        if self.intake == Intake::Shut {
            return;
        }
        if self.state.is_some() && self.had_before((record.topic(), record.partition()), record.offset()) {
            return;
        }
        let spot = Spot { topic: record.topic_address(), partition: record.partition() };
        let Some(received) = self.assignment.receive_at(spot, record.offset(), || record.topic()) else {
            return;
        };
        let marks = if received.again { Marks::REDELIVERED } else { Marks::default() };
        let what = (marks, received_us, received);
        self.records.put(record, what, self.logs.as_mut(), &self.inlet, &mut self.parcels);
    }
}
