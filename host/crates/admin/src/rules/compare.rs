//! In what two JSON values differ.

use serde_json::Value;

use super::document::escaped;
use crate::shapes::Difference;

/// The most differences that are told.
const MOST: usize = 100;

/// Each place in which `after` is not what `before` is.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    note(Some(before), Some(after), String::new(), &mut found);
    found
}

fn note(before: Option<&Value>, after: Option<&Value>, pointer: String, found: &mut Vec<Difference>) {
    if before == after || found.len() >= MOST {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                note(old.get(key), new.get(key), format!("{pointer}/{}", escaped(key)), found);
            }
        }
        _ => found.push(Difference { pointer, before: before.cloned(), after: after.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: each difference is told once, at its place, with what was and what should be; none are made up.
    #[test]
    fn places() {
        let (before, after) =
            (json!({"a": {"b": 1, "c": [1]}, "d/e": 1}), json!({"a": {"b": 2, "c": [1]}, "f": null}));
        let found: Vec<_> =
            differences(&before, &after).into_iter().map(|it| (it.pointer, it.before, it.after)).collect();
        let expected = [
            ("/a/b", Some(json!(1)), Some(json!(2))),
            ("/d~1e", Some(json!(1)), None),
            ("/f", None, Some(json!(null))),
        ];
        assert_eq!(found, expected.map(|(pointer, before, after)| (pointer.to_owned(), before, after)));
        assert!(differences(&after, &after).is_empty());
        let many = |n: i32| Value::Object((0..1_000).map(|i| (i.to_string(), n.into())).collect());
        assert_eq!(differences(&many(1), &many(2)).len(), MOST);
    }
}
