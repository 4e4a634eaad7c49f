//! What the tests of both sources stand on: lanes that the test itself empties, and waiting with a deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_model::{
    Books, Inlet, Marks, Outcome, Parcel, ParcelLimits, Phase, Source, SourceError, SystemClock, Tally, TopicId,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long anything may take: far more than it does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// One message as it came out of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) marks: Marks,
    pub(crate) properties: Vec<(String, String)>,
}

/// A running source, and the lanes it feeds.
pub(crate) struct Host {
    pub(crate) inlet: Inlet,
    books: Arc<Books>,
    lanes: Vec<mpsc::Receiver<Parcel>>,
    phase: watch::Sender<Phase>,
    task: JoinHandle<Result<(), SourceError>>,
}

impl Host {
    pub(crate) fn start(source: impl Source + 'static) -> Self {
        Self::with(source, 2, 64, ParcelLimits::default())
    }

    pub(crate) fn with(source: impl Source + 'static, lanes: usize, depth: usize, limits: ParcelLimits) -> Self {
        Self::knowing(10_000, source, lanes, depth, limits)
    }

    /// One that gives ids to so many topics, and to no more.
    pub(crate) fn knowing(
        topics: usize,
        source: impl Source + 'static,
        lanes: usize,
        depth: usize,
        limits: ParcelLimits,
    ) -> Self {
        let books = Arc::new(Books::new(topics));
        let (senders, lanes) = (0..lanes).map(|_| mpsc::channel(depth)).unzip();
        let inlet = Inlet::new("test".into(), books.clone(), Arc::new(SystemClock), senders, limits);
        let (phase, watch) = watch::channel(Phase::Running);
        let task = tokio::spawn(Box::new(source).run(inlet.clone(), watch));
        Self { inlet, books, lanes, phase, task }
    }

    /// The next parcel of any lane.
    pub(crate) async fn parcel(&mut self) -> Parcel {
        self.parcel_of().await.1
    }

    /// The next parcel of any lane, and the number of that.
    pub(crate) async fn parcel_of(&mut self) -> (usize, Parcel) {
        let next = std::future::poll_fn(|cx| {
            for (number, lane) in self.lanes.iter_mut().enumerate() {
                if let std::task::Poll::Ready(Some(parcel)) = lane.poll_recv(cx) {
                    return std::task::Poll::Ready((number, parcel));
                }
            }
            std::task::Poll::Pending
        });
        tokio::time::timeout(DEADLINE, next).await.expect("a parcel should have come")
    }

    /// What is in a parcel.
    pub(crate) fn open(&self, parcel: &Parcel) -> Vec<Got> {
        let messages = &parcel.messages;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (0..messages.len())
            .map(|i| Got {
                topic: messages.unnamed.iter().find(|(row, _)| *row as usize == i).map_or_else(
                    || self.books.topic_name(messages.topic[i]).to_owned(),
                    |(_, name)| format!("!{name}"),
                ),
                payload: text(messages.payload.get(i)),
                marks: Marks(messages.marks[i]),
                properties: messages.properties.of(i as u32).map(|(k, v)| (k.to_owned(), text(v))).collect(),
            })
            .collect()
    }

    /// The partition that a topic belongs to.
    pub(crate) fn partition_of(&self, topic: &str) -> String {
        let topic = self.books.all_topics().find(topic).expect("the topic should be known");
        self.inlet.partition_of(TopicId(topic)).expect("its partition").1.to_owned()
    }

    /// Takes messages until there are `count`, leaving their parcels unresolved.
    pub(crate) async fn hold(&mut self, count: usize) -> (Vec<Got>, Vec<Parcel>) {
        let (mut got, mut parcels) = (Vec::new(), Vec::new());
        while got.len() < count {
            let parcel = self.parcel().await;
            got.extend(self.open(&parcel));
            parcels.push(parcel);
        }
        (got, parcels)
    }

    /// Takes messages until there are `count`, and settles each parcel as it comes.
    pub(crate) async fn settle(&mut self, count: usize) -> Vec<Got> {
        let mut got = Vec::new();
        while got.len() < count {
            let parcel = self.parcel().await;
            got.extend(self.open(&parcel));
            settled(parcel);
        }
        got
    }

    /// Takes what comes within the time a message needs by far, to show that none does.
    pub(crate) fn anything_waiting(&mut self) -> Option<Vec<Got>> {
        let parcel = self.lanes.iter_mut().find_map(|lane| lane.try_recv().ok())?;
        Some(self.open(&parcel))
    }

    /// Moves the source on.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Stops the source in order, as a host does.
    pub(crate) async fn close(mut self) {
        self.enter(Phase::Draining);
        self.enter(Phase::Closed);
        tokio::time::timeout(DEADLINE, &mut self.task)
            .await
            .expect("should end")
            .expect("no panic")
            .expect("no error");
    }

    /// Ends the source as a crash does: nothing more is sent to the broker.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        let _cancelled = (&mut self.task).await;
    }

    /// Waits for a condition.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Host) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < DEADLINE,
                "{what}: not within {DEADLINE:?}; health is {:?}",
                self.inlet.health()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Settles a parcel as a lane does: the ledger first, then the ack.
pub(crate) fn settled(parcel: Parcel) {
    parcel
        .ledger
        .settle(parcel.messages.len() as u64, Tally { decoded: parcel.messages.len() as u64, ..Tally::default() });
    parcel.ack.resolve(Outcome::Settled);
}

/// The payloads of messages, sorted.
pub(crate) fn payloads(got: &[Got]) -> Vec<String> {
    let mut payloads: Vec<_> = got.iter().map(|g| g.payload.clone()).collect();
    payloads.sort();
    payloads
}
