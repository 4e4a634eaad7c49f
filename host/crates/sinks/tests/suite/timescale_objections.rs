//! What a database has against rows, against all of them, or against how many come at once; and tables on which writes could not lean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::{Offsets, Repeats, TimescaleSink};
use tidegate_model::{Books, Delivery, Sink, SinkError};
use tidegate_sinks::{MigrationStep, Timescale, migrate};
use tokio_postgres::Client;

use crate::points;
use crate::postgres::Postgres;

/// For waits that a busy machine may make long.
const LONG: Duration = Duration::from_secs(180);

/// Rows `from..to`, in turn of five series: value and microsecond are the row's number.
fn counted(books: &Books, from: i64, to: i64) -> [Arc<Delivery>; 1] {
    let topics: Vec<String> = (0..5).map(|i| format!("t{i}")).collect();
    let rows: Vec<_> = (from..to).map(|i| (topics[i as usize % 5].as_str(), None, i, i as f64, None)).collect();
    [Arc::new(points(books, &rows))]
}

async fn count(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get(0)
}

/// A points' table made anew, with row 0 in it.
async fn with_a_row(server: &Postgres, client: &Client, repeats: Repeats) -> (Arc<Books>, TimescaleSink) {
    client.batch_execute("DROP TABLE IF EXISTS metrics").await.unwrap();
    let books = Arc::new(Books::new(9));
    let settings = TimescaleSink { repeats, ..server.settings("postgres") };
    Timescale::new(settings.clone(), Arc::clone(&books)).write(&counted(&books, 0, 1)).await.unwrap();
    (books, settings)
}

/// Has a trigger do this with each row that comes to a table.
pub async fn on_each_row(client: &Client, table: &str, what: &str) {
    let trigger = format!(
        "CREATE OR REPLACE FUNCTION each() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} RETURN NEW; END $$;
         CREATE OR REPLACE TRIGGER each BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION each()"
    );
    client.batch_execute(&trigger).await.unwrap();
}

/// Guarantees: a row that a trigger refuses, or that is not supported where it belongs, or too long for an index, stands alone in the rejects while
/// others pass, with `dedupe` too; where none passes nothing is rejected and nothing lost: the write comes again, with what to look at.
#[tokio::test]
async fn a_row_that_others_pass_is_at_fault() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    for repeats in [Repeats::Stored, Repeats::Dropped] {
        let (books, settings) = with_a_row(&server, &client, repeats).await;
        let mut sink = Timescale::new(settings, Arc::clone(&books));
        let raise = "IF NEW.value IN (7, 90) THEN RAISE 'not this one'; END IF; \
            IF NEW.value = 44 THEN RAISE 'not supported' USING ERRCODE = '0A000'; END IF; \
            IF NEW.value = 60 THEN RAISE 'a code of its own' USING ERRCODE = '45000'; END IF;";
        on_each_row(&client, "metrics", raise).await;
        let written = sink.write(&counted(&books, 1, 100)).await.unwrap();
        let rejected: Vec<u32> = written.rejected.iter().map(|each| each.row).collect();
        assert_eq!((written.points, rejected), (95, vec![6, 43, 59, 89]), "{repeats:?}");
        assert!(written.rejected[0].reason.contains("not this one"), "{:?}", written.rejected);

        for (code, operator) in [("P0001", false), ("45000", false), ("0A000", true)] {
            on_each_row(&client, "metrics", &format!("RAISE 'closed' USING ERRCODE = '{code}';")).await;
            let error = sink.write(&counted(&books, 100, 300)).await.unwrap_err();
            let text = error.to_string();
            assert_eq!(matches!(error, SinkError::NeedsOperator(_)), operator, "{error:?}");
            assert!(text.contains(code) && text.contains("no row passes"), "{text}");
        }
        on_each_row(&client, "metrics", "").await;
        assert_eq!(sink.write(&counted(&books, 100, 300)).await.unwrap().points, 200);
        assert_eq!(count(&client).await, 296, "{repeats:?}");

        client.batch_execute("CREATE INDEX ON metrics (value_str)").await.unwrap();
        // No compression makes this fit a page of the index.
        let long: String = (0..9_000).map(|_| fastrand::alphanumeric()).collect();
        let rows = [("a", None, 1_000, f64::NAN, Some(long.as_bytes())), ("a", None, 1_001, 1.0, None)];
        let written = sink.write(&[Arc::new(points(&books, &rows))]).await.unwrap();
        assert_eq!((written.points, written.rejected.len(), written.rejected[0].row), (1, 1, 0), "{repeats:?}");
        assert!(written.rejected[0].reason.contains("54000"), "{:?}", written.rejected);
    }
}

/// Guarantees: of shares of one write, one of which is refused as a whole by what may be a row's fault, that one is rejected, since the others passed; at
/// the first try, whichever is stored first.
#[tokio::test]
async fn a_share_that_others_pass_is_at_fault() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(99));
    let mut settings = server.settings("postgres");
    settings.connections = 5;
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    sink.write(&counted(&books, 0, 5)).await.unwrap();
    // 5,000 rows are five shares, each a series.
    on_each_row(&client, "metrics", "IF NEW.topic = 't3' THEN RAISE 'not this one'; END IF;").await;
    let write = counted(&books, 5, 5_005);
    let written = sink.write(&write).await.unwrap();
    assert_eq!((written.points, written.rejected.len()), (4_000, 1_000));
    assert!(written.rejected.iter().all(|each| each.row % 5 == 3));
    assert_eq!(count(&client).await, 4_005);
}

/// Guarantees: rows that take longer than a statement may are stored all the same, by fewer in a statement, once; one row that takes too long wants
/// an operator, who is told which setting it is.
#[tokio::test]
async fn a_slow_table_gets_fewer_rows_at_once() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    for repeats in [Repeats::Stored, Repeats::Dropped] {
        let (books, mut settings) = with_a_row(&server, &client, repeats).await;
        settings.statement_timeout = Duration::from_secs(1);
        let mut sink = Timescale::new(settings, Arc::clone(&books));
        on_each_row(&client, "metrics", "PERFORM pg_sleep(0.01);").await;
        let write = counted(&books, 1, 201);
        let deadline = Instant::now() + LONG;
        let mut tries = 0;
        while let Err(error) = sink.write(&write).await {
            tries += 1;
            assert!(error.to_string().contains("57014") && Instant::now() < deadline, "{error:?}");
        }
        assert!(tries > 0, "200 rows of 10 ms each take longer than a second");
        assert_eq!(count(&client).await, 201, "{repeats:?}");
        on_each_row(&client, "metrics", "PERFORM pg_sleep(600);").await;
        let one = counted(&books, 201, 202);
        loop {
            match sink.write(&one).await.unwrap_err() {
                SinkError::NeedsOperator(text) => {
                    break assert!(text.contains("statement_timeout_s, which is 1,"), "{text}");
                }
                // Before the row, on a machine that stands still.
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
        }
        on_each_row(&client, "metrics", "").await;
        while let Err(error) = sink.write(&one).await {
            assert!(error.to_string().contains("57014") && Instant::now() < deadline, "{error:?}");
        }
        assert_eq!(count(&client).await, 202, "{repeats:?}");
    }
}

/// Guarantees: tables of series and of positions that lack what writes lean on are told of before any write fails on it, with the difference; a
/// missing default is none.
#[tokio::test]
async fn keys_and_defaults_are_looked_at() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let settings = tidegate_config::TimescaleSink { offsets: Offsets::WithPoints, ..server.settings("postgres") };
    Timescale::new(settings.clone(), Arc::clone(&books)).write(&counted(&books, 0, 1)).await.unwrap();
    for (breaks, word, mends) in [
        (
            "ALTER TABLE series DROP CONSTRAINT series_pkey",
            "no unique index on (topic)",
            "ALTER TABLE series ADD UNIQUE (topic)",
        ),
        (
            "ALTER TABLE source_positions DROP CONSTRAINT source_positions_pkey, ALTER previous_offset SET DEFAULT 5",
            "no unique index on (cluster, consumer_group, topic, partition), the default of previous_offset is 5 and must be 0",
            "ALTER TABLE source_positions ADD UNIQUE (topic, partition, cluster, consumer_group), ALTER previous_offset DROP DEFAULT",
        ),
        (
            "",
            "previous_offset has no default and must have 0",
            "ALTER TABLE source_positions ALTER previous_offset DROP NOT NULL",
        ),
    ] {
        client.batch_execute(breaks).await.unwrap();
        let mut sink = Timescale::new(settings.clone(), Arc::clone(&books));
        let error = sink.write(&counted(&books, 1, 2)).await.unwrap_err();
        assert!(matches!(&error, SinkError::NeedsOperator(text) if text.contains(word)), "{error:?}");
        client.batch_execute(mends).await.unwrap();
    }
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let logged = crate::timescale_once::logged(&books, 0..3, 0);
    assert_eq!(sink.write(&[Arc::new(logged)]).await.unwrap().points, 4);
}

/// Guarantees: rows for compressed chunks that a database neither inserts nor has, as one version of TimescaleDB does, are not taken for repeats:
/// nothing of the transaction is stored, and an operator is wanted; those that it has are repeats.
#[tokio::test]
async fn what_is_not_inserted_and_not_there_is_no_repeat() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut settings = server.settings("postgres");
    settings.repeats = Repeats::Dropped;
    let write = || counted(&books, 0, 10);
    Timescale::new(settings.clone(), Arc::clone(&books)).write(&write()).await.unwrap();
    // What TimescaleDB shows of a table whose chunks of a day are compressed after another.
    client
        .batch_execute(
            "CREATE SCHEMA timescaledb_information;
             CREATE VIEW timescaledb_information.dimensions AS SELECT 'public' AS hypertable_schema, 'metrics' AS hypertable_name,
                 1 AS dimension_number, INTERVAL '1 day' AS time_interval;
             CREATE VIEW timescaledb_information.jobs AS SELECT 'public' AS hypertable_schema, 'metrics' AS hypertable_name,
                 'policy_compression' AS proc_name, '{\"compress_after\": \"1 day\"}'::jsonb AS config",
        )
        .await
        .unwrap();
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let written = sink.write(&write()).await.unwrap();
    assert_eq!((written.points, written.repeats, written.late), (10, 10, 10));
    client
        .batch_execute(
            "CREATE FUNCTION pass_by() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.value = 12 THEN RETURN NULL; END IF; RETURN NEW; END $$;
             CREATE TRIGGER pass_by BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION pass_by()",
        )
        .await
        .unwrap();
    let error = sink.write(&counted(&books, 5, 15)).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::NeedsOperator(text) if text.contains("1 of 10 rows") && text.contains("7672")),
        "{error:?}"
    );
    assert_eq!(count(&client).await, 10);
    client.batch_execute("DROP TRIGGER pass_by ON metrics").await.unwrap();
    let written = sink.write(&counted(&books, 5, 15)).await.unwrap();
    assert_eq!((written.points, written.repeats, count(&client).await), (10, 5, 15));
}

/// Guarantees: who may not write is told what to grant, as far as the settings make use of it.
#[tokio::test]
async fn what_to_grant_is_told() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let mut settings = server.settings("postgres");
    settings.repeats = Repeats::Dropped;
    Timescale::new(settings.clone(), Arc::clone(&books)).write(&counted(&books, 0, 1)).await.unwrap();
    client
        .batch_execute(
            "CREATE ROLE writer LOGIN; REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC;
             GRANT INSERT ON metrics, alerts TO writer; GRANT SELECT, INSERT, UPDATE ON series TO writer",
        )
        .await
        .unwrap();
    settings.url = server.settings("writer").url;
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    for grant in ["GRANT TEMPORARY ON DATABASE postgres TO writer", "GRANT SELECT ON metrics TO writer"] {
        let error = sink.write(&counted(&books, 1, 2)).await.unwrap_err();
        let told = "SELECT on \"metrics\" and TEMPORARY on the database (dedupe)";
        assert!(matches!(&error, SinkError::NeedsOperator(text) if text.contains(told)), "{error:?}");
        client.batch_execute(grant).await.unwrap();
    }
    assert_eq!(sink.write(&counted(&books, 1, 2)).await.unwrap().points, 1);
}

/// Guarantees: a migration takes as long as it takes, whatever the server's own limit for its user's statements, and tells of each file before it
/// is run.
#[tokio::test]
async fn a_migration_takes_its_time() {
    let Some(server) = Postgres::start() else { return };
    let (client, watcher) = (server.client().await, server.client().await);
    let settings = server.settings("postgres");
    Timescale::new(settings.clone(), Arc::new(Books::new(9))).write(&[]).await.unwrap();
    client.batch_execute("ALTER ROLE postgres SET statement_timeout = '3s'").await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let migrating = tokio::spawn(async move {
        let mut steps = Vec::new();
        let mut progress = |step: MigrationStep<'_>| {
            steps.push(match step {
                MigrationStep::Reached(database) => database.to_owned(),
                MigrationStep::Runs { file, .. } => file.to_owned(),
            });
        };
        migrate(&settings, &mut progress).await.map(|migrated| (migrated, steps))
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' AND wait_event_type = 'Lock' \
        AND clock_timestamp() - query_start > INTERVAL '3.2 s'";
    let deadline = Instant::now() + LONG;
    while watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!migrating.is_finished(), "{:?}", migrating.await);
        assert!(Instant::now() < deadline, "it does not wait for the lock");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.batch_execute("COMMIT").await.unwrap();
    let (_, steps) = migrating.await.unwrap().unwrap();
    assert!(steps[0].starts_with("database postgres at 127.0.0.1"), "{steps:?}");
    assert_eq!((steps[1].as_str(), steps.last().unwrap().as_str()), ("001_metrics.sql", "011_source_positions.sql"));
}

/// Guarantees: a table that wants of each row what Tidegate does not give is refused with the column's name, unless a trigger may fill it in; and where
/// no row has ever passed a condition of the table nothing is rejected. Once some have passed, a row is at fault also if it comes alone.
#[tokio::test]
async fn a_table_that_wants_more() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    for repeats in [Repeats::Stored, Repeats::Dropped] {
        let (books, settings) = with_a_row(&server, &client, repeats).await;
        let new = || Timescale::new(settings.clone(), Arc::clone(&books));
        client.batch_execute("ALTER TABLE metrics ADD site integer; UPDATE metrics SET site = 1; ALTER TABLE metrics ALTER site SET NOT NULL").await.unwrap();
        let error = new().write(&counted(&books, 1, 3)).await.unwrap_err();
        assert!(
            matches!(&error, SinkError::NeedsOperator(text) if text.contains("each row must have site")),
            "{error:?}"
        );
        on_each_row(&client, "metrics", "NEW.site := 1;").await;
        assert_eq!(new().write(&counted(&books, 1, 3)).await.unwrap().points, 2);
        client
            .batch_execute("DROP TRIGGER each ON metrics; ALTER TABLE metrics ALTER site SET DEFAULT 1")
            .await
            .unwrap();
        assert_eq!(new().write(&counted(&books, 3, 5)).await.unwrap().points, 2);

        client.batch_execute("ALTER TABLE metrics ADD CONSTRAINT never CHECK (value < 0) NOT VALID").await.unwrap();
        let mut sink = new();
        for write in [counted(&books, 5, 40), counted(&books, 5, 6)] {
            let error = sink.write(&write).await.unwrap_err();
            assert!(
                matches!(&error, SinkError::NeedsOperator(text) if text.contains("no row has ever passed")),
                "{error:?}"
            );
        }
        client
            .batch_execute("ALTER TABLE metrics DROP CONSTRAINT never, ADD CHECK (value <> 50) NOT VALID")
            .await
            .unwrap();
        assert_eq!(sink.write(&counted(&books, 5, 50)).await.unwrap().points, 45);
        let written = sink.write(&counted(&books, 50, 51)).await.unwrap();
        assert_eq!((written.points, written.rejected.len()), (0, 1), "{repeats:?}");
        assert_eq!(count(&client).await, 50, "{repeats:?}");
    }
}

/// Guarantees: a description that its table does not take, or an alert, holds no point back, and others like it are stored; a table that takes none of
/// several wants an operator.
#[tokio::test]
async fn what_stands_beside_points_holds_none_back() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let (books, settings) = with_a_row(&server, &client, Repeats::Stored).await;
    let narrow = "ALTER TABLE series ALTER unit TYPE varchar(3); ALTER TABLE alerts ALTER message TYPE varchar(20)";
    client.batch_execute(narrow).await.unwrap();
    let mut sink = Timescale::new(settings.clone(), Arc::clone(&books));
    let rows =
        [("u", Some("bar"), 1, 1.0, None), ("v", Some("furlongs"), 2, 1.0, None), ("w", Some("K"), 3, 1.0, None)];
    let mut delivery = points(&books, &rows);
    delivery.alerts = crate::alerts(0, 3).alerts.clone();
    delivery.alerts[1].message = "longer than the column of the table".to_owned();
    delivery.alerts.iter_mut().step_by(2).for_each(|alert| alert.message = "short".to_owned());
    let written = sink.write(&[Arc::new(delivery)]).await.unwrap();
    assert_eq!((written.points, written.rejected.len()), (3, 0));
    let there = |what: &'static str| {
        let client = &client;
        async move { client.query_one(what, &[]).await.unwrap().get::<_, i64>(0) }
    };
    assert_eq!(there("SELECT count(*) FROM series WHERE unit IS NOT NULL").await, 2);
    assert_eq!(there("SELECT count(*) FROM alerts").await, 2);
    assert_eq!(count(&client).await, 4);

    let two = || points(&books, &[("x", Some("parsecs"), 4, 1.0, None), ("y", Some("fathoms"), 5, 1.0, None)]);
    let error = sink.write(&[Arc::new(two())]).await.unwrap_err();
    assert!(matches!(&error, SinkError::NeedsOperator(text) if text.contains("series")), "{error:?}");
    client.batch_execute("ALTER TABLE series ALTER unit TYPE text").await.unwrap();
    let mut delivery = two();
    delivery.alerts = crate::alerts(0, 2).alerts.clone();
    delivery.alerts.iter_mut().for_each(|alert| alert.message = "longer than the column of the table".to_owned());
    let error = sink.write(&[Arc::new(delivery)]).await.unwrap_err();
    assert!(matches!(&error, SinkError::NeedsOperator(text) if text.contains("alerts")), "{error:?}");
    assert_eq!(count(&client).await, 4, "points and alerts are one transaction");
}
