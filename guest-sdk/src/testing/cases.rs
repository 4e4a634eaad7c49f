//! Test cases as folders of files: `testcases/<case>/{config.json?, input.ndjson, expected.ndjson}`.
//!
//! A line of `input.ndjson` is a message `{"topic","payload" or "payload_hex","received_us","properties"}`, a
//! reading `{"topic","time_us","value" or "text","quality","unit"}`, `{"tick_us":…}`, or
//! `{"restart":…}`, which saves the state in parts of so many bytes and goes on in a fresh
//! instance. A payload that is not a string is its JSON. Lines that follow each other are one
//! batch; an empty line ends it. The host's time is the latest `received_us`, `time_us` or `now_us`
//! of the batch.
//!
//! A line of `expected.ndjson` is `{"point":…}`, `{"alert":…}`, `{"reject":{"row","reason"}}`,
//! `{"filtered":row}` or `{"held":row}`, batch by batch in this order; rows count from 0 over the
//! whole file, and points of a batch that passes unchanged are not listed. Quality is left out when
//! good, and value is null where there is none. With `TIDEGATE_BLESS=1` in the environment what came
//! out is written there.
#![allow(clippy::panic, reason = "a test harness tells of a failure by panicking")]

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::ops::Deref;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::quality::Quality;
use crate::rule::Rule;
use crate::testing::harness::RuleTest;
use crate::testing::schema;
use crate::testing::seen::{Input, Seen};

/// Runs every case under `<crate>/testcases`; pass `env!("CARGO_MANIFEST_DIR")`.
///
/// # Panics
/// When a case fails, cannot be read, or there is none; and when the text of [`crate::About::config_schema`] is not the schema of the configuration.
pub fn run_cases<R: Rule>(crate_directory: &str) {
    let folder = Path::new(crate_directory).join("testcases");
    let mut cases: Vec<_> = match fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect(),
        Err(fault) => panic!("no test cases in {}: {fault}", folder.display()),
    };
    cases.sort();
    assert!(!cases.is_empty(), "no test cases in {}", folder.display());
    let schema = schema::check::<R>(Path::new(crate_directory));
    let failures: Vec<String> =
        cases.iter().map(|case| run_case::<R>(case)).chain([schema]).filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn run_case<R: Rule>(case: &Path) -> Result<(), String> {
    let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read =
        |file: &str| fs::read_to_string(case.join(file)).map_err(|fault| format!("case {name}: {file}: {fault}"));
    let config = fs::read_to_string(case.join("config.json")).unwrap_or_default();
    let lines = case_lines::<R>(&config, &read("input.ndjson")?).map_err(|fault| format!("case {name}: {fault}"))?;
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        return fs::write(case.join("expected.ndjson"), text)
            .map_err(|fault| format!("case {name}: expected.ndjson: {fault}"));
    }
    let expected = read("expected.ndjson")?
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line).map_err(|fault| format!("case {name}: expected.ndjson: {fault}: {line}"))
        })
        .collect::<Result<Vec<Value>, String>>()?;
    for (at, (want, got)) in expected.iter().zip(&lines).enumerate() {
        if !same(want, got) {
            return Err(format!("case {name}, line {}:\n  expected {want}\n  came out {got}", at + 1));
        }
    }
    if expected.len() == lines.len() {
        return Ok(());
    }
    let first = expected.len().min(lines.len());
    Err(format!(
        "case {name}: {} lines expected and {} came out; from line {}:\n  expected {:?}\n  came out {:?}",
        expected.len(),
        lines.len(),
        first + 1,
        expected.get(first).map(Value::to_string),
        lines.get(first).map(Value::to_string),
    ))
}

/// Equal JSON, where 1 and 1.0 are the same number.
fn same(want: &Value, got: &Value) -> bool {
    match (want, got) {
        (Value::Number(want), Value::Number(got)) => match (want.as_i64(), got.as_i64()) {
            (Some(want), Some(got)) => want == got,
            _ => want.as_f64() == got.as_f64(),
        },
        (Value::Object(want), Value::Object(got)) => {
            want.len() == got.len() && want.iter().all(|(key, want)| got.get(key).is_some_and(|got| same(want, got)))
        }
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len() && want.iter().zip(got).all(|(want, got)| same(want, got))
        }
        _ => want == got,
    }
}

/// What comes out of a rule for the lines of an `input.ndjson`, as lines of an `expected.ndjson`.
///
/// # Errors
/// When a line of the input cannot be read.
///
/// # Panics
/// When the rule refuses the configuration, or the output is one the host refuses.
pub fn case_lines<R: Rule>(config: &str, input: &str) -> Result<Vec<Value>, String> {
    let mut rule = RuleTest::<R>::new(config);
    let mut out = Vec::new();
    let mut batch: Vec<Line<'_>> = Vec::new();
    let mut first_row = 0;
    let mut flush = |rule: &mut RuleTest<R>, batch: &mut Vec<Line<'_>>, out: &mut Vec<Value>| {
        if batch.is_empty() {
            return Ok(());
        }
        let seen = run_batch(rule, batch)?;
        tell(&seen, first_row, out);
        first_row += batch.len();
        batch.clear();
        Ok::<(), String>(())
    };
    for line in input.lines() {
        if line.trim().is_empty() {
            flush(&mut rule, &mut batch, &mut out)?;
            continue;
        }
        let line = Line::read(line)?;
        if let Some(now_us) = line.get("tick_us").and_then(Value::as_i64) {
            flush(&mut rule, &mut batch, &mut out)?;
            tell(&rule.tick(now_us), 0, &mut out);
        } else if let Some(bytes) = line.get("restart").and_then(Value::as_u64) {
            flush(&mut rule, &mut batch, &mut out)?;
            rule.restart(u32::try_from(bytes).unwrap_or(u32::MAX));
        } else {
            batch.push(line);
        }
    }
    flush(&mut rule, &mut batch, &mut out)?;
    Ok(out)
}

/// A line of the input.
struct Line<'a> {
    fields: Value,
    /// As it is written: a message's bytes are no other JSON of the same meaning.
    payload: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Written<'a> {
            #[serde(borrow)]
            payload: Option<&'a RawValue>,
        }
        let wrong = |fault| format!("input.ndjson: {fault}: {line}");
        let fields = serde_json::from_str(line).map_err(wrong)?;
        let Written { payload } = serde_json::from_str(line).map_err(wrong)?;
        Ok(Self { fields, payload })
    }
}

impl Deref for Line<'_> {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.fields
    }
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.fields.fmt(f)
    }
}

fn run_batch<R: Rule>(rule: &mut RuleTest<R>, batch: &[Line<'_>]) -> Result<Seen, String> {
    let now_us = batch
        .iter()
        .flat_map(|line| ["now_us", "received_us", "time_us"].map(|key| line.get(key).and_then(Value::as_i64)))
        .flatten()
        .max()
        .unwrap_or(0);
    let topic = |line: &'_ Value| line.get("topic").and_then(Value::as_str).map(str::to_owned);
    if batch.iter().any(|line| line.get("payload").is_some() || line.get("payload_hex").is_some()) {
        let rows = batch
            .iter()
            .map(|line| {
                let topic = topic(line).ok_or_else(|| format!("a message without topic: {line}"))?;
                let received_us = line.get("received_us").and_then(Value::as_i64).unwrap_or(now_us);
                Ok((topic, received_us, payload(line)?, properties(line)?))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let plain: Vec<_> = rows
            .iter()
            .map(|(topic, received_us, payload, _)| (topic.as_str(), *received_us, 0, payload.as_slice()))
            .collect();
        return Ok(rule.decode_with(now_us, &plain, |row| &rows[row].3[..]));
    }
    let readings = batch.iter().map(|line| reading(line)).collect::<Result<Vec<_>, String>>()?;
    Ok(rule.process(now_us, &readings))
}

fn properties(line: &Line<'_>) -> Result<Vec<(String, String)>, String> {
    let Some(given) = line.get("properties") else { return Ok(Vec::new()) };
    let given = given.as_object().ok_or_else(|| format!("`properties` are texts by name: {line}"))?;
    let text = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(|| format!("the property {name} is no text: {line}"))?;
        Ok((name.clone(), value.to_owned()))
    };
    given.iter().map(text).collect()
}

fn payload(line: &Line<'_>) -> Result<Vec<u8>, String> {
    if let Some(hex) = line.get("payload_hex").and_then(Value::as_str) {
        return hex
            .as_bytes()
            .chunks(2)
            .map(|pair| {
                std::str::from_utf8(pair)
                    .ok()
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                    .ok_or_else(|| format!("payload_hex is not hexadecimal: {line}"))
            })
            .collect();
    }
    match (line.get("payload"), line.payload) {
        (Some(Value::String(text)), _) => Ok(text.as_bytes().to_vec()),
        (_, Some(json)) => Ok(json.get().as_bytes().to_vec()),
        (_, None) => Err(format!("a message without payload: {line}")),
    }
}

fn reading(line: &Value) -> Result<Input<'_>, String> {
    let quality = line.get("quality").and_then(Value::as_u64).unwrap_or(192);
    Ok(Input {
        topic: line.get("topic").and_then(Value::as_str).ok_or_else(|| format!("a reading without topic: {line}"))?,
        time_us: line
            .get("time_us")
            .and_then(Value::as_i64)
            .ok_or_else(|| format!("a reading without time_us: {line}"))?,
        value: line.get("value").and_then(Value::as_f64).unwrap_or(f64::NAN),
        text: line.get("text").and_then(Value::as_str),
        quality: Quality::from_bits(u16::try_from(quality).map_err(|_| format!("quality is 16 bits: {line}"))?),
        unit: line.get("unit").and_then(Value::as_str),
    })
}

fn tell(seen: &Seen, first_row: usize, out: &mut Vec<Value>) {
    for point in &seen.points {
        let mut line = Map::new();
        line.insert("topic".to_owned(), point.topic.clone().into());
        line.insert("time_us".to_owned(), point.time_us.into());
        line.insert("value".to_owned(), point.value.into());
        if let Some(text) = &point.text {
            line.insert("text".to_owned(), text.clone().into());
        }
        if point.quality != Quality::GOOD.bits() {
            line.insert("quality".to_owned(), point.quality.into());
        }
        if let Some(unit) = &point.unit {
            line.insert("unit".to_owned(), unit.clone().into());
        }
        if !point.labels.is_empty() {
            let labels = point.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone())));
            line.insert("labels".to_owned(), Value::Object(labels.collect()));
        }
        out.push(json!({ "point": line }));
    }
    for alert in &seen.alerts {
        let mut line = json!({
            "topic": alert.topic,
            "time_us": alert.time_us,
            "transition": alert.transition,
            "severity": alert.severity,
            "value": alert.value,
            "message": alert.message,
        });
        if !alert.key.is_empty() {
            line["key"] = alert.key.clone().into();
        }
        out.push(json!({ "alert": line }));
    }
    for (row, reason) in &seen.rejects {
        out.push(json!({ "reject": { "row": first_row + row, "reason": reason } }));
    }
    for row in &seen.filtered {
        out.push(json!({ "filtered": first_row + row }));
    }
    for row in &seen.held {
        out.push(json!({ "held": first_row + row }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: a payload is the bytes that stand in the line, where they are JSON as well as where they are text.
    #[test]
    fn payloads_as_written() {
        for (line, bytes) in [
            (r#"{"topic":"a","payload":{"b": 1,"a":2.50}}"#, r#"{"b": 1,"a":2.50}"#),
            (r#"{"topic":"a","payload":"{\"b\": 1}"}"#, r#"{"b": 1}"#),
            (r#"{"topic":"a","payload_hex":"6869"}"#, "hi"),
        ] {
            assert_eq!(payload(&Line::read(line).unwrap()).unwrap(), bytes.as_bytes(), "{line}");
        }
        assert!(payload(&Line::read(r#"{"topic":"a"}"#).unwrap()).is_err());
    }
}
