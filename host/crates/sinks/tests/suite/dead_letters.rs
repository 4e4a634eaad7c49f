//! The dead letters, written and read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::DeadLetters as Limits;
use tidegate_model::{DeadLetter, Delivery, ManualClock, Marks, Replays, Sink, SinkError, Stage};
use tidegate_sinks::DeadLetters;
use tidegate_sinks::dead_letters::{
    Filter, Looked, Parked, Selection, cancel_replay, compact, count, get, list, newest, purge, request_parked,
    request_replay,
};

use crate::T0;

fn letter(n: u8) -> DeadLetter {
    DeadLetter {
        source: "plant".into(),
        topic: format!("dev/{n}").into(),
        received_us: T0 + i64::from(n),
        marks: Marks::RETAINED.0,
        payload: vec![0xff, 0, n, b'\n', 0x80],
        properties: vec![("z".into(), vec![0, 0xfe]), ("a".into(), Vec::new()), ("z".into(), b"again".to_vec())],
        stage: if n.is_multiple_of(2) { Stage::Decode } else { Stage::Sink },
        rule: n.is_multiple_of(2).then(|| "json-reading".into()),
        module: n.is_multiple_of(2).then(|| "ab12".into()),
        reason: format!("reason {n}"),
        backtrace: (n == 0).then(|| "at a\nat b".to_owned()),
    }
}

/// Limits that no test comes near.
const WIDE: Limits = Limits { max_bytes: 1 << 40, max_age: Duration::from_secs(100 * 365 * 86_400) };

fn sink(data_dir: &Path, limits: Limits, clock: &Arc<ManualClock>) -> DeadLetters {
    DeadLetters::new(data_dir, limits, clock.clone())
}

fn ids(path: &Path, filter: &Filter) -> Vec<i64> {
    list(path, 10_000, 0, filter).unwrap().iter().map(|each| each.id).collect()
}

fn delivery(numbers: std::ops::Range<u8>) -> Arc<Delivery> {
    Arc::new(Delivery { dead_letters: numbers.map(letter).collect(), ..Delivery::default() })
}

/// Guarantees: everything of a dead letter comes back byte for byte, in order, by pages and by filter, while the sink has the file
/// open and after it was closed; without a file there are none.
#[tokio::test]
async fn they_come_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = DeadLetters::path(dir.path());
    let all = Filter::default();
    assert_eq!(count(&path, &all).unwrap(), 0);
    assert!(list(&path, 10, 0, &all).unwrap().is_empty());

    let mut sink = sink(dir.path(), WIDE, &Arc::new(ManualClock::new(42)));
    assert!(!sink.wants().points && sink.wants().dead_letters);
    sink.write(&[delivery(0..3), delivery(3..5)]).await.unwrap();
    for open in [true, false] {
        if !open {
            sink.close().await;
        }
        let found = list(&path, 10, 0, &all).unwrap();
        assert_eq!(
            found.iter().map(|each| each.letter.clone()).collect::<Vec<_>>(),
            (0..5).map(letter).collect::<Vec<_>>()
        );
        assert!(found.iter().all(|each| each.died_us == 42));
        assert_eq!(found.iter().map(|each| each.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);

        let page: Vec<_> = list(&path, 2, 2, &all).unwrap().iter().map(|each| each.id).collect();
        assert_eq!(page, [3, 4]);
        let last: Vec<_> = newest(&path, 2, &all).unwrap().iter().map(|each| each.id).collect();
        assert_eq!(last, [5, 4]);
        let by_stage = Filter { stage: Some(Stage::Sink), ..Filter::default() };
        assert_eq!(count(&path, &by_stage).unwrap(), 2);
        let by_all = Filter {
            source: Some("plant".into()),
            topic: Some("+/2".parse().unwrap()),
            rule: Some("json-reading".into()),
            stage: Some(Stage::Decode),
            since_us: Some(42),
            until_us: Some(43),
            reason: Some("REASON 2".into()),
            requested: false,
        };
        assert_eq!(ids(&path, &by_all), [3]);
        let none = [
            Filter { topic: Some("dev/+/x".parse().unwrap()), ..Filter::default() },
            Filter { since_us: Some(43), ..Filter::default() },
            Filter { until_us: Some(42), ..Filter::default() },
            Filter { reason: Some("reason %".into()), ..Filter::default() },
            Filter { requested: true, ..Filter::default() },
        ];
        for filter in none {
            assert_eq!((count(&path, &filter).unwrap(), ids(&path, &filter)), (0, Vec::new()), "{filter:?}");
        }
        assert_eq!(get(&path, 4).unwrap().unwrap().letter, letter(3));
        assert_eq!(get(&path, 99).unwrap(), None);
    }
}

/// Guarantees: a file that cannot be read is named.
#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = DeadLetters::path(dir.path());
    std::fs::write(&path, "no database at all, but long enough to look like one").unwrap();
    let error = count(&path, &Filter::default()).unwrap_err();
    assert!(error.to_string().contains("dead_letters.db"), "{error}");
}

/// Guarantees: replay is asked for by id or filter and taken back while the sink has the file open; what is asked for is given out
/// whole, but for what is on its way, and gone when it is settled; letters without a message are left out.
#[tokio::test]
async fn replay_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = DeadLetters::path(dir.path());
    let by_rule = Selection::Matching(Filter { rule: Some("json-reading".into()), ..Filter::default() });
    let mut sink = sink(dir.path(), WIDE, &Arc::new(ManualClock::new(42)));
    let replays = sink.replays();
    assert_eq!(request_replay(&path, &by_rule, 50).unwrap(), 0, "there is no file yet");
    assert_eq!(replays.requested(&BTreeSet::new(), 10).unwrap(), []);

    let of_a_tick = DeadLetter { topic: "".into(), payload: Vec::new(), ..letter(4) };
    sink.write(&[delivery(0..5)]).await.unwrap();
    sink.write(&[Arc::new(Delivery { dead_letters: vec![of_a_tick], ..Delivery::default() })]).await.unwrap();
    assert_eq!(request_replay(&path, &by_rule, 50).unwrap(), 3, "of four, one has no message");
    assert_eq!(request_replay(&path, &Selection::Ids(vec![2, 3, 99]), 51).unwrap(), 2);
    let requested = Filter { requested: true, ..Filter::default() };
    assert_eq!(ids(&path, &requested), [1, 2, 3, 5]);
    assert_eq!(cancel_replay(&path, &Selection::Ids(vec![5, 6])).unwrap(), 1);

    assert_eq!(replays.requested(&BTreeSet::new(), 2).unwrap(), [(1, letter(0)), (2, letter(1))]);
    assert_eq!(replays.requested(&BTreeSet::from([1, 2]), 2).unwrap(), [(3, letter(2))]);
    sink.write(&[delivery(5..6)]).await.unwrap();
    replays.settled(&[1, 3]).unwrap();
    assert_eq!(ids(&path, &Filter::default()), [2, 4, 5, 6, 7]);
    assert_eq!(ids(&path, &requested), [2]);
    let totals = sink.account().totals();
    assert_eq!((totals.kept, totals.replayed), (5, 2));
    sink.close().await;
}

/// Guarantees: a purge takes what was chosen and nothing else, in more steps than one, with the host at work; an id is not given
/// again; the room it freed is given back when that is asked for.
#[tokio::test]
async fn purged() {
    let dir = tempfile::tempdir().unwrap();
    let path = DeadLetters::path(dir.path());
    assert_eq!(purge(&path, &Selection::Matching(Filter::default())).unwrap(), 0, "there is no file yet");
    let mut sink = sink(dir.path(), WIDE, &Arc::new(ManualClock::new(42)));
    let large = |n: u8| DeadLetter { payload: vec![n; 2_000], ..letter(n) };
    let many: Vec<DeadLetter> = (0..2_500).map(|n| large((n % 100) as u8)).collect();
    sink.write(&[Arc::new(Delivery { dead_letters: many, ..Delivery::default() })]).await.unwrap();
    let decode = Filter { stage: Some(Stage::Decode), ..Filter::default() };
    assert_eq!(purge(&path, &Selection::Matching(decode.clone())).unwrap(), 1_250);
    assert_eq!((count(&path, &decode).unwrap(), count(&path, &Filter::default()).unwrap()), (0, 1_250));
    assert_eq!(purge(&path, &Selection::Ids(vec![2, 2, 1])).unwrap(), 1);
    assert_eq!(purge(&path, &Selection::Matching(Filter::default())).unwrap(), 1_249);
    sink.write(&[delivery(0..1)]).await.unwrap();
    assert_eq!(ids(&path, &Filter::default()), [2_501]);

    let size = || std::fs::metadata(&path).unwrap().len();
    sink.close().await;
    let before = size();
    compact(&path).unwrap();
    assert!(size() < before / 10, "{before} bytes before, {} after", size());
    assert_eq!(get(&path, 2_501).unwrap().unwrap().letter, letter(0));
}

/// Guarantees: past `max_mib` the oldest go, and only as many as must; every one of them is counted.
#[tokio::test]
async fn dropped_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = DeadLetters::path(dir.path());
    let limits = Limits { max_bytes: 2 << 20, ..WIDE };
    let mut sink = sink(dir.path(), limits, &Arc::new(ManualClock::new(42)));
    let large = |n: u8| DeadLetter { payload: vec![n; 10_000], ..letter(n) };
    for _ in 0..10 {
        let hundred = (0..100).map(large).collect();
        sink.write(&[Arc::new(Delivery { dead_letters: hundred, ..Delivery::default() })]).await.unwrap();
        let totals = sink.account().totals();
        assert!(totals.bytes <= limits.max_bytes, "{totals:?}");
    }
    let (totals, left) = (sink.account().totals(), ids(&path, &Filter::default()));
    assert_eq!(totals.kept, left.len() as u64);
    assert_eq!(totals.dropped_by_size, 1_000 - totals.kept);
    assert_eq!(totals.dropped_by_age, 0);
    // The last of them, without a gap, and nearly as many as there is room for: 2 MiB hold 209 payloads without anything else.
    assert_eq!(left, (1_001 - left.len() as i64..=1_000).collect::<Vec<_>>());
    assert!((130..=209).contains(&left.len()), "{}", left.len());
    sink.close().await;
    let file = std::fs::metadata(&path).unwrap().len();
    assert!(file < 2 * limits.max_bytes, "freed room is used again: {file} bytes");
}

/// Guarantees: what is older than `max_age_days` goes, by the next write or without any, and is counted; what is as old is kept.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let path = DeadLetters::path(dir.path());
    let (clock, max_age) = (Arc::new(ManualClock::new(0)), Duration::from_secs(10));
    let mut sink = sink(dir.path(), Limits { max_age, ..WIDE }, &clock);
    sink.write(&[delivery(0..3)]).await.unwrap();
    clock.set(5_000_000);
    sink.write(&[delivery(3..4)]).await.unwrap();
    clock.set(10_000_000);
    sink.write(&[delivery(4..5)]).await.unwrap();
    assert_eq!(ids(&path, &Filter::default()), [1, 2, 3, 4, 5], "ten seconds are not more than ten seconds");
    clock.set(10_000_001);
    sink.write(&[delivery(5..6)]).await.unwrap();
    assert_eq!(ids(&path, &Filter::default()), [4, 5, 6]);

    clock.set(20_000_000);
    let upkeep = tokio::spawn(sink.upkeep());
    let account = sink.account();
    crate::wait_for("the upkeep", || match account.totals() {
        totals if totals.dropped_by_age == 4 && totals.kept == 2 => Ok(()),
        totals => Err(format!("{totals:?}")),
    });
    upkeep.abort();
    assert_eq!(ids(&path, &Filter::default()), [5, 6]);
    sink.close().await;
}

/// Guarantees: what cannot be written is not said to be: a directory that is no directory, and a file that may not be written, want an
/// operator; a file that another holds is tried again; when it works again nothing was lost.
#[tokio::test]
async fn what_cannot_be_written_is_not_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(42));
    let data_dir = dir.path().join("data");
    std::fs::write(&data_dir, "a file in the place of the directory").unwrap();
    let mut sink = sink(&data_dir, WIDE, &clock);
    let refused = sink.write(&[delivery(0..1)]).await;
    assert!(matches!(&refused, Err(SinkError::NeedsOperator(text)) if text.contains("data")), "{refused:?}");
    std::fs::remove_file(&data_dir).unwrap();
    sink.write(&[delivery(0..1)]).await.unwrap();

    let path = DeadLetters::path(&data_dir);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = sink.write(&[delivery(1..2)]).await;
    assert!(matches!(&refused, Err(SinkError::Retry(text)) if text.contains("locked")), "{refused:?}");
    other.execute_batch("COMMIT").unwrap();
    sink.write(&[delivery(1..2)]).await.unwrap();
    assert_eq!(ids(&path, &Filter::default()), [1, 2]);
    sink.close().await;
}

/// Guarantees: of a rule's parked letters those on wanted topics are asked for, in order, each look going on where the last one ended; what only
/// says in words that it is parked, as a guest's reason can, is not; nor is another rule's.
#[tokio::test]
async fn parked_letters_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = DeadLetters::path(dir.path());
    let none = Looked { requested: 0, to: 0 };
    let look = |rule, after, most| {
        let none = Parked { rule: "nobody", after: 7, most };
        let looks = [none, Parked { rule, after, most }];
        let found = request_parked(&path, &looks, T0, |of, topic| of == rule && topic != "dev/2").unwrap();
        assert_eq!((found.len(), found[0]), (2, Looked { requested: 0, to: 7 }));
        found[1]
    };
    assert_eq!(look("hot", 0, 10), none, "without a file");
    let clock = Arc::new(ManualClock::new(42));
    let mut sink = sink(dir.path(), WIDE, &clock);
    let parked = |n: u8, rule: &str| DeadLetter { stage: Stage::Parked, rule: Some(rule.into()), ..letter(n) };
    let forged = DeadLetter { rule: Some("hot".into()), reason: "parked: so it says".into(), ..letter(3) };
    let letters =
        vec![parked(0, "hot"), parked(1, "cold"), parked(2, "hot"), forged, parked(4, "hot"), parked(5, "hot")];
    sink.write(&[Arc::new(Delivery { dead_letters: letters, ..Delivery::default() })]).await.unwrap();
    assert_eq!(look("hot", 0, 3), Looked { requested: 2, to: 5 });
    assert_eq!(look("hot", 5, 3), Looked { requested: 1, to: 6 });
    assert_eq!(look("hot", 6, 3), Looked { requested: 0, to: 6 });
    let requested = sink.replays().requested(&BTreeSet::new(), 10).unwrap();
    assert_eq!(requested.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 5, 6]);
}
