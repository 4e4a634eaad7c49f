//! `dead-letters`, from a command line to what is printed and what is left in the file.

use std::sync::Arc;

use clap::Parser;
use tidegate_config::DeadLetters as Limits;
use tidegate_model::{DeadLetter, Delivery, ManualClock, Marks, Sink, Stage};

use super::*;

/// 2023-12-23T00:00:00Z, and an hour.
const T0: i64 = 1_703_289_600_000_000;
const HOUR: i64 = 3_600_000_000;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    action: Action,
}

/// A data directory with four letters, one an hour, the last an hour ago.
struct Desk {
    directory: tempfile::TempDir,
}

fn letter(n: u8, rule: Option<&str>, topic: &str, payload: &[u8]) -> DeadLetter {
    DeadLetter {
        source: "plant".into(),
        topic: topic.into(),
        received_us: T0,
        marks: if n == 2 { Marks::REPLAYED.0 } else { 0 },
        payload: payload.to_vec(),
        properties: vec![("site".into(), b"north".to_vec())],
        stage: if rule.is_some() { Stage::Decode } else { Stage::Route },
        rule: rule.map(Into::into),
        module: None,
        reason: format!("number {n}\nis \u{1b}[31mbad"),
        backtrace: None,
    }
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(T0));
        let limits = Limits { max_bytes: 1 << 30, max_age: std::time::Duration::from_secs(1 << 30) };
        let mut sink = DeadLetters::new(directory.path(), limits, clock.clone());
        let letters = [
            letter(1, Some("json-reading"), "dev/a", b"{broken"),
            letter(2, Some("json-fields"), "users/1/devices/2/telemetry", &[0xff, 0, b'A']),
            letter(3, None, "other", b"x"),
            letter(4, Some("json-reading"), "dev/b/c", b"y"),
        ];
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            for (hour, letter) in (0..).zip(letters) {
                clock.set(T0 + hour * HOUR);
                let delivery = Delivery { dead_letters: vec![letter], ..Delivery::default() };
                sink.write(&[Arc::new(delivery)]).await.unwrap();
            }
            sink.close().await;
        });
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        DeadLetters::path(self.directory.path())
    }

    fn run(&self, line: &str) -> Result<String, String> {
        let words = std::iter::once("dead-letters").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        act(&self.path(), &line.action, Form::Text, T0 + 4 * HOUR, &mut out).map_err(|error| format!("{error:#}"))?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// What a command prints.
    fn says(&self, line: &str) -> String {
        self.run(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// The ids that a listing has.
    fn ids(&self, filters: &str) -> Vec<i64> {
        let listed = self.says(format!("list --json {filters}").trim_end());
        let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap();
        listed.lines().map(id).collect()
    }
}

/// Guarantees: each filter chooses what it says, alone and together; pages go on where the last one ended.
#[test]
fn filters() {
    let desk = Desk::new();
    for (filters, ids) in [
        ("", vec![1, 2, 3, 4]),
        ("--rule json-reading", vec![1, 4]),
        ("--source plant --stage route", vec![3]),
        ("--source nobody", vec![]),
        ("--topic dev/#", vec![1, 4]),
        ("--topic dev/a", vec![1]),
        ("--since 2h", vec![3, 4]),
        ("--until 2h", vec![1, 2]),
        ("--since 2023-12-23T01:00:00Z --until 2023-12-23T02:00:00Z", vec![2]),
        ("--since 2023-12-24", vec![]),
        ("--reason NUMBER --rule json-fields", vec![2]),
        ("--limit 2", vec![3, 4]),
        ("--limit 2 --after 0", vec![1, 2]),
        ("--limit 2 --after 2", vec![3, 4]),
        ("--requested", vec![]),
    ] {
        assert_eq!(desk.ids(filters), ids, "{filters}");
    }
    for (line, complaint) in [
        ("list --since yesterday", "\"yesterday\" is no time; write an age"),
        ("list --stage dead", "choose from route, decode, process, sink"),
        ("list --topic a/#/b", "`#` must stand alone"),
        ("show 9", "there is no dead letter 9"),
        ("purge", "which letters?"),
        ("replay 1 --rule x", "not by both"),
    ] {
        let error = desk.run(line).unwrap_err();
        assert!(error.contains(complaint), "{line}: {error}");
    }
    assert_eq!(desk.ids("").len(), 4);
}

/// Guarantees: the table for people has a line a letter, in columns, and nothing that a sender could steer a terminal with.
#[test]
fn table() {
    let table = Desk::new().says("list");
    let expected =
        "      ID  DIED (UTC)           TOPIC                        STAGE    BY              BYTES  REASON
       1  2023-12-23 00:00:00  dev/a                        decode   json-reading        7  number 1 is  [31mbad
       2  2023-12-23 01:00:00  users/1/devices/2/telemetry  decode   json-fields         3  number 2 is  [31mbad
       3  2023-12-23 02:00:00  other                        route    -                   1  number 3 is  [31mbad
       4  2023-12-23 03:00:00  dev/b/c                      decode   json-reading        1  number 4 is  [31mbad
4 letters
";
    assert_eq!(table, expected);
    let desk = Desk::new();
    assert!(desk.says("list --limit 1").ends_with("1 of 4 letters; --limit and --after show more\n"));
    assert_eq!(desk.says("list --rule nobody"), "no dead letters that match\n");
}

/// Guarantees: one letter is shown whole: bytes as they are when they are asked for, for people when not, as JSON for scripts.
#[test]
fn show() {
    let desk = Desk::new();
    let expected = "id         2
topic      users/1/devices/2/telemetry
source     plant
received   2023-12-23T00:00:00.000000Z
died       2023-12-23T01:00:00.000000Z
stage      decode
by         json-fields
reason     number 2
           is  [31mbad
mark       replayed: it has died before
property   site = north
payload    3 bytes that are no text; --payload gives them all
       0  ff 00 41                                         ..A
";
    assert_eq!(desk.says("show 2"), expected);
    assert_eq!(desk.says("show 1 --payload"), "{broken");
    let json: serde_json::Value = serde_json::from_str(&desk.says("show 2 --json")).unwrap();
    assert_eq!((json["id"].as_i64(), json["payload_base64"].as_str()), (Some(2), Some("/wBB")));
    assert_eq!(json["marks"], serde_json::json!(["replayed"]));
}

/// Guarantees: an export has every letter that matches, and does not write over a file that is there.
#[test]
fn export_to_a_file() {
    let desk = Desk::new();
    let file = desk.directory.path().join("letters.ndjson");
    let line = format!("export --topic dev/# --output {}", file.display());
    assert!(desk.says(&line).starts_with("2 letters written to "));
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, desk.says("export --topic dev/#"));
    let topics: Vec<_> =
        written.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["topic"].clone()).collect();
    assert_eq!(topics, ["dev/a", "dev/b/c"]);
    assert!(desk.run(&line).unwrap_err().contains("name a new file"));
}

/// Guarantees: replay and purge do what they say to one, some or all, and say how many; a dry run does nothing.
#[test]
fn replay_and_purge() {
    let desk = Desk::new();
    assert!(desk.says("replay 3").starts_with("1 letter to be replayed"));
    assert_eq!(desk.says("replay --rule json-reading --json"), "{\"requested\":2,\"without_message\":0}\n");
    assert_eq!(desk.ids("--requested"), [1, 3, 4]);
    assert!(desk.says("list --requested").contains("(to be replayed) number 1"));
    assert_eq!(desk.says("replay --cancel 3 --json"), "{\"cancelled\":1}\n");
    assert_eq!(desk.ids("--requested"), [1, 4]);

    assert_eq!(desk.says("purge --dry-run --all"), "4 letters would be purged\n");
    assert_eq!(desk.says("purge --requested --compact"), "2 letters purged\n");
    assert_eq!(desk.ids(""), [2, 3]);
    assert_eq!(desk.says("purge 2 77 --json"), "{\"dry_run\":false,\"purged\":1}\n");
    assert_eq!(desk.says("purge --all"), "1 letter purged\n");
    assert_eq!(desk.says("list"), "no dead letters\n");
}

/// Guarantees: a host on which nothing has died yet has no dead letters, which is no error; a directory that is not there is one.
#[test]
fn nothing_has_died() {
    let directory = tempfile::tempdir().unwrap();
    let place = |path: PathBuf| Place { config: None, data_dir: Some(path) };
    let data_dir = place(directory.path().to_owned()).data_dir().unwrap();
    let desk = Desk { directory };
    assert_eq!(DeadLetters::path(&data_dir), desk.path());
    for line in ["list", "export", "replay --all", "purge --all --compact"] {
        desk.says(line);
    }
    assert!(!desk.path().exists(), "looking makes no file");
    assert!(place(desk.directory.path().join("nowhere")).data_dir().is_err());
}
