//! A sink's task, with a sink and a spool that do as they are told.

mod late;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Instant as Clock;

use async_trait::async_trait;
use tidegate_model::{
    Ack, DeadLetter, Delivery, Outcome, Points, RecordId, Rejected, SeriesId, SpoolError, SpoolOrder, SpoolTotals,
    Spooled, Stage, Wants, Written,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::*;

/// How long anything here may take: far more than it does, since a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(180);

/// What a sink does with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Works,
    Fails,
    NeedsOperator,
    /// Takes it when the mood changes.
    Hangs,
    /// Refuses the last point of each write.
    Refuses,
    /// Of a write that begins above this value takes the first delivery only, the first time.
    FailsInPart {
        above: u64,
    },
}

/// Shared by a test and the task's ends.
#[derive(Debug)]
struct World {
    mood: watch::Sender<Mood>,
    /// Values of points, in the order the sink took them.
    taken: Mutex<Vec<u64>>,
    standing: Mutex<VecDeque<(u64, Arc<Delivery>)>>,
    appended: AtomicUsize,
    /// The most records that may stand.
    most: AtomicUsize,
    order: SpoolOrder,
    letters: Mutex<Vec<DeadLetter>>,
    /// How many were settled, how many returned.
    outcomes: Mutex<(usize, usize)>,
    /// How many writes were told of before, and how many of those came next.
    told: Mutex<(usize, usize)>,
}

struct TestSink {
    world: Arc<World>,
    /// What it has taken the first delivery of, when it failed.
    begun: Vec<Arc<Delivery>>,
    /// What it was told of, for the write after the next.
    upcoming: Vec<Arc<Delivery>>,
    /// The same, for the next.
    next: Vec<Arc<Delivery>>,
}

fn same(a: &[Arc<Delivery>], b: &[Arc<Delivery>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[async_trait]
impl Sink for TestSink {
    fn wants(&self) -> Wants {
        Wants { points: true, ..Wants::default() }
    }

    fn upcoming(&mut self) -> Option<&mut Vec<Arc<Delivery>>> {
        Some(&mut self.upcoming)
    }

    fn late_before_us(&self) -> Option<i64> {
        Some(0)
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let next = std::mem::replace(&mut self.next, self.upcoming.clone());
        if !next.is_empty() {
            let mut told = self.world.told.lock().unwrap();
            *told = (told.0 + 1, told.1 + usize::from(same(&next, deliveries)));
        }
        let mut mood = self.world.mood.subscribe();
        let mood = *mood.wait_for(|mood| *mood != Mood::Hangs).await.unwrap();
        match mood {
            Mood::Fails => return Err(SinkError::Retry("told to fail".into())),
            Mood::NeedsOperator => return Err(SinkError::NeedsOperator("told to want a person".into())),
            _ => {}
        }
        let mut values: Vec<u64> = deliveries.iter().flat_map(|delivery| values(delivery)).collect();
        let before = std::mem::take(&mut self.begun);
        let again = same(&before, deliveries);
        if again {
            values.remove(0);
        } else if let Mood::FailsInPart { above } = mood
            && values[0] > above
        {
            self.world.taken.lock().unwrap().push(values[0]);
            self.begun = deliveries.to_vec();
            return Err(SinkError::Retry("told to fail in part".into()));
        }
        let mut written = Written::default();
        if mood == Mood::Refuses {
            values.pop();
            let delivery = deliveries.len() - 1;
            written.rejected.push(Rejected { delivery, row: 0, reason: "told to refuse".into() });
        }
        self.world.taken.lock().unwrap().extend(values);
        // Others get their turn, as with any write over a network.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(written)
    }
}

#[derive(Debug)]
struct TestSpool(Arc<World>);

#[async_trait]
impl Spool for TestSpool {
    async fn append(&self, deliveries: &[Arc<Delivery>]) -> Result<RecordId, SpoolError> {
        let mut standing = self.0.standing.lock().unwrap();
        if standing.len() + deliveries.len() > self.0.most.load(Relaxed) {
            return Err(SpoolError::Full { bytes: 1, max_bytes: 1 });
        }
        for delivery in deliveries {
            let id = self.0.appended.fetch_add(1, Relaxed) as u64 + 1;
            standing.push_back((id, delivery.clone()));
        }
        Ok(RecordId(self.0.appended.load(Relaxed) as u64))
    }

    async fn oldest(&self, rows: usize) -> Result<Vec<Spooled>, SpoolError> {
        let standing = self.0.standing.lock().unwrap();
        let given = standing.iter().take(rows);
        Ok(given.map(|(id, d)| Spooled { id: RecordId(*id), delivery: d.clone(), unplaced: vec![] }).collect())
    }

    async fn remove(&self, through: RecordId) -> Result<(), SpoolError> {
        self.0.standing.lock().unwrap().retain(|(id, _)| *id > through.0);
        Ok(())
    }

    fn totals(&self) -> SpoolTotals {
        SpoolTotals { records: self.0.standing.lock().unwrap().len() as u64, ..SpoolTotals::default() }
    }

    fn order(&self) -> SpoolOrder {
        self.0.order
    }

    async fn close(&self) {}
}

struct House {
    runtime: Runtime,
    world: Arc<World>,
    status: Arc<SinkStatus>,
    queue: mpsc::Sender<Consignment>,
    filling: Option<Arc<Notify>>,
    finish: watch::Sender<bool>,
    give_up: watch::Sender<bool>,
    task: JoinHandle<()>,
    sent: u64,
}

impl House {
    fn new(order: SpoolOrder, mood: Mood, standing: u64) -> Self {
        Self::beside(None, order, mood, standing)
    }

    /// One to which late points of others go, with such a grace.
    fn of_late(grace: Duration, mood: Mood, standing: u64) -> Self {
        Self::with(grace, Some(Arc::default()), None, SpoolOrder::Kept, mood, standing)
    }

    /// One whose late points go to another.
    fn beside(late: Option<&House>, order: SpoolOrder, mood: Mood, standing: u64) -> Self {
        Self::with(GRACE, None, late, order, mood, standing)
    }

    fn with(
        grace: Duration,
        filling: Option<Arc<Notify>>,
        late: Option<&House>,
        order: SpoolOrder,
        mood: Mood,
        standing: u64,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = Arc::new(World {
            mood: watch::Sender::new(mood),
            taken: Mutex::default(),
            standing: Mutex::new((1..=standing).map(|number| (number, delivery(number))).collect()),
            appended: AtomicUsize::new(standing as usize),
            most: AtomicUsize::new(usize::MAX),
            order,
            letters: Mutex::default(),
            outcomes: Mutex::default(),
            told: Mutex::default(),
        });
        let (queue, receiver) = mpsc::channel(4);
        let (letters, mut buried) = mpsc::channel::<Consignment>(4);
        let (finish, give_up) = (watch::Sender::new(false), watch::Sender::new(false));
        let spool: Arc<dyn Spool> = Arc::new(TestSpool(world.clone()));
        let status = Arc::new(SinkStatus::new(Some(spool.clone())));
        let flush = Flush::new(FlushParts {
            name: "test".into(),
            letters_name: "test".into(),
            sink: Box::new(TestSink {
                world: world.clone(),
                begun: Vec::new(),
                upcoming: Vec::new(),
                next: Vec::new(),
            }),
            spool: Some(spool),
            late: late.map(|house| Beside { queue: house.queue.clone(), filling: house.filling.clone().unwrap() }),
            limits: SinkLimits { rows: 8, queue: 4, grace },
            queue: receiver,
            filling: filling.clone(),
            status: status.clone(),
            books: Arc::new(Books::new(10)),
            raw: RawMessages::None,
            dead_letters: Some(letters),
            give_up: give_up.subscribe(),
            finish: finish.subscribe(),
        });
        let undertaker = world.clone();
        runtime.spawn(async move {
            while let Some((delivery, ack)) = buried.recv().await {
                undertaker.letters.lock().unwrap().extend(delivery.dead_letters.iter().cloned());
                ack.resolve(Outcome::Settled);
            }
        });
        let task = runtime.spawn(flush.run());
        Self { runtime, world, status, queue, filling, finish, give_up, task, sent: standing }
    }

    /// Sends so many deliveries of a point each, waiting while the queue is full.
    fn send(&mut self, deliveries: u64) {
        for _ in 0..deliveries {
            self.sent += 1;
            self.send_one(delivery(self.sent));
        }
    }

    fn send_one(&self, delivery: Arc<Delivery>) {
        let world = self.world.clone();
        let ack = Ack::new(move |outcome| {
            let mut outcomes = world.outcomes.lock().unwrap();
            match outcome {
                Outcome::Settled => outcomes.0 += 1,
                Outcome::Returned => outcomes.1 += 1,
            }
        });
        self.queue.blocking_send((delivery, ack)).unwrap();
    }

    fn mood(&self, mood: Mood) {
        self.world.mood.send_replace(mood);
    }

    fn settled(&self) -> usize {
        self.world.outcomes.lock().unwrap().0
    }

    fn standing(&self) -> usize {
        self.world.standing.lock().unwrap().len()
    }

    fn taken(&self) -> Vec<u64> {
        self.world.taken.lock().unwrap().clone()
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Clock::now() + DEADLINE;
        while !done(self) {
            let (taken, status) = (self.taken().len(), self.status.totals("test"));
            assert!(
                Clock::now() < deadline,
                "waited {DEADLINE:?} for {what}: {taken} taken, {:?}, {status:?}",
                self.world.outcomes
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nobody sends any more; the task must end.
    fn end(self) -> Arc<World> {
        self.finish.send_replace(true);
        let Self { runtime, task, world, .. } = self;
        let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, task).await });
        ended.unwrap_or_else(|_| panic!("waited {DEADLINE:?} for the task to end")).unwrap();
        world
    }
}

fn delivery(number: u64) -> Arc<Delivery> {
    of_points([number])
}

fn of_points<const N: usize>(numbers: [u64; N]) -> Arc<Delivery> {
    let mut points = Points::default();
    numbers.iter().for_each(|&number| points.push(SeriesId(0), 0, number as f64, 192));
    Arc::new(Delivery { points, from_row: vec![tidegate_model::NO_ROW; N], ..Delivery::default() })
}

fn values(delivery: &Delivery) -> impl Iterator<Item = u64> + '_ {
    delivery.points.value.iter().map(|value| *value as u64)
}

/// Guarantees: a sink that keeps up costs its spool nothing.
#[test]
fn bypassed_while_healthy() {
    let mut house = House::new(SpoolOrder::Kept, Mood::Works, 0);
    house.send(100);
    house.wait("all to be settled", |house| house.settled() == 100);
    assert_eq!(house.world.appended.load(Relaxed), 0);
    assert_eq!(house.end().taken.lock().unwrap().len(), 100);
}

/// Guarantees: what a sink is told to come is what it is given next, also after its spool was drained; and it is told.
#[test]
fn what_is_told_comes() {
    for order in [SpoolOrder::Kept, SpoolOrder::LiveFirst] {
        let house = House::new(order, Mood::Works, 20);
        let told = || *house.world.told.lock().unwrap();
        let (deadline, mut sent) = (Clock::now() + DEADLINE, 0);
        while told().1 < 3 {
            assert!(Clock::now() < deadline, "waited {DEADLINE:?}, sent {sent} full batches: {:?}", told());
            sent += 1;
            house.send_one(of_points([sent as u64; 8]));
        }
        house.wait("all to be settled", |house| house.settled() == sent);
        let told = *house.end().told.lock().unwrap();
        assert_eq!(told.0, told.1);
    }
}

/// Guarantees: while a sink is down, or wants a person, what comes is acknowledged once it is spooled; nothing is held back; when
/// the sink works again it gets everything in order and once, and then what comes directly.
#[test]
fn down_and_back() {
    for mood in [Mood::Fails, Mood::NeedsOperator] {
        let mut house = House::new(SpoolOrder::Kept, Mood::Works, 0);
        house.send(10);
        house.wait("the first to be settled", |house| house.settled() == 10);
        house.mood(mood);
        house.send(50);
        house.wait("the spool's word", |house| house.settled() == 60);
        assert_eq!((house.standing(), house.taken().len()), (50, 10));
        let totals = house.status.totals("test");
        assert!(totals.down.is_some() && totals.holds_back.is_none() && totals.in_flight == 0, "{totals:?}");
        house.mood(Mood::Works);
        house.wait("the drain", |house| house.standing() == 0 && house.status.totals("test").down.is_none());
        house.send(10);
        house.wait("the last", |house| house.settled() == 70);
        let world = house.end();
        assert_eq!(*world.taken.lock().unwrap(), (1..=70).collect::<Vec<_>>());
        assert!(world.appended.load(Relaxed) <= 50 + 10, "what came last went directly, or behind the last record");
    }
}

/// Guarantees: a drain under load that never stops comes to its end: for two rows that leave at most one is appended; everything stays in
/// order, and what comes then goes to the sink directly.
#[test]
fn drained_under_load() {
    let mut house = House::new(SpoolOrder::Kept, Mood::Fails, 0);
    house.send(400);
    house.mood(Mood::Works);
    // Its first write after an outage is not enough: it must have confirmed it.
    house.wait("the sink to work", |house| house.taken().len() > 24);
    house.send(2_000);
    house.wait("all to be settled", |house| house.settled() == 2_400);
    let appended = house.world.appended.load(Relaxed);
    assert!(appended < 900, "{appended} appended: 400, as many while these left, and a few");
    assert_eq!(*house.end().taken.lock().unwrap(), (1..=2_400).collect::<Vec<_>>());
}

/// Guarantees: a write that hangs does not hold its messages back for longer than the grace; when it succeeds after all, nothing is
/// written twice.
#[test]
fn a_write_that_hangs() {
    let mut house = House::new(SpoolOrder::Kept, Mood::Hangs, 0);
    let began = Clock::now();
    house.send(20);
    house.wait("the spool's word", |house| house.settled() == 20);
    assert!(began.elapsed() >= GRACE && house.taken().is_empty());
    house.mood(Mood::Works);
    house.wait("the drain", |house| house.standing() == 0 && house.taken().len() == 20);
    assert_eq!(*house.end().taken.lock().unwrap(), (1..=20).collect::<Vec<_>>());
}

/// Guarantees: a full spool takes nothing, what comes waits unacknowledged, and the host says so; when there is room, it goes on, in order.
#[test]
fn a_full_spool_holds_back() {
    let mut house = House::new(SpoolOrder::Kept, Mood::Fails, 0);
    house.world.most.store(8, Relaxed);
    house.send(8);
    house.wait("the spool's word", |house| house.settled() == 8);
    house.send(3);
    house.wait("it to be held", |house| house.status.totals("test").holds_back.is_some());
    assert_eq!((house.settled(), house.standing()), (8, 8));
    house.mood(Mood::Works);
    house.wait("all to be settled", |house| house.settled() == 11);
    house.wait("the host to say so", |house| house.status.totals("test").holds_back.is_none());
    assert_eq!(*house.end().taken.lock().unwrap(), (1..=11).collect::<Vec<_>>());
}

/// Guarantees: a delivery that has something for other sinks too, such as the letter of a message that came with its points, is written when the sink works again:
/// what other sinks take is nothing that this one took and takes no more.
#[test]
fn with_something_for_others() {
    for order in [SpoolOrder::Kept, SpoolOrder::LiveFirst] {
        let mut house = House::new(order, Mood::Fails, 0);
        house.sent = 1;
        let letter = DeadLetter {
            source: "plant".into(),
            topic: "dev/a".into(),
            received_us: 0,
            marks: 0,
            payload: Vec::new(),
            properties: Vec::new(),
            stage: Stage::Decode,
            rule: None,
            module: None,
            reason: "told to be one".to_owned(),
            backtrace: None,
        };
        let mixed = Delivery { dead_letters: vec![letter], ..Arc::into_inner(delivery(1)).unwrap() };
        let ack = Ack::new(|_| {});
        house.queue.blocking_send((Arc::new(mixed), ack)).unwrap();
        house.wait("it to stand in the spool", |house| house.standing() == 1);
        house.mood(Mood::Works);
        house.wait("it to be written", |house| house.taken() == [1]);
        house.wait("the spool to be empty", |house| house.standing() == 0);
        house.end();
    }
}

/// Guarantees: what stands from an earlier run goes before anything that comes.
#[test]
fn what_stands_goes_first() {
    let mut house = House::new(SpoolOrder::Kept, Mood::Works, 30);
    house.send(30);
    house.wait("all to be taken", |house| house.taken().len() == 60);
    assert_eq!(*house.end().taken.lock().unwrap(), (1..=60).collect::<Vec<_>>());
}

/// Guarantees: with `live_first`, what comes does not wait for all that stands; all arrives, and once.
#[test]
fn live_first() {
    let mut house = House::new(SpoolOrder::LiveFirst, Mood::Works, 400);
    // Its first write after an outage is not enough: it must have confirmed it.
    house.wait("the sink to work", |house| house.taken().len() > 24);
    // It does not go on before they wait.
    house.mood(Mood::Hangs);
    house.send(2);
    house.mood(Mood::Works);
    house.wait("all to be taken", |house| house.taken().len() == 402);
    let mut taken = house.end().taken.lock().unwrap().clone();
    let live = taken.iter().position(|value| *value == 401).unwrap();
    assert!(live < 300, "it waited for {live} others");
    taken.sort_unstable();
    assert_eq!(taken, (1..=402).collect::<Vec<_>>());
}

/// Guarantees: with `live_first`, what a sink fails to take of what comes it is given again before anything else, so that it writes the rest and no
/// part twice; and not once more when its records' turn comes.
#[test]
fn live_first_in_part() {
    let mut house = House::new(SpoolOrder::LiveFirst, Mood::Works, 400);
    house.wait("the sink to work", |house| house.taken().len() > 24);
    // It does not go on before they wait.
    house.mood(Mood::Hangs);
    house.send(3);
    house.mood(Mood::FailsInPart { above: 400 });
    house.wait("nothing to stand", |house| house.taken().len() >= 403 && house.standing() == 0);
    assert!(house.world.appended.load(Relaxed) >= 403, "they were in the spool");
    house.mood(Mood::Works);
    house.send(1);
    house.wait("what comes then", |house| house.taken().contains(&404));
    let mut taken = house.end().taken.lock().unwrap().clone();
    taken.sort_unstable();
    assert_eq!(taken, (1..=404).collect::<Vec<_>>());
}

/// Guarantees: a shutdown does not wait for a sink that is down: what is spooled stays, and counts as settled.
#[test]
fn a_shutdown_leaves_the_spool() {
    for mood in [Mood::Fails, Mood::NeedsOperator, Mood::Hangs] {
        let mut house = House::new(SpoolOrder::Kept, mood, 5);
        house.send(20);
        // The sink works never again: who waited for it would not end, and a write under way gets no more than its grace.
        let began = Clock::now();
        let world = house.end();
        assert!(began.elapsed() < 30 * GRACE, "{mood:?}: {:?}", began.elapsed());
        assert_eq!(*world.outcomes.lock().unwrap(), (20, 0), "{mood:?}");
        let standing: Vec<u64> = world.standing.lock().unwrap().iter().flat_map(|(_, d)| values(d)).collect();
        assert_eq!(standing, (1..=25).collect::<Vec<_>>(), "{mood:?}");
    }
}

/// Guarantees: when the time is over and neither sink nor spool takes anything, messages are returned, none forgotten.
#[test]
fn given_up() {
    let mut house = House::new(SpoolOrder::Kept, Mood::Fails, 0);
    house.world.most.store(0, Relaxed);
    house.send(5);
    house.wait("it to be held", |house| house.status.totals("test").holds_back.is_some());
    house.give_up.send_replace(true);
    assert_eq!(*house.end().outcomes.lock().unwrap(), (0, 5));
}

/// Guarantees: a point of the spool that the sink refuses is in the dead letters before its record is gone.
#[test]
fn refused_from_the_spool() {
    let house = House::new(SpoolOrder::Kept, Mood::Refuses, 3);
    house.wait("the drain", |house| house.standing() == 0);
    let world = house.end();
    let letters = world.letters.lock().unwrap();
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "told to refuse"));
    assert_eq!(letters[0].rule.as_deref(), Some("test"));
    assert_eq!(*world.taken.lock().unwrap(), [1, 2]);
}
