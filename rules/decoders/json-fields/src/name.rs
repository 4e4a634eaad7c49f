//! Names of series, from the path of a leaf.

use tidegate_rule::Reason;
use tidegate_rule::json::{Json, Value};

/// Adds an array's index to a path.
pub(crate) fn push_index(path: &mut Vec<u8>, index: usize) {
    path.push(0);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = index;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    path.extend_from_slice(&digits[at..]);
}

/// `<topic>/<key>/<key>`: what cannot stand in a level of a topic (`/`, `+`, `#`, NUL) and `%` itself are
/// written as `%` and two hexadecimal digits, so that two leaves never share a name.
pub(crate) fn series_name(topic: &str, path: &[u8]) -> Result<String, Reason> {
    let mut name = String::with_capacity(topic.len() + path.len());
    name.push_str(topic);
    for raw in path.split(|byte| *byte == 0).skip(1) {
        name.push('/');
        let mut key = String::new();
        for character in unescaped(raw, &mut key)?.chars() {
            match character {
                '/' => name.push_str("%2F"),
                '+' => name.push_str("%2B"),
                '#' => name.push_str("%23"),
                '%' => name.push_str("%25"),
                '\0' => name.push_str("%00"),
                other => name.push(other),
            }
        }
    }
    Ok(name)
}

/// A key as it stands between its quotes, read.
fn unescaped<'s>(raw: &[u8], into: &'s mut String) -> Result<&'s str, Reason> {
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    let mut json = Json::new(&quoted);
    if json.value()? == Value::Text {
        let mut scratch = String::new();
        into.push_str(json.text().read(&mut scratch)?);
    }
    Ok(into)
}
