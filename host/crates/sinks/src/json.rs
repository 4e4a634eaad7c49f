//! The JSON of messages, alerts, points and dead letters as sinks write it. One form each, wherever it goes.
//!
//! Times stand twice: `time` for people (RFC 3339, UTC, six digits) and `time_us` for programs (microseconds since
//! 1970-01-01 UTC). What there is not is absent, never `null`; JSON has no NaN and no infinity, so such values are absent too.
//!
//! ```json
//! {"rule":"overheat","topic":"dev/line1/oven/temp","transition":"raised","severity":"critical","value":104.2,
//!  "message":"104.2 °C is above 90 °C","time":"2023-12-23T00:00:00.000000Z","time_us":1703289600000000}
//! {"topic":"dev/line1/oven/temp","time":"2023-12-23T00:00:00.000000Z","time_us":1703289600000000,"value":84.5,
//!  "quality":192,"unit":"°C"}
//! {"source":"plant","topic":"dev/x","received":"2023-12-23T00:00:00.000000Z","received_us":1703289600000000,
//!  "marks":["retained"],"payload":"not json","stage":"decode","rule":"json-reading","reason":"expected a value"}
//! ```
//!
//! Bytes that are UTF-8 stand as text (`payload`, `value`), others as base64 (`payload_base64`, `value_base64`).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tidegate_model::{Alert, Books, Command, DeadLetter, Delivery, Marks, Severity, Transition};

use crate::time::Rfc3339;

/// An alert, as it is published on MQTT and written to NDJSON.
#[derive(Debug, Serialize)]
pub struct AlertJson<'a> {
    rule: &'a str,
    topic: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    transition: Transition,
    severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    message: &'a str,
    time: Rfc3339,
    time_us: i64,
}

impl<'a> From<&'a Alert> for AlertJson<'a> {
    fn from(alert: &'a Alert) -> Self {
        Self {
            rule: &alert.rule,
            topic: &alert.topic,
            key: &alert.key,
            transition: alert.transition,
            severity: alert.severity,
            value: finite(alert.value),
            message: &alert.message,
            time: Rfc3339(alert.time_us),
            time_us: alert.time_us,
        }
    }
}

/// A point. `quality` is the OPC quality: 192 is good, 64 uncertain, 0 bad.
#[derive(Debug, Serialize)]
pub struct PointJson<'a> {
    /// The series.
    pub topic: &'a str,
    /// When it was measured.
    pub time: Rfc3339,
    /// The same in microseconds.
    pub time_us: i64,
    /// The number, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The text, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_str: Option<&'a str>,
    /// OPC quality.
    pub quality: u8,
    /// The series' unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'a str>,
}

/// A message that a rule asked to have published.
#[derive(Debug, Serialize)]
pub struct CommandJson<'a> {
    rule: &'a str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    qos: u8,
    retain: bool,
}

impl<'a> From<&'a Command> for CommandJson<'a> {
    fn from(command: &'a Command) -> Self {
        let (payload, payload_base64) = text_or_base64(&command.payload);
        let Command { rule, topic, qos, retain, .. } = command;
        Self { rule, topic, payload, payload_base64, qos: *qos, retain: *retain }
    }
}

/// A message as it came.
#[derive(Debug, Serialize)]
pub struct MessageJson<'a> {
    source: &'a str,
    topic: &'a str,
    received: Rfc3339,
    received_us: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    marks: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<PropertyJson<'a>>,
}

impl<'a> MessageJson<'a> {
    /// The message in row `row` of a delivery's `origin`, if there is one.
    pub fn of(delivery: &'a Delivery, books: &'a Books, row: u32) -> Option<Self> {
        let (messages, i) = (&*delivery.origin, row as usize);
        let (payload, payload_base64) = text_or_base64(messages.payload.get(i));
        let received_us = *messages.received_us.get(i)?;
        Some(Self {
            source: delivery.source_of(row).map_or("", |name| name),
            topic: messages.topic_name(books, row).unwrap_or_default(),
            received: Rfc3339(received_us),
            received_us,
            marks: words(Marks(*messages.marks.get(i)?)),
            payload,
            payload_base64,
            properties: messages.properties.of(row).map(property).collect(),
        })
    }
}

/// A dead letter: its message, and why it died.
#[derive(Debug, Serialize)]
pub struct DeadLetterJson<'a> {
    #[serde(flatten)]
    message: MessageJson<'a>,
    stage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backtrace: Option<&'a str>,
}

/// A user property, header or key of a message.
#[derive(Debug, Serialize)]
struct PropertyJson<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> From<&'a DeadLetter> for DeadLetterJson<'a> {
    fn from(dead: &'a DeadLetter) -> Self {
        let (payload, payload_base64) = text_or_base64(&dead.payload);
        let message = MessageJson {
            source: &dead.source,
            topic: &dead.topic,
            received: Rfc3339(dead.received_us),
            received_us: dead.received_us,
            marks: words(Marks(dead.marks)),
            payload,
            payload_base64,
            properties: dead
                .properties
                .iter()
                .map(|(key, value)| property((key.as_str(), value.as_slice())))
                .collect(),
        };
        Self {
            message,
            stage: dead.stage.as_str(),
            rule: dead.rule.as_deref(),
            module: dead.module.as_deref(),
            reason: &dead.reason,
            backtrace: dead.backtrace.as_deref(),
        }
    }
}

fn property<'a>((key, value): (&'a str, &'a [u8])) -> PropertyJson<'a> {
    let (value, value_base64) = text_or_base64(value);
    PropertyJson { key, value, value_base64 }
}

fn words(marks: Marks) -> Vec<&'static str> {
    Marks::WORDS.iter().filter_map(|(mark, word)| marks.has(*mark).then_some(*word)).collect()
}

fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The number, where it is one that JSON can hold.
pub(crate) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Labels as a JSON object, keys in alphabetical order; of two with the same key the later counts.
pub(crate) fn labels(labels: &[(String, String)]) -> String {
    let object: BTreeMap<&str, &str> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    // A map of strings has no way to fail; were there one, no labels are better than no points.
    serde_json::to_string(&object).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tidegate_model::{Messages, Stage};

    /// Guarantees: the published form of an alert, byte for byte; other programs read it.
    #[test]
    fn alert_form() {
        let mut alert = Alert {
            rule: "overheat".into(),
            topic: "dev/oven".into(),
            key: "".into(),
            time_us: 1_703_289_600_000_000,
            transition: Transition::Raised,
            severity: Severity::Critical,
            value: 104.25,
            message: "hot".into(),
        };
        let json = |alert: &Alert| serde_json::to_string(&AlertJson::from(alert)).unwrap();
        let full = r#"{"rule":"overheat","topic":"dev/oven","transition":"raised","severity":"critical","value":104.25,"message":"hot","time":"2023-12-23T00:00:00.000000Z","time_us":1703289600000000}"#;
        assert_eq!(json(&alert), full);
        (alert.key, alert.value) = ("k".into(), f64::NAN);
        let without = r#"{"rule":"overheat","topic":"dev/oven","key":"k","transition":"raised","severity":"critical","message":"hot","time":"2023-12-23T00:00:00.000000Z","time_us":1703289600000000}"#;
        assert_eq!(json(&alert), without);
    }

    /// Guarantees: the form of a message as it came; a dead letter begins with the same.
    #[test]
    fn message_form() {
        let books = Books::new(1);
        let topic = books.intern_topic("dev/x", "dev/x").unwrap();
        let mut origin = Messages::default();
        origin.push(topic, 1, Marks::AT_MOST_ONCE, b"{}");
        let sources = vec![(0, "plant".into())];
        let delivery = Delivery { origin: origin.into(), sources, ..Delivery::default() };
        let form = r#"{"source":"plant","topic":"dev/x","received":"1970-01-01T00:00:00.000001Z","received_us":1,"marks":["qos0"],"payload":"{}"}"#;
        assert_eq!(serde_json::to_string(&MessageJson::of(&delivery, &books, 0).unwrap()).unwrap(), form);
        assert!(MessageJson::of(&delivery, &books, 1).is_none());
    }

    /// Guarantees: bytes that are no text are not lost in JSON, and what there is not is absent.
    #[test]
    fn dead_letter_form() {
        let dead = DeadLetter {
            source: "plant".into(),
            topic: "dev/x".into(),
            received_us: 0,
            marks: Marks::RETAINED.with(Marks::REPLAYED).0,
            payload: vec![0xff, 0x00],
            properties: vec![("k".into(), b"v".to_vec())],
            stage: Stage::Decode,
            rule: None,
            module: None,
            reason: "bad".into(),
            backtrace: None,
        };
        let form = r#"{"source":"plant","topic":"dev/x","received":"1970-01-01T00:00:00.000000Z","received_us":0,"marks":["retained","replayed"],"payload_base64":"/wA=","properties":[{"key":"k","value":"v"}],"stage":"decode","reason":"bad"}"#;
        assert_eq!(serde_json::to_string(&DeadLetterJson::from(&dead)).unwrap(), form);
    }
}
