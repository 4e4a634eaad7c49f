//! Saved state: the input is what a rule is given as the state of a series. It takes it or refuses it; what it does then is within its limits.

use std::sync::{Arc, OnceLock};

use tidegate_engine::{Cells, Rule};
use tidegate_model::{Books, Description, Points, SavedState, StateBook};

use crate::guest::{built, rule};

pub(super) fn run(data: &[u8]) {
    static RULE: OnceLock<Arc<Rule>> = OnceLock::new();
    let config = r#"{"above": 90, "hysteresis": 2, "for_s": 30}"#;
    let rule = RULE.get_or_init(|| rule(&built("threshold"), config));
    let books = Arc::new(Books::new(10));
    let partition = books.intern_partition("a").unwrap();
    let series = books.intern_series("a", partition, Description::default()).unwrap();
    let mut book = StateBook::default();
    book.take(SavedState { series: vec![(series, data.into())], ..SavedState::default() });
    let mut instance = rule.rehearse(&books).unwrap();
    let version = &rule.module.description().version;
    if instance.restore(version, &book).is_err() {
        return;
    }
    let mut points = Points::default();
    [89.0, 95.0, f64::NAN].iter().enumerate().for_each(|(at, &value)| points.push(series, at as i64, value, 192));
    // Either way: odd state may make odd numbers of honest readings.
    if instance.process(0, &points).is_ok()
        && let Ok(saved) = instance.save(Cells::All)
    {
        let bytes: usize = saved.series.iter().map(|(_, cell)| cell.len()).sum();
        assert!(bytes <= rule.limits.memory_bytes);
    }
}
