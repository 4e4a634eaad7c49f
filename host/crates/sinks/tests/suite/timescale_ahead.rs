//! The TimescaleDB sink while it knows what the next write will bring.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_config::{Offsets, Repeats, TimescaleSink};
use tidegate_model::{Books, Delivery, DescribedAs, Description, Sink, SinkError};
use tidegate_sinks::Timescale;
use tokio_postgres::Client;

use crate::points;
use crate::postgres::Postgres;
use crate::timescale_once::logged;
use crate::timescale_pool::{
    COUNT, DISTINCT, HOLD_COMMITS, encoded_ahead, many, number, sent_ahead, until_committing,
};

const RELEASE: &str = "SELECT pg_advisory_unlock(7)";
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'";

/// A sink over one connection that has stored ten rows, and whose next COMMIT will wait.
async fn about_to_commit(server: &Postgres, repeats: Repeats, books: &Arc<Books>) -> (Client, Timescale) {
    let client = server.client().await;
    let settings = TimescaleSink { connections: 1, max_rows: Some(1_000), repeats, ..server.settings("postgres") };
    let mut sink = Timescale::new(settings, Arc::clone(books));
    sink.write(&[many(books, 0, 10), many(books, 10, 50)]).await.unwrap();
    client.batch_execute("TRUNCATE metrics").await.unwrap();
    client.batch_execute(HOLD_COMMITS).await.unwrap();
    (client, sink)
}

fn tell(sink: &mut Timescale, next: &[Arc<Delivery>]) {
    let told = sink.upcoming().unwrap();
    told.clear();
    told.extend_from_slice(next);
}

/// Guarantees: while a write waits for its COMMIT, the rows of the next one's first transaction are encoded, and of that one alone, once; none of them is stored
/// before its own write, and with what their series were described as when they were measured.
#[tokio::test]
async fn the_next_write_is_encoded_while_one_is_committed() {
    for repeats in [Repeats::Stored, Repeats::Dropped] {
        let Some(server) = Postgres::start() else { return };
        let books = Arc::new(Books::new(99));
        let (client, mut sink) = about_to_commit(&server, repeats, &books).await;
        let now = [many(&books, 0, 1_000)];
        let mut next = Arc::into_inner(many(&books, 1_000, 3_000)).unwrap();
        next.described = DescribedAs::now(&books);
        let next = [Arc::new(next)];
        tell(&mut sink, &next);
        let ahead = encoded_ahead();
        {
            let mut write = pin!(sink.write(&now));
            until_committing(&client, &ahead, write.as_mut()).await;
            assert_eq!((ahead.load(Relaxed), number(&client, COUNT).await), (1, 0));
            client.batch_execute(RELEASE).await.unwrap();
            assert_eq!(write.await.unwrap().points, 1_000);
        }
        assert_eq!(number(&client, COUNT).await, 1_000);

        // Measured before it was described anew.
        let id = next[0].points.series[0];
        books.describe(id, Description { unit: Some("K".into()), labels: Vec::new() });
        let sent = sent_ahead();
        assert_eq!(sink.write(&next).await.unwrap().points, 3_000);
        assert_eq!(ahead.load(Relaxed), 3, "its second and third transaction since");
        assert_eq!(sent.load(Relaxed), 3, "nothing of it was encoded in its turn");
        assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (4_000, 4_000));
        assert_eq!(number(&client, "SELECT count(*) FROM metrics WHERE unit = 'K'").await, 0);
        assert_eq!(number(&client, "SELECT sum(value)::bigint FROM metrics").await, (0..4_000).sum::<i64>());
    }
}

/// Guarantees: where the connection is cut in COMMIT, what was encoded ahead is neither stored nor confirmed, and both writes are stored, each in order and once,
/// when they come again.
#[tokio::test]
async fn cut_at_commit_with_the_next_made_ready() {
    for repeats in [Repeats::Stored, Repeats::Dropped] {
        let Some(server) = Postgres::start() else { return };
        let books = Arc::new(Books::new(99));
        let (client, mut sink) = about_to_commit(&server, repeats, &books).await;
        client.batch_execute("ALTER TABLE metrics ADD COLUMN written bigserial").await.unwrap();
        let (now, next) = ([many(&books, 0, 1_000)], [many(&books, 1_000, 2_000)]);
        tell(&mut sink, &next);
        let ahead = encoded_ahead();
        {
            let mut write = pin!(sink.write(&now));
            until_committing(&client, &ahead, write.as_mut()).await;
            client.batch_execute(CUT).await.unwrap();
            let cut = write.await;
            assert!(matches!(cut, Err(SinkError::Retry(_))), "{cut:?}");
        }
        assert_eq!(number(&client, COUNT).await, 0);
        client.batch_execute(RELEASE).await.unwrap();
        tell(&mut sink, &next);
        assert_eq!(sink.write(&now).await.unwrap().points, 1_000);
        assert_eq!(number(&client, COUNT).await, 1_000);
        assert_eq!(sink.write(&next).await.unwrap().points, 2_000);
        assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (3_000, 3_000));
        let disorder = "SELECT count(*) FROM (SELECT time < lag(time) OVER (ORDER BY written) AS back FROM metrics) o WHERE back";
        assert_eq!(number(&client, disorder).await, 0);
    }
}

/// Guarantees: what was told and does not come is not stored, nor in the place of what comes; a series that is new is told first; and a row that the database
/// refuses, of a write that was made ready, is found as in any other.
#[tokio::test]
async fn another_write_comes_than_the_one_told() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    let settings = TimescaleSink { connections: 2, ..server.settings("postgres") };
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let write = [0, 1, 2, 3].map(|at| [many(&books, at * 3_000, 3_000)]);
    let ahead = encoded_ahead();
    tell(&mut sink, &[Arc::new(points(&books, &[("new", None, 1, 1.0, None)]))]);
    sink.write(&write[0]).await.unwrap();
    assert_eq!(ahead.load(Relaxed), 0);

    tell(&mut sink, &write[2]);
    sink.write(&[many(&books, 20_000, 3_000)]).await.unwrap();
    assert_eq!(ahead.load(Relaxed), 2, "by each connection");
    sink.write(&write[1]).await.unwrap();
    assert_eq!(number(&client, "SELECT count(*) FROM metrics WHERE value >= 6000 AND value < 12000").await, 0);

    client.batch_execute("ALTER TABLE metrics ADD CONSTRAINT odd CHECK (value <> 7000)").await.unwrap();
    tell(&mut sink, &write[2]);
    sink.write(&write[3]).await.unwrap();
    assert_eq!(ahead.load(Relaxed), 4);
    let written = sink.write(&write[2]).await.unwrap();
    assert_eq!((written.points, written.rejected.len()), (2_999, 1));
    assert_eq!((written.rejected[0].delivery, written.rejected[0].row), (0, 1_000));
    assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (14_999, 14_999));
    sink.close().await;
}

/// Guarantees: rows that a database refuses within COMMIT are found among those of their write, and none in their place are of the next one, which has as many
/// and was made ready by then.
#[tokio::test]
async fn refused_at_commit_with_the_next_made_ready() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    let settings = TimescaleSink { connections: 1, ..server.settings("postgres") };
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    sink.write(&[many(&books, 0, 1_000)]).await.unwrap();
    let late_word = "CREATE FUNCTION spoken() RETURNS trigger LANGUAGE plpgsql AS \
        'BEGIN IF NEW.value = 1500 THEN RAISE check_violation; END IF; RETURN NULL; END'; \
        CREATE CONSTRAINT TRIGGER spoken AFTER INSERT ON metrics DEFERRABLE INITIALLY DEFERRED \
        FOR EACH ROW EXECUTE FUNCTION spoken()";
    client.batch_execute(late_word).await.unwrap();
    let (now, next) = ([many(&books, 1_000, 1_000)], [many(&books, 2_000, 1_000)]);
    let ahead = encoded_ahead();
    tell(&mut sink, &next);
    let written = sink.write(&now).await.unwrap();
    assert_eq!((written.points, written.rejected.len(), ahead.load(Relaxed)), (999, 1, 1));
    assert_eq!((written.rejected[0].delivery, written.rejected[0].row), (0, 500));
    assert_eq!(number(&client, "SELECT max(value)::bigint FROM metrics").await, 1_999);
    assert_eq!(sink.write(&next).await.unwrap().points, 1_000);
    assert_eq!((number(&client, COUNT).await, number(&client, DISTINCT).await), (2_999, 2_999));
    sink.close().await;
}

/// How many messages of a log are stored; what the database says of the log is the same, and each is there once.
async fn stored(client: &Client) -> i64 {
    let of = "SELECT count(value), count(DISTINCT value), coalesce(max(value) + 1, 0)::bigint, \
              coalesce((SELECT next_offset FROM source_positions), 0) FROM metrics WHERE value >= 0";
    let row = client.query_one(of, &[]).await.unwrap();
    let [rows, distinct, beyond, next] = [0, 1, 2, 3].map(|at| row.get::<_, i64>(at));
    assert_eq!([distinct, beyond, next], [rows; 3]);
    rows
}

/// Guarantees: what was made ready of a write with offsets is what is sent in its turn. Where the connection is cut in the COMMIT before, rows and offsets agree, then and
/// when both writes come again; and of a write made ready that another host has stored a part of by then, the rest is stored.
#[tokio::test]
async fn with_offsets_and_the_next_made_ready() {
    for repeats in [Repeats::Stored, Repeats::Dropped] {
        let Some(server) = Postgres::start() else { return };
        let client = server.client().await;
        let books = Arc::new(Books::new(9));
        let (connections, max_rows, offsets) = (1, Some(1_000), Offsets::WithPoints);
        let settings = TimescaleSink { connections, max_rows, offsets, repeats, ..server.settings("postgres") };
        let mut sink = Timescale::new(settings.clone(), Arc::clone(&books));
        let of = |offsets: Range<i64>| [Arc::new(logged(&books, offsets.clone(), offsets.start))];
        sink.write(&of(0..10)).await.unwrap();
        client.batch_execute(HOLD_COMMITS).await.unwrap();

        let (now, next, last) = (of(10..1_000), of(1_000..3_000), of(3_000..5_000));
        let (ahead, sent) = (encoded_ahead(), sent_ahead());
        tell(&mut sink, &next);
        {
            let mut write = pin!(sink.write(&now));
            until_committing(&client, &ahead, write.as_mut()).await;
            client.batch_execute(CUT).await.unwrap();
            let cut = write.await;
            assert!(matches!(cut, Err(SinkError::Retry(_))), "{cut:?}");
        }
        assert_eq!(stored(&client).await, 10);
        client.batch_execute(RELEASE).await.unwrap();
        tell(&mut sink, &next);
        assert_eq!(sink.write(&now).await.unwrap().points, 991);
        assert_eq!((stored(&client).await, sent.load(Relaxed)), (1_000, 0));
        tell(&mut sink, &last);
        assert_eq!(sink.write(&next).await.unwrap().points, 2_001);
        assert_eq!((stored(&client).await, sent.load(Relaxed)), (3_000, 1));

        Timescale::new(settings, Arc::clone(&books)).write(&of(3_000..3_500)).await.unwrap();
        tell(&mut sink, &[]);
        let written = sink.write(&last).await.unwrap();
        assert_eq!((written.points, written.repeats), (2_001, 500));
        assert_eq!((stored(&client).await, sent.load(Relaxed)), (5_000, 1), "all of it would be too much");
        sink.close().await;
    }
}
