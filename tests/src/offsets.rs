//! What a group of consumers has committed: as the brokers say it now, and, of Apache Kafka, every commit there was.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::in_time;
use crate::wait::{DEADLINE, wait_for};

/// Asks for the offsets of one group in one topic.
pub struct GroupOffsets {
    reader: BaseConsumer,
    asked: TopicPartitionList,
}

impl GroupOffsets {
    pub(crate) fn new(brokers: &str, group: &str, topic: &str, partitions: i32) -> Self {
        let reader = ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().unwrap();
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            asked.add_partition(topic, partition);
        }
        Self { reader, asked }
    }

    /// Of each partition; 0 for nothing yet.
    pub fn now(&self) -> Vec<i64> {
        let offset = |offset| if let Offset::Offset(number) = offset { number } else { 0 };
        let what = "the offsets of a group";
        let found = wait_for(what, DEADLINE, || match self.reader.committed_offsets(self.asked.clone(), DEADLINE) {
            Err(error) if is_for_now(&error) => Err(error),
            answer => Ok(in_time(what, answer)),
        });
        found.elements().iter().map(|element| offset(element.offset())).collect()
    }
}

/// A broker that has just begun may not coordinate the group yet.
fn is_for_now(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator].contains(&code))
}

/// Partition and offset of every commit of a group in a topic, in the order in which the coordinator took them: read from its own log, of which the server has
/// one partition.
pub(crate) fn commits(brokers: &str, group: &str, topic: &str) -> Vec<(i32, i64)> {
    const LOG: &str = "__consumer_offsets";
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "nobody").create().unwrap();
    let (_, end) = in_time("the end of the coordinator's log", reader.fetch_watermarks(LOG, 0, DEADLINE));
    let mut whole = TopicPartitionList::new();
    whole.add_partition_offset(LOG, 0, Offset::Beginning).unwrap();
    reader.assign(&whole).unwrap();
    let (mut all, mut next) = (Vec::new(), 0);
    while next < end {
        wait_for("the coordinator's log", DEADLINE, || {
            let Some(record) = reader.poll(Duration::from_millis(100)) else {
                return Err(format!("{next} of {end}"));
            };
            let record = record.unwrap();
            next = record.offset() + 1;
            all.extend(commit(record.key(), record.payload(), group, topic));
            Ok(())
        });
    }
    all
}

/// What a record of that log commits, if it is one of these: Apache Kafka, `OffsetCommitKey.json` and `OffsetCommitValue.json`.
fn commit(key: Option<&[u8]>, value: Option<&[u8]>, group: &str, topic: &str) -> Option<(i32, i64)> {
    let (version, rest) = key?.split_first_chunk()?;
    // From 2 on it is a record about the members of a group.
    if i16::from_be_bytes(*version) > 1 {
        return None;
    }
    let (its_group, rest) = text(rest)?;
    let (its_topic, rest) = text(rest)?;
    let partition = i32::from_be_bytes(*rest.first_chunk()?);
    let offset = i64::from_be_bytes(*value?.get(2..)?.first_chunk()?);
    (its_group == group.as_bytes() && its_topic == topic.as_bytes()).then_some((partition, offset))
}

/// A text with its length before it, and what follows it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)
}
