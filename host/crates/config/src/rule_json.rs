//! A rule's file as JSON, as the API takes and gives it: the same keys, the same checks.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use tidegate_model::TopicFilter;

use crate::error::{ConfigError, ConfigErrors};
use crate::rule_file::RuleFile;

impl RuleFile {
    /// Checks a rule's file given as JSON; with its text. Mistakes have a pointer into the JSON, and no position.
    ///
    /// # Errors
    /// Every mistake that can be told at once.
    pub fn from_json(json: &Value, file_name: &str) -> Result<(Self, String), ConfigErrors> {
        let mut nulls = Vec::new();
        let table = match toml_of(json, "", &mut nulls) {
            Some(toml::Value::Table(table)) => table,
            _ => {
                let todo = "send an object, as in {\"module\": \"threshold.wasm\"}";
                return Err(ConfigErrors::unreadable(file_name, "a rule's file is an object".to_owned(), todo));
            }
        };
        let mistake = |pointer| ConfigError {
            file: file_name.to_owned(),
            position: None,
            pointer,
            what: "a rule's file has no null, and no number beyond 64 bits".to_owned(),
            todo: "leave the key out, or write the number as text".to_owned(),
        };
        ConfigErrors::none_of(nulls.into_iter().map(mistake).collect())?;
        let text = toml::to_string(&table)
            .map_err(|error| ConfigErrors::unreadable(file_name, error.to_string(), "send another value"))?;
        Self::parse(&text, file_name).map(|file| (file, text)).map_err(ConfigErrors::without_positions)
    }

    /// Its text, without what says the same as nothing.
    ///
    /// # Errors
    /// It says what cannot be written, which none that was read does.
    pub fn to_toml(&self) -> Result<String, ConfigErrors> {
        let whole = serde_json::to_value(self).unwrap_or_default();
        let bare = Value::Object(Map::from_iter([("module".to_owned(), self.module.clone().into())]));
        let defaults = Self::from_json(&bare, "").ok().and_then(|(file, _)| serde_json::to_value(file).ok());
        let short = without(&whole, &defaults.unwrap_or_default());
        // A limit that is not written can follow from one that is, so that what is a default by itself is none beside it.
        let mut all_limits = short.clone();
        all_limits["limits"] = whole["limits"].clone();
        for attempt in [short, all_limits] {
            match Self::from_json(&attempt, "") {
                Ok((same, text)) if same == *self => return Ok(text),
                _ => {}
            }
        }
        Self::from_json(&whole, "").map(|(_, text)| text)
    }
}

/// `whole` without what is the same in `defaults`; its module is kept.
fn without(whole: &Value, defaults: &Value) -> Value {
    let Value::Object(fields) = whole else { return whole.clone() };
    let kept = fields.iter().filter_map(|(key, value)| {
        let default = defaults.get(key);
        match (key.as_str(), value) {
            ("module", _) => Some((key.clone(), value.clone())),
            _ if default == Some(value) => None,
            ("limits", Value::Object(_)) => Some((key.clone(), without(value, default.unwrap_or(&Value::Null)))),
            _ => Some((key.clone(), value.clone())),
        }
    });
    Value::Object(kept.collect())
}

/// What TOML has no form for is noted in `nulls`.
fn toml_of(json: &Value, pointer: &str, nulls: &mut Vec<String>) -> Option<toml::Value> {
    let made = match json {
        Value::Null => None,
        Value::Bool(on) => Some(toml::Value::Boolean(*on)),
        Value::String(text) => Some(toml::Value::String(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => Some(toml::Value::Integer(whole)),
            (None, None, Some(number)) => Some(toml::Value::Float(number)),
            _ => None,
        },
        Value::Array(items) => {
            let items =
                items.iter().enumerate().filter_map(|(i, item)| toml_of(item, &format!("{pointer}/{i}"), nulls));
            return Some(toml::Value::Array(items.collect()));
        }
        Value::Object(fields) => {
            let entries = fields.iter().filter_map(|(key, value)| {
                let inner = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                toml_of(value, &inner, nulls).map(|value| (key.clone(), value))
            });
            return Some(toml::Value::Table(entries.collect()));
        }
    };
    if made.is_none() {
        nulls.push(pointer.to_owned());
    }
    made
}

pub(crate) fn filters<S: Serializer>(filters: &[TopicFilter], to: S) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(Some(filters.len()))?;
    filters.iter().try_for_each(|filter| list.serialize_element(filter.as_str()))?;
    list.end()
}

pub(crate) fn filters_or_none<S: Serializer>(all: &Option<Vec<TopicFilter>>, to: S) -> Result<S::Ok, S::Error> {
    all.as_ref().map(|all| all.iter().map(TopicFilter::as_str).collect::<Vec<_>>()).serialize(to)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: a file goes to JSON and back without a change, and what is a default is not written.
    #[test]
    fn there_and_back() {
        let text = "module = \"a.wasm\"\norder = 5\ntopics = [\"dev/#\"]\n[config]\nabove = 1.5\nlist = [1, \"x\"]\n[limits]\ncpu_ms = 1000\nwall_ms = 2000\n";
        let file = RuleFile::parse(text, "r.toml").unwrap();
        let written = file.to_toml().unwrap();
        assert_eq!(RuleFile::parse(&written, "r.toml").unwrap(), file, "{written}");
        assert!(written.contains("wall_ms = 2000") && !written.contains("enabled"), "{written}");
        let plain = RuleFile::parse("module = \"a.wasm\"\n[limits]\ncpu_ms = 10\n", "r.toml").unwrap();
        let limits = plain.to_toml().unwrap();
        assert!(limits.contains("cpu_ms = 10") && !limits.contains("memory_mib"), "{limits}");
        let (again, _) = RuleFile::from_json(&serde_json::to_value(&file).unwrap(), "r.toml").unwrap();
        assert_eq!(again, file);
    }

    /// Guarantees: each mistake says where in the JSON it is.
    #[test]
    fn mistakes_have_pointers() {
        let pointers = |json: Value| -> Vec<String> {
            RuleFile::from_json(&json, "r.toml").unwrap_err().iter().map(|error| error.pointer.clone()).collect()
        };
        assert_eq!(pointers(json!({"module": "a.wasm", "topics": ["a", "b/#/c"]})), ["/topics/1"]);
        assert_eq!(pointers(json!({"module": "a.wasm", "limits": {"cpu_ms": 0}})), ["/limits/cpu_ms"]);
        assert_eq!(pointers(json!({"module": "a.wasm", "config": {"a/b": [1, null]}})), ["/config/a~1b/1"]);
        assert_eq!(pointers(json!({"module": "../a.wasm"})), ["/module"]);
        assert_eq!(pointers(json!({"module": "a.wasm", "modul": 1})), ["/modul"]);
        assert_eq!(pointers(json!([1])), [""]);
    }
}
