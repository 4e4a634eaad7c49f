//! The store by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_model::{
    Alert, Books, Cell, Description, KeptState, SavedState, Severity, StateChange, StateStore, SystemClock,
    Transition,
};

use crate::StateFile;
use crate::store::path;

const PATIENCE: Duration = Duration::from_secs(20);

fn open(directory: &Path, books: &Arc<Books>) -> StateFile {
    StateFile::open(directory, books.clone(), Arc::new(SystemClock)).unwrap()
}

/// Books that know these series, each a partition of its own.
fn books(series: &[&str]) -> Arc<Books> {
    let books = Books::new(100);
    for name in series {
        let partition = books.intern_partition(&format!("of {name}")).unwrap();
        books.intern_series(name, partition, Description::default()).unwrap();
    }
    Arc::new(books)
}

fn saved(books: &Books, rule: &str, version: &str, series: &[(&str, u8)], removed: &[&str]) -> StateChange {
    let id = |name: &str| tidegate_model::SeriesId(books.all_series().find(name).unwrap());
    let cells = SavedState {
        series: series.iter().map(|(name, byte)| (id(name), Cell::from([*byte; 9]))).collect(),
        partitions: series
            .iter()
            .map(|(name, byte)| (books.series(id(name)).unwrap().partition, Cell::from([*byte])))
            .collect(),
        removed_series: removed.iter().map(|name| id(name)).collect(),
        removed_partitions: removed.iter().map(|name| books.series(id(name)).unwrap().partition).collect(),
    };
    StateChange::Saved { rule: rule.into(), version: version.to_owned(), cells }
}

fn alert(rule: &str, topic: &str, transition: Transition) -> StateChange {
    StateChange::Alert(Alert {
        rule: rule.into(),
        topic: topic.into(),
        key: "k".into(),
        time_us: 7,
        transition,
        severity: Severity::Critical,
        value: 1.0,
        message: "hot".into(),
    })
}

/// Version, name and first byte of each series, and the same of partitions.
fn said(states: &[KeptState], books: &Books) -> Vec<String> {
    let mut said = Vec::new();
    for state in states {
        for (id, cell) in &state.cells.series {
            said.push(format!("{} {} {}", state.version, books.series_topic(*id), cell[0]));
        }
        for (id, cell) in &state.cells.partitions {
            said.push(format!("{} {} {}", state.version, books.partition(*id).unwrap(), cell[0]));
        }
    }
    said.sort();
    said
}

/// Guarantees: what was put last on each cell is there for a process with other ids, by version; a rule that is forgotten has nothing, and
/// the alerts that stood stand.
#[test]
fn over_a_restart() {
    let directory = TempDir::new().unwrap();
    let first = books(&["a", "b", "c"]);
    let store = open(directory.path(), &first);
    store.put(vec![
        saved(&first, "avg", "1", &[("a", 1), ("b", 1), ("c", 1)], &[]),
        alert("avg", "a", Transition::Raised),
    ]);
    assert!(store.sync(PATIENCE));
    store.put(vec![saved(&first, "avg", "2", &[("b", 2)], &["c"]), saved(&first, "gone", "1", &[("a", 1)], &[])]);
    store.put(vec![
        alert("gone", "a", Transition::Raised),
        alert("avg", "b", Transition::Raised),
        alert("avg", "b", Transition::Cleared),
    ]);
    store.put(vec![StateChange::Forgotten { rule: "gone".into() }]);
    assert_eq!(store.rules(), ["avg"]);
    drop(store);

    let second = books(&["x", "b"]);
    let store = open(directory.path(), &second);
    assert_eq!(said(&store.load("avg"), &second), ["1 a 1", "1 of a 1", "2 b 2", "2 of b 2"]);
    assert!(store.load("gone").is_empty() && store.load("never").is_empty());
    let alerts = store.alerts();
    assert_eq!(
        alerts.iter().map(|a| (&*a.rule, &*a.topic, a.severity)).collect::<Vec<_>>(),
        [("avg", "a", Severity::Critical)]
    );
    let series = second.series(tidegate_model::SeriesId(second.all_series().find("a").unwrap())).unwrap();
    assert_eq!(&**second.partition(series.partition).unwrap(), "of a");
    assert_eq!((store.totals().damaged, store.totals().failures, store.epoch()), (0, 0, 0));
}

/// Guarantees: a file that is no database is set aside, said and counted, and the store works on with a new one; those set aside do not pile up.
#[test]
fn a_damaged_file() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a"]);
    for round in 1..5 {
        let file = path(directory.path());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, vec![round; 10_000]).unwrap();
        let store = open(directory.path(), &known);
        assert!(store.load("avg").is_empty());
        assert_eq!((store.totals().damaged, store.epoch(), store.totals().down), (1, 1, None));
        store.put(vec![saved(&known, "avg", "1", &[("a", round)], &[])]);
        assert!(store.sync(PATIENCE));
        assert_eq!(store.load("avg").len(), 1);
    }
    let beside = std::fs::read_dir(path(directory.path()).parent().unwrap()).unwrap();
    let damaged = beside.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-"));
    assert_eq!(damaged.count(), 2);
}

/// Guarantees: a cell that changed by itself on the disk is left out and counted; the others come back.
#[test]
fn a_damaged_cell() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a", "b"]);
    let store = open(directory.path(), &known);
    store.put(vec![saved(&known, "avg", "1", &[("a", 1), ("b", 1)], &[])]);
    drop(store);
    let file = rusqlite::Connection::open(path(directory.path())).unwrap();
    assert_eq!(
        file.execute("UPDATE cells SET cell = x'0101010101010101FF' WHERE length(cell) = 9 AND name = 1", [])
            .unwrap(),
        1
    );
    drop(file);
    let store = open(directory.path(), &known);
    assert_eq!(said(&store.load("avg"), &known).len(), 3);
    assert_eq!(store.totals().damaged, 1);
}

/// Guarantees: where the directory cannot be written nothing is lost yet: what was put waits, the store says why, and writes it when it can.
#[test]
fn a_disk_that_refuses() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a"]);
    // A file where the directory should be.
    std::fs::write(directory.path().join("state"), "").unwrap();
    let store = open(directory.path(), &known);
    for round in 0..100 {
        store.put(vec![saved(&known, "avg", "1", &[("a", round)], &[])]);
    }
    assert!(!store.sync(PATIENCE));
    assert!(store.totals().down.is_some() && store.totals().failures > 0);
    std::fs::remove_file(directory.path().join("state")).unwrap();
    assert!(store.sync(PATIENCE));
    assert_eq!(store.totals().down, None);
    assert_eq!(said(&store.load("avg"), &known), ["1 a 99", "1 of a 99"]);
}

/// Guarantees: series beyond what the host may know wait on the disk, and are counted.
#[test]
fn more_series_than_may_be_known() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a", "b"]);
    let store = open(directory.path(), &known);
    store.put(vec![saved(&known, "avg", "1", &[("a", 1), ("b", 1)], &[])]);
    drop(store);
    let narrow = Arc::new(Books::new(1));
    let store = open(directory.path(), &narrow);
    let cells = said(&store.load("avg"), &narrow).len();
    assert!(cells < 4 && store.totals().unnamed as usize == 4 - cells, "{:?}", store.totals());
    drop(store);
    let store = open(directory.path(), &known);
    assert_eq!(said(&store.load("avg"), &known).len(), 4);
}
