//! A spool's file, opened, filled, broken and read again.

mod bounds;
mod damage;
mod keeps;

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tidegate_config::{SpoolSettings, WhenFull};
use tidegate_model::{
    Books, Delivery, Description, ManualClock, Marks, Messages, OriginIs, Points, RawMessages, RecordId, SpoolOrder,
    Spooled, Wants,
};

use crate::file::SpoolFile;

const EVERYTHING: Wants = Wants {
    messages: RawMessages::All,
    points: true,
    alerts: true,
    commands: true,
    dead_letters: true,
    positions: false,
};
const NOW_US: i64 = 1_700_000_000_000_000;

/// A directory for spools that are opened again and again.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("spool/db.db")
    }

    /// The spool, as a process would open it that has these books.
    fn open(&self, books: &Arc<Books>) -> SpoolFile {
        self.open_with(books, 64 << 20, WhenFull::HoldBack)
    }

    fn open_with(&self, books: &Arc<Books>, max_bytes: u64, when_full: WhenFull) -> SpoolFile {
        let settings = SpoolSettings { max_bytes, when_full, order: SpoolOrder::Kept };
        SpoolFile::new(self.path(), settings, EVERYTHING, books.clone(), Arc::new(ManualClock::new(NOW_US)))
    }

    /// Appends records 1 to `count` to a new file, a transaction each; their points have the values 1 to `count`, and their
    /// messages `bytes` bytes.
    fn filled(&self, count: u64, bytes: usize) -> Arc<Books> {
        let books = books();
        let mut file = self.open(&books);
        for number in 1..=count {
            let id = file.append(&[delivery(&books, number, bytes)]).unwrap();
            assert_eq!(id, RecordId(number));
        }
        books
    }
}

fn books() -> Arc<Books> {
    Arc::new(Books::new(1_000))
}

/// One point of value `number` on a topic of its own, from a message of so many bytes.
fn delivery(books: &Books, number: u64, bytes: usize) -> Arc<Delivery> {
    let name = format!("dev/t{}", number % 10);
    let topic = books.intern_topic(&name, &name).unwrap();
    let partition = books.topic(topic).unwrap().partition;
    let series = books.intern_series(&name, partition, Description::default()).unwrap();
    let mut points = Points::default();
    points.push(series, NOW_US + number as i64, number as f64, 192);
    let mut origin = Messages::default();
    origin.push(topic, NOW_US, Marks::default(), &payload(number, bytes));
    let sources = vec![(0, Arc::from("plant"))];
    Arc::new(Delivery { points, from_row: vec![0], origin: Arc::new(origin), sources, ..Delivery::default() })
}

/// Bytes that tell the number, and do not repeat.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| (number.wrapping_mul(31).wrapping_add(i.wrapping_mul(i) >> 3) & 0xff) as u8).collect()
}

/// Takes out all that stands in the spool, as a drain does; the values of its points in the order they came.
fn drain(file: &mut SpoolFile) -> Vec<u64> {
    let mut values = Vec::new();
    for _ in 0..10_000 {
        let records = file.oldest(3).unwrap();
        let Some(last) = records.last().map(|record| record.id) else { return values };
        values.extend(records.iter().flat_map(values_of));
        file.remove(last).unwrap();
    }
    panic!("the spool never ends; so far {values:?}");
}

/// The values of a record's points; what came with them must be whole.
fn values_of(record: &Spooled) -> Vec<u64> {
    let delivery = &record.delivery;
    for (row, value) in delivery.points.value.iter().enumerate() {
        let message = delivery.origin_row(row as u32).unwrap() as usize;
        let bytes = delivery.origin.payload.get(message);
        assert_eq!(bytes, payload(*value as u64, bytes.len()));
    }
    delivery.points.value.iter().map(|value| *value as u64).collect()
}
