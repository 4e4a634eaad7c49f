//! Configuration: JSON to the rule's own type, with every key accounted for. A key the rule does
//! not have is refused by name, because a misspelled limit that is silently ignored is a limit
//! that is not there.

use serde_json::Value;

use crate::about::config_schema;
use crate::rule::Rule;

/// A configured rule, or a sentence that names the key at fault.
pub(crate) fn configure<R: Rule>(config: &str) -> Result<R, String> {
    let text = if config.trim().is_empty() { "{}" } else { config };
    let value: Value =
        serde_json::from_str(text).map_err(|fault| format!("the configuration is not JSON: {fault}"))?;
    refuse_unknown_keys::<R>(&value)?;
    let config = serde_json::from_value(value).map_err(|fault| format!("configuration: {fault}"))?;
    R::new(config)
}

fn refuse_unknown_keys<R: Rule>(config: &Value) -> Result<(), String> {
    let Some(given) = config.as_object() else {
        return Err("the configuration must be a table of keys".to_owned());
    };
    let schema = config_schema::<R>();
    let open = schema.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
    // Flattened maps are open, and types without keys have no list of them; serde judges those.
    let known = match schema.get("properties").and_then(Value::as_object) {
        Some(known) if !open => known,
        _ => return Ok(()),
    };
    for key in given.keys() {
        if !known.contains_key(key) {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(format!("`{key}` is not a key of this rule; it has: {}", names.join(", ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
