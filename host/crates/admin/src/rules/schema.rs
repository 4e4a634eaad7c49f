//! A rule's configuration against the schema its module gives of it.

use jsonschema::Validator;
use serde_json::Value;

use crate::problem::{Mistake, Problem};

/// The most mistakes that are told.
const MOST: usize = 50;
/// The most of what a message repeats of the configuration.
const MOST_CHARS: usize = 300;

/// What in `config` is not as `schema` says, each with its place in the rule's definition. Nothing that a schema refers to is
/// fetched; one that cannot be used is the module's mistake.
pub(super) fn mistakes(schema: &Value, config: &Value) -> Result<Vec<Mistake>, Problem> {
    if schema.is_null() {
        return Ok(Vec::new());
    }
    let validator: Validator = jsonschema::draft202012::new(schema).map_err(|error| {
        Problem::unusable(
            "description",
            format!("the module's schema of its configuration cannot be used: {error}"),
            Vec::new(),
        )
    })?;
    let found = validator.iter_errors(config).take(MOST).map(|error| {
        let text: String = error.to_string().chars().take(MOST_CHARS).collect();
        Mistake::new(format!("/config{}", error.instance_path()), text)
    });
    Ok(found.collect())
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
        let mut pointers: Vec<&str> = found.iter().map(|mistake| mistake.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/config", "/config", "/config/limits/1/for_s"], "{found:?}");
        assert!(mistakes(&schema, &json!({"above": 5})).unwrap().is_empty());
        assert!(mistakes(&Value::Null, &json!({"any": 1})).unwrap().is_empty());
    }

    /// Guarantees: a schema that refers to elsewhere is refused, and nothing is asked for it.
    #[test]
    fn nothing_is_fetched() {
        for to in ["http://192.0.2.1/schema.json", "file:///etc/passwd"] {
            assert!(mistakes(&json!({"$ref": to}), &json!({})).is_err(), "{to}");
        }
    }
}
