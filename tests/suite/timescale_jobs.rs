//! What TimescaleDB's jobs do to what we made, by its own scheduler and with little retention.

use tidegate_tests::{DEADLINE, Mosquitto, Protocol, Setup, Timescale, wait_for};

use crate::timescale::{migrate, number};

const AGGREGATES: [&str; 3] = ["metrics_1min", "metrics_1hour", "metrics_1day"];
const CHUNKS: &str = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'metrics'";

/// Guarantees: the server's own scheduler runs the jobs that are made, nobody calling them: what is older than a week is compressed, what is older than 90 days is
/// dropped, and the aggregates get what is refreshed.
#[test]
fn the_scheduler_does_it() {
    let Some(database) = Timescale::with_scheduler() else { return };
    let setup = Setup::new();
    migrate(&setup, &format!("[sinks.timescale.db]\nurl = \"{}\"\n", database.url()), &[]);
    let runs =
        "SELECT count(*) FROM timescaledb_information.job_stats WHERE job_id >= 1000 AND last_run_status = 'Success'";
    wait_for("each job's first run", DEADLINE, || match database.number(runs) {
        Ok(5) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    database.execute(
        "INSERT INTO metrics SELECT date_trunc('day', now()) - days * INTERVAL '1 day' + INTERVAL '12 hours' + n * INTERVAL '1 second', 't', n, NULL, 192, NULL \
         FROM unnest(ARRAY[120, 20, 2]) AS days, generate_series(0, 9) AS n",
    );
    let until = |what: &str, sql: &str, wanted: i64| {
        wait_for(what, DEADLINE, || match database.number(sql) {
            Ok(found) if found == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    database.job_is_due("policy_retention", "metrics");
    until("the oldest to be dropped", CHUNKS, 2);
    database.job_is_due("policy_compression", "metrics");
    until("the older to be compressed", &format!("{CHUNKS} AND is_compressed"), 1);
    for aggregate in AGGREGATES {
        // Only what a refresh has put there; without this, what is missing would be summed up on the spot.
        database.execute(&format!("ALTER MATERIALIZED VIEW {aggregate} SET (timescaledb.materialized_only = true)"));
        database.job_is_due("policy_refresh_continuous_aggregate", aggregate);
        until(aggregate, &format!("SELECT coalesce(sum(samples), 0)::bigint FROM {aggregate}"), 10);
    }
    assert_eq!(number(&database, "SELECT count(*) FROM metrics"), 20);
}

/// Guarantees: where points are kept for a day or two only, what was summed up of older ones stays, in all aggregates, when the points are dropped and the refreshes come after.
#[test]
fn aggregates_outlive_the_points() {
    let Some(database) = Timescale::start() else { return };
    for retain_days in [1, 2] {
        let table = format!("kept_{retain_days}");
        let config = format!(
            "[sinks.timescale.db]\nurl = \"{}\"\ntable = \"{table}\"\nretain_days = {retain_days}\n",
            database.url()
        );
        migrate(&Setup::new(), &config, &[]);
        database.rest_jobs();
        database.execute(&format!(
            "INSERT INTO {table} SELECT date_trunc('day', now()) - INTERVAL '6 days' + n * INTERVAL '1 hour', 't', n, NULL, 192, NULL \
             FROM generate_series(0, 6 * 24 - 1) AS n"
        ));
        let aggregates = ["1min", "1hour", "1day"].map(|length| format!("{table}_{length}"));
        for aggregate in &aggregates {
            database.execute(&format!(
                "CALL refresh_continuous_aggregate('{aggregate}', NULL, date_trunc('day', now()))"
            ));
        }
        let counted = || {
            let of = |from: &String| number(&database, &format!("SELECT sum(samples)::bigint FROM {from}"));
            (aggregates.each_ref().map(of), number(&database, &format!("SELECT count(*) FROM {table}")))
        };
        assert_eq!(counted(), ([144; 3], 144));
        database.run_job("policy_retention", &table);
        for aggregate in &aggregates {
            database.run_job("policy_refresh_continuous_aggregate", aggregate);
        }
        // The chunks that have something younger stay as a whole.
        assert_eq!(counted(), ([144; 3], i64::from(retain_days) * 24), "{retain_days} days kept");
    }
}

/// Guarantees: where jobs of the database's own failed when they last ran, for the table or an aggregate of it, the host is `degraded` and names them, logs them and counts them;
/// those of other tables are not told of.
#[test]
fn jobs_that_fail_are_told_of() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Timescale::start()) else { return };
    let config = |table: &str| format!("[sinks.timescale.db]\nurl = \"{}\"\ntable = \"{table}\"\n", database.url());
    for table in ["metrics", "others"] {
        migrate(&Setup::new(), &config(table), &[]);
    }
    database.rest_jobs();
    database.job_failed("policy_retention", "metrics");
    database.job_failed("policy_refresh_continuous_aggregate", "metrics_1hour");
    database.job_failed("policy_compression", "others");
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").toml(&config("metrics")).start();
    let failed = host.wait_status("the failed jobs", |status| {
        let failed = &status.sinks[0].failed_jobs;
        (!failed.is_empty()).then(|| failed.clone())
    });
    let [retention, refresh] = &failed[..] else { panic!("{failed:?}") };
    assert!(retention.starts_with("policy_retention of metrics (job "), "{failed:?}");
    assert!(refresh.starts_with("policy_refresh_continuous_aggregate of metrics_1hour (job "), "{failed:?}");
    let ready = host.get("/readyz");
    assert!(ready.code == 200 && ready.body.contains("degraded"), "{ready:?}");
    assert!(ready.body.contains(&format!("sink db: jobs of its database fail: {retention}, {refresh}")), "{ready:?}");
    let metrics = host.get("/metrics").body;
    assert!(metrics.contains("tidegate_sink_failed_jobs{sink=\"db\"} 2"), "{metrics}");
    assert!(host.log().contains("jobs of the database's own failed when they last ran"));
}
