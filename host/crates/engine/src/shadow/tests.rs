//! What is told apart, and what a shadow may cost.
#![allow(clippy::unwrap_used, reason = "tests")]

use tidegate_model::{NO_ROW, SeriesId, Severity, Transition};

use super::compare::{plainly_same, rows_apart};
use super::*;
use crate::calls::{Passage, Rejects};

fn batch(values: &[f64]) -> Points {
    let mut points = Points::default();
    for (at, value) in values.iter().enumerate() {
        points.push(SeriesId(at as u32 % 2), at as i64, *value, 192);
    }
    points
}

fn made(passage: Passage) -> Processed {
    Processed {
        passage,
        alerts: Vec::new(),
        rejects: Rejects::default(),
        held: Vec::new(),
        commands: Vec::new(),
        wake_us: None,
    }
}

fn refusing(row: u32, passage: Passage) -> Processed {
    let rejects = Rejects { row: vec![row], reason: vec![0], reasons: vec!["too hot".to_owned()] };
    Processed { rejects, ..made(passage) }
}

fn apart(batch: &Points, a: &Processed, b: &Processed) -> Vec<u32> {
    rows_apart(&Outcomes::of_processed(batch, a), &Outcomes::of_processed(batch, b), batch.len())
}

/// Guarantees: rows are told apart by what goes on of them, however the two say it; and by nothing else.
#[test]
fn rows_are_told_apart() {
    let given = batch(&[1.0, 2.0, f64::NAN, 4.0]);
    let same = made(Passage::Values(given.value.clone()));
    assert_eq!(apart(&given, &made(Passage::Unchanged), &same), [0; 0], "the same values, NaN among them");
    assert!(
        !plainly_same(&made(Passage::Unchanged), &same)
            && plainly_same(&made(Passage::Unchanged), &made(Passage::Unchanged))
    );
    let changed = made(Passage::Values(vec![1.0, 2.5, f64::NAN, 4.0]));
    assert_eq!(apart(&given, &same, &changed), [1]);
    assert_eq!(apart(&given, &same, &made(Passage::Keep(vec![0, 1, 3]))), [2]);
    assert_eq!(apart(&given, &same, &refusing(3, Passage::Unchanged)), [3]);
    let held = Processed { held: vec![3], ..made(Passage::Unchanged) };
    assert_eq!(apart(&given, &refusing(3, Passage::Unchanged), &held), [3]);
    let replaced = Passage::Replaced(given.gather(&[0, 1, 2, 3, 0]), vec![0, 1, 2, 3, 0]);
    assert_eq!(apart(&given, &same, &made(replaced)), [0], "twice is not once");
    let added = Passage::Added(given.gather(&[1]), vec![NO_ROW]);
    assert_eq!(apart(&given, &same, &made(added)), [NO_ROW]);
}

/// Guarantees: alerts are paired by what they are; of two alike on one side and one on the other, one is left.
#[test]
fn alerts_are_told_apart() {
    let alert = |series: u32, key: &str| RawAlert {
        series: SeriesId(series),
        time_us: 0,
        transition: Transition::Raised,
        severity: Severity::Warning,
        key: key.into(),
        value: 1.0,
        message: format!("{series} {key}"),
    };
    let a = [alert(2, ""), alert(1, "x"), alert(1, "x")];
    let b = [RawAlert { message: "in other words".into(), ..alert(1, "x") }, alert(3, "")];
    let (only_a, only_b) = alerts_apart(&a, &b);
    let series = |alerts: Vec<&RawAlert>| alerts.iter().map(|alert| alert.series.0).collect::<Vec<_>>();
    assert_eq!((series(only_a), series(only_b)), (vec![1, 2], vec![3]));
}

/// Guarantees: over time no more is spent than the share and what one call takes too long; what is not used is not saved up for ever.
#[test]
fn time_is_shared() {
    let start = Instant::now();
    let mut allowance = Allowance::new(0.25, start);
    let (mut spent, mut now) = (Duration::ZERO, start);
    for _ in 0..1_000 {
        now += Duration::from_millis(10);
        if allowance.may_spend(now) {
            allowance.spend(Duration::from_millis(50));
            spent += Duration::from_millis(50);
            now += Duration::from_millis(50);
        }
    }
    let share = spent.as_secs_f64() / (now - start).as_secs_f64();
    assert!((0.24..0.29).contains(&share), "{share}");
    allowance.may_spend(now + Duration::from_secs(3_600));
    assert!(allowance.seconds <= 0.25, "{}", allowance.seconds);
}

/// Guarantees: however much differs, what is shown is bounded, and the newest; all is counted.
#[test]
fn what_is_shown_is_bounded() {
    let (books, report) = (Books::new(10), ShadowReport::new(10));
    let given = batch(&[1.0; 70]);
    let (a, b) = (made(Passage::Unchanged), made(Passage::Keep(Vec::new())));
    for round in 0..3 {
        let (ours, theirs) = (Outcomes::of_processed(&given, &a), Outcomes::of_processed(&given, &b));
        report.rows_apart(&ours, &theirs, 70, &books, |row| (format!("{round}/{row}"), 0));
    }
    let totals = report.totals();
    assert_eq!((totals.rows_changed, totals.row_differences.len()), (210, 100));
    assert_eq!(totals.row_differences[99].topic, "2/69");
    assert_eq!(
        (totals.row_differences[0].serving.outcome, totals.row_differences[0].candidate.outcome),
        ("passed", "filtered")
    );
    assert_eq!(totals.max_share_percent, 10.0);
}
