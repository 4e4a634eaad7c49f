//! The TimescaleDB sink when rows are bad, and when the server goes away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::TimescaleSink;
use tidegate_model::{Books, Delivery, Sink, SinkError, Written};
use tidegate_sinks::Timescale;

use crate::postgres::Postgres;
use crate::{PATIENCE, alerts, points};

fn rejected(written: &Written) -> Vec<(usize, u32)> {
    written.rejected.iter().map(|each| (each.delivery, each.row)).collect()
}

/// Rows `from..to` of series `t`: value and microsecond are the row's number.
fn counted(books: &Books, from: i64, to: i64) -> Delivery {
    let rows: Vec<_> = (from..to).map(|i| ("t", None, i, i as f64, None)).collect();
    points(books, &rows)
}

/// Guarantees: of points that PostgreSQL could never take each is rejected alone, by name and before the wire; the others are stored.
#[tokio::test]
async fn impossible_points_are_rejected_alone() {
    let Some(server) = Postgres::start() else { return };
    let books = Arc::new(Books::new(9));
    let settings = TimescaleSink { ahead: None, ..server.settings("postgres") };
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let mut first = points(
        &books,
        &[
            ("t", None, 0, 1.0, None),
            ("t\0", None, 1, 1.0, None),
            ("u", Some("\0"), 2, 1.0, None),
            ("t", None, 3, 1.0, Some(b"\xff")),
            ("t", None, 4, 1.0, Some(b"a\0b")),
            ("t", None, 5, 1.0, Some("ä".as_bytes())),
            ("t", None, 6, 1.0, None),
        ],
    );
    first.points.time_us[6] = i64::MIN;
    let mut late = counted(&books, 0, 1);
    // The year 294247 is the last that an i64 of microseconds can be, and PostgreSQL takes it.
    late.points.time_us[0] = i64::MAX;
    late.alerts = alerts(0, 1).alerts.clone();
    late.alerts[0].message = "nul: \0".to_owned();
    late.alerts[0].time_us = i64::MIN;
    let written = sink.write(&[Arc::new(first), Arc::new(late)]).await.unwrap();
    assert_eq!((written.points, written.alerts), (3, 1));
    assert_eq!(rejected(&written), [(0, 1), (0, 2), (0, 3), (0, 4), (0, 6)]);

    let only_bad = points(&books, &[("t\0", None, 1, 1.0, None)]);
    let written = sink.write(&[Arc::new(only_bad)]).await.unwrap();
    assert_eq!((written.points, rejected(&written)), (0, vec![(0, 0)]));
    let message: String = server.client().await.query_one("SELECT message FROM alerts", &[]).await.unwrap().get(0);
    assert_eq!(message, "nul: \u{fffd}");
}

/// Guarantees: rows that break a rule of the table stand alone in the rejects, with the database's words and not the values of others;
/// all others are stored, once, with the alerts; wherever the bad ones stand, and beside rows refused before the wire.
#[tokio::test]
async fn rows_the_table_refuses_are_found() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut settings = server.settings("postgres");
    settings.max_rows = Some(700);
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    sink.write(&[alerts(0, 1)]).await.unwrap();
    client
        .batch_execute("ALTER TABLE metrics ADD CHECK (value NOT IN (0, 1, 699, 700, 1500, 1999, 2500))")
        .await
        .unwrap();

    let mut first = counted(&books, 0, 2_000);
    first.points.time_us[698] = i64::MIN;
    first.alerts = alerts(1, 1).alerts.clone();
    let deliveries = [Arc::new(first), Arc::new(Delivery::default()), Arc::new(counted(&books, 2_000, 3_000))];
    let written = sink.write(&deliveries).await.unwrap();
    assert_eq!((written.points, written.alerts), (2_992, 1));
    assert_eq!(rejected(&written), [(0, 0), (0, 1), (0, 698), (0, 699), (0, 700), (0, 1500), (0, 1999), (2, 500)]);
    let reason = &written.rejected[0].reason;
    assert!(
        reason.contains("check constraint") && reason.contains("23514") && !reason.contains("Failing row"),
        "{reason}"
    );
    let there = client.query_one("SELECT count(*), count(DISTINCT value) FROM metrics", &[]).await.unwrap();
    assert_eq!((there.get::<_, i64>(0), there.get::<_, i64>(1)), (2_992, 2_992));
    let alerts: i64 = client.query_one("SELECT count(*) FROM alerts", &[]).await.unwrap().get(0);
    assert_eq!(alerts, 2);

    // And the connection is as good as before.
    assert_eq!(sink.write(&[Arc::new(counted(&books, 5_000, 5_010))]).await.unwrap().points, 10);
}

/// Guarantees: a constraint that would only speak at COMMIT is made to speak while the row can still be told.
#[tokio::test]
async fn deferred_constraints_are_told_by_row() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    sink.write(&[Arc::new(counted(&books, 0, 10))]).await.unwrap();
    client
        .batch_execute("ALTER TABLE metrics ADD CONSTRAINT once UNIQUE (topic, time) DEFERRABLE INITIALLY DEFERRED")
        .await
        .unwrap();
    let written = sink.write(&[Arc::new(counted(&books, 9, 12))]).await.unwrap();
    assert_eq!((written.points, rejected(&written)), (2, vec![(0, 0)]));
    assert!(written.rejected[0].reason.contains("\"once\""), "{:?}", written.rejected);
}

/// Guarantees: a table that was changed under the open connection is the operator's affair; no row is blamed for it.
#[tokio::test]
async fn a_table_changed_underneath_costs_no_row() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    let delivery = [Arc::new(counted(&books, 0, 3))];
    sink.write(&delivery).await.unwrap();
    client.batch_execute("ALTER TABLE metrics ALTER quality TYPE integer").await.unwrap();
    // PostgreSQL takes the row for a broken message (08P01), so the connection is made anew, and then the table is looked at.
    let first = sink.write(&delivery).await;
    assert!(first.is_err(), "{first:?}");
    let second = sink.write(&delivery).await;
    assert!(
        matches!(&second, Err(SinkError::NeedsOperator(text)) if text.contains("quality is integer")),
        "{second:?}"
    );
    client.batch_execute("ALTER TABLE metrics ALTER quality TYPE smallint").await.unwrap();
    assert_eq!(sink.write(&delivery).await.unwrap().points, 3);
}

/// Guarantees: what goes wrong before the points (a table that may not be made, a series that may not be told) leaves no broken transaction in a
/// connection: the same sink writes as soon as it may.
#[tokio::test]
async fn a_fault_before_the_points_leaves_nothing_behind() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    client.batch_execute("CREATE ROLE writer LOGIN").await.unwrap();
    let books = Arc::new(Books::new(9));
    let mut sink = Timescale::new(server.settings("writer"), Arc::clone(&books));
    let refused = |written: Result<Written, SinkError>| {
        assert!(matches!(&written, Err(SinkError::NeedsOperator(text)) if text.contains("42501")), "{written:?}");
    };
    let first = [Arc::new(counted(&books, 0, 3))];
    refused(sink.write(&first).await);
    refused(sink.write(&first).await);
    client.batch_execute("GRANT CREATE ON SCHEMA public TO writer").await.unwrap();
    assert_eq!(sink.write(&first).await.unwrap().points, 3);

    client.batch_execute("REVOKE INSERT ON series FROM writer").await.unwrap();
    let second = [Arc::new(points(&books, &[("u", None, 7, 1.0, None)]))];
    refused(sink.write(&second).await);
    refused(sink.write(&second).await);
    client.batch_execute("GRANT INSERT ON series TO writer").await.unwrap();
    assert_eq!(sink.write(&second).await.unwrap().points, 1);
    let rows: i64 = client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get(0);
    assert_eq!(rows, 4);
}

/// Guarantees: a statement that waits too long for a lock is given up in time and tried again, and so is a write dropped in the middle.
#[tokio::test]
async fn a_lock_does_not_hold_the_sink_for_ever() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut settings = server.settings("postgres");
    settings.statement_timeout = Duration::from_secs(5);
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let delivery = [Arc::new(counted(&books, 0, 3))];
    sink.write(&delivery).await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let refused = sink.write(&delivery).await;
    assert!(matches!(&refused, Err(SinkError::Retry(text)) if text.contains("57014")), "{refused:?}");
    let dropped = tokio::time::timeout(Duration::from_millis(100), sink.write(&delivery)).await;
    assert!(dropped.is_err());
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sink.write(&delivery).await.unwrap().points, 3);
    let rows: i64 = client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get(0);
    assert_eq!(rows, 6);
}

/// Guarantees: a server that crashes again and again under load makes writes fail as `Retry`, never otherwise, and when each was
/// repeated until it succeeded, every row is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_loses_nothing() {
    let Some(mut server) = Postgres::start() else { return };
    let books = Arc::new(Books::new(9));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    let (done, mut progress) = tokio::sync::watch::channel(0_i64);
    let writer = tokio::spawn(async move {
        let mut failures = 0_u32;
        for batch in 0.. {
            let delivery = [Arc::new(counted(&books, batch * 500, (batch + 1) * 500))];
            let deadline = Instant::now() + PATIENCE;
            while let Err(error) = sink.write(&delivery).await {
                assert!(matches!(&error, SinkError::Retry(_)), "{error:?}");
                assert!(Instant::now() < deadline, "still {error}");
                failures += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if done.send(batch + 1).is_err() {
                return (batch + 1, failures);
            }
        }
        (0, failures)
    });
    for crash in 1..=3 {
        progress.wait_for(|&batches| batches >= crash * 10).await.unwrap();
        server.crash();
        server.restart();
    }
    progress.wait_for(|&batches| batches >= 40).await.unwrap();
    drop(progress);
    let (batches, failures) = writer.await.unwrap();
    assert!(failures >= 3, "only {failures} writes met a crash");
    let sql = "SELECT count(DISTINCT time), min(time)::text, count(*) FROM metrics";
    let there = server.client().await.query_one(sql, &[]).await.unwrap();
    assert_eq!(there.get::<_, i64>(0), batches * 500);
    assert!(there.get::<_, i64>(2) <= (batches + 3) * 500, "more than a batch a crash was doubled");
    assert_eq!(there.get::<_, &str>(1), "2023-12-23 00:00:00+00");
}

/// Guarantees: a server ends by itself what a host that vanished has left in the middle of a transaction: each of ours says how long it may wait for the
/// next statement, and how soon TCP is asked whether we are still there.
#[tokio::test]
async fn what_a_vanished_host_leaves_ends() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut settings = server.settings("postgres");
    settings.statement_timeout = Duration::from_secs(7);
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    sink.write(&[Arc::new(counted(&books, 0, 1))]).await.unwrap();
    let noted = "CREATE TABLE noted (name text, setting text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted SELECT name, setting FROM pg_settings
        WHERE name IN ('idle_in_transaction_session_timeout', 'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count'); RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER note BEFORE INSERT ON series FOR EACH ROW EXECUTE FUNCTION note()";
    client.batch_execute(noted).await.unwrap();
    let fresh = points(&books, &[("new", None, 1, 1.0, None)]);
    sink.write(&[Arc::new(fresh)]).await.unwrap();
    let rows = client.query("SELECT name, setting, count(*) FROM noted GROUP BY 1, 2 ORDER BY 1", &[]).await.unwrap();
    let said: Vec<(String, String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = [
        ("idle_in_transaction_session_timeout", "17000"),
        ("tcp_keepalives_count", "3"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
    ];
    assert_eq!(said, expected.map(|(name, setting)| (name.to_owned(), setting.to_owned(), 2)));
}

/// Guarantees: a COMMIT that waits for a standby is waited for: it is not tried again on another connection beside it, and what it holds is there once.
#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_waited_for() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut settings = server.settings("postgres");
    settings.statement_timeout = Duration::from_secs(3);
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    sink.write(&[Arc::new(counted(&books, 0, 1))]).await.unwrap();
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The server takes that up by and by. It has when one who goes on committing is held.
    let probe = server.client().await;
    let probing =
        tokio::spawn(
            async move { while probe.batch_execute("CREATE TABLE probe (); DROP TABLE probe").await.is_ok() {} },
        );
    let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let deadline = Instant::now() + PATIENCE;
    while client.query_one(held, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < deadline, "the standby is never waited for");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let deliveries = [Arc::new(counted(&books, 1, 11))];
    let mut write = std::pin::pin!(sink.write(&deliveries));
    // Longer than a statement and its answer may take.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' AND wait_event = 'SyncRep' \
        AND now() - state_change > INTERVAL '15 s'";
    let deadline = Instant::now() + PATIENCE;
    while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < deadline, "no COMMIT has waited for so long");
        tokio::select! {
            biased;
            done = &mut write => panic!("it cannot be over: {done:?}"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    assert_eq!(client.query_one(ours, &[]).await.unwrap().get::<_, i64>(0), 1);
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    assert_eq!(write.await.unwrap().points, 10);
    let there: i64 = client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get(0);
    assert_eq!(there, 11);
    probing.abort();
}
