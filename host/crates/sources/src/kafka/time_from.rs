//! When a record counts as received: when it came, or what it says itself, where its source was told to believe that.

use rdkafka::Message;
use tidegate_config::TimeFrom;

use super::headers;

/// The times that are believed: years 1970 to 9999, in microseconds. A point of any other could not be stored.
const BELIEVED_US: std::ops::Range<i64> = 0..253_402_300_800_000_000;

/// Finds the time of records.
#[derive(Debug)]
pub(super) struct Received(TimeFrom);

impl Received {
    pub(super) fn new(from: &TimeFrom) -> Self {
        Self(from.clone())
    }

    /// When `record` counts as received, in microseconds since 1970-01-01 UTC; `arrived_us` where it does not say, or says what cannot be.
    #[inline]
    pub(super) fn of(&self, record: &impl Message, arrived_us: i64) -> i64 {
        let said = match &self.0 {
            TimeFrom::Arrival => return arrived_us,
            TimeFrom::Record => record.timestamp().to_millis().and_then(|ms| ms.checked_mul(1_000)),
            TimeFrom::Header(name) => header(record, name),
        };
        said.filter(|us| BELIEVED_US.contains(us)).unwrap_or(arrived_us)
    }
}

fn header(record: &impl Message, name: &str) -> Option<i64> {
    let header = headers::of(record).find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    /// Guarantees: each place is looked at only where the source says so, and what cannot be a time is none.
    #[test]
    fn every_place() {
        let record = |timestamp: Timestamp, header: Option<&str>| {
            let headers = header.map(|value| OwnedHeaders::new().insert(Header { key: "at", value: Some(value) }));
            OwnedMessage::new(None, None, "fleet".into(), timestamp, 0, 0, headers)
        };
        let full = record(Timestamp::CreateTime(5), Some("7777"));
        let header = || TimeFrom::Header("at".into());
        for (from, record, expect) in [
            (TimeFrom::Arrival, &full, 1),
            (TimeFrom::Record, &full, 5_000),
            (header(), &full, 7_777),
            (TimeFrom::Header("other".into()), &full, 1),
            (TimeFrom::Record, &record(Timestamp::NotAvailable, None), 1),
            (TimeFrom::Record, &record(Timestamp::CreateTime(i64::MAX), None), 1),
            (header(), &record(Timestamp::NotAvailable, None), 1),
            (header(), &record(Timestamp::NotAvailable, Some("soon")), 1),
            (header(), &record(Timestamp::NotAvailable, Some("-5")), 1),
            (header(), &record(Timestamp::NotAvailable, Some("253402300800000000")), 1),
        ] {
            assert_eq!(Received::new(&from).of(record, 1), expect, "{from:?} in {record:?}");
        }
    }
}
