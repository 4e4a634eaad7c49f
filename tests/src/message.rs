//! Messages, and what must have come of each when it was handled.

use std::fmt;
use std::ops::Range;

/// The time of the first reading: 2023-12-23, as in the examples of the documentation, in milliseconds since 1970.
const START_MS: u64 = 1_703_289_600_000;

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// What must come of it.
    pub expect: Expect,
}

/// What must come of a message.
#[derive(Clone, Debug)]
pub enum Expect {
    /// These rows, each once.
    Rows(Vec<Row>),
    /// A dead letter with its bytes.
    DeadLetter,
}

/// A row of the table of points, in a form that compares byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The series.
    pub topic: String,
    /// Microseconds since 1970. None where it is whenever the message came.
    pub time_us: Option<i64>,
    /// The bits of the number, if it is one.
    pub value: Option<u64>,
    /// The text, if there is one.
    pub text: Option<String>,
    /// OPC quality.
    pub quality: i64,
    /// The unit.
    pub unit: Option<String>,
}

impl Row {
    /// The number.
    pub fn number(&self) -> Option<f64> {
        self.value.map(f64::from_bits)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { topic, time_us, text, quality, unit, .. } = self;
        write!(f, "{topic} at {time_us:?}: {:?} {text:?} quality {quality} unit {unit:?}", self.number())
    }
}

impl Message {
    /// A message that nobody can use.
    pub fn poison(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic: topic.into(), payload: payload.into(), expect: Expect::DeadLetter }
    }
}

/// A reading of good quality, without a unit; no two of one `number` and topic.
pub fn plain(topic: &str, number: u64, value: f64) -> Message {
    let ts = START_MS + number;
    let row = Row {
        topic: topic.to_owned(),
        time_us: Some(ts as i64 * 1_000),
        value: Some(value.to_bits()),
        text: None,
        quality: 192,
        unit: None,
    };
    let payload = format!(r#"{{"v":{value},"ts":{ts}}}"#);
    Message { topic: topic.to_owned(), payload: payload.into_bytes(), expect: Expect::Rows(vec![row]) }
}

/// Readings of all kinds that `json-reading` takes, on `topics` topics of a plant; no two are alike. Values that a careless
/// path would change are among them: fractions of ten, integers beyond 2^53, texts, nulls, tenths of a millisecond.
pub fn readings(numbers: Range<u64>, topics: u64) -> Vec<Message> {
    numbers.map(|number| reading(number, number % topics)).collect()
}

fn reading(number: u64, tag: u64) -> Message {
    let topic = format!("dev/line{}/plc{}/tag{}", tag / 100, tag / 10 % 10, tag % 10);
    let (v, value, text) = value(number);
    let (q, quality) = match number % 5 {
        0 => (r#","q":"good""#, 192),
        1 => (r#","q":"Uncertain""#, 64),
        2 => (r#","q":"BAD""#, 0),
        3 => (r#","q":216"#, 216),
        _ => ("", 192),
    };
    // A unit belongs to its series: each topic has one, or none, and keeps it.
    let unit = [Some("°C"), None, Some("m³/h")][(tag % 3) as usize];
    let u = unit.map(|unit| format!(r#","u":"{unit}""#)).unwrap_or_default();
    let ts = START_MS + number;
    let (fraction, fraction_us) = if number.is_multiple_of(7) { (".125", 125) } else { ("", 0) };
    let row = Row {
        topic: topic.clone(),
        time_us: Some(ts as i64 * 1_000 + fraction_us),
        value: value.map(f64::to_bits),
        text,
        quality,
        unit: unit.map(str::to_owned),
    };
    let payload = format!(r#"{{"v":{v}{q},"ts":{ts}{fraction}{u}}}"#);
    Message { topic, payload: payload.into_bytes(), expect: Expect::Rows(vec![row]) }
}

/// A value as it is written, and the number and text it is.
fn value(number: u64) -> (String, Option<f64>, Option<String>) {
    match number % 16 {
        0 => ("true".into(), Some(1.0), None),
        1 => {
            let text = format!("läuft ✓ {number}");
            (format!("\"{text}\""), None, Some(text))
        }
        2 => {
            let beyond = (1_u64 << 53) + 1 + 2 * number;
            (beyond.to_string(), Some(beyond as f64), Some(beyond.to_string()))
        }
        3 => ("null".into(), None, None),
        4 => {
            let value = -(number as f64) * 1e-7;
            (format!("{value:e}"), Some(value), None)
        }
        _ => {
            let value = 20.0 + number as f64 * 0.1;
            (value.to_string(), Some(value), None)
        }
    }
}

/// Objects of several fields, as devices of people send them; each becomes four points.
pub fn fleet(numbers: Range<u64>, devices: u64) -> Vec<Message> {
    let message = |number: u64| {
        let device = number % devices;
        let topic = format!("users/u{}/devices/d{device}/telemetry", device / 3);
        let ts = START_MS + number;
        let (temp, level) = (15.0 + number as f64 * 0.3, number % 101);
        let payload = format!(
            r#"{{"ts":{ts},"temp":{temp},"battery":{{"level":{level},"charging":false}},"mode":"ride {number}"}}"#
        );
        let row = |path: &str, value: Option<f64>, text: Option<String>| Row {
            topic: format!("{topic}/{path}"),
            time_us: Some(ts as i64 * 1_000),
            value: value.map(f64::to_bits),
            text,
            quality: 192,
            unit: None,
        };
        let rows = vec![
            row("temp", Some(temp), None),
            row("battery/level", Some(level as f64), None),
            row("battery/charging", Some(0.0), None),
            row("mode", None, Some(format!("ride {number}"))),
        ];
        Message { payload: payload.into_bytes(), expect: Expect::Rows(rows), topic }
    };
    numbers.map(message).collect()
}

/// What must not pass for a reading, each on a topic of its own below `dev/`.
pub fn garbage() -> Vec<Message> {
    let deep = [&b"["[..]; 5_000].concat();
    let deep_value = format!("{{\"v\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("space", b" ".to_vec()),
        ("words", b"this is not json".to_vec()),
        ("cut", br#"{"v":1,"q":"go"#.to_vec()),
        ("trailing", br#"{"v":1} {"v":2}"#.to_vec()),
        ("array", b"[1,2,3]".to_vec()),
        ("number", b"12.5".to_vec()),
        ("no-value", br#"{"q":"good","ts":1703289600000}"#.to_vec()),
        ("object-value", br#"{"v":{"a":1}}"#.to_vec()),
        ("nan", br#"{"v":NaN}"#.to_vec()),
        ("infinity", br#"{"v":-Infinity}"#.to_vec()),
        ("text-time", br#"{"v":1,"ts":"yesterday"}"#.to_vec()),
        ("time-before-1970", br#"{"v":1,"ts":-1}"#.to_vec()),
        ("time-beyond", br#"{"v":1,"ts":1e300}"#.to_vec()),
        ("quality", br#"{"v":1,"q":"splendid"}"#.to_vec()),
        ("unit", br#"{"v":1,"u":7}"#.to_vec()),
        ("deep", deep),
        ("deep-value", deep_value.into_bytes()),
        ("nul", b"\0\0\0\0".to_vec()),
        ("not-utf-8", vec![0xff, 0xfe, 0x00, 0xc3, 0x28]),
        ("not-utf-8-text", b"{\"v\":\"\xc3\x28\"}".to_vec()),
        ("long", vec![b'x'; 256 << 10]),
        ("all-bytes", (0..=255).collect()),
    ];
    cases.into_iter().map(|(name, payload)| Message::poison(format!("dev/garbage/{name}"), payload)).collect()
}

/// What the `hostile` guest takes: a number, at whatever time it comes.
pub fn hostile(topic: &str, value: f64) -> Message {
    let row = Row {
        topic: topic.to_owned(),
        time_us: None,
        value: Some(value.to_bits()),
        text: None,
        quality: 192,
        unit: None,
    };
    Message { topic: topic.to_owned(), payload: value.to_string().into_bytes(), expect: Expect::Rows(vec![row]) }
}
