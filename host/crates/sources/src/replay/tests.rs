//! Letters from a list in memory, lanes emptied by the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Mutex;

use tidegate_config::{KafkaSource, KafkaStart, RecordHeaders, TimeFrom, TopicFrom};
use tidegate_model::{ParcelLimits, Stage, State};

use super::*;
use crate::testing::{Host, settled};

/// The letters of a file, and whether it can be read now.
#[derive(Debug, Default)]
struct Letters {
    asked_for: Mutex<BTreeMap<i64, DeadLetter>>,
    broken: Mutex<Option<String>>,
}

impl Letters {
    fn ask_for(&self, ids: impl IntoIterator<Item = i64>) {
        self.asked_for.lock().unwrap().extend(ids.into_iter().map(|id| (id, letter(id))));
    }

    fn left(&self) -> Vec<i64> {
        self.asked_for.lock().unwrap().keys().copied().collect()
    }

    fn works(&self) -> Result<(), String> {
        self.broken.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Replays for Letters {
    fn requested(&self, except: &BTreeSet<i64>, most: usize) -> Result<Vec<(i64, DeadLetter)>, String> {
        self.works()?;
        let all = self.asked_for.lock().unwrap();
        let open = all.iter().filter(|(id, _)| !except.contains(id));
        Ok(open.take(most).map(|(id, letter)| (*id, letter.clone())).collect())
    }

    fn settled(&self, ids: &[i64]) -> Result<(), String> {
        self.works()?;
        self.asked_for.lock().unwrap().retain(|id, _| !ids.contains(id));
        Ok(())
    }
}

fn letter(id: i64) -> DeadLetter {
    DeadLetter {
        source: "fleet".into(),
        topic: format!("users/{}/t{id}", id % 2).into(),
        received_us: 1_000 + id,
        marks: Marks::RETAINED.0,
        payload: format!("payload {id}").into_bytes(),
        properties: vec![("k".into(), id.to_string().into_bytes())],
        stage: Stage::Decode,
        rule: Some("json-fields".into()),
        module: None,
        reason: "expected a value".into(),
        backtrace: None,
    }
}

/// The source `fleet`, whose topics stay together by their second level.
fn sources() -> BTreeMap<String, SourceSettings> {
    let fleet = KafkaSource {
        brokers: "b".into(),
        group: "g".into(),
        topics: vec!["t".into()],
        topic_from: TopicFrom::Key,
        time_from: TimeFrom::Arrival,
        headers: RecordHeaders::Kept,
        lane_by: RecordsBy::Topics(LaneBy::Levels(vec![1])),
        start: KafkaStart::Earliest,
        offsets: tidegate_config::Offsets::Group,
        journal: tidegate_config::Journal::Off,
        max_in_flight: 1,
        client: BTreeMap::new(),
    };
    BTreeMap::from([("fleet".to_owned(), SourceSettings::Kafka(fleet))])
}

fn start(letters: &Arc<Letters>) -> Host {
    Host::start(ReplaySource::new(letters.clone(), sources()))
}

/// Guarantees: a letter of a source whose records stay together by key belongs to the partition of its key; one without a key to that of its topic.
#[test]
fn the_partition_of_its_key() {
    let SourceSettings::Kafka(mut fleet) = sources().remove("fleet").unwrap() else { panic!() };
    fleet.lane_by = RecordsBy::Key;
    let fleet = SourceSettings::Kafka(fleet);
    let mut letter = letter(7);
    assert_eq!(partition(Some(&fleet), &letter), letter.topic.to_string());
    letter.properties.push(("kafka.key".into(), b"pump-1".to_vec()));
    assert_eq!(partition(Some(&fleet), &letter), "pump-1");
}

/// Guarantees: a letter whose topic is one too many for this host by now comes back with its properties too.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_too_many() {
    let letters = Arc::new(Letters::default());
    letters.ask_for([7]);
    let source = ReplaySource::new(letters.clone(), sources());
    let mut host = Host::knowing(0, source, 2, 64, ParcelLimits::default());
    let got = host.settle(1).await.remove(0);
    assert_eq!(got.topic, "!users/1/t7");
    assert_eq!(got.properties, [("k".to_owned(), "7".to_owned())]);
    host.close().await;
}

/// Guarantees: a letter comes back as the message it was, by the name of its source, marked, on the lane of its topic's partition; it
/// is removed when it is settled, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn the_message_as_it_was() {
    let letters = Arc::new(Letters::default());
    letters.ask_for([7]);
    let mut host = start(&letters);
    let parcel = host.parcel().await;
    assert_eq!(&*parcel.source, "fleet");
    assert_eq!(parcel.messages.received_us, [1_007]);
    let got = host.open(&parcel).remove(0);
    assert_eq!((got.topic.as_str(), got.payload.as_str()), ("users/1/t7", "payload 7"));
    assert_eq!(got.properties, [("k".to_owned(), "7".to_owned())]);
    assert_eq!(got.marks, Marks::RETAINED.with(Marks::REPLAYED));
    let (_, lane) = host.inlet.topic("users/1/t7", "ignored: it is known").unwrap();
    let (_, same) = host.inlet.topic("users/1/other", "1").unwrap();
    assert_eq!(lane, same);
    assert_eq!(letters.left(), [7], "not settled yet");
    settled(parcel);
    host.until("the letter to be removed", |_| letters.left().is_empty()).await;
    let totals = host.inlet.ledger().totals();
    assert_eq!((totals.received, totals.decoded, totals.in_flight), (1, 1, 0));
    host.close().await;
}

/// Guarantees: many letters all come, once each, however long they are in flight, and never more than the bound at a time.
#[tokio::test(flavor = "multi_thread")]
async fn many_once_each() {
    let letters = Arc::new(Letters::default());
    let all = 0..(MOST_IN_FLIGHT as i64 + 500);
    letters.ask_for(all.clone());
    let mut host = start(&letters);
    let (first, held) = host.hold(MOST_IN_FLIGHT).await;
    assert_eq!(host.inlet.ledger().totals().in_flight, MOST_IN_FLIGHT as u64);
    held.into_iter().for_each(settled);
    let rest = host.settle(500).await;
    let mut payloads: Vec<_> = first.iter().chain(&rest).map(|got| got.payload.clone()).collect();
    payloads.sort();
    let mut expected: Vec<_> = all.map(|id| format!("payload {id}")).collect();
    expected.sort();
    assert!(payloads == expected, "{} came", payloads.len());
    host.until("all letters to be removed", |_| letters.left().is_empty()).await;
    host.close().await;
}

/// Guarantees: what is given back comes again, and is still asked for when the host ends before.
#[tokio::test(flavor = "multi_thread")]
async fn given_back_comes_again() {
    let letters = Arc::new(Letters::default());
    letters.ask_for([1]);
    let mut host = start(&letters);
    host.parcel().await.ack.resolve(Outcome::Returned);
    drop(host.parcel().await);
    let held = host.parcel().await;
    host.close().await;
    drop(held);
    assert_eq!(letters.left(), [1]);
}

/// Guarantees: a letter that is settled while the host drains is removed; none is taken up any more.
#[tokio::test(flavor = "multi_thread")]
async fn draining() {
    let letters = Arc::new(Letters::default());
    letters.ask_for([1]);
    let mut host = start(&letters);
    let held = host.parcel().await;
    host.enter(Phase::Draining);
    letters.ask_for([2]);
    settled(held);
    host.until("the settled letter to be removed", |_| letters.left() == [2]).await;
    assert_eq!(host.inlet.ledger().totals().received, 1);
    host.close().await;
    assert_eq!(letters.left(), [2]);
}

/// Guarantees: a file that fails is said to, and found again when it works; nothing in flight is replayed twice meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_fails() {
    let letters = Arc::new(Letters::default());
    letters.ask_for([1]);
    let mut host = start(&letters);
    let held = host.parcel().await;
    *letters.broken.lock().unwrap() = Some("disk on fire".to_owned());
    settled(held);
    host.until("down", |host| host.inlet.health().state() == State::Down("disk on fire".to_owned())).await;
    *letters.broken.lock().unwrap() = None;
    host.until("the letter to be removed", |_| letters.left().is_empty()).await;
    host.until("up", |host| host.inlet.health().state() == State::Up).await;
    assert_eq!(host.inlet.ledger().totals().received, 1);
    host.close().await;
}
