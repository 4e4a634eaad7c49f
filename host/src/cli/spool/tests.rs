//! `spool`, from a command line to what is printed.

use std::sync::Arc;

use clap::Parser;
use tidegate_config::{SpoolSettings, WhenFull};
use tidegate_model::{
    Alert, Delivery, Description, ManualClock, PartitionId, Points, Severity, Spool, SpoolOrder, Transition, Wants,
};
use tidegate_spool::SpoolQueue;

use super::*;

/// 2023-12-23T00:00:00Z.
const T0: i64 = 1_703_289_600_000_000;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    action: Action,
}

/// A data directory with a spool `db` in which a point, a point with a text and an alert have stood for 90 s, in two records.
fn desk() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let books = Arc::new(Books::new(10));
    let description = Description { unit: Some("°C".into()), labels: Vec::new() };
    let series = books.intern_series("dev/a", PartitionId(0), description).unwrap();
    let settings = SpoolSettings { max_bytes: 1 << 30, when_full: WhenFull::HoldBack, order: SpoolOrder::Kept };
    let wants = Wants { points: true, alerts: true, ..Wants::default() };
    let clock = Arc::new(ManualClock::new(T0));
    let spool = SpoolQueue::new(directory.path(), "db", settings, wants, books, clock).unwrap();
    let point = |value: f64, text: Option<&str>| {
        let mut points = Points::default();
        points.push(series, T0, value, 192);
        text.into_iter().for_each(|text| points.texts.push(0, text.as_bytes()));
        Delivery { points, from_row: vec![tidegate_model::NO_ROW], ..Delivery::default() }
    };
    let alert = Alert {
        rule: "hot".into(),
        topic: "dev/a".into(),
        key: "".into(),
        time_us: T0,
        transition: Transition::Raised,
        severity: Severity::Warning,
        value: 84.5,
        message: "hot".into(),
    };
    let second = Delivery { alerts: vec![alert], ..point(f64::NAN, Some("open")) };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        spool.append(&[Arc::new(point(84.5, None)), Arc::new(second)]).await.unwrap();
        spool.close().await;
    });
    directory
}

fn said(data_dir: &Path, line: &str) -> anyhow::Result<(ExitCode, String)> {
    let line = Line::try_parse_from(["spool"].into_iter().chain(line.split_whitespace()))?;
    let mut out = Vec::new();
    let code = act(data_dir, &line.action, T0 + 90_000_000, &mut out)?;
    Ok((code, String::from_utf8(out)?))
}

/// Guarantees: what waits is shown to people and to scripts, and a sink without a spool is told from those that have one.
#[test]
fn list_and_inspect() {
    let desk = desk();
    let (_, text) = said(desk.path(), "list").unwrap();
    let columns: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (columns[0][0], &columns[1][..2], &columns[1][4..]),
        ("SINK", &["db", "3"][..], &["1m", "30s", "-"][..])
    );
    let (_, text) = said(desk.path(), "inspect db").unwrap();
    assert!(text.contains("3 rows in 2 records") && text.contains("oldest       2023-12-23T00:00:00"), "{text}");
    let (_, text) = said(desk.path(), "inspect db --json").unwrap();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&object["sink"], &object["rows"], &object["last"]), (&"db".into(), &3.into(), &2.into()));
    let error = said(desk.path(), "inspect bd").unwrap_err().to_string();
    assert!(error.contains("no spool of a sink \"bd\"") && error.ends_with("there: db"), "{error}");
    let none = tempfile::tempdir().unwrap();
    assert!(said(none.path(), "list").unwrap().1.starts_with("no spools"));
}

/// Guarantees: every row leaves as JSON with the number of its record, and stays where it is.
#[test]
fn export_as_json() {
    let desk = desk();
    let (_, text) = said(desk.path(), "export db").unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["record"], &lines[0]["point"]["value"]), (&1.into(), &84.5.into()));
    assert_eq!((&lines[1]["point"]["value_str"], &lines[1]["point"]["unit"]), (&"open".into(), &"°C".into()));
    assert_eq!((&lines[2]["record"], &lines[2]["alert"]["rule"]), (&2.into(), &"hot".into()));
    assert_eq!(said(desk.path(), "export db --after 1").unwrap().1.lines().count(), 2);
    let file = desk.path().join("out.ndjson");
    let (_, said_of_file) = said(desk.path(), &format!("export db --output {}", file.display())).unwrap();
    assert!(said_of_file.starts_with("3 rows written to "), "{said_of_file}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
}

/// Guarantees: a sound spool verifies with code 0, and a flipped bit is named and makes it 1.
#[test]
fn verify_names_damage() {
    let desk = desk();
    let (code, text) = said(desk.path(), "verify").unwrap();
    assert_eq!((code, text.as_str()), (ExitCode::SUCCESS, "db: sound, 2 records\n"));
    let file = desk.path().join("spool/db.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(4).position(|four| four == b"open").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, text) = said(desk.path(), "verify db").unwrap();
    assert_eq!(code, ExitCode::FAILURE);
    assert!(text.contains("record 2: its checksum does not fit"), "{text}");
}
