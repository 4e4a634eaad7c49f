//! Lines of NDJSON as rows: points for a processor, messages for a decoder.
//!
//! A point is `{"topic","time_us" or "time","value","text" or "value_str","quality","unit"}`, a message `{"topic","payload" or
//! "payload_base64" or "payload_hex","received_us" or "received","properties"}`: the forms in which the NDJSON sink, `tidegate dead-letters export` and the
//! test cases of rules have them. A payload that is not a string is its JSON. An alert's line is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use tidegate_engine::Kind;
use tidegate_model::{Books, Marks, Names, Page, Span};

use crate::shapes::Property;

/// The most of an error that is told.
const MAX_TOLD_BYTES: usize = 200;
/// OPC "good".
const GOOD: u16 = 192;

/// Reads lines.
pub(super) struct Lines {
    span: Span,
    kind: Kind,
    names: Names,
    number: u64,
}

/// A line, whichever of them it is.
#[derive(Deserialize)]
struct Line {
    topic: Option<String>,
    time_us: Option<i64>,
    time: Option<String>,
    #[serde(default)]
    value: Value,
    text: Option<String>,
    value_str: Option<String>,
    quality: Option<u16>,
    unit: Option<String>,
    payload: Option<Value>,
    payload_base64: Option<String>,
    payload_hex: Option<String>,
    received_us: Option<i64>,
    received: Option<String>,
    #[serde(default)]
    properties: Properties,
    point: Option<Box<Line>>,
    dead_letter: Option<Box<Line>>,
    alert: Option<serde::de::IgnoredAny>,
}

/// User properties, headers and key: each by itself in what hosts write, by name in test cases.
#[derive(Deserialize)]
#[serde(untagged)]
enum Properties {
    Each(Vec<Property>),
    ByName(BTreeMap<String, String>),
}

impl Default for Properties {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

impl Lines {
    pub fn new(span: Span, kind: Kind, books: Arc<Books>) -> Self {
        Self { span, kind, names: Names::new(books), number: 0 }
    }

    /// Puts the row of a line into `page`, or why there is none.
    pub fn take(&mut self, line: &[u8], page: &mut Page) {
        self.number += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        page.looked_at += 1;
        if let Err(why) = self.row(line, page) {
            let mut why = format!("line {}: {why}", self.number);
            why.truncate(why.floor_char_boundary(MAX_TOLD_BYTES));
            page.unreadable.push(why);
        }
    }

    fn row(&mut self, line: &[u8], page: &mut Page) -> Result<(), String> {
        let mut line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if line.alert.is_some() {
            return Ok(());
        }
        if let Some(inner) = line.point.take().or(line.dead_letter.take()) {
            line = *inner;
        }
        let topic = line.topic.take().ok_or("it has no `topic`")?;
        if topic.is_empty() || topic.len() > 65_535 || topic.contains(['#', '+', '\0']) {
            return Err("a topic has 1 to 65,535 bytes, and none of `#`, `+` and NUL".to_owned());
        }
        let is_message = line.payload.is_some() || line.payload_base64.is_some() || line.payload_hex.is_some();
        let at = match (is_message, self.kind) {
            (true, Kind::Decoder) => time(line.received_us, line.received.as_deref(), "received")?,
            (false, Kind::Processor) => time(line.time_us, line.time.as_deref(), "time")?,
            (false, Kind::Decoder) => return Err("it has no `payload`, and the rule is a decoder".to_owned()),
            (true, Kind::Processor) => return Err("it is a message, and the rule takes points".to_owned()),
        };
        let early = self.span.from_us.is_some_and(|from| at < from);
        let late = self.span.until_us.is_some_and(|until| at >= until);
        if early || late || !self.span.has_topic(&topic) {
            return Ok(());
        }
        if is_message { self.message(&topic, at, line, page) } else { self.point(&topic, at, line, page) }
    }

    fn message(&mut self, topic: &str, at: i64, mut line: Line, page: &mut Page) -> Result<(), String> {
        let given = std::mem::take(&mut line.properties);
        let properties = properties(&given)?;
        let payload = payload(line)?;
        let Some(topic) = self.names.topic(topic) else {
            page.nameless += 1;
            return Ok(());
        };
        let row = page.messages.push(topic, at, Marks::default(), &payload);
        properties.iter().for_each(|(key, value)| page.messages.properties.push(row, key, value));
        Ok(())
    }

    fn point(&mut self, topic: &str, at: i64, line: Line, page: &mut Page) -> Result<(), String> {
        let value = match line.value {
            Value::Null => f64::NAN,
            Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
            Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                return Err("`value` is a number, or null beside a `text`".to_owned());
            }
        };
        let Some(series) = self.names.series(topic, line.unit.as_deref()) else {
            page.nameless += 1;
            return Ok(());
        };
        page.points.push(series, at, value, line.quality.unwrap_or(GOOD));
        if let Some(text) = line.text.or(line.value_str) {
            page.points.texts.push(page.points.len() as u32 - 1, text.as_bytes());
        }
        Ok(())
    }
}

/// Microseconds, as they stand there or in words.
fn time(us: Option<i64>, words: Option<&str>, name: &str) -> Result<i64, String> {
    match (us, words) {
        (Some(us), _) => Ok(us),
        (None, Some(words)) => {
            let time = humantime::parse_rfc3339_weak(words).map_err(|error| format!("`{name}`: {error}"))?;
            let since = time.duration_since(std::time::UNIX_EPOCH);
            Ok(since.map_or_else(|before| -(before.duration().as_micros() as i64), |since| since.as_micros() as i64))
        }
        (None, None) => Err(format!("it has neither `{name}_us` nor `{name}`")),
    }
}

fn properties(all: &Properties) -> Result<Vec<(&str, Vec<u8>)>, String> {
    match all {
        Properties::Each(each) => {
            let value = |it: &Property| it.bytes().map_err(|(field, why)| format!("`{field}` of a property: {why}"));
            each.iter().map(|it| Ok((it.key.as_str(), value(it)?))).collect()
        }
        Properties::ByName(all) => {
            Ok(all.iter().map(|(key, value)| (key.as_str(), value.as_bytes().to_vec())).collect())
        }
    }
}

fn payload(line: Line) -> Result<Vec<u8>, String> {
    match (line.payload, line.payload_base64, line.payload_hex) {
        (Some(Value::String(text)), None, None) => Ok(text.into_bytes()),
        (Some(value), None, None) => Ok(value.to_string().into_bytes()),
        (None, Some(coded), None) => STANDARD.decode(coded).map_err(|error| format!("`payload_base64`: {error}")),
        (None, None, Some(hex)) => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
                [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
                _ => None,
            });
            pairs.collect::<Option<_>>().ok_or_else(|| "`payload_hex` is not hexadecimal".to_owned())
        }
        _ => Err("it has more than one payload".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Page {
        let span = Span { from_us: Some(0), until_us: Some(2_000_000_000_000_000), ..Span::default() };
        let mut lines = Lines::new(span, kind, Arc::new(Books::new(9)));
        let mut page = Page::default();
        text.lines().for_each(|line| lines.take(line.as_bytes(), &mut page));
        page
    }

    /// Guarantees: points as the NDJSON sink and as test cases write them are read, and so are gaps and texts.
    #[test]
    fn points() {
        let page = read(
            Kind::Processor,
            r#"{"point":{"topic":"a","time":"1970-01-01T00:00:01.5Z","value":1.5,"quality":64,"unit":"C"}}
{"topic":"a","time_us":7,"value":null,"text":"off"}
{"alert":{"rule":"x"}}
{"topic":"a","time_us":-1,"value":1}

{"topic":"b","time_us":8,"value":2}"#,
        );
        assert_eq!((page.points.time_us.as_slice(), page.unreadable.len()), (&[1_500_000, 7, 8][..], 0), "{page:?}");
        assert_eq!(
            (page.points.quality.as_slice(), page.points.texts.get(1)),
            (&[64, 192, 192][..], Some(&b"off"[..]))
        );
        assert_eq!(page.looked_at, 5, "the empty line is none");
    }

    /// Guarantees: messages with payloads in each of their forms are read.
    #[test]
    fn messages() {
        let page = read(
            Kind::Decoder,
            r#"{"topic":"a","payload":"x","received_us":1}
{"topic":"a","payload":{"v":1},"received_us":1}
{"dead_letter":{"topic":"a","payload_base64":"/wA=","received":"1970-01-01T00:00:00Z","source":"s"}}
{"topic":"a","payload_hex":"ff00","received_us":1}"#,
        );
        let payloads: Vec<&[u8]> = (0..page.messages.len()).map(|row| page.messages.payload.get(row)).collect();
        assert_eq!(payloads, [&b"x"[..], b"{\"v\":1}", b"\xff\x00", b"\xff\x00"], "{:?}", page.unreadable);
    }

    /// Guarantees: a message has its properties, whichever way they are written; one whose properties cannot be read is no row.
    #[test]
    fn with_properties() {
        let page = read(
            Kind::Decoder,
            r#"{"topic":"a","payload":"x","received_us":1,"properties":{"site":"north"}}
{"topic":"a","payload":"x","received_us":1}
{"dead_letter":{"topic":"a","payload":"x","received_us":1,"properties":[{"key":"k","value_base64":"/w=="},{"key":"k","value":"2"}]}}
{"topic":"a","payload":"x","received_us":1,"properties":[{"key":"k","value_base64":"?"}]}"#,
        );
        let of = |row| page.messages.properties.of(row).collect::<Vec<_>>();
        let second = vec![("k", &b"\xff"[..]), ("k", &b"2"[..])];
        assert_eq!([of(0), of(1), of(2)], [vec![("site", &b"north"[..])], vec![], second]);
        assert!(page.unreadable[0].contains("`value_base64` of a property"), "{:?}", page.unreadable);
    }

    /// Guarantees: what is no row is told by its line, shortly, and harms no other.
    #[test]
    fn what_is_no_row() {
        let long = "x".repeat(1_000);
        let bad = [
            "no json".to_owned(),
            "{}".to_owned(),
            r#"{"topic":"a/+","time_us":1}"#.to_owned(),
            r#"{"topic":"a"}"#.to_owned(),
            r#"{"topic":"a","time":"soon"}"#.to_owned(),
            r#"{"topic":"a","time_us":1,"value":"hot"}"#.to_owned(),
            r#"{"topic":"a","payload":"x","received_us":1}"#.to_owned(),
            format!("{{\"topic\":\"a\",\"quality\":\"{long}\"}}"),
        ];
        let page = read(Kind::Processor, &bad.join("\n"));
        assert_eq!((page.unreadable.len(), page.points.len()), (bad.len(), 0), "{:?}", page.unreadable);
        assert!(page.unreadable[7].starts_with("line 8: ") && page.unreadable.iter().all(|why| why.len() <= 200));
    }
}
