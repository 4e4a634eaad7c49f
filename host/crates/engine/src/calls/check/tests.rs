//! The contract is held against what a hostile guest might return.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use crate::bindings::telemetry::{Alerts, Rejects as RawRejects, TextsResult};
use crate::ids::IdMap;

fn map(series: u32) -> IdMap {
    let mut map = IdMap::default();
    (0..series).for_each(|id| {
        map.add(id + 100);
    });
    map
}

fn produced(series: &[u32], from_row: &[u32]) -> Produced {
    let rows = series.len();
    Produced {
        points: PointsResult {
            series: series.to_vec(),
            time_us: vec![0; rows],
            value: vec![0.0; rows],
            quality: vec![192; rows],
            texts: TextsResult { row: vec![], ends: vec![], bytes: vec![] },
        },
        from_row: from_row.to_vec(),
    }
}

fn decoded(made: Produced) -> decoder::Decoded {
    decoder::Decoded { made, rejects: no_rejects(), held: vec![], commands: vec![], wake_us: None }
}

fn no_rejects() -> RawRejects {
    RawRejects { row: vec![], reason: vec![], reasons: vec![] }
}

fn check(raw: decoder::Decoded) -> Result<Decoded, Fault> {
    let mut decoded = Checker { series: 3, rows: 4, most_rows_out: 8 }.decoded(raw)?;
    decoded.know(&map(3));
    Ok(decoded)
}

/// Guarantees: sound output passes, in the host's ids.
#[test]
fn sound_output_passes() {
    let made = check(decoded(produced(&[0, 2, 1], &[0, 0, 3]))).unwrap();
    assert_eq!(made.points.series, [SeriesId(100), SeriesId(102), SeriesId(101)]);
    assert_eq!(made.from_row, [0, 0, 3]);
}

/// Guarantees: each way to break the contract is a fault, and none panics.
#[test]
fn breaches_are_faults() {
    type Breach = fn(&mut decoder::Decoded);
    let breaches: [(&str, Breach); 15] = [
        ("short column", |d| d.made.points.value.truncate(1)),
        ("long column", |d| d.made.points.quality.push(0)),
        ("from-row length", |d| d.made.from_row.push(3)),
        ("from-row falls", |d| d.made.from_row = vec![3, 1]),
        ("from-row outside", |d| d.made.from_row = vec![0, 4]),
        ("no row", |d| d.made.from_row = vec![0, NO_ROW]),
        ("foreign series", |d| d.made.points.series[0] = 3),
        ("texts outside", |d| d.made.points.texts = TextsResult { row: vec![2], ends: vec![0], bytes: vec![] }),
        ("texts ends", |d| d.made.points.texts = TextsResult { row: vec![0], ends: vec![2], bytes: vec![65] }),
        ("texts not UTF-8", |d| {
            d.made.points.texts = TextsResult { row: vec![0], ends: vec![1], bytes: vec![0xff] };
        }),
        ("texts split", |d| {
            d.made.points.texts = TextsResult { row: vec![0, 1], ends: vec![1, 2], bytes: "é".into() };
        }),
        ("reject outside", |d| d.rejects = RawRejects { row: vec![4], reason: vec![0], reasons: vec!["x".into()] }),
        ("reason outside", |d| d.rejects = RawRejects { row: vec![2], reason: vec![1], reasons: vec!["x".into()] }),
        ("held and rejected", |d| {
            d.rejects = RawRejects { row: vec![2], reason: vec![0], reasons: vec!["x".into()] };
            d.held = vec![2];
        }),
        ("output from reject", |d| {
            d.rejects = RawRejects { row: vec![1], reason: vec![0], reasons: vec!["x".into()] };
        }),
    ];
    for (name, breach) in breaches {
        let mut raw = decoded(produced(&[0, 1], &[0, 1]));
        breach(&mut raw);
        let fault = check(raw).expect_err(name);
        assert_eq!(fault.kind, crate::FaultKind::BadOutput, "{name}");
    }
}

/// Guarantees: alert columns that disagree are a fault, and sound ones come out whole.
#[test]
fn alert_columns() {
    let alerts = |keys: &[&str]| Alerts {
        series: vec![1],
        time_us: vec![7],
        transition: vec![telemetry::Transition::Raised],
        severity: vec![telemetry::Severity::Critical],
        value: vec![91.0],
        key: vec![0],
        message_ends: vec![3],
        message_bytes: b"hot".to_vec(),
        keys: keys.iter().map(ToString::to_string).collect(),
    };
    let checker = Checker { series: 3, rows: 1, most_rows_out: 8 };
    let sound = checker.alerts(alerts(&["high"])).unwrap();
    assert_eq!((&*sound[0].key, sound[0].message.as_str(), sound[0].series), ("high", "hot", SeriesId(1)));
    let mut emitted = Emitted { alerts: sound, ..Emitted::default() };
    emitted.know(&map(3));
    assert_eq!(emitted.alerts[0].series, SeriesId(101));
    assert!(checker.alerts(alerts(&[])).is_err());
    assert!(checker.alerts(alerts(&[&"k".repeat(256)])).is_ok());
    assert!(checker.alerts(alerts(&[&"k".repeat(257)])).is_err(), "a long key");
    assert!(checker.alerts(alerts(&["k\0"])).is_err(), "a key with NUL");
}

/// Guarantees: the text of a point may be as long as the limit says, and no longer, whichever of them it is.
#[test]
fn texts_are_bounded() {
    let with_texts = |lens: [usize; 2]| {
        let mut raw = decoded(produced(&[0, 1], &[0, 1]));
        let ends = vec![lens[0] as u32, (lens[0] + lens[1]) as u32];
        raw.made.points.texts = TextsResult { row: vec![0, 1], ends, bytes: vec![b'x'; lens[0] + lens[1]] };
        check(raw)
    };
    let most = MAX_TEXT_BYTES as usize;
    assert_eq!(with_texts([most, most]).unwrap().points.texts.text.bytes.len(), 2 * most);
    for lens in [[most + 1, 0], [0, most + 1]] {
        let fault = with_texts(lens).unwrap_err();
        assert_eq!(fault.kind, crate::FaultKind::BadOutput);
        assert!(fault.message.contains("has 1048577 bytes"), "{fault}");
    }
}

/// Guarantees: what is for people is cut, and a guest cannot send more alerts than its rows and series account for.
#[test]
fn words_and_alerts_are_bounded() {
    let alerts = |rows: usize, message: &str| Alerts {
        series: vec![0; rows],
        time_us: vec![0; rows],
        transition: vec![telemetry::Transition::Event; rows],
        severity: vec![telemetry::Severity::Info; rows],
        value: vec![0.0; rows],
        key: vec![0; rows],
        message_ends: (1..=rows).map(|row| (row * message.len()) as u32).collect(),
        message_bytes: message.repeat(rows).into_bytes(),
        keys: vec![String::new()],
    };
    let checker = Checker { series: 3, rows: 4, most_rows_out: 8 };
    let most = (4 + 3) * ALERTS_A_ROW + ALERTS_A_CALL;
    assert_eq!(checker.alerts(alerts(most, "")).unwrap().len(), most);
    let fault = checker.alerts(alerts(most + 1, "")).unwrap_err();
    assert!(fault.message.contains("1071 alerts for 4 rows"), "{fault}");
    let long = checker.alerts(alerts(1, &"ß".repeat(10_000))).unwrap();
    assert_eq!(long[0].message.len(), MAX_MESSAGE_BYTES + "…".len());
    let reasons = vec!["x".repeat(2_000)];
    let rejects = checker.rejects(RawRejects { row: vec![1], reason: vec![0], reasons }).unwrap();
    assert_eq!(rejects.reasons[0].len(), MAX_REASON_BYTES + "…".len());
}

/// Guarantees: a batch makes as many rows of one as its rule may, and no more; what comes of no row, as in a tick, may be as much as of a thousand.
#[test]
fn rows_out_are_bounded() {
    let limits = crate::rule::Limits { rows_out_per_row: 2, ..Default::default() };
    assert_eq!((limits.rows_out(4), limits.rows_out(0)), (8, 2_000));
    assert_eq!(check(decoded(produced(&[1; 8], &[0; 8]))).unwrap().points.len(), 8);
    let fault = check(decoded(produced(&[1; 9], &[0; 9]))).unwrap_err();
    assert_eq!(fault.kind, crate::FaultKind::BadOutput);
    assert!(fault.message.contains("9 rows of 4") && fault.message.contains("rows_out_per_row"), "{fault}");
    let emits = |rows: usize| {
        let raw = produced(&vec![0; rows], &[]).points;
        let checker = Checker { series: 3, rows: 0, most_rows_out: limits.rows_out(0) };
        checker.points(raw).map(|points| points.len()).map_err(|fault| fault.kind)
    };
    assert_eq!((emits(2_000), emits(2_001)), (Ok(2_000), Err(crate::FaultKind::BadOutput)));
}
