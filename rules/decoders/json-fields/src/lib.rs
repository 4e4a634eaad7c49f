//! Decodes JSON objects of many, possibly nested, fields: one series a leaf, named
//! `<topic>/<path of the leaf>`. Numbers and booleans are values, texts are texts, nulls say nothing.
//!
//! What a topic's messages look like is learnt: the path of a leaf is compared with the one that came
//! at that place in the message before, and its series is an index away. A name is built once a series.

mod labels;
mod name;
mod shape;

use serde::Deserialize;
use std::collections::BTreeMap;
use tidegate_rule::json::{Json, Key, Number, Text, Value};
use tidegate_rule::{About, Decoder, Message, Out, PerTopic, Quality, Reason, SeriesHandle, TimeUnit};

use crate::labels::Labels;
use crate::shape::{Paths, Place, Shape};

/// Which leaves become series, and when they were measured.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Keys of the time since 1970-01-01 UTC at the top of the object; the first that is there counts.
    /// Without any the time received counts.
    time_keys: Vec<String>,
    /// What the time counts.
    time_unit: TimeUnit,
    /// What becomes of arrays.
    arrays: Arrays,
    /// Labels of every series, from levels of its topic (`{0}` is the first), headers or user properties of the message (`{header:site}`) and the key of a
    /// Kafka record (`{key}`).
    labels: BTreeMap<String, String>,
    /// How deep objects and arrays may be nested; a message that is deeper is rejected.
    max_depth: usize,
    /// How many leaves a message may have; one that has more is rejected.
    max_fields: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            time_keys: vec!["ts".to_owned(), "timestamp".to_owned()],
            time_unit: TimeUnit::Ms,
            arrays: Arrays::Index,
            labels: BTreeMap::from([("user".to_owned(), "{1}".to_owned()), ("device".to_owned(), "{3}".to_owned())]),
            max_depth: 16,
            max_fields: 1_024,
        }
    }
}

/// What becomes of arrays.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arrays {
    /// Each element is a leaf, or a branch, by its index from 0.
    #[default]
    Index,
    /// They are passed over.
    Skip,
}

/// The decoder.
pub struct JsonFields {
    config: Config,
    time_keys: Vec<Key>,
    labels: Labels,
    shapes: PerTopic<Shape>,
    paths: Paths,
    /// Path of the leaf being read: keys as they stand in the payload, each behind a NUL, which no
    /// key can have.
    path: Vec<u8>,
    /// Where each open object or array begins in `path`, and what it is.
    open: Vec<Branch>,
    scratch: String,
    /// Counts messages; 0 is none.
    message: u32,
}

struct Branch {
    path_len: usize,
    kind: Kind,
}

enum Kind {
    Object,
    /// With the index of the next element.
    Array(usize),
}

impl Decoder for JsonFields {
    type Config = Config;
    const ABOUT: About = tidegate_rule::about!("JSON objects of many fields: one series a leaf")
        .topics(&["users/+/devices/+/telemetry"])
        .with_properties()
        .config_schema(include_str!("../config-schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        for (key, value, most) in [("max_depth", config.max_depth, 100), ("max_fields", config.max_fields, 10_000)] {
            if !(1..=most).contains(&value) {
                return Err(format!("{key} is {value}; it must be from 1 to {most}"));
            }
        }
        Ok(Self {
            labels: Labels::new(&config.labels)?,
            time_keys: config.time_keys.iter().map(|key| Key::new(key)).collect(),
            config,
            shapes: PerTopic::default(),
            paths: Paths::default(),
            path: Vec::new(),
            open: Vec::new(),
            scratch: String::new(),
            message: 0,
        })
    }

    fn decode(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<(), Reason> {
        let mut json = Json::new(message.payload);
        if json.value()? != Value::Object {
            return Err(Reason::from("the payload is not a JSON object"));
        }
        self.message = self.message.checked_add(1).unwrap_or_else(|| {
            // What was seen in messages of these numbers was seen in others.
            self.shapes = PerTopic::default();
            1
        });
        // Where headers give labels: other labels, and the fields are met anew.
        self.shapes.of(message).relabel(self.labels.print(message));
        self.path.clear();
        self.open.clear();
        self.open.push(Branch { path_len: 0, kind: Kind::Object });
        let mut time = None;
        let mut place = Place::default();
        while let Some(branch) = self.open.last_mut() {
            self.path.truncate(branch.path_len);
            let top = branch.path_len == 0;
            match &mut branch.kind {
                Kind::Object => {
                    if !json.key()? {
                        self.open.pop();
                        continue;
                    }
                    let key = json.text();
                    self.path.push(0);
                    self.path.extend_from_slice(key.raw());
                    if top && let Some(rank) = self.time_rank(key) {
                        let given = json.value()?;
                        self.note_time(given, &json, rank, &mut time)?;
                        continue;
                    }
                }
                Kind::Array(next) => {
                    if !json.element()? {
                        self.open.pop();
                        continue;
                    }
                    name::push_index(&mut self.path, *next);
                    *next += 1;
                }
            }
            let value = json.value()?;
            match value {
                Value::Null => {}
                Value::Number => self.number(json.number(), message, &mut place, out)?,
                Value::Bool(on) => {
                    let series = self.leaf(message, &mut place, out)?;
                    out.point(series, message.received_us, f64::from(u8::from(on)), Quality::GOOD);
                }
                Value::Text => self.text(json.text(), message, &mut place, out)?,
                Value::Array if self.config.arrays == Arrays::Skip => json.skip(value)?,
                Value::Array => self.descend(Kind::Array(0))?,
                Value::Object => self.descend(Kind::Object)?,
            }
        }
        json.end()?;
        if let Some((_, time_us)) = time {
            out.retime(time_us);
        }
        Ok(())
    }
}

impl JsonFields {
    fn number(
        &mut self,
        number: Number<'_>,
        message: &Message<'_>,
        place: &mut Place,
        out: &mut Out<'_>,
    ) -> Result<(), Reason> {
        let series = self.leaf(message, place, out)?;
        match number.beyond_float() {
            None => out.point(series, message.received_us, number.value, Quality::GOOD),
            Some(digits) => out.text(series, message.received_us, number.value, Quality::GOOD, digits),
        }
        Ok(())
    }

    fn text(
        &mut self,
        text: Text<'_>,
        message: &Message<'_>,
        place: &mut Place,
        out: &mut Out<'_>,
    ) -> Result<(), Reason> {
        let series = self.leaf(message, place, out)?;
        let text = text.read(&mut self.scratch)?;
        out.text(series, message.received_us, f64::NAN, Quality::GOOD, text);
        Ok(())
    }

    fn descend(&mut self, kind: Kind) -> Result<(), Reason> {
        if self.open.len() >= self.config.max_depth {
            return Err(Reason::from("it is nested deeper than max_depth"));
        }
        self.open.push(Branch { path_len: self.path.len(), kind });
        Ok(())
    }

    /// Which of the time keys this is, if one; the first in the list counts most.
    #[inline]
    fn time_rank(&self, key: Text<'_>) -> Option<usize> {
        self.time_keys.iter().position(|time| key.is(time))
    }

    fn note_time(
        &self,
        given: Value,
        json: &Json<'_>,
        rank: usize,
        time: &mut Option<(usize, i64)>,
    ) -> Result<(), Reason> {
        let time_us = match given {
            Value::Number => self.config.time_unit.to_us(json.number().value)?,
            Value::Null => return Ok(()),
            _ => return Err(Reason::from("the time is not a number")),
        };
        if time.is_none_or(|(before, _)| rank <= before) {
            *time = Some((rank, time_us));
        }
        Ok(())
    }

    /// The series of the leaf that `path` leads to.
    #[inline]
    fn leaf(&mut self, message: &Message<'_>, place: &mut Place, out: &mut Out<'_>) -> Result<SeriesHandle, Reason> {
        if place.leaves() >= self.config.max_fields {
            return Err(Reason::from("it has more leaves than max_fields"));
        }
        let shape = self.shapes.of(message);
        if let Some(series) = shape.expected(place, &self.path, &self.paths, self.message)? {
            return Ok(series);
        }
        let path = self.paths.intern(&self.path).ok_or(Reason::from(
            "it has a field never seen before, and there are too many different ones; are keys used as data?",
        ))?;
        if let Some(series) = shape.find(place, path, self.message)? {
            return Ok(series);
        }
        let name = name::series_name(message.topic(), &self.path)?;
        let series = self.labels.with(message, |labels| {
            let series = out.series(&name, None, labels);
            // It may be known by the labels of a message before.
            out.labels(series, labels);
            series
        });
        shape.add(place, path, series, self.message);
        Ok(series)
    }
}

tidegate_rule::export!(JsonFields as decoder);

#[cfg(test)]
mod tests;
