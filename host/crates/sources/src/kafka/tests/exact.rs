//! Offsets that are stored with the points: what is read while somebody has to say where a partition begins.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tidegate_model::{SinkError, Stored};
use tokio::sync::watch;

use super::*;

/// A database that has stored partitions of "fleet" so far.
#[derive(Debug)]
struct Database {
    stored: Mutex<Vec<(i32, i64)>>,
    /// Whether it leaves questions without an answer, until it speaks again.
    silent: watch::Sender<bool>,
    /// How many questions wait for an answer.
    waiting: AtomicUsize,
}

#[async_trait]
impl Stored for Database {
    async fn next_offsets(&self, _: &str, _: &str) -> Result<Vec<(String, i32, i64)>, SinkError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.silent.subscribe().wait_for(|silent| !silent).await.unwrap();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let of = |&(partition, offset): &(i32, i64)| ("fleet".to_owned(), partition, offset);
        Ok(self.stored.lock().unwrap().iter().map(of).collect())
    }
}

fn database(stored: &[(i32, i64)]) -> Arc<Database> {
    let (silent, waiting) = (watch::Sender::new(false), AtomicUsize::new(0));
    Arc::new(Database { stored: Mutex::new(stored.to_vec()), silent, waiting })
}

fn start_exact(cluster: &Cluster, database: &Arc<Database>) -> Host {
    let settings = Settings { offsets: tidegate_config::Offsets::WithPoints, ..cluster.settings() };
    let source = KafkaSource::new(settings).stored_by(database.clone());
    Host::with(source, 1, 1_000, ParcelLimits { rows: 5, bytes: 1 << 20 })
}

/// Guarantees: a partition that ends before what is stored of it is not read, and told with what to do, while the others are read and the source is
/// up; once somebody has said where it begins it is read from there, without the others being read again.
#[tokio::test(flavor = "multi_thread")]
async fn one_partition_does_not_stop_the_others() {
    let cluster = Cluster::new(2);
    cluster.produce(0, 0..10);
    cluster.produce(1, 100..110);
    let database = database(&[(0, 3), (1, 1_000)]);
    let mut host = start_exact(&cluster, &database);
    // Nothing is committed in the group yet: the database decides.
    assert_eq!(payloads(&host.settle(7).await), numbers(3..10));
    let unread = host.inlet.health().unread();
    assert_eq!(unread.iter().map(|held| (held.topic.as_str(), held.partition)).collect::<Vec<_>>(), [("fleet", 1)]);
    let why = &unread[0].reason;
    assert!(why.contains("partition 1 of fleet ends at 10") && why.contains("source_positions"), "{why}");
    assert_eq!(host.inlet.health().state(), State::Up);
    cluster.produce(0, 10..20);
    assert_eq!(payloads(&host.settle(10).await), numbers(10..20));
    assert_eq!(host.anything_waiting(), None);

    database.stored.lock().unwrap().retain(|(partition, _)| *partition != 1);
    assert_eq!(payloads(&host.settle(10).await), numbers(100..110));
    host.until("nothing is left unread", |host| host.inlet.health().unread().is_empty()).await;
    cluster.produce(1, 110..115);
    cluster.produce(0, 20..25);
    let both = payloads(&host.settle(10).await);
    assert_eq!(both, [numbers(20..25), numbers(110..115)].concat());
    host.close().await;
}

/// Guarantees: a database that does not answer where a held partition begins holds no other partition up; when it answers, the held one is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_database() {
    let cluster = Cluster::new(2);
    cluster.produce(0, 0..10);
    cluster.produce(1, 100..110);
    let database = database(&[(1, 1_000)]);
    let mut host = start_exact(&cluster, &database);
    assert_eq!(payloads(&host.settle(10).await), numbers(0..10));
    database.silent.send_replace(true);
    host.until("the database is asked", |_| database.waiting.load(Ordering::SeqCst) > 0).await;
    cluster.produce(0, 10..20);
    assert_eq!(payloads(&host.settle(10).await), numbers(10..20));
    assert_eq!(database.waiting.load(Ordering::SeqCst), 1);

    database.stored.lock().unwrap().clear();
    database.silent.send_replace(false);
    assert_eq!(payloads(&host.settle(10).await), numbers(100..110));
    host.close().await;
}

/// Guarantees: where no partition of a source can be read, that is how the source is; it recovers by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_partition() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..10);
    let database = database(&[(0, 1_000)]);
    let mut host = start_exact(&cluster, &database);
    host.until("it says so", |host| {
        matches!(host.inlet.health().state(), State::Down(why) if why.contains("partition 0 of fleet ends at 10"))
    })
    .await;
    *database.stored.lock().unwrap() = vec![(0, 4)];
    assert_eq!(payloads(&host.settle(6).await), numbers(4..10));
    host.until("it is up", |host| host.inlet.health().state() == State::Up).await;
    assert_eq!(host.inlet.health().unread(), []);
    host.close().await;
}

/// Guarantees: nothing is read before the group has where reading begins; a group that does not take it is waited for no longer than it should,
/// which is said, and asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_takes_no_commit() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..10);
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 100];
    cluster.0.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    let mut host = start_exact(&cluster, &database(&[]));
    host.until("it says so", |host| {
        matches!(host.inlet.health().state(), State::Down(why) if why.contains("has not taken where reading begins"))
    })
    .await;
    assert_eq!(host.anything_waiting(), None);
    cluster.0.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    assert_eq!(payloads(&host.settle(10).await), numbers(0..10));
    host.close().await;
}
