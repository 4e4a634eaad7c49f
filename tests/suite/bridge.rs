//! Kafka as the way between two hosts, and as a group that hosts join and leave: against the mock cluster, and against Apache Kafka where
//! there is one.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tidegate_tests::{
    Account, DEADLINE, Feed, GroupOffsets, Host, Kafka, Mosquitto, Publisher, Qos, Setup, readings, root,
    sqlite_count, sqlite_rows, wait_for,
};

/// A host with a configuration of `examples/02-edge-to-kafka`, but for addresses.
fn example(file: &str, kafka: &Kafka, mqtt: Option<&Mosquitto>) -> Host {
    let text = std::fs::read_to_string(root().join("examples/02-edge-to-kafka").join(file)).unwrap();
    let mut setup = Setup::new().module("json-reading");
    // From the first source on: the harness gives each host a directory and a port of its own.
    let sections = &text[text.find("[sources").unwrap()..];
    assert!(sections.contains("127.0.0.1:9092"), "{sections}");
    let mut sections = sections.replace("127.0.0.1:9092", &kafka.brokers());
    if let Some(broker) = mqtt {
        assert!(sections.contains("mqtt://127.0.0.1:1883"), "{sections}");
        sections = sections.replace("mqtt://127.0.0.1:1883", &broker.url());
    }
    std::fs::create_dir_all(setup.path().join("data/store")).unwrap();
    setup = setup.toml(&sections);
    setup.launch()
}

/// Guarantees: readings of every kind that go MQTT → host → Kafka → host → database, by the configurations of the example, arrive byte for byte and
/// once; both hosts' ledgers balance.
fn edge_to_store(kafka: &Kafka) {
    let Some(broker) = Mosquitto::start() else { return };
    let edge = example("edge.toml", kafka, Some(&broker));
    let store = example("store.toml", kafka, None);
    edge.wait_status("the source to be up", |status| status.sources[0].up.then_some(()));
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..5_000, 300));
    let database = store.path().join("data/store/points.db");
    wait_for("all points at the other end", DEADLINE, || match sqlite_count(&database) {
        5_000.. => Ok(()),
        found => Err(format!("{found} points; {}; {}", edge.tail(), store.tail())),
    });
    edge.wait_settled(5_000).assert_balanced("the edge");
    store.wait_settled(5_000).assert_balanced("the store");
    let mut letters = edge.dead_letters();
    letters.extend(store.dead_letters());
    Account::of(publisher.sent(), sqlite_rows(&database), &letters).assert_exact("by way of Kafka");
}

#[test]
fn edge_to_store_by_the_mock_cluster() {
    edge_to_store(&Kafka::start("readings", 4));
}

#[test]
fn edge_to_store_by_apache_kafka() {
    let Some(kafka) = Kafka::apache("readings", 4) else { return };
    edge_to_store(&kafka);
}

/// Messages that may stand before the group has committed them: the load waits then, so that there is as much of it as the hosts take.
const AHEAD: i64 = 1_000;

/// What the threads of [`hosts_come_and_go`] share: how far the group is, and whether it is over.
#[derive(Default)]
struct Shared {
    committed: AtomicI64,
    over: AtomicBool,
}

/// Ends the threads, also when what has started them fails.
struct Until<'a>(&'a Shared);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Produces until it is over; gives what it has produced.
    fn produce(&self, mut feed: Feed) -> Feed {
        while !self.is_over() {
            let sent = feed.sent().len() as u64;
            wait_for("the group to commit what was produced", DEADLINE, || {
                let committed = self.committed.load(Ordering::Acquire);
                if self.is_over() || sent as i64 - committed < AHEAD { Ok(()) } else { Err(committed) }
            });
            feed.deliver(readings(sent..sent + 100, 300));
        }
        feed
    }

    /// Looks again and again, until it is over, what the group has committed: none of it may go back. Says so at the end only: those who wait for
    /// what is committed would else wait in vain, which looks as if it were a matter of time.
    fn watch(&self, offsets: &GroupOffsets) {
        let mut before = offsets.now();
        let mut went_back = None;
        while !self.is_over() {
            let now = offsets.now();
            if now.iter().zip(&before).any(|(now, before)| now < before) {
                went_back.get_or_insert_with(|| format!("{before:?} → {now:?}"));
            }
            self.committed.store(now.iter().sum(), Ordering::Release);
            before = now;
            // Not as often as the brokers can answer: they share the machine.
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(went_back, None, "an offset went back");
    }
}

/// Waits until a host holds so many of the partitions, and has stored rows since.
fn holds(host: &Host, what: &str, partitions: std::ops::RangeInclusive<usize>) {
    host.wait_status(what, |status| partitions.contains(&status.sources[0].lag.len()).then_some(()));
    host.wait_rows(sqlite_count(&host.database()) + 100);
}

/// Guarantees: while messages are produced without a break, hosts join a group and leave it, in order and by SIGKILL; each time partitions move, and who
/// gets them stores rows. Nothing is lost between them, and no offset that the group has committed goes back: of Apache Kafka every commit is looked at, of the
/// mock cluster samples.
fn hosts_come_and_go(kafka: Kafka) {
    let member = || Setup::new().kafka(&kafka, "telemetry").module("json-reading").launch();
    let (shared, offsets, feed) = (Shared::default(), kafka.offsets("tidegate"), kafka.feed());
    let (hosts, feed) = std::thread::scope(|scope| {
        let until = Until(&shared);
        let watching = scope.spawn(|| shared.watch(&offsets));
        let producing = scope.spawn(|| shared.produce(feed));
        let mut first = member();
        holds(&first, "the first host to have all partitions", 4..=4);
        let mut second = member();
        holds(&second, "the second host to have some of them", 1..=3);
        holds(&first, "the first host to have lost some", 1..=3);
        first.stop();
        holds(&second, "the second host to have all", 4..=4);
        first.start_again();
        holds(&first, "the first host to have some again", 1..=3);
        second.kill();
        holds(&first, "the first host to have those of one that was killed", 4..=4);
        second.launch_again();
        holds(&second, "the one that was killed to have some", 1..=3);
        drop(until);
        watching.join().unwrap();
        ([first, second], producing.join().unwrap())
    });
    wait_for("the group to be done", DEADLINE, || {
        let committed = offsets.now();
        let done = committed.iter().sum::<i64>() == feed.sent().len() as i64;
        if done { Ok(()) } else { Err(format!("{committed:?}; {}; {}", hosts[0].tail(), hosts[1].tail())) }
    });
    let rows: Vec<_> = hosts.iter().flat_map(Host::rows).collect();
    let letters: Vec<_> = hosts.iter().flat_map(Host::dead_letters).collect();
    let account = Account::of(feed.sent(), rows, &letters);
    account.assert_nothing_lost("a group that changes");
    println!("{} of {} came twice", account.doubled(), feed.sent().len());

    let Some(commits) = kafka.commits("tidegate") else { return };
    let mut last = [0; 4];
    for (partition, offset) in &commits {
        let last = &mut last[*partition as usize];
        assert!(offset >= last, "partition {partition} went back from {last} to {offset}: {commits:?}");
        *last = *offset;
    }
    assert_eq!(last.to_vec(), offsets.now(), "as all commits have it, and as the brokers say");
}

#[test]
fn hosts_come_and_go_at_the_mock_cluster() {
    hosts_come_and_go(Kafka::start("telemetry", 4));
}

#[test]
fn hosts_come_and_go_at_apache_kafka() {
    let Some(kafka) = Kafka::apache("telemetry", 4) else { return };
    hosts_come_and_go(kafka);
}
