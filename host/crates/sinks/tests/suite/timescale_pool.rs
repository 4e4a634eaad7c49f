//! The TimescaleDB sink over several connections: whole, in part, through a pooler, and when the first host is the wrong one.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use tidegate_config::{Repeats, Secret, TimescaleSink};
use tidegate_model::{Books, Delivery, Sink, SinkError, Stored as _};
use tidegate_sinks::{SourcePositions, Timescale};
use tokio_postgres::Client;

use crate::pgbouncer::PgBouncer;
use crate::postgres::Postgres;
use crate::{PATIENCE, alerts, points};

/// `rows` points, in turn of 50 series; value and microsecond are the row's number.
pub(crate) fn many(books: &Books, from: i64, rows: i64) -> Arc<Delivery> {
    let topics: Vec<String> = (0..50).map(|i| format!("dev/line{i}")).collect();
    let rows: Vec<_> =
        (from..from + rows).map(|i| (topics[i as usize % 50].as_str(), None, i, i as f64, None)).collect();
    Arc::new(points(books, &rows))
}

/// For waits that a busy machine may make long.
const LONG: Duration = Duration::from_secs(180);

pub(crate) async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

pub(crate) const COUNT: &str = "SELECT count(*) FROM metrics";
pub(crate) const DISTINCT: &str = "SELECT count(DISTINCT (topic, time)) FROM metrics";
pub(crate) const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";

/// Guarantees: a large write goes over as many connections as configured, each series over one of them and in order; a small one, and the
/// first, need no more than one.
#[tokio::test]
async fn a_large_write_is_spread() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    sink.write(&[many(&books, 0, 900)]).await.unwrap();
    assert_eq!(number(&client, CONNECTIONS).await, 1);
    // Rows are numbered as they are written; where they stand in the table says nothing of that, with several connections.
    client.batch_execute("ALTER TABLE metrics ADD COLUMN written bigserial").await.unwrap();
    let written = sink.write(&[many(&books, 900, 7_000), alerts(0, 3), many(&books, 7_900, 5_000)]).await.unwrap();
    assert_eq!((written.points, written.alerts), (12_000, 3));
    assert_eq!(number(&client, CONNECTIONS).await, 4);
    assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (12_900, 12_900));
    assert_eq!(number(&client, "SELECT count(*) FROM alerts").await, 3);
    // xmin: the transaction that wrote a row.
    let writers = "SELECT count(*) FROM (SELECT topic FROM metrics WHERE value >= 900 GROUP BY topic \
        HAVING count(DISTINCT xmin::text) > 1) AS torn";
    assert_eq!(number(&client, writers).await, 0);
    let disorder = "SELECT count(*) FROM (SELECT time < lag(time) OVER (PARTITION BY topic ORDER BY written) AS back FROM metrics) AS o \
        WHERE back";
    assert_eq!(number(&client, disorder).await, 0);
    sink.close().await;
    let deadline = Instant::now() + PATIENCE;
    while number(&client, CONNECTIONS).await > 0 {
        assert!(Instant::now() < deadline, "a connection is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Guarantees: when one connection's part fails and the others' are committed, the write as a whole fails; tried again, it stores what is
/// missing and nothing twice, also where a try between fails before any point is sent, as what is told of series is looked at anew then.
/// Other deliveries in between do not inherit what was done.
#[tokio::test]
async fn a_write_that_fails_in_part_is_finished() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    sink.write(&[many(&books, 0, 50)]).await.unwrap();
    let guard = "CREATE TABLE broken (topic text, place text);
        CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM broken WHERE topic = NEW.topic AND place = TG_TABLE_NAME) THEN
                RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER guard BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION guard();
        CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON series FOR EACH ROW EXECUTE FUNCTION guard();
        INSERT INTO broken VALUES ('dev/line3', 'metrics')";
    client.batch_execute(guard).await.unwrap();
    let deliveries = [many(&books, 50, 5_000), alerts(0, 2)];
    for _ in 0..3 {
        let failed = sink.write(&deliveries).await;
        assert!(matches!(&failed, Err(SinkError::Retry(text)) if text.contains("not now")), "{failed:?}");
    }
    let in_part = number(&client, COUNT).await;
    assert!((50 + 3_000..5_050).contains(&in_part), "{in_part}");
    client
        .batch_execute("UPDATE broken SET place = 'series'; DELETE FROM series WHERE topic = 'dev/line3'")
        .await
        .unwrap();
    let failed = sink.write(&deliveries).await;
    assert!(matches!(&failed, Err(SinkError::Retry(text)) if text.contains("not now")), "{failed:?}");
    assert_eq!(number(&client, COUNT).await, in_part);
    client.batch_execute("DELETE FROM broken").await.unwrap();
    assert_eq!(sink.write(&deliveries).await.unwrap().points, 5_000);
    assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (5_050, 5_050));
    assert_eq!(number(&client, "SELECT count(*) FROM alerts").await, 2);

    client.batch_execute("INSERT INTO broken VALUES ('dev/line3', 'metrics')").await.unwrap();
    sink.write(&[many(&books, 10_000, 5_000)]).await.unwrap_err();
    client.batch_execute("DELETE FROM broken; TRUNCATE metrics").await.unwrap();
    sink.write(&[many(&books, 20_000, 5_000)]).await.unwrap();
    assert_eq!(number(&client, COUNT).await, 5_000);
}

/// Guarantees: a server that has fewer connections to give than configured is written to over those.
#[tokio::test]
async fn fewer_connections_will_do() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    client
        .batch_execute("CREATE ROLE writer LOGIN CONNECTION LIMIT 2; GRANT CREATE ON SCHEMA public TO writer")
        .await
        .unwrap();
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(server.settings("writer"), Arc::clone(&books));
    for from in [0, 10_000] {
        assert_eq!(sink.write(&[many(&books, from, 10_000)]).await.unwrap().points, 10_000);
    }
    assert_eq!(number(&client, CONNECTIONS).await, 2);
    assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (20_000, 20_000));
}

/// Guarantees: through PgBouncer in transaction mode, with fewer server connections than ours, everything works as without it: several writes
/// at once, new series, alerts, bad rows, repeats dropped; and no prepared statement stays behind in the pooled sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_pgbouncer() {
    let Some(server) = Postgres::start() else { return };
    let Some(pooler) = PgBouncer::start(&server) else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(999));
    let mut once = pooler.settings();
    once.repeats = Repeats::Dropped;
    once.names.table = "once".to_owned();
    let first = [many(&books, 0, 1)];
    let mut sinks =
        [pooler.settings(), pooler.settings(), once].map(|settings| Timescale::new(settings, Arc::clone(&books)));
    for sink in &mut sinks {
        sink.write(&first).await.unwrap();
    }
    client
        .batch_execute("ALTER TABLE metrics ADD CHECK (value <> 4321); ALTER TABLE once ADD CHECK (value <> 4321)")
        .await
        .unwrap();
    let writers = sinks.map(|mut sink| {
        let books = Arc::clone(&books);
        tokio::spawn(async move {
            let (mut stored, mut rejected, mut repeats) = (0, 0, 0);
            for round in 0..4 {
                // The second half of each write is the first half of the next.
                let mut deliveries = vec![many(&books, round * 2_500, 5_000), alerts(round as u32, 1)];
                deliveries.push(Arc::new(points(&books, &[(&format!("new{round}"), Some("C"), 0, 1.0, None)])));
                let written = sink.write(&deliveries).await.unwrap();
                stored += written.points;
                rejected += written.rejected.len();
                repeats += written.repeats;
            }
            sink.close().await;
            (stored, rejected, repeats)
        })
    });
    let mut sums = Vec::new();
    for writer in writers {
        sums.push(writer.await.unwrap());
    }
    // Row 4321 is in two rounds, 7,500 rows are in two; row 0 was stored before.
    let stored = 4 * 5_001 - 2;
    assert_eq!(sums, [(stored, 2, 0), (stored, 2, 0), (stored, 2, 7_500)]);
    assert_eq!(number(&client, COUNT).await, 2 * (1 + stored as i64));
    assert_eq!(number(&client, "SELECT count(*) FROM once").await, 12_500 - 1 + 4);
    assert_eq!(number(&client, "SELECT count(DISTINCT (topic, time)) FROM once").await, 12_500 - 1 + 4);
    assert_eq!(number(&client, "SELECT count(*) FROM alerts").await, 12);
    pooler.assert_nothing_prepared(&server).await;
}

/// Guarantees: of several hosts in the URL the one that takes writes is used, whatever stands before it: nobody, or a server that may only
/// be read from; and when the roles change, the other one is found.
#[tokio::test]
async fn the_host_that_takes_writes_is_found() {
    let (Some(mut first), Some(second)) = (Postgres::start(), Postgres::start()) else { return };
    let read_only = "ALTER SYSTEM SET default_transaction_read_only = on";
    first.client().await.batch_execute(read_only).await.unwrap();
    first.crash();
    first.restart();
    let nobody = crate::free_port();
    let url = format!(
        "postgres://postgres@127.0.0.1:{nobody},127.0.0.1:{},127.0.0.1:{}/postgres",
        first.port(),
        second.port()
    );
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(TimescaleSink::new(Secret::new(url)), Arc::clone(&books));
    sink.write(&[many(&books, 0, 100)]).await.unwrap();
    assert_eq!(number(&second.client().await, COUNT).await, 100);

    first.crash();
    first.set("default_transaction_read_only = off");
    first.restart();
    drop(second);
    let deliveries = [many(&books, 100, 100)];
    let failed = sink.write(&deliveries).await;
    assert!(matches!(failed, Err(SinkError::Retry(_))), "{failed:?}");
    sink.write(&deliveries).await.unwrap();
    assert_eq!(number(&first.client().await, COUNT).await, 100);
}

/// Guarantees: a first host that takes connections and says nothing does not keep a sink, or a source that asks for positions, from the second; and
/// once the second was reached, neither asks the first again.
#[tokio::test]
async fn a_host_that_says_nothing_is_passed_by() {
    let Some(server) = Postgres::start() else { return };
    // The system takes connections for it; nobody ever reads them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?connect_timeout=2",
        silent.local_addr().unwrap().port(),
        server.port()
    );
    let settings = TimescaleSink::new(Secret::new(url));
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(settings.clone(), Arc::clone(&books));
    let deliveries = [many(&books, 0, 100)];
    let deadline = Instant::now() + LONG;
    while let Err(error) = sink.write(&deliveries).await {
        assert!(matches!(error, SinkError::Retry(_)) && Instant::now() < deadline, "{error:?}");
    }
    assert_eq!(number(&server.client().await, COUNT).await, 100);
    let positions = SourcePositions::new(settings);
    let deadline = Instant::now() + LONG;
    loop {
        match positions.next_offsets("c", "g").await {
            Ok(none) => break assert_eq!(none, []),
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
    }

    let asked = || {
        silent.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| silent.accept().ok()).count()
    };
    assert!(asked() >= 2, "both began with the first");
    positions.next_offsets("c", "g").await.unwrap();
    // More connections, and then new ones in their place.
    sink.write(&[many(&books, 100, 9_000)]).await.unwrap();
    let client = server.client().await;
    assert!(number(&client, CONNECTIONS).await > 1);
    client
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'")
        .await
        .unwrap();
    let deliveries = [many(&books, 9_100, 9_000)];
    let deadline = Instant::now() + LONG;
    while let Err(error) = sink.write(&deliveries).await {
        assert!(matches!(error, SinkError::Retry(_)) && Instant::now() < deadline, "{error:?}");
    }
    assert_eq!(asked(), 0);
}

/// Each COMMIT waits for as long as this session holds the lock.
pub(crate) const HOLD_COMMITS: &str = "CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS \
    'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'; \
    CREATE CONSTRAINT TRIGGER held AFTER INSERT ON metrics DEFERRABLE INITIALLY DEFERRED \
    FOR EACH ROW EXECUTE FUNCTION held(); SELECT pg_advisory_lock(7)";

thread_local! {
    /// Tests beside one write too, on their threads; all of one is on its own.
    static AHEAD: Arc<AtomicUsize> = Arc::default();
    static SENT: Arc<AtomicUsize> = Arc::default();
}

/// How often rows were encoded ahead, from now on.
pub(crate) fn encoded_ahead() -> Arc<AtomicUsize> {
    counted("encoded-ahead", &AHEAD)
}

/// How often such rows were sent.
pub(crate) fn sent_ahead() -> Arc<AtomicUsize> {
    counted("sent-ahead", &SENT)
}

fn counted(site: &str, on: &'static LocalKey<Arc<AtomicUsize>>) -> Arc<AtomicUsize> {
    fail::cfg_callback(site, move || on.with(|count| _ = count.fetch_add(1, Relaxed))).unwrap();
    on.with(|count| {
        count.store(0, Relaxed);
        count.clone()
    })
}

/// Goes on with a write until its first COMMIT waits and rows were encoded ahead.
pub(crate) async fn until_committing<T: std::fmt::Debug>(
    client: &Client,
    ahead: &AtomicUsize,
    mut write: Pin<&mut impl Future<Output = T>>,
) {
    let deadline = Instant::now() + LONG;
    let committing = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while ahead.load(Relaxed) == 0 || number(client, committing).await == 0 {
        assert!(Instant::now() < deadline, "{ahead:?} encoded ahead while the first waits for its COMMIT");
        tokio::select! {
            biased;
            done = &mut write => panic!("its first COMMIT cannot be over: {done:?}"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

/// Guarantees: while a transaction is being committed, the rows of the next on the same connection are encoded, and of that one alone; nothing is
/// confirmed before all of them are committed.
#[tokio::test]
async fn the_next_is_encoded_while_one_is_committed() {
    for repeats in [Repeats::Stored, Repeats::Dropped] {
        let Some(server) = Postgres::start() else { return };
        let client = server.client().await;
        let books = Arc::new(Books::new(99));
        let mut settings = server.settings("postgres");
        (settings.connections, settings.max_rows, settings.repeats) = (1, Some(1_000), repeats);
        settings.statement_timeout = 10 * LONG;
        let mut sink = Timescale::new(settings, Arc::clone(&books));
        sink.write(&[many(&books, 0, 10)]).await.unwrap();
        client.batch_execute(HOLD_COMMITS).await.unwrap();
        let ahead = encoded_ahead();
        let deliveries = [many(&books, 10, 3_000)];
        let mut write = pin!(sink.write(&deliveries));
        until_committing(&client, &ahead, write.as_mut()).await;
        assert_eq!((ahead.load(Relaxed), number(&client, COUNT).await), (1, 10));
        client.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
        let written = write.await.unwrap();
        assert_eq!((written.points, written.repeats, ahead.load(Relaxed)), (3_000, 0, 2));
        assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (3_010, 3_010));
        assert_eq!(number(&client, "SELECT count(DISTINCT xmin::text) FROM metrics").await, 4);
    }
}
