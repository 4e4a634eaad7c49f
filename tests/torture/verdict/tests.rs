//! The verdict must be able to fail: for each thing that may go wrong, a run in which just that did.

use super::*;
use crate::book::Book;

const MESSAGES: u64 = 400;

/// A run as it should be: lines, rows, dead letters.
fn sound() -> (Book, Vec<Row>, Vec<DeadLetter>) {
    let book = Book::default();
    for number in 0..MESSAGES {
        book.open(if number % 5 == 0 { Road::Kafka } else { Road::Mqtt });
        book.taken(number, book.life());
        if number % 5 != 0 {
            book.delivered(number, book.life());
            book.settled(number);
        }
    }
    let rows: Vec<Row> = (0..MESSAGES).filter_map(row).collect();
    let letters: Vec<DeadLetter> = (0..MESSAGES).filter(|number| row(*number).is_none()).map(letter).collect();
    assert!(rows.len() as u64 + letters.len() as u64 == MESSAGES && letters.len() >= 4);
    (book, rows, letters)
}

fn letter(number: u64) -> DeadLetter {
    let message = message(number);
    DeadLetter {
        topic: message.topic,
        payload: message.payload,
        source: String::new(),
        stage: String::new(),
        rule: None,
        module: None,
        reason: String::new(),
        backtrace: None,
    }
}

fn verdict(book: &Book, rows: &[Row], letters: &[DeadLetter]) -> Verdict {
    Verdict::of(&book.all(), |each| rows.iter().cloned().for_each(each), letters.to_vec())
}

/// Lost, changed, misjudged, duplicated.
fn counts(verdict: &Verdict) -> (u64, u64, u64, u64) {
    (verdict.lost, verdict.changed, verdict.misjudged, verdict.duplicated)
}

/// Guarantees: a run in which all is as promised passes, and its ledger says so.
#[test]
fn passes_what_is_sound() {
    let (book, rows, letters) = sound();
    let verdict = verdict(&book, &rows, &letters);
    assert!(verdict.holds() && verdict.complete(), "{verdict}");
    let ledger: serde_json::Value =
        serde_json::from_str(&verdict.ledger(&Tally::default(), 9, Duration::from_secs(3))).unwrap();
    assert_eq!((&ledger["messages"], &ledger["lost"], &ledger["seed"]), (&400.into(), &0.into(), &9.into()));
    assert_eq!(ledger["stored"].as_u64().unwrap() + ledger["dead_lettered"].as_u64().unwrap(), MESSAGES);
}

/// Guarantees: each message that is missing fails the run: a reading or a dead letter, by MQTT or by Kafka, acknowledged or not.
#[test]
fn fails_when_a_message_is_lost() {
    let (book, rows, letters) = sound();
    for gone in 0..rows.len() {
        let rest: Vec<Row> =
            rows.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, row)| row.clone()).collect();
        let verdict = verdict(&book, &rest, &letters);
        assert_eq!(counts(&verdict), (1, 0, 0, 0));
        assert!(!verdict.holds());
    }
    assert!(!verdict(&book, &rows, &letters[1..]).holds());
    // A message more, that nobody has ever seen.
    for road in [Road::Mqtt, Road::Kafka] {
        let (book, rows, letters) = sound();
        book.open(road);
        assert_eq!(counts(&verdict(&book, &rows, &letters)), (1, 0, 0, 0));
    }
    assert!(!Verdict::of(&[], |_| {}, Vec::new()).holds(), "a run without messages shows nothing");
}

/// Guarantees: what the broker lost by being killed is told apart and does not fail the run; the same message, acknowledged by
/// the host or come by Kafka, does.
#[test]
fn tells_the_brokers_loss_apart() {
    let (book, rows, letters) = sound();
    let (by_mqtt, by_kafka) = (book.open(Road::Mqtt), book.open(Road::Kafka));
    book.taken(by_mqtt, book.life());
    book.taken(by_kafka, book.life());
    book.broker_goes();
    book.broker_gone(&std::collections::HashSet::new());
    let verdict_now = || verdict(&book, &rows, &letters);
    assert_eq!((verdict_now().broker_lost, verdict_now().lost), (1, 1));
    book.settled(by_mqtt);
    assert_eq!((verdict_now().broker_lost, verdict_now().lost), (0, 2));
}

/// Guarantees: a row or a dead letter that is not byte for byte what was sent fails the run, and its message is missing.
#[test]
fn fails_when_a_message_is_changed() {
    let (book, rows, letters) = sound();
    let changes: [fn(&mut Row); 6] = [
        |row| row.value = row.value.map_or(Some(0), |bits| Some(bits ^ 1)),
        |row| row.topic.push('x'),
        |row| row.time_us = row.time_us.map(|us| us + 1),
        |row| row.quality ^= 1,
        |row| row.unit = Some("K".into()),
        |row| row.text = Some("else".into()),
    ];
    for change in changes {
        let mut rows = rows.clone();
        change(&mut rows[17]);
        let verdict = verdict(&book, &rows, &letters);
        assert_eq!(counts(&verdict), (1, 1, 0, 0));
        assert!(!verdict.holds());
    }
    let changes: [fn(&mut DeadLetter); 3] =
        [|letter| letter.payload[0] ^= 1, |letter| letter.topic.push('x'), |letter| letter.payload.push(0)];
    for change in changes {
        let mut letters = letters.clone();
        change(&mut letters[1]);
        let verdict = verdict(&book, &rows, &letters);
        assert_eq!((verdict.lost, verdict.changed), (1, 1));
        assert!(!verdict.holds());
    }
    // Sent by nobody: from beyond the last message.
    let foreign = [rows.clone(), vec![row(MESSAGES).unwrap()]].concat();
    assert_eq!(counts(&verdict(&book, &foreign, &letters)), (0, 1, 0, 0));
    // A good message in the dead letters is kept, and wrong.
    let judged = [letters.clone(), vec![letter(17)]].concat();
    let without: Vec<Row> = rows.iter().filter(|found| number_of_row(found) != Some(17)).cloned().collect();
    let verdict = verdict(&book, &without, &judged);
    assert_eq!((counts(&verdict), verdict.holds()), ((0, 0, 1, 0), false));
}

/// Guarantees: duplicates are counted and do not fail the run; those that the broker did not deliver again are told apart.
#[test]
fn counts_duplicates() {
    let (book, rows, letters) = sound();
    let twice = [rows.clone(), rows[17..19].to_vec()].concat();
    book.delivered(number_of_row(&rows[17]).unwrap(), book.life());
    let verdict = verdict(&book, &twice, &letters);
    assert_eq!(counts(&verdict), (0, 0, 0, 2));
    assert_eq!((verdict.redelivered, verdict.written_twice), (1, 1));
    assert!(verdict.holds());
}

/// Guarantees: a complaint, such as an account of the host that does not balance, fails a run in which nothing is missing.
#[test]
fn fails_by_a_complaint() {
    let (book, rows, letters) = sound();
    let mut verdict = verdict(&book, &rows, &letters);
    verdict.complain("the ledger does not balance".to_owned());
    assert!(verdict.complete() && !verdict.holds());
}
