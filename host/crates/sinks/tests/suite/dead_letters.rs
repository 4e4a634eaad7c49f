//! The dead letters, written and read.

use std::sync::Arc;

use tidegate_model::{DeadLetter, Delivery, ManualClock, Marks, Sink, Stage};
use tidegate_sinks::DeadLetters;
use tidegate_sinks::dead_letters::{Filter, count, get, list};

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

    let mut sink = DeadLetters::new(dir.path(), Arc::new(ManualClock::new(42)));
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
        let by_stage = Filter { stage: Some(Stage::Sink), ..Filter::default() };
        assert_eq!(count(&path, &by_stage).unwrap(), 2);
        let by_all = Filter {
            source: Some("plant".into()),
            topic: Some("dev/2".into()),
            rule: Some("json-reading".into()),
            stage: Some(Stage::Decode),
        };
        let ids: Vec<_> = list(&path, 10, 0, &by_all).unwrap().iter().map(|each| each.id).collect();
        assert_eq!(ids, [3]);
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
