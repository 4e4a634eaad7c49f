//! The TimescaleDB sink against a real PostgreSQL: what is stored, and in which tables.

use std::sync::Arc;
use std::time::Duration;

use tidegate_config::{Config, ProcessEnv, Secret, SinkSettings, TimescaleSink};
use tidegate_model::{Books, History, Points, Sink, SinkError, Span};
use tidegate_sinks::{Timescale, TimescaleHistory};
use tokio_postgres::Client;

use crate::postgres::Postgres;
use crate::{T0, alerts, points};

type Stored = (i64, String, Option<u64>, Option<String>, i16, Option<String>);

async fn stored(client: &Client, table: &str) -> Vec<Stored> {
    let sql = format!(
        "SELECT (extract(epoch FROM time) * 1000000)::bigint, topic, value, value_str, quality, unit FROM {table} ORDER BY 1, 2"
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    let one = |row: &tokio_postgres::Row| {
        (row.get(0), row.get(1), row.get::<_, Option<f64>>(2).map(f64::to_bits), row.get(3), row.get(4), row.get(5))
    };
    rows.iter().map(one).collect()
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Guarantees: 10,000 rows over 1,000 series in several deliveries and COPYs come back bit for bit, with texts, NaN as NULL, infinities
/// and units; the sink makes its tables on an empty database, and tells series and alerts in the same write.
#[tokio::test]
async fn ten_thousand_rows_are_exact() {
    let Some(server) = Postgres::start() else { return };
    let books = Arc::new(Books::new(9_999));
    let mut settings = server.settings("postgres");
    settings.max_rows = Some(1_777);
    let mut sink = Timescale::new(settings, Arc::clone(&books));

    let names: Vec<(String, String)> =
        (0..10_000).map(|i| (format!("dev/lïne{}/tag", i % 1_000), format!("text {i}"))).collect();
    let value = |i: usize| match i % 7 {
        0 => f64::NAN,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        _ => i as f64 * 1.000_000_1,
    };
    let row = |i: usize| {
        let unit = (i % 1_000).is_multiple_of(2).then_some("°C");
        (&*names[i].0, unit, i as i64, value(i), i.is_multiple_of(3).then_some(names[i].1.as_bytes()))
    };
    let deliveries: Vec<_> = (0..10_000)
        .collect::<Vec<_>>()
        .chunks(999)
        .map(|part| Arc::new(points(&books, &part.iter().map(|&i| row(i)).collect::<Vec<_>>())))
        .chain([alerts(7, 2)])
        .collect();
    let written = sink.write(&deliveries).await.unwrap();
    assert_eq!((written.points, written.alerts, written.rejected), (10_000, 2, vec![]));

    let client = server.client().await;
    let there = stored(&client, "metrics").await;
    assert_eq!(there.len(), 10_000);
    for (i, there) in there.into_iter().enumerate() {
        let (topic, unit, after, value, text) = row(i);
        let value = (!value.is_nan()).then_some(value.to_bits());
        let text = text.map(|text| String::from_utf8(text.to_vec()).unwrap());
        assert_eq!(there, (T0 + after, topic.to_owned(), value, text, 192, unit.map(Into::into)));
    }
    assert_eq!(count(&client, "SELECT count(*) FROM series WHERE labels->>'site' = 'north'").await, 1_000);
    let alert = client
        .query_one("SELECT topic, value, transition || severity, time::text FROM alerts ORDER BY time LIMIT 1", &[]);
    let alert = alert.await.unwrap();
    assert_eq!((alert.get::<_, &str>(0), alert.get::<_, f64>(1)), ("dev/line7/temp", 107.5));
    assert_eq!(
        (alert.get::<_, &str>(2), alert.get::<_, &str>(3)),
        ("raisedcritical", "2023-12-23 00:00:00.000007+00")
    );
    sink.close().await;
}

/// Changes whenever the row of the only series is written.
async fn version(client: &Client) -> String {
    client.query_one("SELECT xmin::text || unit FROM series", &[]).await.unwrap().get(0)
}

/// Guarantees: a unit that changes is stored with the rows after it, and the series takes the new one; a series that stays the same
/// is not written again.
#[tokio::test]
async fn units_follow_the_series() {
    let Some(server) = Postgres::start() else { return };
    let books = Arc::new(Books::new(9));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    let client = server.client().await;
    let one = |unit, after| [Arc::new(points(&books, &[("t", unit, after, 1.0, None)]))];
    sink.write(&one(Some("C"), 0)).await.unwrap();
    let first = version(&client).await;
    sink.write(&one(Some("C"), 1)).await.unwrap();
    assert_eq!(version(&client).await, first);
    sink.write(&one(Some("K"), 2)).await.unwrap();
    assert!(version(&client).await.ends_with('K'));
    // Another host, or this one started again, tells the same: nothing changes.
    let second = version(&client).await;
    Timescale::new(server.settings("postgres"), Arc::clone(&books)).write(&one(Some("K"), 3)).await.unwrap();
    assert_eq!(version(&client).await, second);
    let units: Vec<_> = stored(&client, "metrics").await.into_iter().filter_map(|row| row.5).collect();
    assert_eq!(units, ["C", "C", "K", "K"]);
}

/// Guarantees: tables that an operator made are used, in a schema and under a name that need quoting, by a user who may not make any;
/// columns of their own are left alone.
#[tokio::test]
async fn tables_that_exist_are_used() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    client
        .batch_execute(
            "CREATE SCHEMA \"Plant\"; CREATE ROLE writer LOGIN; GRANT USAGE ON SCHEMA \"Plant\" TO writer;
             CREATE TABLE \"Plant\".\"my metrics\" (id bigserial, time timestamptz, topic varchar(40), value float8,
                 value_str text, quality int2, unit text);
             CREATE TABLE \"Plant\".alerts (time timestamptz, rule text, topic text, key text, transition text, severity text,
                 value float8, message text);
             CREATE TABLE \"Plant\".series (topic text PRIMARY KEY, unit text, labels jsonb);
             GRANT INSERT ON ALL TABLES IN SCHEMA \"Plant\" TO writer; GRANT SELECT, UPDATE ON \"Plant\".series TO writer;
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA \"Plant\" TO writer",
        )
        .await
        .unwrap();
    let books = Arc::new(Books::new(9));
    let mut settings = server.settings("writer");
    settings.names.table = "Plant.my metrics".to_owned();
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let mut delivery = points(&books, &[("t", None, 0, 1.0, None)]);
    delivery.alerts = alerts(0, 1).alerts.clone();
    let written = sink.write(&[Arc::new(delivery)]).await.unwrap();
    assert_eq!((written.points, written.alerts), (1, 1));
    assert_eq!(stored(&client, "\"Plant\".\"my metrics\"").await.len(), 1);
    assert_eq!(count(&client, "SELECT count(*) FROM \"Plant\".series").await, 1);
}

/// Guarantees: a missing table, a table of another shape and a missing permission each want an operator, and say what to do; the
/// sink works as soon as it is done, without a restart.
#[tokio::test]
async fn what_an_operator_must_do_is_said() {
    let Some(server) = Postgres::start() else { return };
    let client = server.client().await;
    let books = Arc::new(Books::new(9));
    let delivery = [Arc::new(points(&books, &[("t", None, 0, 1.0, None)]))];
    let mut settings = server.settings("writer");
    settings.manage_schema = false;
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    let tell = |result: Result<_, SinkError>| match result {
        Err(SinkError::NeedsOperator(text)) => text,
        other => panic!("{other:?}"),
    };

    let text = tell(sink.write(&delivery).await);
    assert!(text.contains("writer") && text.contains("28000"), "{text}");
    client.batch_execute("CREATE ROLE writer LOGIN").await.unwrap();
    let text = tell(sink.write(&delivery).await);
    assert!(text.contains("no table \"metrics\"") && text.contains("deploy/sql"), "{text}");
    client
        .batch_execute("CREATE TABLE metrics (time timestamptz, topic text, value real, value_str text, quality int)")
        .await
        .unwrap();
    let text = tell(sink.write(&delivery).await);
    assert!(text.contains("value is real and must be double precision"), "{text}");
    assert!(text.contains("quality is integer and must be smallint, unit text is missing"), "{text}");
    client
        .batch_execute("ALTER TABLE metrics ALTER value TYPE float8, ALTER quality TYPE int2, ADD unit text")
        .await
        .unwrap();
    let text = tell(sink.write(&delivery).await);
    assert!(text.contains("42501") && text.contains("grant INSERT"), "{text}");
    client.batch_execute("GRANT INSERT ON metrics TO writer").await.unwrap();
    // There is no table for series, and alerts have none either: points are stored, alerts are not dropped.
    assert_eq!(sink.write(&delivery).await.unwrap().points, 1);
    let text = tell(sink.write(&[alerts(0, 1)]).await);
    assert!(text.contains("42P01"), "{text}");
    // A user who may not make tables is told so, when asked to.
    let text = tell(Timescale::new(server.settings("writer"), Arc::clone(&books)).write(&delivery).await);
    assert!(text.contains("42501"), "{text}");
}

/// Guarantees: the password in a `password_file` opens a server that asks for one, whatever characters it has; a wrong one wants an operator, and is
/// not shown.
#[tokio::test]
async fn a_password_from_a_file() {
    let Some(mut server) = Postgres::start() else { return };
    let client = server.client().await;
    let password = "p@ss/w ör?d&%41'#:";
    client
        .batch_execute(&format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE writer LOGIN PASSWORD '{}'; GRANT CREATE ON SCHEMA public TO writer",
            password.replace('\'', "''")
        ))
        .await
        .unwrap();
    server.ask_for_password("writer");
    server.crash();
    server.restart();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidegate.toml");
    let text = format!(
        "[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:1\"\ntopics = [\"dev/#\"]\n\
         [sinks.timescale.db]\nurl = \"{}\"\npassword_file = \"db.password\"\n",
        server.settings("writer").url.reveal()
    );
    std::fs::write(&config, text).unwrap();
    let books = Arc::new(Books::new(9));
    let delivery = [Arc::new(points(&books, &[("t", None, 0, 1.0, None)]))];
    for (in_file, opens) in [("wrong-hunter2", false), (password, true)] {
        std::fs::write(dir.path().join("db.password"), format!("{in_file}\n")).unwrap();
        let mut config = Config::load(&config, &ProcessEnv).unwrap();
        let Some((_, SinkSettings::Timescale(settings))) = config.sinks.pop_first() else { panic!() };
        let written = Timescale::new(settings, Arc::clone(&books)).write(&delivery).await;
        match written {
            Ok(written) => assert!(opens && written.points == 1),
            Err(SinkError::NeedsOperator(text)) => {
                assert!(!opens && text.contains("28P01") && !text.contains("hunter2"), "{text}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Guarantees: with sslmode=require the connection is encrypted, to a server whose certificate is trusted and to no other.
#[tokio::test]
async fn tls_is_checked() {
    let Some(mut server) = Postgres::start() else { return };
    let Some(certificate) = server.with_tls() else { return };
    let books = Arc::new(Books::new(9));
    let delivery = [Arc::new(points(&books, &[("t", None, 0, 1.0, None)]))];
    let mut settings = server.settings("postgres");
    let url = settings.url.reveal().replace("127.0.0.1", "localhost");
    settings.url = Secret::new(format!("{url}?sslmode=require"));
    let refused = Timescale::new(settings.clone(), Arc::clone(&books)).write(&delivery).await;
    assert!(matches!(&refused, Err(SinkError::NeedsOperator(text)) if text.contains("certificate")), "{refused:?}");

    settings.tls.ca_file = Some(certificate);
    let mut sink = Timescale::new(settings, Arc::clone(&books));
    assert_eq!(sink.write(&delivery).await.unwrap().points, 1);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'tidegate'";
    assert_eq!(count(&server.client().await, encrypted).await, 1);
}

/// Guarantees: what was stored is read again in the order of its times, over pages, bit for bit, the span alone; and a database that is not
/// there is an error.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_read_again() {
    let Some(server) = Postgres::start() else { return };
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    let row = |i: i64| {
        let value = if i % 5 == 0 { f64::NAN } else { i as f64 / 3.0 };
        (["dev/a/temp", "dev/b/temp"][(i % 2) as usize], Some("°C"), i, value, (i % 7 == 0).then_some(&b"off"[..]))
    };
    // Written from the newest to the oldest.
    let rows: Vec<_> = (0..12_000).rev().map(row).collect();
    sink.write(&[Arc::new(points(&books, &rows))]).await.unwrap();

    let history = TimescaleHistory::new(server.settings("postgres"), tokio::runtime::Handle::current());
    let part = Span { topics: vec!["dev/a/#".parse().unwrap()], from_us: Some(T0 + 10), until_us: Some(T0 + 20) };
    let gone = TimescaleHistory::new(
        TimescaleSink::new(Secret::new("postgres://x@127.0.0.1:1/x")),
        tokio::runtime::Handle::current(),
    );
    let read = move |history: &TimescaleHistory, span: Span| -> Result<(Points, Option<f64>), String> {
        let mut past = history.open(span, Arc::new(Books::new(99))).map_err(|error| error.to_string())?;
        let (mut all, mut done) = (Points::default(), None);
        while let Some(page) = past.next_page().map_err(|error| error.to_string())? {
            all.append(&page.points);
            done = page.done;
        }
        Ok((all, done))
    };
    let reading = tokio::task::spawn_blocking(move || {
        (read(&history, Span::default()), read(&history, part), read(&gone, Span::default()))
    });
    let (all, part, gone) = reading.await.unwrap();
    let (all, done) = all.unwrap();
    assert!(done.is_some_and(|done| done < 0.5), "with no end it goes on to now: {done:?}");
    assert_eq!(all.time_us, (T0..T0 + 12_000).collect::<Vec<_>>());
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let expected: Vec<f64> = (0..12_000).map(|i| row(i).3).collect();
    assert_eq!(bits(&all.value), bits(&expected));
    assert_eq!((all.texts.get(7), all.texts.get(8)), (Some(&b"off"[..]), None));
    let (part, done) = part.unwrap();
    assert_eq!((part.time_us, done.is_some()), ((T0 + 10..T0 + 20).step_by(2).collect(), true));
    assert!(gone.unwrap_err().contains("127.0.0.1:1"));
}

/// Guarantees: a reading in many transactions gives each row once and in order, also rows of one time that lie on both sides of a page; what is
/// stored ahead of it meanwhile is read, and what is stored behind it is not.
#[tokio::test]
async fn a_long_reading_is_many_transactions() {
    let Some(server) = Postgres::start() else { return };
    let books = Arc::new(Books::new(99));
    let mut sink = Timescale::new(server.settings("postgres"), Arc::clone(&books));
    // 700 rows of each time: a page ends among those of the last but one.
    let rows: Vec<_> = (0..6_300).map(|i| ("dev/a", None, i / 700, i as f64, None)).collect();
    sink.write(&[Arc::new(points(&books, &rows))]).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let history = TimescaleHistory::new(server.settings("postgres"), runtime).in_windows_of(Duration::ZERO);
    let (first, mut past) = tokio::task::spawn_blocking(move || {
        let mut past = history.open(Span::default(), Arc::new(Books::new(99))).unwrap();
        (past.next_page().unwrap().unwrap(), past)
    })
    .await
    .unwrap();
    let ahead = [("dev/a", None, 1_000_000, -1.0, None), ("dev/a", None, 0, -2.0, None)];
    sink.write(&[Arc::new(points(&books, &ahead))]).await.unwrap();
    let rest = tokio::task::spawn_blocking(move || {
        let mut all = Points::default();
        while let Some(page) = past.next_page().unwrap() {
            all.append(&page.points);
        }
        all
    });
    let mut all = first.points;
    all.append(&rest.await.unwrap());
    assert!(all.time_us.is_sorted());
    let mut values: Vec<_> = all.value.iter().map(|value| *value as i64).collect();
    values.sort_unstable();
    assert!(values.iter().copied().eq(-1..6_300), "{} rows, from {:?}", values.len(), values.first());
}
