//! What a guest returns from `process`: the input is its result, byte for byte, as it lies in its memory. The guest is given it as the
//! text of a reading, and returns where that stands; so nothing is compiled for an input.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use tidegate_engine::{Instance, Passage, Rule};
use tidegate_model::{Books, Description, Points};

use crate::guest::{rule, wat_guest};

/// How many rows are given; the first has the text.
const ROWS: usize = 3;

thread_local! {
    /// The instance that the next input is given to; none after a fault.
    static INSTANCE: RefCell<Option<(Arc<Books>, Points, Instance)>> = const { RefCell::new(None) };
}

pub(super) fn run(data: &[u8]) {
    INSTANCE.with_borrow_mut(|kept| {
        let (books, mut points, mut instance) = kept.take().unwrap_or_else(fresh);
        points.texts = tidegate_model::Texts::default();
        points.texts.push(0, data);
        let Ok(processed) = instance.process(0, &points) else { return };
        match &processed.passage {
            Passage::Unchanged => {}
            Passage::Keep(rows) => ascending(rows),
            Passage::Values(values) => assert_eq!(values.len(), ROWS),
            Passage::Replaced(made, from) | Passage::Added(made, from) => {
                assert_eq!(made.len(), from.len());
                sound(&books, made);
            }
        }
        ascending(&processed.held);
        ascending(&processed.rejects.row);
        assert_eq!(processed.rejects.iter().count(), processed.rejects.row.len());
        for alert in &processed.alerts {
            assert!(books.series(alert.series).is_some() && alert.message.len() <= 4 << 10 && alert.key.len() <= 256);
        }
        *kept = Some((books, points, instance));
    });
}

fn fresh() -> (Arc<Books>, Points, Instance) {
    static RULE: OnceLock<Arc<Rule>> = OnceLock::new();
    let echo =
        || rule(&wat_guest("echo", &[("process", "(call $give_back) (return (local.get $text_bytes))")]), "{}");
    let books = Arc::new(Books::new(1_000));
    let instance = RULE.get_or_init(echo).rehearse(&books).unwrap();
    let partition = books.intern_partition("a").unwrap();
    let series = books.intern_series("a", partition, Description::default()).unwrap();
    let mut points = Points::default();
    (0..ROWS).for_each(|row| points.push(series, row as i64, row as f64, 192));
    (books, points, instance)
}

fn ascending(rows: &[u32]) {
    assert!(rows.is_sorted_by(|a, b| a < b) && rows.iter().all(|&row| (row as usize) < ROWS), "{rows:?}");
}

fn sound(books: &Books, points: &Points) {
    let rows = points.len();
    assert_eq!((points.time_us.len(), points.value.len(), points.quality.len()), (rows, rows, rows));
    assert!(points.series.iter().all(|&series| books.series(series).is_some()));
    for &row in &points.texts.row {
        assert!((row as usize) < rows && std::str::from_utf8(points.texts.get(row).unwrap()).is_ok());
    }
}
