//! The store by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_model::{
    Ack, Alert, Books, Cell, Clock, Description, KeptState, OffsetMark, PacketMark, SavedState, Severity,
    StateChange, StateStore, SystemClock, Taken, Transition,
};

use crate::StateFile;
use crate::store::path;
use crate::unwritten::{Took, Unwritten};

const PATIENCE: Duration = Duration::from_secs(180);

fn put(store: &StateFile, changes: Vec<StateChange>) {
    store.put(changes, Ack::none());
}

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

/// Guarantees: what was put last on each cell is there for a process with other ids, by version; a rule that is forgotten has no
/// state, and the alerts that stood stand.
#[test]
fn over_a_restart() {
    let directory = TempDir::new().unwrap();
    let first = books(&["a", "b", "c"]);
    let store = open(directory.path(), &first);
    put(
        &store,
        vec![saved(&first, "avg", "1", &[("a", 1), ("b", 1), ("c", 1)], &[]), alert("avg", "a", Transition::Raised)],
    );
    assert!(store.sync(PATIENCE));
    put(&store, vec![saved(&first, "avg", "2", &[("b", 2)], &["c"]), saved(&first, "gone", "1", &[("a", 1)], &[])]);
    put(
        &store,
        vec![
            alert("gone", "a", Transition::Raised),
            alert("avg", "b", Transition::Raised),
            alert("avg", "b", Transition::Cleared),
        ],
    );
    put(&store, vec![StateChange::Forgotten { rule: "gone".into() }]);
    // An alert is told by itself, when it is published that it is cleared.
    assert_eq!(store.rules(), ["avg", "gone"]);
    assert_eq!(topics(&store.alerts().unwrap().void), ["a"]);
    put(&store, vec![alert("gone", "a", Transition::Cleared)]);
    assert_eq!(store.rules(), ["avg"]);
    drop(store);

    let second = books(&["x", "b"]);
    let store = open(directory.path(), &second);
    assert_eq!(said(&store.load("avg").unwrap(), &second), ["1 a 1", "1 of a 1", "2 b 2", "2 of b 2"]);
    assert!(store.load("gone").unwrap().is_empty() && store.load("never").unwrap().is_empty());
    let alerts = store.alerts().unwrap();
    assert_eq!(
        alerts.standing.iter().map(|a| (&*a.rule, &*a.topic, a.severity)).collect::<Vec<_>>(),
        [("avg", "a", Severity::Critical)]
    );
    assert!(alerts.void.is_empty());
    let series = second.series(tidegate_model::SeriesId(second.all_series().find("a").unwrap())).unwrap();
    assert_eq!(&**second.partition(series.partition).unwrap(), "of a");
    assert_eq!((store.totals().damaged, store.totals().failures, store.epoch()), (0, 0, 0));
}

fn topics(alerts: &[Alert]) -> Vec<&str> {
    alerts.iter().map(|alert| &*alert.topic).collect()
}

/// Guarantees: an alert that was raised before its rule was forgotten stands by nothing until it is cleared or raised again, whichever of it was on disk
/// by then, over restarts; one of another rule is not concerned.
#[test]
fn alerts_of_what_was_forgotten() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a"]);
    let store = open(directory.path(), &known);
    let raised = |topic| alert("avg", topic, Transition::Raised);
    put(&store, vec![raised("a"), raised("b"), raised("c"), alert("other", "a", Transition::Raised)]);
    assert!(store.sync(PATIENCE));
    put(&store, vec![raised("d"), raised("e"), StateChange::Forgotten { rule: "avg".into() }, raised("e")]);
    put(&store, vec![raised("b"), alert("avg", "c", Transition::Cleared)]);
    let void = |store: &StateFile| {
        let kept = store.alerts().unwrap();
        (topics(&kept.void).join(" "), topics(&kept.standing).join(" "))
    };
    assert_eq!(void(&store), ("a d".into(), "b e a".into()));
    drop(store);
    let store = open(directory.path(), &known);
    assert_eq!(void(&store), ("a d".into(), "b e a".into()));
    put(&store, vec![alert("avg", "a", Transition::Cleared), raised("d")]);
    assert_eq!(void(&store), (String::new(), "b d e a".into()));
    put(&store, vec![alert("avg", "a", Transition::Raised)]);
    assert_eq!(void(&store), (String::new(), "a b d e a".into()), "raised anew");
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
        assert!(store.load("avg").unwrap().is_empty());
        assert_eq!((store.totals().damaged, store.epoch(), store.totals().down), (1, 1, None));
        put(&store, vec![saved(&known, "avg", "1", &[("a", round)], &[])]);
        assert!(store.sync(PATIENCE));
        assert_eq!(store.load("avg").unwrap().len(), 1);
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
    put(&store, vec![saved(&known, "avg", "1", &[("a", 1), ("b", 1)], &[])]);
    drop(store);
    let file = rusqlite::Connection::open(path(directory.path())).unwrap();
    assert_eq!(
        file.execute("UPDATE cells SET cell = x'0101010101010101FF' WHERE length(cell) = 9 AND name = 1", [])
            .unwrap(),
        1
    );
    drop(file);
    let store = open(directory.path(), &known);
    assert_eq!(said(&store.load("avg").unwrap(), &known).len(), 3);
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
        put(&store, vec![saved(&known, "avg", "1", &[("a", round)], &[])]);
    }
    assert!(!store.sync(PATIENCE));
    assert!(store.totals().down.is_some() && store.totals().failures > 0);
    std::fs::remove_file(directory.path().join("state")).unwrap();
    assert!(store.sync(PATIENCE));
    assert_eq!(store.totals().down, None);
    assert_eq!(said(&store.load("avg").unwrap(), &known), ["1 a 99", "1 of a 99"]);
}

/// Guarantees: a disk that does not say is no word that nothing is kept; what was kept is there once it does.
#[test]
fn a_disk_that_cannot_be_read_now() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a"]);
    let store = open(directory.path(), &known);
    put(&store, vec![saved(&known, "avg", "1", &[("a", 1)], &[]), alert("avg", "a", Transition::Raised)]);
    drop(store);
    let other = rusqlite::Connection::open(path(directory.path())).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let store = open(directory.path(), &known);
    let unread = store.load("avg").unwrap_err();
    assert!(unread.to_string().contains("locked"), "{unread}");
    assert!(store.alerts().is_err());
    drop(other);
    assert_eq!((store.load("avg").unwrap().len(), store.alerts().unwrap().standing.len()), (1, 1));
}

/// Guarantees: a file whose disk takes nothing more, not even a byte, is read.
#[test]
fn a_disk_that_is_full_is_read() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a"]);
    let store = open(directory.path(), &known);
    put(&store, vec![saved(&known, "avg", "1", &[("a", 1)], &[])]);
    drop(store);
    let before = std::fs::read(path(directory.path())).unwrap();
    let store = open(directory.path(), &known);
    assert_eq!(store.load("avg").unwrap().len(), 1);
    assert!(before == std::fs::read(path(directory.path())).unwrap(), "it was written to");
    let waits = path(directory.path()).with_file_name("state.db-wal");
    assert_eq!(std::fs::metadata(waits).map_or(0, |file| file.len()), 0, "something was written");
}

/// A clock that stands where it is put.
#[derive(Debug)]
struct Stands(i64);

impl Clock for Stands {
    fn now_us(&self) -> i64 {
        self.0
    }
}

/// Guarantees: names that were last said long ago get ids only up to half of what may be known, the newest first, so that those that are said
/// now have room.
#[test]
fn names_of_long_ago() {
    let directory = TempDir::new().unwrap();
    let all = books(&["old1", "old2", "old3", "new", "old4"]);
    let hour = 3_600_000_000;
    for (now, names) in [(1, &["old1", "new", "old2", "old3", "old4"][..]), (100, &["new"])] {
        let store = StateFile::open(directory.path(), all.clone(), Arc::new(Stands(now * hour))).unwrap();
        let cells: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
        put(&store, vec![saved(&all, "avg", "1", &cells, &[])]);
        assert!(store.sync(PATIENCE));
    }
    let narrow = Arc::new(Books::new(4));
    let store = open(directory.path(), &narrow);
    let states = store.load("avg").unwrap();
    let series: Vec<_> = states[0].cells.series.iter().map(|(id, _)| narrow.series_topic(*id)).collect();
    // Which of those of the same hour is the other one is left open.
    assert_eq!((series.len(), series[0]), (2, "new"));
    assert!(store.totals().unnamed >= 3);
}

/// Guarantees: while the disk takes nothing, alerts that come and go do not gather without end; and those that stand are asked for again.
#[test]
fn alerts_that_come_and_go() {
    let mut unwritten = Unwritten::default();
    let mut lost = 0;
    for key in 0..600_000 {
        let StateChange::Alert(one) = alert("avg", "a", Transition::Raised) else { unreachable!() };
        let key: Arc<str> = key.to_string().into();
        let raised = Alert { key, ..one };
        let cleared = Alert { transition: Transition::Cleared, ..raised.clone() };
        let took = unwritten.take(vec![StateChange::Alert(raised), StateChange::Alert(cleared)]);
        lost += usize::from(took == Took::NotAll);
        assert!(unwritten.rules["avg"].alerts.len() <= 250_000);
    }
    assert_eq!(lost, 2);
    assert!(unwritten.rules["avg"].alerts_dropped);
}

/// Guarantees: series beyond what the host may know wait on the disk, and are counted.
#[test]
fn more_series_than_may_be_known() {
    let directory = TempDir::new().unwrap();
    let known = books(&["a", "b"]);
    let store = open(directory.path(), &known);
    put(&store, vec![saved(&known, "avg", "1", &[("a", 1), ("b", 1)], &[])]);
    drop(store);
    let narrow = Arc::new(Books::new(1));
    let store = open(directory.path(), &narrow);
    let cells = said(&store.load("avg").unwrap(), &narrow).len();
    assert!(cells < 4 && store.totals().unnamed as usize == 4 - cells, "{:?}", store.totals());
    drop(store);
    let store = open(directory.path(), &known);
    assert_eq!(said(&store.load("avg").unwrap(), &known).len(), 4);
}

fn packets(stream: &str, reach: u64, sequences: std::ops::Range<u64>) -> StateChange {
    let mark = |sequence| PacketMark { id: sequence as u16, sequence, digest: u128::MAX - u128::from(sequence) };
    let packets = sequences.rev().map(mark).collect();
    StateChange::Taken { stream: stream.into(), taken: Taken::Packets { packets, reach } }
}

fn offsets(stream: &str, from: i64, upto: i64) -> StateChange {
    StateChange::Taken { stream: stream.into(), taken: Taken::Offsets(OffsetMark { from, upto }) }
}

/// Guarantees: which messages the state has outlives the store, by stream and in order, whoever of the lanes told first; what is so far behind that it
/// cannot come again goes; and a row that is damaged is left out and counted, and costs no other.
#[test]
fn which_messages_it_has() {
    let (directory, books) = (TempDir::new().unwrap(), books(&[]));
    let sequences = |store: &StateFile, stream: &str| -> Vec<u64> {
        let packets = store.packets(stream).unwrap();
        assert!(packets.iter().all(|mark| mark.digest == u128::MAX - u128::from(mark.sequence)));
        packets.iter().map(|mark| mark.sequence).collect()
    };
    let store = open(directory.path(), &books);
    put(&store, vec![packets("a", 6, 4..7), offsets("k", 0, 5)]);
    put(&store, vec![packets("a", 6, 0..4), packets("b", 6, 70_000..70_001)]);
    assert!(store.sync(PATIENCE));
    put(&store, vec![offsets("k", 3, 9)]);
    put(&store, vec![packets("a", 6, 7..9)]);
    drop(store);
    let store = open(directory.path(), &books);
    assert_eq!(sequences(&store, "a"), (0..9).collect::<Vec<_>>(), "the first row has one that may come again");
    assert_eq!((sequences(&store, "b"), sequences(&store, "c")), (vec![70_000], vec![]));
    assert_eq!(store.offsets("k").unwrap(), Some(OffsetMark { from: 3, upto: 9 }));
    assert_eq!(store.offsets("a").unwrap(), None);
    put(&store, vec![packets("a", 6, 13..14)]);
    assert!(store.sync(PATIENCE));
    assert_eq!(sequences(&store, "a"), [7, 8, 13]);
    drop(store);
    let file = rusqlite::Connection::open(path(directory.path())).unwrap();
    file.execute("UPDATE packets SET marks = zeroblob(26) WHERE last = 13", []).unwrap();
    file.execute("UPDATE offsets SET last = 8", []).unwrap();
    drop(file);
    let store = open(directory.path(), &books);
    assert_eq!(sequences(&store, "a"), [7, 8]);
    assert_eq!((store.offsets("k").unwrap(), store.totals().damaged), (None, 2));
}

/// Guarantees: a put that the word of the disk brings about, on the thread that gives it, does not wait for that thread, and is on disk when a
/// sync that was asked for before says so.
#[test]
fn a_put_within_a_word() {
    let (directory, books) = (TempDir::new().unwrap(), books(&[]));
    let store = Arc::new(open(directory.path(), &books));
    let puts = store.clone();
    let kept = Ack::new(move |_| (0..2_000).for_each(|upto| put(&puts, vec![offsets("k", 0, upto)])));
    store.put(vec![offsets("k", 0, -1)], kept);
    assert!(store.sync(PATIENCE));
    let file = rusqlite::Connection::open(path(directory.path())).unwrap();
    assert_eq!(file.query_row("SELECT last FROM offsets", [], |row| row.get::<_, i64>(0)).unwrap(), 1_999);
}
