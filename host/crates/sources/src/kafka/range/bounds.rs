//! Where a range begins and ends: asked of the brokers before anything is read.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tidegate_config::KafkaSource as Settings;

use super::progress::{RangeProgress, Stretch};
use crate::kafka::client::{self, Client, Context};

/// How long the brokers may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a range begins, or ends: then it is the first thing that does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The oldest record there is.
    Earliest,
    /// What comes after the newest record there is now.
    Latest,
    /// This offset of each partition.
    Offset(i64),
    /// The first record of each partition with this timestamp or a later one: milliseconds since 1970-01-01 UTC.
    Time(i64),
}

/// Why a range cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// librdkafka does not take the source's settings.
    #[error("librdkafka refuses the configuration: {0}; correct it under `client`")]
    Configuration(String),
    /// The brokers do not answer, or not as they should.
    #[error("Kafka at {brokers}: {what}; check that the brokers run, and that the topic is there")]
    Brokers {
        /// As configured.
        brokers: String,
        /// What they said.
        what: String,
    },
    /// The range to go on with names a partition that the topic has not.
    #[error("the topic {topic} has no partition {partition}")]
    Partition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
}

/// A range of one topic, known by offsets and not read yet.
pub struct KafkaRange {
    pub(super) client: Arc<Client>,
    pub(super) settings: Settings,
    pub(super) topic: String,
    pub(super) progress: Arc<RangeProgress>,
}

impl KafkaRange {
    /// Finds the range of `topic` at the cluster of `settings`, which also say what a record is. `resume` has the offsets to begin with where an
    /// earlier reading has come further than `from`. Blocks until the brokers have answered.
    ///
    /// # Errors
    /// The brokers cannot be asked, or there is no such topic.
    pub fn find(
        settings: Settings,
        topic: &str,
        (from, to): (Bound, Bound),
        resume: &BTreeMap<i32, i64>,
    ) -> Result<Self, RangeError> {
        let config = client::config(&settings);
        Self::find_by(config, settings, topic, (from, to), resume)
    }

    /// The same by a client of this configuration.
    pub(super) fn find_by(
        mut config: ClientConfig,
        settings: Settings,
        topic: &str,
        (from, to): (Bound, Bound),
        resume: &BTreeMap<i32, i64>,
    ) -> Result<Self, RangeError> {
        // librdkafka wants a name; nothing is ever committed under it, and nobody joins.
        config
            .set("group.id", "tidegate-replay")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "0")
            .set("auto.offset.reset", "error");
        let client = Client::from_config_and_context(&config, Context::new(Arc::default()))
            .map_err(|error| RangeError::Configuration(client::describe(&error)))?;
        let brokers = settings.brokers.clone();
        let told =
            |error: KafkaError| RangeError::Brokers { brokers: brokers.clone(), what: client::describe(&error) };
        let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT).map_err(told)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let mut partitions: Vec<i32> = found.iter().flat_map(|found| found.partitions()).map(|p| p.id()).collect();
        partitions.sort_unstable();
        if partitions.is_empty() {
            return Err(RangeError::Brokers { brokers, what: format!("there is no topic {topic}") });
        }
        if let Some(partition) = resume.keys().find(|partition| !partitions.contains(partition)) {
            return Err(RangeError::Partition { topic: topic.to_owned(), partition: *partition });
        }
        let begins = at(&client, topic, &partitions, from).map_err(told)?;
        let ends = at(&client, topic, &partitions, to).map_err(told)?;
        let mut stretches = Vec::new();
        for partition in partitions {
            let (low, high) = client.fetch_watermarks(topic, partition, ANSWER_TIMEOUT).map_err(told)?;
            let place = |of: &BTreeMap<i32, i64>| of.get(&partition).copied();
            let begin = place(resume).or(place(&begins)).unwrap_or(if from == Bound::Latest { high } else { low });
            let end = place(&ends).unwrap_or(if to == Bound::Earliest { low } else { high });
            let deleted = deleted(place(resume), from, begin, (low, end));
            let begin = begin.clamp(low, high);
            stretches.push(Stretch::new(partition, begin, end.clamp(begin, high), deleted));
        }
        let progress = Arc::new(RangeProgress::new(stretches));
        Ok(Self { client: Arc::new(client), settings, topic: topic.to_owned(), progress })
    }

    /// How far it has come; also after it was handed over to be read.
    pub fn progress(&self) -> Arc<RangeProgress> {
        self.progress.clone()
    }
}

/// How many records of a range that begins at `begin` are not there any more, where the oldest that is there is `low`. None where nobody can know: a time before
/// that of the oldest record may be that of a record that was deleted, or of none that ever was.
fn deleted(resumed: Option<i64>, from: Bound, begin: i64, (low, end): (i64, i64)) -> Option<u64> {
    match (resumed, from) {
        (Some(wanted), _) | (None, Bound::Offset(wanted)) => Some((end.min(low) - wanted).max(0) as u64),
        (None, Bound::Time(_)) if begin <= low && low > 0 => None,
        (None, Bound::Time(_) | Bound::Earliest | Bound::Latest) => Some(0),
    }
}

/// The offset of a bound in each partition; none where it is the edge of what there is.
fn at(client: &Client, topic: &str, partitions: &[i32], bound: Bound) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let ms = match bound {
        Bound::Earliest | Bound::Latest => return Ok(BTreeMap::new()),
        Bound::Offset(offset) => return Ok(partitions.iter().map(|&partition| (partition, offset)).collect()),
        Bound::Time(ms) => ms,
    };
    let mut asked = TopicPartitionList::new();
    for &partition in partitions {
        asked.add_partition_offset(topic, partition, Offset::Offset(ms))?;
    }
    let answered = client.offsets_for_times(asked, ANSWER_TIMEOUT)?;
    let offset = |offset: Offset| match offset {
        Offset::Offset(offset) => offset,
        // There is none so late.
        _ => i64::MAX,
    };
    Ok(answered.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect())
}

impl FromStr for Bound {
    type Err = String;

    /// `earliest`, `latest`, `offset:<number>`, or a time as in RFC 3339.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Bound::Earliest),
            "latest" => return Ok(Bound::Latest),
            _ => {}
        }
        if let Some(number) = text.strip_prefix("offset:") {
            let offset = number.parse().ok().filter(|offset| *offset >= 0);
            return offset.map(Bound::Offset).ok_or_else(|| format!("`{number}` is no offset: write offset:1234"));
        }
        let time = humantime::parse_rfc3339_weak(text).ok();
        let ms = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        ms.and_then(|ms| i64::try_from(ms.as_millis()).ok()).map(Bound::Time).ok_or_else(|| {
            format!("`{text}` is no place: write earliest, latest, offset:1234, or a time (UTC) as in 2026-11-21T08:00:00Z")
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: how much of a range is deleted is known by offset, and not by a time that the oldest record there is may not be the first of.
    #[test]
    fn what_nobody_can_know() {
        let time = Bound::Time(1_000);
        let (oldest, of_all) = ((100, 500), (0, 500));
        assert_eq!(deleted(None, time, 100, oldest), None, "the first of that time may have been deleted");
        assert_eq!(deleted(None, time, 101, oldest), Some(0), "the one before it is there, and is older");
        assert_eq!(deleted(None, time, 0, of_all), Some(0), "nothing was ever deleted");
        assert_eq!(deleted(None, time, i64::MAX, oldest), Some(0), "there is none so late");
        assert_eq!(deleted(Some(40), time, 40, oldest), Some(60), "it was there when the replay was broken off");
        assert_eq!(deleted(None, Bound::Offset(40), 40, oldest), Some(60));
        assert_eq!(deleted(None, Bound::Offset(40), 40, (100, 70)), Some(30), "its end is deleted as well");
        assert_eq!(
            (deleted(None, Bound::Earliest, 100, oldest), deleted(None, Bound::Latest, 500, oldest)),
            (Some(0), Some(0))
        );
    }

    /// Guarantees: every way to name a place is understood, and what is none is answered with those there are.
    #[test]
    fn places() {
        let place = |text: &str| text.parse::<Bound>();
        assert_eq!(place("earliest"), Ok(Bound::Earliest));
        assert_eq!(place("latest"), Ok(Bound::Latest));
        assert_eq!(place("offset:12"), Ok(Bound::Offset(12)));
        assert_eq!(place("2023-12-23T00:00:00Z"), Ok(Bound::Time(1_703_289_600_000)));
        assert_eq!(place("2023-12-23 00:00:00.5"), Ok(Bound::Time(1_703_289_600_500)));
        for wrong in ["", "offset:-1", "offset:", "12", "yesterday", "1969-01-01T00:00:00Z"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
