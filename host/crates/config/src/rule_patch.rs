//! A merge patch (RFC 7396) of the text of a rule's file, which keeps the comments and the order of whoever wrote it.

use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value as TomlValue};

use crate::error::ConfigErrors;
use crate::rule_file::RuleFile;

impl RuleFile {
    /// The text of this file, which is that of `old` after `patch`: everything else in it, comments included, is as it was, where that can be.
    ///
    /// # Errors
    /// As [`RuleFile::to_toml`].
    pub fn patched(&self, old: &str, patch: &Value) -> Result<String, ConfigErrors> {
        match text(old, patch) {
            Some(text) if Self::parse(&text, "").is_ok_and(|file| file == *self) => Ok(text),
            _ => self.to_toml(),
        }
    }
}

/// None where the old text is no TOML, or the patch says what TOML cannot.
fn text(old: &str, patch: &Value) -> Option<String> {
    let mut document: DocumentMut = old.parse().ok()?;
    merge(document.as_table_mut(), patch.as_object()?)?;
    Some(document.to_string())
}

fn merge(table: &mut dyn TableLike, patch: &Map<String, Value>) -> Option<()> {
    for (key, new) in patch {
        match (new, table.get_mut(key)) {
            (Value::Null, _) => drop(table.remove(key)),
            (Value::Object(fields), Some(old)) if old.is_table_like() => merge(old.as_table_like_mut()?, fields)?,
            (Value::Object(fields), _) => {
                let mut made = Table::new();
                merge(&mut made, fields)?;
                table.insert(key, Item::Table(made));
            }
            (new, Some(Item::Value(old))) => {
                // The space and the comment around it.
                let decor = old.decor().clone();
                *old = value(new)?;
                *old.decor_mut() = decor;
            }
            (new, _) => drop(table.insert(key, Item::Value(value(new)?))),
        }
    }
    Some(())
}

fn value(json: &Value) -> Option<TomlValue> {
    Some(match json {
        Value::Null => return None,
        Value::Bool(on) => (*on).into(),
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None if number.is_f64() => number.as_f64()?.into(),
            None => return None,
        },
        Value::Array(items) => items.iter().map(value).collect::<Option<Array>>()?.into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| Some((key.as_str(), value(field)?)));
            fields.collect::<Option<InlineTable>>()?.into()
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    const OLD: &str = "# hot motors\nmodule = \"t.wasm\" # the module\norder = 100  # as all\n\n[config]\n# the line's own\nabove = 85.0 # °C\nnames = [\"a\"]\nband = { low = 1, high = 2 } # K\n";

    #[track_caller]
    fn check(patch: &Value, expected: &str) {
        let wanted = RuleFile::parse(expected, "r.toml").unwrap();
        assert_eq!(wanted.patched(OLD, patch).unwrap(), expected);
    }

    /// Guarantees: what a patch names changes, appears or goes, at any depth; every comment, the order and what only says the default stays.
    #[test]
    fn the_rest_stays() {
        check(&json!({"order": 7}), &OLD.replace("order = 100  #", "order = 7  #"));
        check(&json!({"config": {"above": 90.5}}), &OLD.replace("85.0", "90.5"));
        check(&json!({"config": {"names": ["a", "b"]}}), &OLD.replace("[\"a\"]", "[\"a\", \"b\"]"));
        check(&json!({"config": {"names": null}}), &OLD.replace("names = [\"a\"]\n", ""));
        check(&json!({"config": {"band": {"high": 3}}}), &OLD.replace("high = 2", "high = 3"));
        check(&json!({"limits": {"cpu_ms": 20}}), &format!("{OLD}\n[limits]\ncpu_ms = 20\n"));
        check(&json!({}), OLD);
    }

    /// Guarantees: a text that cannot be patched so that it says what is wanted is written anew.
    #[test]
    fn or_anew() {
        let wanted = RuleFile::parse("module = \"t.wasm\"\norder = 7\n", "r.toml").unwrap();
        for old in ["module = ", "module = \"other.wasm\" # ours\n"] {
            let text = wanted.patched(old, &json!({"order": 7})).unwrap();
            assert!(RuleFile::parse(&text, "r.toml").unwrap() == wanted && !text.contains('#'), "{text}");
        }
    }
}
