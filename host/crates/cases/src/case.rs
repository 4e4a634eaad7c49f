//! One case: what is given to a rule, step by step, and the lines that must come of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{CasesError, cut, words};
use crate::{MAX_BYTES, MAX_CASES, MAX_NAME_BYTES, VERSION};

/// OPC's "good", which a reading is unless it says otherwise.
const GOOD: u16 = 192;

/// All cases of a module.
#[derive(Debug, Default, PartialEq)]
pub struct Suite {
    /// In the order in which they are run.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, PartialEq)]
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// JSON, given to `configure`.
    pub config: String,
    /// What is given to the rule, in order.
    pub steps: Vec<Step>,
    /// What must come out: the lines of `expected.ndjson`.
    pub expected: Vec<Value>,
}

/// One call of a rule, or what happens between two.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// A batch of messages.
    Decode {
        /// The host's time.
        now_us: i64,
        /// At least one.
        rows: Vec<Message>,
    },
    /// A batch of readings.
    Process {
        /// The host's time.
        now_us: i64,
        /// At least one.
        rows: Vec<Reading>,
    },
    /// A tick at that time.
    Tick(i64),
    /// Its state is saved, and restored into a fresh instance that goes on.
    Restart,
}

/// A message.
#[derive(Debug, PartialEq)]
pub struct Message {
    pub topic: String,
    /// Microseconds since 1970-01-01 UTC, as all times here.
    pub received_us: i64,
    pub payload: Vec<u8>,
    /// User properties, headers and key, by name.
    pub properties: BTreeMap<String, String>,
}

/// A reading.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub topic: String,
    pub time_us: i64,
    /// NaN if none.
    pub value: f64,
    pub text: Option<String>,
    pub quality: u16,
    pub unit: Option<String>,
}

/// The document in the section.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSuite<'a> {
    pub version: u32,
    #[serde(borrow)]
    pub cases: Vec<RawCase<'a>>,
}

/// One case there. Lines are as they were in its files; one without anything, which ends a batch, is `null`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCase<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub config: Option<&'a RawValue>,
    #[serde(borrow)]
    pub input: Vec<Option<&'a RawValue>>,
    #[serde(borrow)]
    pub expected: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    topic: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    payload_hex: Option<String>,
    received_us: Option<i64>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    time_us: Option<i64>,
    now_us: Option<i64>,
    value: Option<f64>,
    text: Option<String>,
    quality: Option<u16>,
    unit: Option<String>,
    tick_us: Option<i64>,
    restart: Option<u64>,
}

impl Suite {
    /// What a section says. It may come from anybody: this takes time and memory in proportion to [`MAX_BYTES`], whatever stands there.
    ///
    /// # Errors
    /// It is too large, no document of ours, or a line of it says nothing that can be done.
    pub fn read(section: &[u8]) -> Result<Self, CasesError> {
        if section.len() > MAX_BYTES {
            return Err(CasesError::TooLarge(section.len()));
        }
        // First of all the version: what else a later one says is not known here.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let versioned: Versioned = serde_json::from_slice(section).map_err(|error| CasesError::malformed(&error))?;
        if versioned.version != VERSION {
            return Err(CasesError::Version(versioned.version));
        }
        let raw: RawSuite<'_> = serde_json::from_slice(section).map_err(|error| CasesError::malformed(&error))?;
        if raw.cases.len() > MAX_CASES {
            return Err(CasesError::TooMany(raw.cases.len()));
        }
        let mut names = BTreeSet::new();
        for RawCase { name, .. } in &raw.cases {
            let plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control);
            if !plain || !names.insert(name) {
                return Err(CasesError::Name(cut(name.to_string(), MAX_NAME_BYTES)));
            }
        }
        let cases = raw.cases.iter().map(Case::read).collect::<Result<_, _>>()?;
        Ok(Self { cases })
    }
}

impl Case {
    fn read(raw: &RawCase<'_>) -> Result<Self, CasesError> {
        let wrong =
            |file, line: usize, why| CasesError::Line { case: raw.name.to_string(), file, line: line + 1, why };
        let mut steps = Vec::new();
        let mut batch: Vec<Line<'_>> = Vec::new();
        for (at, line) in raw.input.iter().enumerate() {
            let wrong = |why| wrong("input.ndjson", at, why);
            let Some(line) = line else {
                steps.extend(batch_of(&mut batch).map_err(wrong)?);
                continue;
            };
            let line: Line<'_> = serde_json::from_str(line.get()).map_err(|error| wrong(words(&error)))?;
            let between = match (line.tick_us, line.restart) {
                (None, None) => None,
                (Some(now_us), None) if line.topic.is_none() => Some(Step::Tick(now_us)),
                (None, Some(_)) if line.topic.is_none() => Some(Step::Restart),
                _ => return Err(wrong("it is several things at once".to_owned())),
            };
            match between {
                Some(step) => {
                    steps.extend(batch_of(&mut batch).map_err(wrong)?);
                    steps.push(step);
                }
                None => batch.push(line),
            }
        }
        steps.extend(
            batch_of(&mut batch).map_err(|why| wrong("input.ndjson", raw.input.len().saturating_sub(1), why))?,
        );
        let expected = raw.expected.iter().enumerate().map(|(at, line)| {
            serde_json::from_str(line.get()).map_err(|error| wrong("expected.ndjson", at, words(&error)))
        });
        Ok(Self {
            name: raw.name.to_string(),
            config: raw.config.map_or("{}", RawValue::get).to_owned(),
            steps,
            expected: expected.collect::<Result<_, _>>()?,
        })
    }
}

/// The batch that these lines are, if there are any.
fn batch_of(lines: &mut Vec<Line<'_>>) -> Result<Option<Step>, String> {
    let lines = std::mem::take(lines);
    let times = lines.iter().flat_map(|line| [line.now_us, line.received_us, line.time_us]);
    let now_us = times.flatten().max().unwrap_or(0);
    Ok(match lines.first() {
        None => None,
        Some(first) if first.is_message() => {
            let rows = lines.into_iter().map(|line| line.message(now_us)).collect::<Result<_, _>>()?;
            Some(Step::Decode { now_us, rows })
        }
        Some(_) => {
            let rows = lines.into_iter().map(Line::reading).collect::<Result<_, _>>()?;
            Some(Step::Process { now_us, rows })
        }
    })
}

impl Line<'_> {
    fn is_message(&self) -> bool {
        self.payload.is_some() || self.payload_hex.is_some()
    }

    fn message(self, now_us: i64) -> Result<Message, String> {
        let payload = match (self.payload, &self.payload_hex) {
            // What is no text is its JSON.
            (Some(raw), None) => match raw.get() {
                text if text.starts_with('"') => {
                    serde_json::from_str::<String>(text).map_err(|error| words(&error))?.into_bytes()
                }
                json => json.as_bytes().to_vec(),
            },
            (None, Some(hex)) => unhex(hex).ok_or("`payload_hex` is not hexadecimal")?,
            _ => return Err("a line of a batch of messages has no `payload`, or two".to_owned()),
        };
        if self.time_us.is_some() || self.value.is_some() || self.text.is_some() {
            return Err("it is a message and a reading at once".to_owned());
        }
        let topic = self.topic.ok_or("a message without `topic`")?;
        let received_us = self.received_us.unwrap_or(now_us);
        Ok(Message { topic, received_us, payload, properties: self.properties })
    }

    fn reading(self) -> Result<Reading, String> {
        if self.is_message() {
            return Err("a batch is of messages or of readings: an empty line ends one".to_owned());
        }
        if !self.properties.is_empty() {
            return Err("a reading has no `properties`".to_owned());
        }
        Ok(Reading {
            topic: self.topic.ok_or("a reading without `topic`")?,
            time_us: self.time_us.ok_or("a reading without `time_us`")?,
            value: self.value.unwrap_or(f64::NAN),
            text: self.text,
            quality: self.quality.unwrap_or(GOOD),
            unit: self.unit,
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |&[high, low]: &[u8; 2]| Some((digit(high)? << 4 | digit(low)?) as u8);
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}

#[cfg(test)]
mod tests;
