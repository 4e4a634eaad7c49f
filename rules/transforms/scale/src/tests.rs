use tidegate_rule::testing::{Input, RuleTest, run_cases};

use crate::Exported;

#[test]
fn cases() {
    run_cases::<Exported>(env!("CARGO_MANIFEST_DIR"));
}

/// Guarantees: a batch of which no series is meant passes unchanged, without a column crossing back.
#[test]
fn what_is_not_meant_passes_unchanged() {
    let mut rule = RuleTest::<Exported>::new(r#"{"scales": [{"filter": "a/#", "factor": 2}]}"#);
    assert!(rule.process(1, &[Input::at(1, "b", 3.0)]).unchanged);
    let seen = rule.process(1, &[Input::at(1, "b", 3.0), Input::at(1, "a/x", 3.0)]);
    assert_eq!(seen.values(), [("b", Some(3.0)), ("a/x", Some(6.0))]);
}

/// Guarantees: a value that overflows is rejected, not passed on as infinite.
#[test]
fn an_overflow_is_rejected() {
    let mut rule = RuleTest::<Exported>::new(r#"{"factor": 1e300}"#);
    let seen = rule.process(1, &[Input::at(1, "a", 1e300), Input::at(1, "a", 2.0)]);
    assert_eq!(seen.values(), [("a", Some(2e300))]);
    assert_eq!(seen.rejects.len(), 1);
}

/// Guarantees: configurations that cannot be are refused by the name of the key.
#[test]
fn refusals_name_the_key() {
    let refusal = RuleTest::<Exported>::refusal;
    assert!(refusal("{}").contains("factor"));
    assert!(refusal(r#"{"scales": [{"filter": "a/#/b"}]}"#).contains("a/#/b"));
    assert!(refusal(r#"{"scales": [{"filter": "a", "fctor": 1}]}"#).contains("fctor"));
    assert!(refusal(r#"{"fctor": 1}"#).contains("`fctor`"));
}
