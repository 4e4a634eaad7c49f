//! Messages on their way to a sink that takes them as they came, without any rule.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_model::{
    Ack, Books, DeadLetter, Delivery, Inlet, Marks, MessageTotals, Outcome, ParcelLimits, RawMessages, Rejected,
    Sink, SinkError, Stage, SystemClock, Wants, Written,
};
use tidegate_pipeline::{Pipeline, PipelineSettings, SinkSetup};

/// What a message looks like where it has arrived: topic, payload, marks.
type Arrived = (String, Vec<u8>, u8);

/// Takes the messages of the source `edge`, and refuses those that say so.
#[derive(Clone)]
struct Bridge {
    books: Arc<Books>,
    taken: Arc<Mutex<Vec<Arrived>>>,
}

#[async_trait]
impl Sink for Bridge {
    fn wants(&self) -> Wants {
        Wants { messages: RawMessages::Of(["edge".into()].into()), ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let mut written = Written::default();
        for (at, delivery) in deliveries.iter().enumerate() {
            let messages = &delivery.origin;
            for row in delivery.raw_rows(&self.wants().messages) {
                let (i, topic) = (row as usize, messages.topic_name(&self.books, row).unwrap().to_owned());
                if messages.payload.get(i) == b"too large" {
                    let reason = "told to refuse".to_owned();
                    written.rejected_messages.push(Rejected { delivery: at, row, reason });
                    continue;
                }
                self.taken.lock().unwrap().push((topic, messages.payload.get(i).to_vec(), messages.marks[i]));
            }
        }
        Ok(written)
    }
}

#[derive(Clone, Default)]
struct Letters(Arc<Mutex<Vec<DeadLetter>>>);

#[async_trait]
impl Sink for Letters {
    fn wants(&self) -> Wants {
        Wants { dead_letters: true, ..Wants::default() }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        self.0.lock().unwrap().extend(deliveries.iter().flat_map(|delivery| delivery.dead_letters.clone()));
        Ok(Written::default())
    }
}

/// A pipeline without rules whose one sink is the bridge, with books of so many topics.
fn house(topics: usize) -> (tokio::runtime::Runtime, Pipeline, Bridge, Letters) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let books = Arc::new(Books::new(topics));
    let bridge = Bridge { books: books.clone(), taken: Arc::default() };
    let letters = Letters::default();
    let settings = PipelineSettings {
        lanes: 1,
        batch_rows: 1_000,
        parcel: ParcelLimits::default(),
        books,
        clock: Arc::new(SystemClock),
        state: None,
    };
    let sinks = vec![SinkSetup::new("bridge", Box::new(bridge.clone()))];
    let pipeline = Pipeline::start(settings, sinks, Box::new(letters.clone()), runtime.handle()).unwrap();
    (runtime, pipeline, bridge, letters)
}

/// Hands messages over as one source, and waits until they are settled.
fn send(runtime: &tokio::runtime::Runtime, inlet: &Inlet, messages: &[(&str, &[u8], Marks)]) -> MessageTotals {
    let mut parcels = inlet.parcels(|tokens: Vec<()>| {
        drop(tokens);
        Ack::new(|outcome| assert_eq!(outcome, Outcome::Settled))
    });
    for (topic, payload, marks) in messages {
        match inlet.topic(topic, topic) {
            Ok(place) => {
                parcels.push(place, 7, *marks, payload, ());
            }
            Err(_full) => {
                parcels.push_unnamed(topic, 7, *marks, payload, ());
            }
        }
    }
    runtime.block_on(parcels.send()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while inlet.ledger().totals().in_flight > 0 {
        assert!(Instant::now() < deadline, "not settled: {:?}", inlet.ledger().totals());
        std::thread::sleep(Duration::from_millis(2));
    }
    let totals = inlet.ledger().totals();
    assert!(totals.balances(), "{totals:?}");
    totals
}

/// Guarantees: messages that a sink takes as they came arrive byte for byte and are counted as stored, though no decoder is there and though
/// their topics are more than the host can give ids to; those of a source that it does not take are dead letters as ever. One that
/// the sink refuses, and one beyond a limit, is in the dead letters whole, and counted there.
#[test]
fn stored_without_a_decoder() {
    let (runtime, pipeline, bridge, letters) = house(2);
    let none = Marks::default();
    let totals = send(
        &runtime,
        &pipeline.inlet("edge"),
        &[
            ("a", b"\xff\x00", Marks::RETAINED),
            ("b", b"", none),
            ("a", b"too large", none),
            ("c/nameless", b"3", none),
            ("a", b"beyond", Marks::EXCESS),
        ],
    );
    assert_eq!((totals.received, totals.stored, totals.dead_lettered, totals.decoded), (5, 3, 2, 0));
    let taken = bridge.taken.lock().unwrap().clone();
    let arrived = |topic: &str, payload: &[u8], marks: Marks| (topic.to_owned(), payload.to_vec(), marks.0);
    assert_eq!(
        taken,
        [arrived("a", b"\xff\x00", Marks::RETAINED), arrived("b", b"", none), arrived("c/nameless", b"3", none)]
    );
    let totals = send(&runtime, &pipeline.inlet("other"), &[("a", b"nobody's", none)]);
    assert_eq!((totals.stored, totals.dead_lettered), (0, 1));
    let mut died: Vec<_> = letters.0.lock().unwrap().iter().map(|l| (l.payload.clone(), l.stage)).collect();
    died.sort();
    assert_eq!(
        died,
        [
            (b"beyond".to_vec(), Stage::Route),
            (b"nobody's".to_vec(), Stage::Route),
            (b"too large".to_vec(), Stage::Sink)
        ]
    );
    let sinks = pipeline.status().sinks;
    assert_eq!((sinks[0].messages, sinks[0].rejected), (3, 1));
}

/// Guarantees: what the bridge has had is not given to it again when it comes out of the dead letters, and stays so marked should it die again; what
/// the bridge refused is not marked.
#[test]
fn what_the_bridge_has_had_is_not_for_it() {
    let (runtime, pipeline, bridge, letters) = house(9);
    let had = Marks::REPLAYED.with(Marks::HANDED_ON);
    let messages: [(&str, &[u8], Marks); 3] =
        [("a", b"too large", Marks::REPLAYED), ("a", b"had", had), ("a", b"not had", Marks::REPLAYED)];
    let totals = send(&runtime, &pipeline.inlet("edge"), &messages);
    assert_eq!((totals.stored, totals.dead_lettered), (1, 2));
    let taken: Vec<_> = bridge.taken.lock().unwrap().iter().map(|(_, payload, _)| payload.clone()).collect();
    assert_eq!(taken, [b"not had".to_vec()]);
    let mut died: Vec<_> = letters.0.lock().unwrap().iter().map(|l| (l.payload.clone(), l.stage, l.marks)).collect();
    died.sort();
    assert_eq!(
        died,
        [(b"had".to_vec(), Stage::Route, had.0), (b"too large".to_vec(), Stage::Sink, Marks::REPLAYED.0)]
    );
}
