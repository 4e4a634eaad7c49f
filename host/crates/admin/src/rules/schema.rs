//! A rule's configuration against the schema its module gives of it.
//!
//! The schema is the module's, and so hostile: one of 64 KiB can make a validator work for ever, or recurse without end. So it is
//! evaluated in a child process with little time and memory, one at a time, and what it does there it does to nobody.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jsonschema::Validator;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_engine::{Bounds, Confined, Ended, serve_and_exit};

use crate::body::MAX_JSON_BYTES;
use crate::problem::{Mistake, Problem};

/// The most mistakes that are told.
const MOST: usize = 50;
/// The most of what a message repeats of the configuration.
const MOST_CHARS: usize = 300;
/// What one evaluation may take: honest ones take milliseconds, on a busy machine some time until they have them.
const BOUNDS: Bounds = Bounds {
    memory_bytes: 256 << 20,
    cpu: Duration::from_secs(3),
    wall: Duration::from_secs(20),
    patience: Duration::from_secs(60),
    answer_bytes: 1 << 20,
};
/// A schema of its largest and a configuration of its largest, and what is around them.
const MOST_GIVEN: u64 = 2 * MAX_JSON_BYTES as u64;

/// Evaluates schemas, one at a time.
pub(super) struct Schemas {
    child: Confined,
    one_at_a_time: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Question<S> {
    schema: S,
    config: S,
}

impl Schemas {
    pub fn new(child: Confined) -> Self {
        Self { child, one_at_a_time: Mutex::default() }
    }

    /// What in `config` is not as `schema` says, each with its place in the rule's definition. Blocks, for as long as that may take.
    pub fn mistakes(&self, schema: &Value, config: &Value) -> Result<Vec<Mistake>, Problem> {
        if schema.is_null() {
            return Ok(Vec::new());
        }
        let question = serde_json::to_vec(&Question { schema, config }).unwrap_or_default();
        let _alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        match self.child.run(&question, BOUNDS) {
            Ended::Answered(answer) => {
                let found: Vec<(String, String)> = serde_json::from_slice(&answer).map_err(|error| {
                    Problem::internal(format!("the schema's child cannot be understood: {error}"))
                })?;
                Ok(found.into_iter().map(|(pointer, detail)| Mistake::new(pointer, detail)).collect())
            }
            Ended::Refused(why) => Err(unusable(&String::from_utf8_lossy(&why))),
            Ended::ShortOfMemory(_) => Err(unusable("to evaluate it takes too much memory")),
            Ended::OutOfTime => Err(unusable("to evaluate it takes too long")),
            Ended::Broken(how) => Err(unusable(&format!("its evaluation ended without a result: {how}"))),
        }
    }
}

fn unusable(why: &str) -> Problem {
    let detail = format!("the module's schema of its configuration cannot be used: {why}");
    Problem::unusable("description", detail, Vec::new())
}

/// The child's side: a schema and a configuration on standard input, what is wrong on standard output. `memory_bytes` and `seconds` are the
/// last two arguments it was called with.
pub fn validate_and_exit(memory_bytes: u64, seconds: u64) -> ExitCode {
    serve_and_exit(memory_bytes, seconds, MOST_GIVEN, |given| {
        let Question { schema, config }: Question<Value> = serde_json::from_slice(given)?;
        Ok(mistakes(&schema, &config)
            .and_then(|found| serde_json::to_vec(&found).map_err(|error| error.to_string()))
            .map_err(String::into_bytes))
    })
}

/// Nothing that a schema refers to is fetched; one that cannot be used is the module's mistake.
fn mistakes(schema: &Value, config: &Value) -> Result<Vec<(String, String)>, String> {
    let validator: Validator = jsonschema::draft202012::new(schema).map_err(|error| short(&error.to_string()))?;
    let found = validator.iter_errors(config).take(MOST);
    Ok(found.map(|error| (format!("/config{}", error.instance_path()), short(&error.to_string()))).collect())
}

fn short(text: &str) -> String {
    text.chars().take(MOST_CHARS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: every mistake is told at once, with its place in the definition.
    #[test]
    fn each_with_its_place() {
        let schema = json!({
            "type": "object", "required": ["above"], "additionalProperties": false,
            "properties": {"above": {"type": "number"}, "limits": {"items": {"$ref": "#/$defs/limit"}}},
            "$defs": {"limit": {"type": "object", "properties": {"for_s": {"minimum": 0}}}}
        });
        let found = mistakes(&schema, &json!({"abov": 1, "limits": [{"for_s": 1}, {"for_s": -1}]})).unwrap();
        let mut pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/config", "/config", "/config/limits/1/for_s"], "{found:?}");
        assert!(mistakes(&schema, &json!({"above": 5})).unwrap().is_empty());
    }

    /// Guarantees: a schema that refers to elsewhere is refused, and nothing is asked for it.
    #[test]
    fn nothing_is_fetched() {
        for to in ["http://192.0.2.1/schema.json", "file:///etc/passwd"] {
            assert!(mistakes(&json!({"$ref": to}), &json!({})).is_err(), "{to}");
        }
    }
}
