//! What was appended comes back, as it was and in order.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tidegate_model::{
    Alert, Books, Command as Publish, DeadLetter, Delivery, DescribedAs, Description, Messages, NO_ROW, PartitionId,
    RecordId, Severity, Stage, Transition,
};

use super::*;

fn letter() -> DeadLetter {
    DeadLetter {
        source: "plant".into(),
        topic: "dev/x".into(),
        received_us: -5,
        marks: 3,
        payload: vec![0, 0xff, b'\n'],
        properties: vec![("key".into(), vec![1, 2])],
        stage: Stage::Process,
        rule: Some("scale".into()),
        module: None,
        reason: "no number".into(),
        backtrace: Some("0: scale".into()),
    }
}

fn alert() -> Alert {
    Alert {
        rule: "hot".into(),
        topic: "dev/a".into(),
        key: "k".into(),
        time_us: 7,
        transition: Transition::Cleared,
        severity: Severity::Critical,
        value: 1.5,
        message: "hot: 1.5 °C".into(),
    }
}

/// A delivery with something in every place.
fn rich(books: &Books) -> Delivery {
    let a = books.intern_topic("dev/a", "dev").unwrap();
    let partition = books.topic(a).unwrap().partition;
    let description = Description { unit: Some("°C".into()), labels: vec![("line".to_owned(), "1".to_owned())] };
    let series = books.intern_series("dev/a/temp", partition, description).unwrap();
    let mut origin = Messages::default();
    origin.push(a, 1, Marks::default(), b"no point came of this one");
    let row = origin.push(a, 2, Marks::RETAINED, b"{\"v\":1}");
    origin.properties.push(row, "trace", b"\x01");
    let mut points = Points::default();
    points.push(series, 10, f64::NAN, 192);
    points.texts.push(0, "offen – zu".as_bytes());
    points.push(series, 11, -0.0, 64);
    Delivery {
        points,
        from_row: vec![row, NO_ROW],
        origin: Arc::new(origin),
        sources: vec![(0, "first".into()), (1, "second".into())],
        alerts: vec![alert()],
        commands: vec![Publish { rule: "r".into(), topic: "cmd/a".into(), payload: vec![9], qos: 1, retain: true }],
        dead_letters: vec![letter()],
        ..Delivery::default()
    }
}

/// Guarantees: everything a sink takes comes back in a process with other ids, by its names; messages that no point came of are left out.
#[test]
fn all_of_a_delivery_comes_back() {
    let place = Place::new();
    let before = books();
    place.open(&before).append(&[Arc::new(rich(&before))]).unwrap();
    let after = books();
    after.intern_topic("another", "another").unwrap();
    after.intern_series("another", PartitionId(0), Description::default()).unwrap();
    let records = place.open(&after).oldest(10).unwrap();
    let found = &*records[0].delivery;
    let series = found.points.series[0];
    assert_eq!((series.0, after.series_topic(series)), (1, "dev/a/temp"));
    let known = after.series(series).unwrap();
    assert_eq!(after.partition(known.partition).unwrap().as_ref(), "dev");
    assert_eq!(known.description.load().unit.as_deref(), Some("°C"));
    assert_eq!(known.description.load().labels, [("line".to_owned(), "1".to_owned())]);
    assert_eq!((&found.points.time_us[..], &found.points.quality[..]), (&[10, 11][..], &[192, 64][..]));
    assert!(found.points.value[0].is_nan() && found.points.value[1].is_sign_negative());
    assert_eq!(found.points.texts.get(0), Some("offen – zu".as_bytes()));
    assert_eq!(found.from_row, [0, NO_ROW]);
    assert_eq!((found.origin.len(), found.origin.payload.get(0)), (1, &b"{\"v\":1}"[..]));
    assert_eq!(after.topic_name(found.origin.topic[0]), "dev/a");
    assert_eq!((found.origin.received_us[0], found.origin.marks[0]), (2, Marks::RETAINED.0));
    assert_eq!(found.origin.properties.of(0).collect::<Vec<_>>(), [("trace", &b"\x01"[..])]);
    assert_eq!(found.source_of(0).unwrap().as_ref(), "second");
    let sent = rich(&before);
    assert_eq!(
        (&found.alerts, &found.commands, &found.dead_letters),
        (&sent.alerts, &sent.commands, &sent.dead_letters)
    );
}

/// Guarantees: only what the sink takes is written.
#[test]
fn only_what_is_wanted() {
    let (place, books) = (Place::new(), books());
    let settings = SpoolSettings { max_bytes: 1 << 20, when_full: WhenFull::HoldBack, order: SpoolOrder::Kept };
    let wants = Wants { alerts: true, ..Wants::default() };
    let mut file = SpoolFile::new(place.path(), settings, wants, books.clone(), Arc::new(ManualClock::new(NOW_US)));
    file.append(&[Arc::new(rich(&books))]).unwrap();
    let records = file.oldest(10).unwrap();
    let found = &records[0].delivery;
    assert_eq!((found.points.len(), found.origin.len(), found.alerts.len()), (0, 0, 1));
    assert!(found.commands.is_empty() && found.dead_letters.is_empty());
    assert_eq!(file.account.totals(0).rows, 1);
}

/// Guarantees: messages that the sink takes as they came are kept, in order, with topics that never got an id, and come back as such; those of
/// other sources, and those that are in the dead letters, do not. A record without any is one that an older Tidegate can read.
#[test]
fn messages_as_they_came() {
    let (place, before) = (Place::new(), books());
    let settings = SpoolSettings { max_bytes: 1 << 20, when_full: WhenFull::HoldBack, order: SpoolOrder::Kept };
    let wants = Wants { messages: RawMessages::Of(["plant".into()].into()), points: true, ..Wants::default() };
    let open = |books: &Arc<Books>| {
        let clock = Arc::new(ManualClock::new(NOW_US));
        SpoolFile::new(place.path(), settings, wants.clone(), books.clone(), clock)
    };
    let mut origin = Messages::default();
    let known = before.intern_topic("dev/a", "dev").unwrap();
    origin.push(known, 1, Marks::AT_MOST_ONCE, b"one");
    origin.push(known, 2, Marks::EXCESS, b"beyond a limit");
    let row = origin.push(tidegate_model::TopicId(0), 3, Marks::default(), b"two");
    origin.unnamed.push((row, "dev/nameless".into()));
    origin.properties.push(row, "trace", b"\x01");
    origin.push(known, 4, Marks::default(), b"of another source");
    let sources = vec![(0, "plant".into()), (3, "other".into())];
    let delivery = Delivery { origin: Arc::new(origin), origin_is: OriginIs::Cargo, sources, ..Delivery::default() };
    let mut file = open(&before);
    file.append(&[Arc::new(delivery), Arc::new(rich(&before))]).unwrap();
    assert_eq!(file.account.totals(0).rows, 4);
    drop(file);
    let after = Arc::new(Books::new(1));
    after.intern_topic("takes-the-only-place", "").unwrap();
    let records = open(&after).oldest(10).unwrap();
    let found = &records[0].delivery;
    let name = |row: u32| found.origin.topic_name(&after, row).unwrap();
    let of = |row: u32| (name(row), found.origin.payload.get(row as usize), found.origin.received_us[row as usize]);
    let raw: Vec<_> = found.raw_rows(&wants.messages).map(of).collect();
    assert_eq!(raw, [("dev/a", &b"one"[..], 1), ("dev/nameless", &b"two"[..], 3)]);
    assert_eq!(found.origin.marks, [Marks::AT_MOST_ONCE.0, 0]);
    assert_eq!(found.origin.properties.of(1).collect::<Vec<_>>(), [("trace", &b"\x01"[..])]);
    assert_eq!(records[1].delivery.origin_is, OriginIs::Context);
    // Settings may have changed meanwhile: what is in the spool is the sink's all the same, or is held back.
    let others = RawMessages::Of(["renamed".into()].into());
    assert_eq!(found.raw_rows(&others).count(), 2);
    assert_eq!(Wants::default().lacks(found), Some("messages"));
    assert_eq!(Wants { messages: others, ..Wants::default() }.lacks(found), None);
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    let version = |id: i64| -> Vec<u8> {
        connection.query_row("SELECT record FROM records WHERE id = ?1", [id], |row| row.get(0)).unwrap()
    };
    assert_eq!([version(1)[8], version(2)[8]], [2, 1]);
}

/// Guarantees: records come in the order they were appended, over restarts; what was removed does not come again, and its ids are not
/// given again.
#[test]
fn order_over_restarts() {
    let place = Place::new();
    let books = place.filled(10, 100);
    let mut file = place.open(&books);
    let first = file.oldest(4).unwrap();
    assert_eq!(first.iter().flat_map(values_of).collect::<Vec<_>>(), [1, 2, 3, 4]);
    file.remove(RecordId(4)).unwrap();
    drop(file);
    let mut file = place.open(&books);
    let all = [delivery(&books, 11, 100), delivery(&books, 12, 100)];
    assert_eq!(file.append(&all).unwrap(), RecordId(12));
    assert_eq!(drain(&mut file), (5..=12).collect::<Vec<_>>());
    drop(file);
    let mut file = place.open(&books);
    assert_eq!(file.append(&[delivery(&books, 13, 100)]).unwrap(), RecordId(13));
    let totals = file.account.totals(7);
    assert_eq!((totals.records, totals.rows, totals.appended, totals.max_bytes), (1, 1, 1, 7));
    assert_eq!(totals.damaged_records + totals.damaged_files, 0);
}

/// Guarantees: what was appended is there for the next process though this one never closed the file.
#[test]
fn a_file_that_was_never_closed() {
    let (place, books) = (Place::new(), books());
    let mut file = place.open(&books);
    file.append(&[delivery(&books, 1, 10_000)]).unwrap();
    std::mem::forget(file);
    assert_eq!(drain(&mut place.open(&books)), [1]);
}

/// Guarantees: a process that is killed while it appends has lost none of the records that it was told are on disk.
#[test]
fn killed_while_appending() {
    let place = Place::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::keeps::child_that_appends", "--nocapture"])
        .env("SPOOL_DIRECTORY", place.directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.filter_map(|line| line.strip_prefix("appended ").map(|id| id.parse::<u64>().unwrap()));
    let last = told.take(200).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let values = drain(&mut place.open(&books()));
    assert!(values.len() as u64 >= last, "{} of {last}", values.len());
    assert_eq!(values, (1..=values.len() as u64).collect::<Vec<_>>());
}

/// The child of the one above: it appends until it is killed. By itself it does nothing.
#[test]
fn child_that_appends() {
    let Some(directory) = std::env::var_os("SPOOL_DIRECTORY") else { return };
    let books = books();
    let settings = SpoolSettings { max_bytes: 1 << 30, when_full: WhenFull::HoldBack, order: SpoolOrder::Kept };
    let path = Path::new(&directory).join("spool/db.db");
    let mut file = SpoolFile::new(path, settings, EVERYTHING, books.clone(), Arc::new(ManualClock::new(NOW_US)));
    for number in 1..100_000 {
        file.append(&[delivery(&books, number, 6_000)]).unwrap();
        println!("appended {number}");
    }
}

/// Guarantees: the unit that live messages have told meanwhile is not replaced by the one that stood in the spool, and that of what stood there is the one it
/// was measured in; also where it changed between the delivery and its spool.
#[test]
fn a_newer_unit_stays() {
    let (place, before) = (Place::new(), books());
    let delivery = Delivery { described: DescribedAs::now(&before), ..rich(&before) };
    let labels = vec![("at".into(), "roof".into())];
    before.describe(delivery.points.series[0], Description { unit: Some("°R".into()), labels });
    place.open(&before).append(&[Arc::new(delivery)]).unwrap();
    let after = books();
    let newer = Description { unit: Some("K".into()), labels: Vec::new() };
    let series = after.intern_series("dev/a/temp", PartitionId(0), newer).unwrap();
    let records = place.open(&after).oldest(10).unwrap();
    assert_eq!(after.series(series).unwrap().description.load().unit.as_deref(), Some("K"));
    let described = records[0].delivery.described.of(&after, series).unwrap();
    assert_eq!((described.unit.as_deref(), described.labels.len()), (Some("°C"), 1));
}

/// Guarantees: points whose series this process cannot take any more come as dead letters, with their message; the others come.
#[test]
fn series_beyond_the_limit() {
    let place = Place::new();
    place.filled(10, 50);
    let few = Arc::new(Books::new(4));
    let mut file = place.open(&few);
    let records = file.oldest(100).unwrap();
    let placed: usize = records.iter().map(|record| record.delivery.points.len()).sum();
    let letters: Vec<_> = records.iter().flat_map(|record| &record.unplaced).collect();
    assert_eq!((placed, letters.len()), (4, 6));
    assert_eq!((&*letters[0].topic, &*letters[0].source, letters[0].stage), ("dev/t5", "plant", Stage::Sink));
    assert_eq!(letters[0].payload, payload(5, 50));
    assert!(letters[0].reason.contains("max_series"), "{}", letters[0].reason);
}
