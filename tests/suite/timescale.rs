//! What Tidegate makes in a real TimescaleDB, and that it does what it is for.

use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_tests::{
    DEADLINE, Expect, Fault, Host, Message, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, Timescale, binary,
    root, wait_for,
};

pub(crate) const DAY_MS: u64 = 24 * 3600 * 1000;

/// A reading for each second from `from_ms` on, on five topics.
pub(crate) fn seconds(from_ms: u64, count: u64) -> Vec<Message> {
    let reading = |second| Message {
        topic: format!("dev/line1/plc1/tag{}", second % 5),
        payload: format!(r#"{{"v":{second},"ts":{}}}"#, from_ms + second * 1_000).into_bytes(),
        // Looked at in the database itself.
        expect: Expect::Rows(Vec::new()),
    };
    (0..count).map(reading).collect()
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(crate) fn wait_rows(database: &Timescale, host: &Host, count: i64) {
    wait_for(&format!("{count} rows in TimescaleDB"), DEADLINE, || {
        match database.number("SELECT count(*) FROM metrics") {
            Ok(found) if found == count => Ok(()),
            other => Err(format!("{other:?}; {}", host.tail())),
        }
    });
}

pub(crate) fn number(database: &Timescale, sql: &str) -> i64 {
    database.number(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Guarantees: on an empty TimescaleDB the host makes a hypertable with a chunk a day; the compression job compresses what is older than a week
/// and nothing else; the retention job drops what is older than 90 days and nothing else; the refresh jobs fill the aggregates, whose
/// numbers are those of the points; and a point that comes late, into a compressed chunk, is stored.
#[test]
fn upkeep_is_done() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Timescale::start()) else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.timescale.db]\nurl = \"{}\"", database.url()))
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    // Noon, so that no series of seconds crosses midnight.
    let today = now_ms() / DAY_MS * DAY_MS;
    let noon = |days_ago: u64| today - days_ago * DAY_MS + DAY_MS / 2;
    // With its first rows the host makes its tables. One of tomorrow is none that a job touches that a scheduler starts at once.
    publisher.deliver(seconds(today + DAY_MS + DAY_MS / 2, 1));
    wait_rows(&database, &host, 1);
    database.rest_jobs();
    for days_ago in [120, 20, 10, 2] {
        publisher.deliver(seconds(noon(days_ago), 600));
    }
    wait_rows(&database, &host, 2_401);
    assert_eq!(number(&database, "SELECT count(*) FROM series"), 5);

    let chunks = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'metrics'";
    assert_eq!(number(&database, chunks), 5);
    assert_eq!(number(&database, &format!("{chunks} AND range_end - range_start = INTERVAL '1 day'")), 5);

    database.run_job("policy_compression", "metrics");
    assert_eq!(number(&database, &format!("{chunks} AND is_compressed")), 3);
    assert_eq!(
        number(&database, &format!("{chunks} AND is_compressed AND range_end > now() - INTERVAL '7 days'")),
        0
    );
    database.run_job("policy_retention", "metrics");
    assert_eq!(number(&database, chunks), 4);
    wait_rows(&database, &host, 1_801);

    for aggregate in ["metrics_1min", "metrics_1hour", "metrics_1day"] {
        // Only what a refresh has put there; without this, what is missing would be summed up on the spot.
        database.execute(&format!("ALTER MATERIALIZED VIEW {aggregate} SET (timescaledb.materialized_only = true)"));
        assert_eq!(number(&database, &format!("SELECT count(*) FROM {aggregate}")), 0, "{aggregate}");
        database.run_job("policy_refresh_continuous_aggregate", aggregate);
    }
    let second = |days_ago: u64| noon(days_ago) / 1_000;
    let recent = format!("time >= to_timestamp({}) AND time < to_timestamp({})", second(2), second(1));
    assert_eq!(number(&database, "SELECT count(*) FROM metrics_1min"), 5 * 10);
    for aggregate in ["metrics_1min", "metrics_1hour", "metrics_1day"] {
        let sums = |samples: &str, sum: &str, min: &str, max: &str, from: &str, condition: &str| {
            let sql = format!(
                "SELECT topic, {samples}, {sum}, {min}, {max} FROM {from} WHERE {condition} GROUP BY topic ORDER BY topic"
            );
            database.query(&sql).unwrap()
        };
        let expected = sums("count(*)", "sum(value)", "min(value)", "max(value)", "metrics", &recent);
        assert_eq!(
            sums("sum(samples)", "sum(sum)", "min(min)", "max(max)", aggregate, "true"),
            expected,
            "{aggregate}"
        );
    }
    let ends = database.query("SELECT first, last, round(avg) FROM metrics_1day WHERE topic LIKE '%tag0'").unwrap();
    assert_eq!(ends, [["0", "595", "298"]]);

    publisher.deliver(seconds(noon(10) + DAY_MS / 4, 100));
    wait_rows(&database, &host, 1_901);
    host.wait_settled(2_501).assert_balanced("upkeep");
    assert!(host.dead_letters().is_empty(), "{:?}", host.dead_letters());
}

/// Guarantees: a write whose rows are spread over forty days goes in transactions of eight chunks at most, those of chunks that may be compressed
/// after the others, and is counted; late rows are stored in compressed chunks, and their repeats found there.
#[test]
fn many_chunks_and_late_rows() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Timescale::start()) else { return };
    let (line, url) = database.by_a_line();
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!(
            "[sinks.timescale.db]\nurl = \"{url}\"\nconnections = 1\ndedupe = true\nspool = {{ enabled = false }}"
        ))
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let today = now_ms() / DAY_MS * DAY_MS;
    let noon = |days_ago: u64| today - days_ago * DAY_MS + DAY_MS / 2;
    publisher.deliver(seconds(noon(20), 600));
    wait_rows(&database, &host, 600);
    database.rest_jobs();
    database.run_job("policy_compression", "metrics");
    // What comes while the line is stalled is one write.
    line.set(Fault::Stalled);
    publisher.deliver(seconds(noon(1), 1));
    let spread = (0..10).flat_map(|second| (0..40).map(move |day| (day, second)));
    publisher.deliver(spread.flat_map(|(day, second)| seconds(noon(day) + second * 1_000, 1)));
    host.wait_status("some of it to be on the way", |status| (status.messages.in_flight >= 30).then_some(()));
    line.set(Fault::None);
    // The first second of yesterday came twice, and two of those of twenty days ago are there already.
    wait_rows(&database, &host, 600 + 1 + 400 - 3);
    let status = host.wait_settled(1_001);
    assert_eq!((status.sinks[0].repeats, status.sinks[0].points), (3, 1_001), "{status:?}");
    let late = status.sinks[0].late;
    assert!((600 + 310..=600 + 330).contains(&late), "{late} late ones of 32 days or so, and those of the beginning");

    // Which transaction a row is of can be asked of a chunk that is not compressed, and of no other.
    let chunks = "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks \
                  WHERE hypertable_name = 'metrics' AND NOT is_compressed";
    let chunks = database.query(chunks).unwrap();
    let of_chunk = |chunk: &Vec<String>| format!("SELECT xmin::text::bigint AS x, time FROM {}", chunk[0]);
    let rows = chunks.iter().map(of_chunk).collect::<Vec<_>>().join(" UNION ALL ");
    let writes = format!(
        "SELECT x, min(time) AS first, max(time) AS last, count(DISTINCT time::date) AS days FROM ({rows}) AS r GROUP BY x"
    );
    let days = database.query(&format!("SELECT max(days), count(*) FROM ({writes}) AS w")).unwrap();
    assert_eq!(days[0][0], "8", "days of one transaction: {days:?}");
    // The end of the last chunk that may be compressed.
    let week = format!("to_timestamp({})", (today - 7 * DAY_MS) / 1_000);
    let mixed = format!("SELECT count(*) FROM ({writes}) AS w WHERE first < {week} AND last >= {week}");
    assert_eq!(number(&database, &mixed), 0, "fresh and late rows in one transaction");
    let last = format!(
        "SELECT count(*) FROM (SELECT * FROM ({writes}) AS w ORDER BY x DESC LIMIT 1) AS v WHERE last < {week}"
    );
    assert_eq!(number(&database, &last), 1, "the last transaction is one of late rows");
    host.wait_settled(1_001).assert_balanced("many chunks");
}

/// Guarantees: where no aggregate can be made of an aggregate, those by hour and day are made of the points, and say the same; first and last are
/// numbers though a bucket begins and ends with a text.
#[test]
fn aggregates_of_the_points() {
    let Some(database) = Timescale::start() else { return };
    let setup = Setup::new();
    migrate(&setup, &format!("[sinks.timescale.db]\nurl = \"{}\"\n", database.url()), &[]);
    database.rest_jobs();
    // Two hours of the day before yesterday, of each the first and last reading a text.
    database.execute(
        "INSERT INTO metrics SELECT date_trunc('day', now()) - INTERVAL '2 days' + n * INTERVAL '10 minutes', 't', \
         CASE WHEN n % 6 IN (0, 5) THEN NULL ELSE n END, CASE WHEN n % 6 IN (0, 5) THEN 'off' END, 192, NULL FROM generate_series(0, 11) AS n",
    );
    let read = || {
        for view in ["metrics_1min", "metrics_1hour", "metrics_1day"] {
            database.execute(&format!("CALL refresh_continuous_aggregate('{view}', NULL, now() - INTERVAL '1 day')"));
        }
        let columns = "avg, min, max, sum, samples, first, last";
        database.query(&format!(
            "SELECT {columns} FROM metrics_1hour UNION ALL SELECT {columns} FROM metrics_1day ORDER BY samples, min"
        ))
    };
    let wanted = [
        ["2.5", "1", "4", "10", "4", "1", "4"],
        ["8.5", "7", "10", "34", "4", "7", "10"],
        ["5.5", "1", "10", "44", "8", "1", "10"],
    ];
    assert_eq!(read().unwrap(), wanted, "of each other");
    database.execute("DROP MATERIALIZED VIEW metrics_1day");
    database.execute("DROP MATERIALIZED VIEW metrics_1hour");
    let names = |sql: &str| {
        let mut sql: String = sql
            .lines()
            .filter(|line| !line.starts_with('\\') && !line.starts_with("--"))
            .fold(String::new(), |all, line| all + line + "\n");
        let columns = [
            ("c_time", "time"),
            ("c_topic", "topic"),
            ("c_value", "value"),
            ("schema", "public"),
            ("table", "metrics"),
        ];
        let views = [("hour", "metrics_1hour"), ("day", "metrics_1day")];
        let windows = [("hour_window", "14 days"), ("hour_behind", "60 minutes"), ("hour_every", "30 minutes")];
        let longer = [("day_window", "60 days"), ("day_behind", "1440 minutes"), ("day_every", "360 minutes")];
        for (name, value) in columns.iter().chain(&views).chain(&windows).chain(&longer) {
            sql = sql.replace(&format!(":\"{name}\""), value).replace(&format!(":'{name}'"), &format!("'{value}'"));
        }
        sql
    };
    // One statement at a time: an aggregate with data may not be made in a block.
    let file = std::fs::read_to_string(root().join("deploy/sql/012_aggregates_of_points.sql")).unwrap();
    names(&file).split(';').map(str::trim).filter(|sql| !sql.is_empty()).for_each(|sql| database.execute(sql));
    // It has jobs of its own.
    database.rest_jobs();
    assert_eq!(read().unwrap(), wanted, "of the points");
}

pub(crate) fn migrate(setup: &Setup, config: &str, more: &[&str]) -> Output {
    let path = setup.path().join("tidegate.toml");
    let source = "[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:1\"\ntopics = [\"dev/#\"]\n";
    std::fs::write(&path, format!("{source}{config}")).unwrap();
    let run = Command::new(binary()).arg("migrate").arg("--config").arg(&path).args(more).output().unwrap();
    assert!(run.status.success() && run.stderr.is_empty(), "{run:?}");
    run
}

/// Guarantees: `tidegate migrate` makes everything under the names and with the times of the configuration, says what it ran, and may be run
/// again, also when chunks are compressed or others than ours have set how; what it would run can be printed and run by hand to the same end.
#[test]
fn migrate_makes_what_is_configured() {
    let Some(database) = Timescale::start() else { return };
    let setup = Setup::new();
    let config = |table: &str, dedupe: bool| {
        format!(
            "[sinks.timescale.db]\nurl = \"{}\"\ntable = \"{table}\"\nchunk_hours = 6\ncompress_after_days = 2\nretain_days = 30\n\
             dedupe = {dedupe}\n[sinks.timescale.db.columns]\ntime = \"ts\"\ntopic = \"Tag\"\n\
             [sinks.timescale.db.refresh]\nhour = {{ window_days = 5, every_minutes = 15, behind_minutes = 90 }}\n",
            database.url()
        )
    };
    let first = migrate(&setup, &config("raw_telemetry", false), &[]);
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(said.contains("001_metrics.sql") && said.contains("010_aggregates_longer.sql"), "{said}");
    assert!(!said.contains("004_index_once") && !said.contains("warning"), "{said}");
    database.execute("INSERT INTO raw_telemetry VALUES (now() - INTERVAL '5 days', 't', 1, NULL, 192, NULL)");
    database.run_job("policy_compression", "raw_telemetry");
    assert_eq!(migrate(&setup, &config("raw_telemetry", false), &[]).stdout, first.stdout);

    database.execute("CREATE SCHEMA plant");
    let printed = migrate(&setup, &config("plant.readings", true), &["--print"]);
    database.execute(&String::from_utf8(printed.stdout).unwrap());
    migrate(&setup, &config("plant.readings", true), &[]);

    for (schema, table, index) in
        [("public", "raw_telemetry", "raw_telemetry_topic_time"), ("plant", "readings", "readings_topic_time_once")]
    {
        let of = format!("hypertable_schema = '{schema}' AND hypertable_name = '{table}'");
        let chunk =
            format!("SELECT time_interval FROM timescaledb_information.dimensions WHERE {of} AND column_name = 'ts'");
        assert_eq!(database.query(&chunk).unwrap(), [["06:00:00"]]);
        let jobs = format!(
            "SELECT coalesce(config ->> 'compress_after', config ->> 'drop_after') FROM timescaledb_information.jobs WHERE {of} ORDER BY 1"
        );
        assert_eq!(database.query(&jobs).unwrap(), [["2 days"], ["30 days"]]);
        let by = format!(
            "SELECT attname FROM timescaledb_information.compression_settings WHERE {of} AND segmentby_column_index = 1"
        );
        assert_eq!(database.query(&by).unwrap(), [["Tag"]]);
        let indexes =
            format!("SELECT indexname FROM pg_indexes WHERE schemaname = '{schema}' AND tablename = '{table}'");
        assert_eq!(database.query(&indexes).unwrap(), [[index]]);
        let views = format!(
            "SELECT view_name FROM timescaledb_information.continuous_aggregates WHERE view_schema = '{schema}' ORDER BY 1"
        );
        assert_eq!(
            database.query(&views).unwrap(),
            ["1day", "1hour", "1min"].map(|each| [format!("{table}_{each}")])
        );
        let refreshes = format!(
            "SELECT config ->> 'start_offset', config ->> 'end_offset', schedule_interval FROM timescaledb_information.jobs j \
             JOIN timescaledb_information.continuous_aggregates a ON j.proc_name = 'policy_refresh_continuous_aggregate' \
             AND (a.materialization_hypertable_name = j.hypertable_name OR (a.view_schema, a.view_name) = (j.hypertable_schema, j.hypertable_name)) \
             WHERE a.view_schema = '{schema}' ORDER BY a.view_name"
        );
        assert_eq!(
            database.query(&refreshes).unwrap(),
            [
                ["60 days", "24:00:00", "06:00:00"],
                ["5 days", "01:30:00", "00:15:00"],
                ["3 days", "00:01:00", "00:01:00"]
            ]
        );
    }

    // What somebody has chosen for themselves stays.
    database.execute("ALTER TABLE plant.readings SET (timescaledb.compress_segmentby = 'quality')");
    migrate(&setup, &config("plant.readings", true), &[]);
    let by = "SELECT attname FROM timescaledb_information.compression_settings WHERE hypertable_name = 'readings' AND segmentby_column_index = 1";
    assert_eq!(database.query(by).unwrap(), [["quality"]]);
}

/// Guarantees: a TimescaleDB under its Apache licence gets a hypertable, and what it cannot have is listed with the reason, by `tidegate migrate` and in
/// the log of a host that makes the tables itself; points are stored in chunks, and repeats are left out.
#[test]
fn the_apache_licence_gets_what_it_can() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Timescale::under_apache()) else { return };
    // TimescaleDB's own word that it is what the test says.
    database.execute("CREATE EXTENSION IF NOT EXISTS timescaledb");
    database.execute("CREATE TABLE probe (time timestamptz NOT NULL)");
    database.execute("SELECT create_hypertable('probe', 'time')");
    let refused = database.query("SELECT add_retention_policy('probe', INTERVAL '1 day')").unwrap_err();
    assert!(refused.contains("not supported under the current"), "{refused}");
    database.execute("DROP TABLE probe");

    let config = |table: &str| {
        format!("[sinks.timescale.db]\nurl = \"{}\"\ntable = \"{table}\"\ndedupe = true\n", database.url())
    };
    let missing = "compression, retention, the aggregate by minute, the aggregates by hour and day";
    for _ in 0..2 {
        let said = String::from_utf8(migrate(&Setup::new(), &config("by_hand"), &[]).stdout).unwrap();
        assert!(said.contains("002_hypertable.sql") && !said.contains("007_compression.sql"), "{said}");
        let warning = format!("warning: this TimescaleDB runs under its Apache licence: done without {missing}\n");
        assert!(said.ends_with(&warning), "{said}");
    }

    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("{}spool = {{ enabled = false }}\n", config("metrics")))
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let noon = now_ms() / DAY_MS * DAY_MS + DAY_MS / 2;
    for _ in 0..2 {
        // Of two days, the second time all of them repeats.
        publisher.deliver(seconds(noon - DAY_MS, 100));
        publisher.deliver(seconds(noon - 20 * DAY_MS, 100));
    }
    let status = host.wait_settled(400);
    status.assert_balanced("under the Apache licence");
    wait_rows(&database, &host, 200);
    assert_eq!(status.sinks[0].repeats, 200, "{status:?}");
    let chunks = "SELECT hypertable_name, count(*) FROM timescaledb_information.chunks GROUP BY 1";
    assert_eq!(database.query(chunks).unwrap(), [["metrics", "2"]]);
    let tables = "SELECT hypertable_name FROM timescaledb_information.hypertables ORDER BY 1";
    assert_eq!(database.query(tables).unwrap(), [["by_hand"], ["metrics"]]);
    let log = host.log();
    assert!(log.contains("runs under its Apache licence") && log.contains(missing), "{log}");
    assert!(host.dead_letters().is_empty());
}

/// Guarantees: PostgreSQL without the extension gets its tables, and what it cannot have is listed with the reason.
#[test]
fn plain_postgresql_gets_what_it_can() {
    let Some(postgres) = Postgres::start() else { return };
    let config = format!("[sinks.timescale.db]\nurl = \"{}\"\n", postgres.url());
    let said = String::from_utf8(migrate(&Setup::new(), &config, &[]).stdout).unwrap();
    assert!(said.contains("005_alerts.sql") && !said.contains("002_hypertable.sql"), "{said}");
    let warning = "warning: this PostgreSQL has no TimescaleDB: done without chunks by time, compression, retention, \
        the aggregate by minute, the aggregates by hour and day\n";
    assert!(said.ends_with(warning), "{said}");
    assert_eq!(postgres.number("SELECT count(*) FROM metrics"), Ok(0));
}
