//! The JSON Schemas.

use serde_json::Value;

use crate::{Config, RuleFile};

fn undocumented(schema: &Value, path: &str, out: &mut Vec<String>, seen: &mut usize) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                for (name, property) in properties {
                    *seen += 1;
                    // `{ header = "…" }` is one way to write a value: described as that, not as a key.
                    let way = properties.len() == 1 && object.contains_key("description");
                    if !way && property.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
                        out.push(format!("{path}.{name}"));
                    }
                }
            }
            for (key, value) in object {
                undocumented(value, &format!("{path}.{key}"), out, seen);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                undocumented(item, &format!("{path}[{i}]"), out, seen);
            }
        }
        _ => {}
    }
}

/// Guarantees: every key of both files has a description for whoever writes it in an editor.
#[test]
fn every_key_is_documented() {
    for (schema, least) in [(Config::json_schema(), 60), (RuleFile::json_schema(), 8)] {
        let (mut missing, mut seen) = (Vec::new(), 0);
        undocumented(&schema, "", &mut missing, &mut seen);
        assert_eq!(missing, Vec::<String>::new());
        assert!(seen >= least, "only {seen} keys were seen");
    }
}

/// Guarantees: the schema refuses unknown keys as the host does, and names what is required and its bounds.
#[test]
fn the_schema_is_strict() {
    let schema = Config::json_schema();
    assert_eq!(schema["additionalProperties"], false);
    let source = &schema["$defs"]["RawMqttSource"];
    assert_eq!(source["additionalProperties"], false);
    assert_eq!(source["required"], serde_json::json!(["url", "topics"]));
    assert_eq!(source["properties"]["connections"]["maximum"], 64);
    assert_eq!(schema["required"], serde_json::json!(["sources"]));
}
