//! What a section says, and every way in which one says nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::pack;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn packed(files: &[(&str, &str)]) -> Result<Option<Suite>, CasesError> {
    pack(folder(files).path()).map(|document| document.map(|document| Suite::read(&document).unwrap()))
}

/// Guarantees: folders become steps in order: lines that follow each other are a batch, an empty line, a tick and a restart end it; a payload is
/// given as it is written; the cases are in the order of their names.
#[test]
fn folders_become_steps() {
    let input = r#"{"topic":"a","time_us":5,"value":1}
{"topic":"b","time_us":3,"text":"on","quality":64,"unit":"m"}

{"topic":"a","time_us":4,"now_us":9}
{"tick_us":10}
{"restart":64}
"#;
    let messages = "{\"topic\":\"t\",\"received_us\":7,\"payload\":{\"b\": 1,\"a\":2.50}}\n{\"topic\":\"t\",\"payload\":\"h\\u00e9\"}\n{\"topic\":\"t\",\"payload_hex\":\"fF00\",\"properties\":{\"site\":\"north\"}}\n";
    let suite = packed(&[
        ("b/input.ndjson", messages),
        ("b/expected.ndjson", ""),
        ("a/config.json", "{\n  \"above\": 1\n}\n"),
        ("a/input.ndjson", input),
        ("a/expected.ndjson", "{\"filtered\":0}\n\n{\"held\":1}\n"),
        ("not-a-folder", ""),
    ]);
    let [a, b] = <[Case; 2]>::try_from(suite.unwrap().unwrap().cases).unwrap();
    assert_eq!((a.name.as_str(), b.name.as_str(), b.config.as_str()), ("a", "b", "{}"));
    assert_eq!(serde_json::from_str::<Value>(&a.config).unwrap(), json!({"above": 1}));
    assert_eq!(a.expected, [json!({"filtered": 0}), json!({"held": 1})]);
    let [Step::Process { now_us: 5, rows }, Step::Process { now_us: 9, rows: last }, Step::Tick(10), Step::Restart] =
        &a.steps[..]
    else {
        panic!("{:?}", a.steps)
    };
    assert!(rows[0].value == 1.0 && rows[1].value.is_nan() && last[0].quality == GOOD);
    let on = &rows[1];
    assert_eq!((&*on.topic, on.time_us, on.text.as_deref(), on.quality), ("b", 3, Some("on"), 64));
    assert_eq!(on.unit.as_deref(), Some("m"));
    let [Step::Decode { now_us: 7, rows }] = &b.steps[..] else { panic!("{:?}", b.steps) };
    let payloads: Vec<&[u8]> = rows.iter().map(|row| &row.payload[..]).collect();
    assert_eq!(payloads, [&b"{\"b\": 1,\"a\":2.50}"[..], "hé".as_bytes(), &[255, 0]]);
    assert!(rows.iter().all(|row| row.received_us == 7));
    assert_eq!(rows.iter().map(|row| row.properties.len()).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(rows[2].properties["site"], "north");
}

/// Guarantees: a folder whose cases would be refused is refused when it is packed, with the case, the file and the line; no folder is no case.
#[test]
fn mistakes_are_told_with_their_place() {
    assert!(packed(&[]).unwrap().is_none());
    assert!(pack(std::path::Path::new("/nonexistent")).unwrap().is_none());
    let good = "{\"topic\":\"a\",\"time_us\":1}\n";
    for (input, expected, said) in [
        ("{\"topic\":\"a\"", "", "case `c`, line 1 of input.ndjson"),
        ("\n{\"topic\":\"a\",\"tpoic\":1}", "", "line 2 of input.ndjson: unknown field `tpoic`"),
        ("{\"topic\":\"a\"}", "", "a reading without `time_us`"),
        ("{\"topic\":\"a\",\"payload\":1}\n{\"topic\":\"a\",\"time_us\":1}", "", "no `payload`"),
        ("{\"topic\":\"a\",\"time_us\":1}\n{\"topic\":\"a\",\"payload\":1}", "", "an empty line ends one"),
        ("{\"topic\":\"a\",\"payload_hex\":\"0\"}", "", "not hexadecimal"),
        ("{\"topic\":\"a\",\"payload_hex\":\"0g\"}", "", "not hexadecimal"),
        ("{\"tick_us\":1,\"restart\":2}", "", "several things"),
        ("{\"tick_us\":1,\"topic\":\"a\"}", "", "several things"),
        (good, "{\"filtered\":0}\nnonsense", "case `c`, line 2 of expected.ndjson"),
    ] {
        let refused = packed(&[("c/input.ndjson", input), ("c/expected.ndjson", expected)]).unwrap_err().to_string();
        assert!(refused.contains(said), "{input}: {refused:?} does not say {said:?}");
    }
    let refused = packed(&[("c/input.ndjson", good)]).unwrap_err().to_string();
    assert!(refused.contains("expected.ndjson"), "{refused}");
}

/// Guarantees: whatever stands in a section, it is refused with a short reason, or read.
#[test]
fn hostile_sections() {
    let suite = |cases: &str| format!(r#"{{"version":1,"cases":[{cases}]}}"#);
    let case = |input: &str| suite(&format!(r#"{{"name":"c","input":[{input}],"expected":[]}}"#));
    let many = vec![r#"{"name":"c","input":[],"expected":[]}"#; MAX_CASES + 1].join(",");
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let named = |name: &str| suite(&format!(r#"{{"name":"{name}","input":[],"expected":[]}}"#));
    let long = "x".repeat(100_000);
    let payload = |json: &str| case(&format!(r#"{{"topic":"t","payload":{json}}}"#));
    for (section, said) in [
        (String::new(), "not what a build writes"),
        ("\u{0}garbage".to_owned(), "not what a build writes"),
        ("[1]".to_owned(), "not what a build writes"),
        (deep(MAX_BYTES / 2), "not what a build writes"),
        (" ".repeat(MAX_BYTES + 1), "262145 bytes"),
        (r#"{"version":2,"cases":[]}"#.to_owned(), "format 2"),
        (suite(&many), "there are 65"),
        (named(""), "name"),
        (named(&long), "name"),
        (named("a\\u0000b"), "name"),
        (suite(r#"{"name":"c","input":[],"expected":[]},{"name":"c","input":[],"expected":[]}"#), "there twice"),
        (suite(&format!(r#"{{"name":"c","input":[],"expected":[],"{long}":1}}"#)), "unknown field"),
        (case(&format!(r#"{{"{long}":1}}"#)), "unknown field"),
        (case(&deep(100_000)), "line 1 of input.ndjson"),
        (case(&format!(r#"{{"topic":"a","time_us":{}}}"#, "9".repeat(1_000))), "line 1 of input.ndjson"),
        (suite(&format!(r#"{{"name":"c","input":[],"expected":[{}]}}"#, deep(1_000))), "recursion limit"),
    ] {
        let refused = Suite::read(section.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains(said) && refused.len() < 600, "{}: {refused}", &section[..section.len().min(80)]);
    }
    assert!(Suite::read(&[0xff; 1_000]).is_err());
    // How deep a payload is, is the rule's business.
    let suite = Suite::read(payload(&deep(10_000)).as_bytes()).unwrap();
    assert!(matches!(&suite.cases[0].steps[..], [Step::Decode { rows, .. }] if rows[0].payload.len() == 20_000));
}
