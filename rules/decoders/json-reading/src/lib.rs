//! Decodes `{"v":84.5,"q":"good","ts":1703289600000,"u":"°C"}`: one reading a message, the series
//! has the message's topic. It never guesses: what is not such an object is rejected with a reason.

use serde::Deserialize;
use tidegate_rule::json::{Json, Key, Number, Text, Value};
use tidegate_rule::{About, Decoder, Message, Out, Quality, Reason, TimeUnit};

/// Names of the keys, and the unit of time.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Key of the value: number, boolean, text or null.
    value_key: String,
    /// Key of the quality: a word (good, uncertain, bad) or an OPC number.
    quality_key: String,
    /// Key of the time since 1970-01-01 UTC.
    time_key: String,
    /// Key of the unit.
    unit_key: String,
    /// What the time counts.
    time_unit: TimeUnit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            value_key: "v".to_owned(),
            quality_key: "q".to_owned(),
            time_key: "ts".to_owned(),
            unit_key: "u".to_owned(),
            time_unit: TimeUnit::Ms,
        }
    }
}

/// The decoder.
pub struct JsonReading {
    value_key: Key,
    quality_key: Key,
    time_key: Key,
    unit_key: Key,
    time_unit: TimeUnit,
    scratch: String,
}

impl Decoder for JsonReading {
    type Config = Config;
    const ABOUT: About = tidegate_rule::about!("JSON readings: value, quality, time and unit in one object")
        .topics(&["dev/#"])
        .config_schema(include_str!("../config-schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        let keys = [&config.value_key, &config.quality_key, &config.time_key, &config.unit_key];
        for (at, key) in keys.iter().enumerate() {
            if key.is_empty() {
                return Err(
                    "a key is empty; give each of value_key, quality_key, time_key and unit_key a name".to_owned()
                );
            }
            if keys[..at].contains(key) {
                return Err(format!("`{key}` is the name of two keys; give each another"));
            }
        }
        Ok(Self {
            value_key: Key::new(&config.value_key),
            quality_key: Key::new(&config.quality_key),
            time_key: Key::new(&config.time_key),
            unit_key: Key::new(&config.unit_key),
            time_unit: config.time_unit,
            scratch: String::new(),
        })
    }

    fn decode(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<(), Reason> {
        let mut json = Json::new(message.payload);
        if json.value()? != Value::Object {
            return Err(Reason::from("the payload is not a JSON object"));
        }
        let mut kind = None;
        let mut number = Number::default();
        let mut text = Text::default();
        let mut quality = Quality::GOOD;
        let mut time_us = message.received_us;
        let mut unit = None;
        // A key given twice counts as last given, as in most JSON readers.
        while json.key()? {
            let key = json.text();
            let value = json.value()?;
            if key.is(&self.value_key) {
                kind = Some(value);
                number = json.number();
                text = json.text();
                json.skip(value)?;
            } else if key.is(&self.quality_key) {
                quality = read_quality(value, &json)?;
            } else if key.is(&self.time_key) {
                time_us = read_time(value, &json, self.time_unit, message.received_us)?;
            } else if key.is(&self.unit_key) {
                unit = match value {
                    Value::Text => Some(json.text()),
                    Value::Null => None,
                    _ => return Err(Reason::from("the unit is not a text")),
                };
            } else {
                json.skip(value)?;
            }
        }
        json.end()?;
        let kind = kind.ok_or(Reason::from("the object has no value"))?;
        let series = out.series_of(message);
        if let Some(unit) = unit
            && !unit.is(out.unit_of(series))
        {
            out.unit(series, unit.read(&mut self.scratch)?);
        }
        let (value, text) = match kind {
            Value::Number => (number.value, number.beyond_float()),
            Value::Bool(on) => (f64::from(u8::from(on)), None),
            Value::Null => (f64::NAN, None),
            Value::Text => (f64::NAN, Some(text.read(&mut self.scratch)?)),
            Value::Object | Value::Array => {
                return Err(Reason::from(
                    "the value is an object or array; a reading has one number, boolean or text",
                ));
            }
        };
        match text {
            None => out.point(series, time_us, value, quality),
            Some(text) => out.text(series, time_us, value, quality, text),
        }
        Ok(())
    }
}

/// Words in any case, or an OPC quality (OPC DA 3.0, section 6.8), of which the low byte counts.
#[inline]
fn read_quality(value: Value, json: &Json<'_>) -> Result<Quality, Reason> {
    let unknown = "the quality is none of good, uncertain, bad and OPC numbers";
    match value {
        Value::Text if json.text().is_word("good") => Ok(Quality::GOOD),
        Value::Text if json.text().is_word("uncertain") => Ok(Quality::UNCERTAIN),
        Value::Text if json.text().is_word("bad") => Ok(Quality::BAD),
        Value::Number => {
            let number = json.number().value;
            if (0.0..65_536.0).contains(&number) && number.fract() == 0.0 {
                Ok(Quality::from_opc((number as u16 & 0xFF) as u8))
            } else {
                Err(Reason::from(unknown))
            }
        }
        Value::Null => Ok(Quality::GOOD),
        _ => Err(Reason::from(unknown)),
    }
}

#[inline]
fn read_time(value: Value, json: &Json<'_>, unit: TimeUnit, received_us: i64) -> Result<i64, Reason> {
    match value {
        Value::Number => unit.to_us(json.number().value),
        Value::Null => Ok(received_us),
        _ => Err(Reason::from("the time is not a number")),
    }
}

tidegate_rule::export!(JsonReading as decoder);

#[cfg(test)]
mod tests;
