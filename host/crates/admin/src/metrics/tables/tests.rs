use tidegate_engine::{RuleState, RuleStatus, RuleTotals};

use super::RULES;

/// With another number in each field that is one.
fn totals() -> RuleTotals {
    // Above what a flag or a number of a generation is.
    let mut last = 1_000;
    let mut next = || {
        last += 1;
        last
    };
    RuleTotals {
        batches: next(),
        rows_in: next(),
        rows_out: next(),
        filtered: next(),
        rejected: next(),
        held: next(),
        alerts: next(),
        alerts_refused: next(),
        commands: next(),
        commands_refused: next(),
        ns_per_row: f64::NAN,
        nanos: next(),
        beside_nanos: next(),
        ns_per_row_p50: Some(next() as f64),
        ns_per_row_p99: Some(next() as f64),
        series_made: next(),
        label_bytes: next(),
        labels_refused: next(),
        bypassed: next(),
        parked: next(),
        unparked: next(),
        partitions_let_go: next(),
        replayed: next(),
        cells_restored: next(),
        state_lost: next(),
        state_discarded: next(),
        memory_bytes: next(),
        memory_peak_bytes: next(),
        state_bytes: next(),
        log_lines_dropped: next(),
        partitions_quarantined: next() as usize,
        quarantined_partitions: [].into(),
        refusals: [("config", next())].into(),
        faults: [("trap", next())].into(),
        counts: [("own".to_owned(), next())].into(),
        gauges: [("own".to_owned(), next() as f64)].into(),
    }
}

/// Guarantees: every figure that the API gives of a rule is in the metrics too, but for the mean time of a row, which follows from two others.
#[test]
fn every_figure_of_a_rule_is_a_metric() {
    let rule = RuleStatus {
        name: "rule".into(),
        state: RuleState::Disabled,
        problem: None,
        problem_code: None,
        module: String::new(),
        sha256: None,
        kind: None,
        version: None,
        summary: None,
        signature_expires_ms: None,
        topics: Vec::new(),
        order: 0,
        generation: 0,
        etag: String::new(),
        stats: totals(),
    };
    let families = RULES.families.iter().map(|family| (family.value)(&rule));
    let parts = RULES.splits.iter().flat_map(|split| (split.values)(&rule)).map(|(_, value)| value);
    let told: Vec<f64> = families.chain(parts).collect();
    let is_told = |number: f64| told.iter().any(|told| *told == number || (told * 1e9 - number).abs() < 1e-3);
    let serde_json::Value::Object(figures) = serde_json::to_value(&rule.stats).unwrap() else { unreachable!() };
    for (name, figure) in &figures {
        let numbers: Vec<f64> = match figure {
            serde_json::Value::Object(parts) => parts.values().filter_map(serde_json::Value::as_f64).collect(),
            number => number.as_f64().into_iter().collect(),
        };
        assert!(numbers.iter().all(|&number| is_told(number)), "{name}: {numbers:?}");
        let has_none = ["ns_per_row", "quarantined_partitions"].contains(&&**name);
        assert_eq!(numbers.len(), usize::from(!has_none), "{name}");
    }
}
