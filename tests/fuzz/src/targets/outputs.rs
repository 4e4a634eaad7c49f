//! What a guest returns from `process`, `decode`, `tick` and `save`: the input is its result, byte for byte, as it lies in its memory. The guest is given it
//! as the text of a reading, or as a payload, and returns where that stands; so nothing is compiled for an input.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use tidegate_engine::{Cells, Instance, Passage, Rejects, Rule};
use tidegate_model::{Books, Description, Marks, Messages, Points};

use crate::guest::{rule, wat_decoder, wat_guest};

/// How many rows are given; the first has the input.
const ROWS: usize = 3;

/// Whoever is given the inputs, until one of them is a fault: its Store is to be dropped then.
struct Guest {
    module: fn() -> Vec<u8>,
    rule: OnceLock<Arc<Rule>>,
}

static PROCESSES: Guest = Guest {
    module: || wat_guest("echo", &[("process", "(call $give_back) (return (local.get $text_bytes))")]),
    rule: OnceLock::new(),
};
static DECODES: Guest = Guest { module: wat_decoder, rule: OnceLock::new() };
/// It keeps the input where it stands, and returns it when it is called with nothing.
static KEEPS: Guest = Guest {
    module: || {
        let (keep, give) =
            ("(i32.store (i32.const 700) (local.get $text_bytes))", "(return (i32.load (i32.const 700)))");
        wat_guest("keeps", &[("process", keep), ("tick", give), ("save", give)])
    },
    rule: OnceLock::new(),
};

type Kept = RefCell<Option<(Arc<Books>, Instance)>>;

thread_local! {
    static PROCESSING: Kept = const { RefCell::new(None) };
    static DECODING: Kept = const { RefCell::new(None) };
    static KEEPING: Kept = const { RefCell::new(None) };
}

impl Guest {
    /// Gives what was made of the input; none was a fault.
    fn ask<T>(
        &self,
        kept: &'static std::thread::LocalKey<Kept>,
        call: impl FnOnce(&Books, &mut Instance) -> Option<T>,
    ) -> Option<(Arc<Books>, T)> {
        let make = || {
            let books = Arc::new(Books::new(1_000));
            let rule = self.rule.get_or_init(|| rule(&(self.module)(), "{}"));
            let instance = rule.rehearse(&books).unwrap();
            (books, instance)
        };
        let (books, mut instance) = kept.take().unwrap_or_else(make);
        let made = call(&books, &mut instance)?;
        kept.set(Some((books.clone(), instance)));
        Some((books, made))
    }
}

/// Which function returns it goes by its length: bytes beyond its result mean nothing.
pub(super) fn run(data: &[u8]) {
    [process, decode, tick, save][data.len() % 4](data);
}

fn process(data: &[u8]) {
    let ask = |books: &Books, instance: &mut Instance| instance.process(0, &points(books, data)).ok();
    let Some((books, processed)) = PROCESSES.ask(&PROCESSING, ask) else { return };
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
    refused(&processed.rejects);
    for alert in &processed.alerts {
        assert!(books.series(alert.series).is_some() && alert.message.len() <= 4 << 10 && alert.key.len() <= 256);
    }
}

fn decode(data: &[u8]) {
    let ask = |books: &Books, instance: &mut Instance| instance.decode(0, &messages(books, data)).ok();
    let Some((books, decoded)) = DECODES.ask(&DECODING, ask) else { return };
    sound(&books, &decoded.points);
    assert_eq!(decoded.points.len(), decoded.from_row.len());
    assert!(decoded.from_row.is_sorted() && decoded.from_row.iter().all(|&row| (row as usize) < ROWS));
    ascending(&decoded.held);
    refused(&decoded.rejects);
}

fn tick(data: &[u8]) {
    let ask = |books: &Books, instance: &mut Instance| {
        instance.process(0, &points(books, data)).ok()?;
        instance.tick(0).ok()
    };
    let Some((books, emitted)) = KEEPS.ask(&KEEPING, ask) else { return };
    sound(&books, &emitted.points);
    for alert in &emitted.alerts {
        assert!(books.series(alert.series).is_some() && alert.message.len() <= 4 << 10 && alert.key.len() <= 256);
    }
}

fn save(data: &[u8]) {
    let ask = |books: &Books, instance: &mut Instance| {
        instance.process(0, &points(books, data)).ok()?;
        instance.save(Cells::Changed).ok()
    };
    let Some((books, saved)) = KEEPS.ask(&KEEPING, ask) else { return };
    let series = saved.series.iter().map(|(id, _)| id).chain(&saved.removed_series);
    assert!(series.copied().all(|id| books.series(id).is_some()));
    let partitions = saved.partitions.iter().map(|(id, _)| id).chain(&saved.removed_partitions);
    assert!(partitions.copied().all(|id| books.partition(id).is_some()));
    let bytes: usize = saved.series.iter().map(|(_, cell)| cell.len()).sum();
    assert!(bytes <= KEEPS.rule.get().unwrap().limits.memory_bytes);
}

fn messages(books: &Books, data: &[u8]) -> Messages {
    let topic = books.intern_topic("a", "a").unwrap();
    let mut messages = Messages::default();
    for row in 0..ROWS {
        messages.push(topic, 0, Marks::default(), if row == 0 { data } else { b"" });
    }
    messages
}

fn points(books: &Books, data: &[u8]) -> Points {
    let partition = books.intern_partition("a").unwrap();
    let series = books.intern_series("a", partition, Description::default()).unwrap();
    let mut points = Points::default();
    (0..ROWS).for_each(|row| points.push(series, row as i64, row as f64, 192));
    points.texts.push(0, data);
    points
}

fn ascending(rows: &[u32]) {
    assert!(rows.is_sorted_by(|a, b| a < b) && rows.iter().all(|&row| (row as usize) < ROWS), "{rows:?}");
}

fn refused(rejects: &Rejects) {
    ascending(&rejects.row);
    assert_eq!(rejects.iter().count(), rejects.row.len());
}

fn sound(books: &Books, points: &Points) {
    let rows = points.len();
    assert_eq!((points.time_us.len(), points.value.len(), points.quality.len()), (rows, rows, rows));
    assert!(points.series.iter().all(|&series| books.series(series).is_some()));
    for &row in &points.texts.row {
        assert!((row as usize) < rows && std::str::from_utf8(points.texts.get(row).unwrap()).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Guarantees: what the stored corpus has for each function is taken for what it is, so that changes of it begin where something is made of it.
    #[test]
    fn the_corpus_is_sound() {
        let stored = |name: &str| {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/outputs").join(name);
            let input = std::fs::read(file).unwrap();
            assert_eq!(["decoded", "emitted", "saved"][input.len() % 4 - 1], name.split('-').next().unwrap());
            input
        };
        let books = Arc::new(Books::new(10));
        let instance = |guest: &Guest| rule(&(guest.module)(), "{}").rehearse(&books).unwrap();
        let kept = |name: &str| {
            let mut instance = instance(&KEEPS);
            instance.process(0, &points(&books, &stored(name))).unwrap();
            instance
        };
        let emitted = kept("emitted").tick(0).unwrap();
        assert_eq!((emitted.points.len(), emitted.points.texts.row.len(), emitted.alerts.len()), (1, 1, 1));
        assert_eq!((emitted.commands.len(), emitted.wake_us), (1, Some(1_000_000)));
        let saved = kept("saved").save(Cells::Changed).unwrap();
        assert_eq!(saved.series.len(), 1);
        assert_eq!(kept("saved-removed").save(Cells::Changed).unwrap().removed_series.len(), 1);
        let decode = |name: &str| instance(&DECODES).decode(0, &messages(&books, &stored(name)));
        let decoded = decode("decoded").unwrap();
        assert_eq!((decoded.held.len(), decoded.rejects.row.len()), (1, 1));
        assert!(decode("decoded-points").is_err(), "a series that was never asked for");
    }
}
