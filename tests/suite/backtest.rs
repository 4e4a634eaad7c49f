//! Backtests: a rule over what was, with every finding right and nothing done.

use std::fmt::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidegate_tests::{
    DEADLINE, Events, Host, Kafka, Message, Postgres, Setup, Timescale, binary, guest_module, plain, wait_for,
};

use crate::api::quiet;

const T0: i64 = 1_703_289_600_000_000;
const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90.0\n";

/// The points of two series, one each second, as lines: `dev/a/temp` climbs from 0, `dev/b/temp` is 50.
fn climb(seconds: i64) -> String {
    (0..seconds).fold(String::new(), |mut lines, second| {
        let at = T0 + second * 1_000_000;
        writeln!(lines, r#"{{"topic":"dev/a/temp","time_us":{at},"value":{second},"unit":"C"}}"#).unwrap();
        writeln!(lines, r#"{{"topic":"dev/b/temp","time_us":{at},"value":50.0}}"#).unwrap();
        lines
    })
}

fn ask(host: &Host, input: &Value) -> String {
    let job = host.ask("POST", "/api/v1/backtests").json(input).send().expect(201);
    format!("/api/v1/backtests/{}", job["id"])
}

fn upload(host: &Host, job: &str, lines: &str) {
    let path = format!("{job}/rows");
    host.ask("PUT", &path).body("application/x-ndjson", lines.as_bytes()).send().expect(200);
}

fn over(host: &Host, job: &str) -> Value {
    wait_for("the backtest to end", DEADLINE, || {
        let shown = host.ask("GET", job).send().expect(200);
        let runs = matches!(shown["state"].as_str(), Some("waiting" | "running"));
        if runs { Err(shown.to_string()) } else { Ok(shown) }
    })
}

fn run(host: &Host, input: Value, lines: &str) -> Value {
    let mut input = input;
    input["read"] = json!("upload");
    let job = ask(host, &input);
    upload(host, &job, lines);
    let found = over(host, &job);
    assert_eq!(found["state"], "done", "{found}");
    found
}

/// Guarantees: of uploaded points a rule that serves and a candidate are told apart by just the alerts they would have published, a
/// transform by the rows it would have changed; and nothing of it happens.
#[test]
fn uploaded_points() {
    let host = quiet().module("threshold").module("scale").rule("hot", HOT).launch();
    let lines = climb(100) + "no json\n" + r#"{"topic":"other/a","time_us":1,"value":99}"#;
    let found = run(&host, json!({"rule": "hot"}), &lines);
    assert_eq!((&found["rows"]["read"], &found["rows"]["given"]), (&json!(202), &json!(200)), "{found}");
    assert_eq!((&found["alerts"]["raised"], &found["alerts"]["standing"]), (&json!(1), &json!(1)), "{found}");
    let alert = &found["alert_list"][0];
    assert_eq!((&alert["topic"], &alert["time_us"]), (&json!("dev/a/temp"), &json!(T0 + 91_000_000)), "{found}");
    assert_eq!(found["bad_lines"].as_array().unwrap().len(), 1, "{found}");
    assert!(found["ns_per_row"].as_f64().unwrap() > 0.0, "{found}");

    let mut milder = json!({"module": "threshold.wasm", "topics": ["dev/+/temp"], "config": {"above": 98.5}});
    let found = run(&host, json!({"rule": "hot", "definition": milder}), &lines);
    assert_eq!(found["alert_list"][0]["value"], json!(99.0), "{found}");
    milder["module"] = json!("scale.wasm");
    milder["config"] = json!({"factor": 2.0});
    let found = run(&host, json!({"definition": milder, "topic": "dev/a/#"}), &lines);
    assert_eq!((&found["rows"]["given"], &found["rows"]["changed"]), (&json!(100), &json!(99)), "0 stays 0: {found}");

    let status = host.status();
    assert_eq!((status.alerts_standing, status.rule("hot").stats.rows_in), (0, 0), "nothing is done");
    assert!(host.alerts().is_empty() && host.rows().is_empty());
}

/// Guarantees: time goes on as the rows say, so that silence is found where it was; and messages are decoded.
#[test]
fn time_and_messages() {
    let silent = "module = \"absence.wasm\"\ntopics = [\"dev/#\"]\n[config]\nafter_s = 30\n";
    let host = quiet().module("absence").rule("silent", silent).module("json-reading").launch();
    let point = |second: i64, topic: &str| {
        format!(r#"{{"topic":"dev/{topic}","time_us":{},"value":1}}"#, T0 + second * 1_000_000)
    };
    // `b` goes on speaking; `a` is silent from the tenth second to the hundredth.
    let mut lines: Vec<String> = (0..200).map(|second| point(second, "b")).collect();
    lines.insert(10, point(10, "a"));
    lines.insert(101, point(100, "a"));
    let found = run(&host, json!({"rule": "silent"}), &lines.join("\n"));
    let alerts = &found["alert_list"];
    let told = |at: usize| (alerts[at]["topic"].as_str().unwrap(), alerts[at]["transition"].as_str().unwrap());
    assert_eq!((told(0), told(1)), (("dev/a", "raised"), ("dev/a", "cleared")), "{found}");
    let raised = alerts[0]["time_us"].as_i64().unwrap() - T0;
    assert!((40_000_000..=42_000_000).contains(&raised), "30 s after the tenth second: {found}");
    assert!(found["ticks"].as_u64().unwrap() >= 100, "{found}");

    let messages = r#"{"topic":"dev/a/temp","payload":{"v":1.5},"received_us":5}
{"topic":"dev/a/temp","payload":"garbage","received_us":6}"#;
    let found = run(&host, json!({"rule": "json-reading"}), messages);
    assert_eq!((&found["rows"]["out"], &found["rows"]["rejected"]), (&json!(1), &json!(1)), "{found}");
    let stored = host.ask("POST", "/api/v1/backtests").json(&json!({"rule": "json-reading"})).send();
    assert!(stored.expect_problem(422, "body")["detail"].as_str().unwrap().contains("decoder"));
}

/// Guarantees: a row on which the rule fails is found alone, and the rule goes on with the state it had; one that fails without end ends its
/// own backtest only.
#[test]
fn faults() {
    let host = quiet().bytes("brittle", &guest_module("brittle")).launch();
    let values: Vec<i64> = (0..3_000).map(|row| if row == 1_234 { 666 } else { 1 }).collect();
    let lines: String =
        values.iter().map(|value| format!("{{\"topic\":\"dev/a\",\"time_us\":5,\"value\":{value}}}\n")).collect();
    let found = run(&host, json!({"rule": "brittle"}), &lines);
    assert_eq!((&found["faults"], &found["rows"]["given"]), (&json!(1), &json!(3_000)), "{found}");
    assert_eq!(found["fault_list"][0]["topic"], "dev/a", "{found}");
    // Its state numbers readings: the first becomes 1, which it is already, and every other is changed, once.
    assert_eq!((&found["rows"]["out"], &found["rows"]["changed"]), (&json!(2_999), &json!(2_998)), "{found}");

    let job = ask(&host, &json!({"rule": "brittle", "read": "upload"}));
    let endless = "{\"topic\":\"dev/a\",\"time_us\":5,\"value\":666}\n".repeat(2_000);
    host.ask("PUT", &format!("{job}/rows")).body("application/x-ndjson", endless.as_bytes()).send();
    let failed = over(&host, &job);
    assert_eq!((&failed["state"], &failed["faults"]), (&json!("failed"), &json!(1_000)), "{failed}");
    assert!(
        host.status().rule("brittle").stats.faults.values().all(|&n| n == 0),
        "the rule that serves has not failed"
    );
}

/// Guarantees: what the host has stored is read again, in part or whole, by the CLI too, with a table for people and JSON for scripts.
#[test]
fn what_is_stored() {
    let setup = quiet().module("threshold").rule("hot", HOT);
    let host = store(setup, 5_000);
    let found = over(&host, &ask(&host, &json!({"rule": "hot"})));
    assert_eq!(
        (&found["state"], &found["rows"]["given"], &found["alerts"]["raised"]),
        (&json!("done"), &json!(5_000), &json!(1)),
        "{found}"
    );
    let part = json!({"rule": "hot", "from_us": T0, "until_us": T0 + 91_000_000, "topic": "dev/a/temp"});
    let found = over(&host, &ask(&host, &part));
    assert_eq!((&found["rows"]["given"], &found["alerts"]["raised"]), (&json!(91), &json!(0)), "{found}");

    let node = format!("http://127.0.0.1:{}", host.port());
    let tidegate = |args: &[&str]| {
        let output = Command::new(binary()).arg("backtest").args(args).args(["--node", &node]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = tidegate(&["hot", "--from", "2023-12-23", "--to", "2024-01-01"]);
    assert!(table.contains("NS/ROW") && table.contains("2023-12-23T00:01:31.000000Z  raised"), "{table}");
    let config = host.path().join("milder.toml");
    std::fs::write(&config, "above = 4998.5\n").unwrap();
    let found: Value =
        serde_json::from_str(&tidegate(&["hot", "--config", config.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(
        (&found["alerts"]["raised"], &found["alert_list"][0]["value"]),
        (&json!(1), &json!(4999.0)),
        "{found}"
    );
    let file = host.path().join("points.ndjson");
    std::fs::write(&file, climb(95)).unwrap();
    let found: Value = serde_json::from_str(&tidegate(&["hot", "--file", file.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!((&found["rows"]["given"], &found["alerts"]["raised"]), (&json!(190), &json!(1)), "{found}");
    assert!(tidegate(&["--list"]).lines().count() >= 6);
}

/// Guarantees: what a PostgreSQL or a TimescaleDB has of a series, in chunks of days there, is read again by the API, in order, in part or whole.
fn what_a_database_has(url: &str, execute: &dyn Fn(&str), chunked: bool) {
    execute(
        "CREATE TABLE metrics (time timestamptz NOT NULL, topic text NOT NULL, value double precision, value_str text,
        quality smallint NOT NULL, unit text)",
    );
    if chunked {
        execute("CREATE EXTENSION IF NOT EXISTS timescaledb");
        execute("SELECT create_hypertable('metrics', 'time', chunk_time_interval => INTERVAL '1 day')");
    }
    // A minute each: three days and a half.
    let rows = format!(
        "INSERT INTO metrics SELECT to_timestamp({}) + n * INTERVAL '1 minute', 'dev/a/temp', n, NULL, 192, NULL FROM generate_series(0, 4999) AS n",
        T0 / 1_000_000
    );
    execute(&rows);
    let minute = 60_000_000;
    let sink = format!("[sinks.timescale.db]\nurl = \"{url}\"\nmanage_schema = false\n");
    let host = quiet().toml(&sink).module("threshold").rule("hot", HOT).launch();
    let found = over(&host, &ask(&host, &json!({"rule": "hot"})));
    assert_eq!(
        (&found["state"], &found["rows"]["given"], &found["alerts"]["raised"]),
        (&json!("done"), &json!(5_000), &json!(1)),
        "{found}"
    );
    assert_eq!(found["alert_list"][0]["time_us"], json!(T0 + 91 * minute), "{found}");
    let part =
        json!({"rule": "hot", "from_us": T0 + 80 * minute, "until_us": T0 + 3_000 * minute, "topic": "dev/a/#"});
    let found = over(&host, &ask(&host, &part));
    assert_eq!((&found["rows"]["given"], &found["alerts"]["raised"]), (&json!(2_920), &json!(1)), "{found}");
}

#[test]
fn what_postgresql_has() {
    let Some(postgres) = Postgres::start() else { return };
    what_a_database_has(&postgres.url(), &|sql| postgres.execute(sql), false);
}

/// Guarantees: what a backtest asks for is text to the database and nothing else, also where a backslash in it would be more (`standard_conforming_strings = off`); and a
/// topic with one is found.
#[test]
fn a_topic_is_no_sql() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.execute(
        "CREATE TABLE metrics (time timestamptz NOT NULL, topic text NOT NULL, value double precision, value_str text,
        quality smallint NOT NULL, unit text)",
    );
    postgres.execute(r"INSERT INTO metrics SELECT to_timestamp(n), E'dev/a\\b/temp', n, NULL, 192, NULL FROM generate_series(0, 9) AS n");
    postgres.execute("ALTER ROLE CURRENT_USER SET standard_conforming_strings = off");
    let sink = format!("[sinks.timescale.db]\nurl = \"{}\"\nmanage_schema = false\n", postgres.url());
    let host = quiet().toml(&sink).module("threshold").rule("hot", HOT).launch();
    for (topic, given) in
        [(r"dev/a\b/temp", 10), (r"dev/a\b/#", 10), (r"dev\') ORDER BY 1; COMMIT; DROP TABLE metrics; --/x/temp", 0)]
    {
        let found = over(&host, &ask(&host, &json!({"rule": "hot", "topic": topic})));
        assert_eq!((&found["state"], &found["rows"]["given"]), (&json!("done"), &json!(given)), "{topic}: {found}");
    }
    assert_eq!(postgres.number("SELECT count(*) FROM metrics"), Ok(10));
}

#[test]
fn what_timescaledb_has() {
    let Some(database) = Timescale::start() else { return };
    what_a_database_has(database.url(), &|sql| database.execute(sql), true);
}

/// A host with so many points in its database, one each second.
fn store(setup: Setup, points: i64) -> Host {
    let mut host = setup.launch();
    host.stop();
    let mut connection = rusqlite::Connection::open(host.database()).unwrap();
    let schema =
        "CREATE TABLE IF NOT EXISTS metrics (time INTEGER NOT NULL, topic TEXT NOT NULL, value REAL, value_str TEXT,
        quality INTEGER NOT NULL, unit TEXT)";
    connection.execute_batch(schema).unwrap();
    let transaction = connection.transaction().unwrap();
    for second in 0..points {
        let row = (T0 + second * 1_000_000, second as f64);
        let insert = "INSERT INTO metrics (time, topic, value, quality) VALUES (?1, 'dev/a/temp', ?2, 192)";
        transaction.execute(insert, row).unwrap();
    }
    transaction.commit().unwrap();
    drop(connection);
    host.launch_again();
    host
}

/// Guarantees: jobs that wait are bounded in number, one that is over or waits is forgotten when it is taken back, and what is asked wrongly is
/// refused with its place.
#[test]
fn bounded() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let input = json!({"rule": "hot", "read": "upload"});
    let jobs: Vec<String> = (0..8).map(|_| ask(&host, &input)).collect();
    host.ask("POST", "/api/v1/backtests").json(&input).send().expect_problem(429, "too_many_backtests");
    host.ask("DELETE", &jobs[0]).send().expect(204);
    assert_eq!(host.ask("GET", &jobs[0]).send().expect(200)["state"], "cancelled");
    host.ask("PUT", &format!("{}/rows", jobs[0]))
        .body("application/x-ndjson", b"")
        .send()
        .expect_problem(409, "no_upload");
    host.ask("DELETE", &jobs[0]).send().expect(204);
    host.ask("GET", &jobs[0]).send().expect_problem(404, "not_found");
    assert_eq!(host.ask("GET", "/api/v1/backtests").send().expect(200).as_array().unwrap().len(), 7);
    upload(&host, &ask(&host, &input), "");

    for (input, code, word) in [
        (json!({"rule": "cold"}), 404, "not_found"),
        (json!({"rule": "../hot"}), 422, "body"),
        (json!({}), 422, "body"),
        (json!({"rule": "hot", "topic": "a/#/b"}), 422, "body"),
        (json!({"rule": "hot", "from_us": i64::MAX}), 422, "body"),
        (json!({"rule": "hot", "sink": "nowhere"}), 422, "no_history"),
        (json!({"rule": "hot", "definition": {"module": "gone.wasm"}}), 422, "module"),
    ] {
        host.ask("POST", "/api/v1/backtests").json(&input).send().expect_problem(code, word);
    }
}

/// Guarantees: how far a backtest is comes as events, the last of which says how it ended, whenever one begins to listen; none tells of the rows.
#[test]
fn progress_as_events() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let job = ask(&host, &json!({"rule": "hot", "read": "upload"}));
    let mut early = Events::open(host.port(), &format!("{job}/events"));
    let waiting = early.wait_for("the wait for its rows", |name, _| name == "progress");
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    upload(&host, &job, &climb(2_000));
    let over = early.wait_for("the end", |name, _| name == "over");
    assert_eq!((&over["state"], &over["rows"]["given"]), (&json!("done"), &json!(4_000)), "{over}");
    assert!(over["alert_list"].is_null() && over["alerts"]["raised"] == 1, "{over}");
    assert!(early.next().is_none(), "it ends with that");
    let late: Vec<String> = Events::open(host.port(), &format!("{job}/events")).map(|(name, _)| name).collect();
    assert_eq!(late, ["over"]);

    let job = ask(&host, &json!({"rule": "hot", "read": "upload"}));
    let mut events = Events::open(host.port(), &format!("{job}/events"));
    events.wait_for("the wait for its rows", |name, _| name == "progress");
    host.ask("DELETE", &job).send().expect(204);
    assert_eq!(events.wait_for("the end", |name, _| name == "over")["state"], "cancelled");
    host.ask("GET", "/api/v1/backtests/999/events").send().expect_problem(404, "not_found");
}

/// Guarantees: whoever interrupts the command leaves no backtest behind: it is ended at the host, which is said, and what it has found so far is shown.
#[test]
fn interrupted() {
    // Little enough that who gives way to all others on a busy machine comes to the end of a call soon.
    let short = "module = \"hostile.wasm\"\ntopics = [\"#\"]\n[limits]\ncpu_ms = 5\n";
    let host = quiet().bytes("hostile", &guest_module("hostile")).rule("hostile", short).launch();
    let rows = host.path().join("rows.ndjson");
    // Each of them takes what a call may take, several times: all of them take many seconds.
    let line = |at: i64| format!("{{\"topic\":\"a\",\"payload\":\"loop\",\"received_us\":{}}}\n", T0 + at);
    std::fs::write(&rows, (0..900).map(line).collect::<String>()).unwrap();
    let mut command = Command::new(binary());
    command.args(["backtest", "hostile", "--json", "--file", rows.to_str().unwrap(), "--node"]);
    command.arg(format!("http://127.0.0.1:{}", host.port())).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let jobs = || host.ask("GET", "/api/v1/backtests").send().expect(200);
    wait_for("the backtest to run", DEADLINE, || {
        let jobs = jobs();
        if jobs[0]["state"] == "running" { Ok(()) } else { Err(jobs.to_string()) }
    });
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (said, found) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(130), "{said}{found}");
    assert!(said.contains("backtests/1 is taken back"), "{said}");
    let found: Value = serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}{said}"));
    assert_eq!(found["state"], "cancelled");
    assert_eq!(jobs()[0]["state"], "cancelled");
}

/// Guarantees: a candidate may be a module that is there, named by its digest whatever its file is called; and what a backtest has found can be asked for
/// again, by command as by API.
#[test]
fn shown_again() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let rows = host.path().join("points.ndjson");
    std::fs::write(&rows, climb(100)).unwrap();
    let node = format!("http://127.0.0.1:{}", host.port());
    let backtest = |args: &[&str]| {
        Command::new(binary()).arg("backtest").args(args).args(["--json", "--node", &node]).output().unwrap()
    };
    let sha256 = host.ask("GET", "/api/v1/rules/hot").send().expect(200)["sha256"].as_str().unwrap().to_owned();
    let found = backtest(&["hot", "--module", &sha256, "--file", rows.to_str().unwrap()]);
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["alerts"]["raised"], 1, "{found}");
    let again: Value = serde_json::from_slice(&backtest(&["--show", &found["id"].to_string()]).stdout).unwrap();
    assert_eq!(again, found);
    assert!(!backtest(&["--show", "999"]).status.success());
}

/// Guarantees: a part of a Kafka topic is given to a decoder as it is, and to another rule as points that the rules before it made of it, in the order
/// of the records' times over all partitions; by time, by offset, by API and by command; no offset moves, and nothing is done. What cannot be
/// read is refused with its place.
fn a_part_of_a_kafka_topic(kafka: &mut Kafka) -> Host {
    // Four series that climb from 40 to 64, twice that when `double` has seen them; and messages that are no reading.
    kafka.deliver((0..100).map(|n| plain(&format!("dev/{}/temp", n % 4), n, 40.0 + (n / 4) as f64)));
    kafka.deliver((0..5).map(|n| Message::poison(format!("dev/bad{n}"), "no reading")));
    let double = "module = \"scale.wasm\"\ntopics = [\"dev/#\"]\norder = 1\n[config]\nfactor = 2.0\n";
    let hot = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\norder = 2\n[config]\nabove = 110.0\n";
    let host = Setup::new()
        .toml(&format!(
            "[sources.kafka.fleet]\nbrokers = \"{}\"\ngroup = \"live\"\ntopics = [\"telemetry\", \"none\"]\ntopic_from = \"key\"\n",
            kafka.brokers()
        ))
        .module("json-reading")
        .module("scale")
        .module("threshold")
        .rule("double", double)
        .rule("hot", hot)
        .launch();
    host.wait_settled(105);
    let standing = host.status().alerts_standing;
    let part = |more: Value| {
        let mut part = json!({"topic": "telemetry"});
        part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        part
    };
    let found = over(&host, &ask(&host, &json!({"rule": "hot", "kafka": part(json!({}))})));
    assert_eq!((&found["state"], &found["done"]), (&json!("done"), &json!(1.0)), "{found}");
    let rows = &found["rows"];
    assert_eq!(
        (&rows["read"], &rows["given"], &rows["lost_before"]),
        (&json!(105), &json!(100), &json!(5)),
        "{found}"
    );
    let raised = found["alert_list"].as_array().unwrap();
    let values: Vec<f64> = raised.iter().map(|alert| alert["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [112.0; 4], "each series once, when twice its value is above: {found}");

    let one =
        json!({"rule": "hot", "topic": "dev/1/#", "kafka": part(json!({"source": "fleet", "from": "earliest"}))});
    assert_eq!(over(&host, &ask(&host, &one))["rows"]["given"], 25);
    let decoder = json!({"rule": "json-reading", "kafka": part(json!({"from": "offset:0", "to": "latest"}))});
    let found = over(&host, &ask(&host, &decoder));
    assert_eq!((&found["rows"]["out"], &found["rows"]["rejected"]), (&json!(100), &json!(5)), "{found}");
    let told = by_command(&host, &["--from", "earliest", "--to", "latest"]);
    assert_eq!((&told["rows"]["given"], &told["alerts"]["raised"]), (&json!(100), &json!(4)), "{told}");

    for (kafka, pointer) in [
        (json!({"topic": "secret"}), "/kafka"),
        (json!({}), "/kafka"),
        (part(json!({"from": "yesterday"})), "/kafka"),
        (part(json!({"source": "plant"})), "/kafka/source"),
    ] {
        let refused = host.ask("POST", "/api/v1/backtests").json(&json!({"rule": "hot", "kafka": kafka})).send();
        assert_eq!(refused.expect_problem(422, "no_history")["errors"][0]["pointer"], pointer);
    }
    let both = json!({"rule": "hot", "read": "upload", "kafka": part(json!({}))});
    host.ask("POST", "/api/v1/backtests").json(&both).send().expect_problem(422, "body");
    let status = host.status();
    assert_eq!((status.alerts_standing, status.messages.received), (standing, 105), "nothing is done");
    host
}

fn by_command(host: &Host, range: &[&str]) -> Value {
    let node = format!("http://127.0.0.1:{}", host.port());
    let output = Command::new(binary())
        .args(["backtest", "hot", "--kafka", "fleet", "--kafka-topic", "telemetry", "--json", "--node", &node])
        .args(range)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_part_of_a_mock_topic() {
    a_part_of_a_kafka_topic(&mut Kafka::start("telemetry", 3));
}

/// Guarantees: the same, and by the records' timestamps: an age, and a time that is to come.
#[test]
fn a_part_of_a_topic_of_apache_kafka() {
    let Some(mut kafka) = Kafka::apache("telemetry", 3) else { return };
    let host = a_part_of_a_kafka_topic(&mut kafka);
    assert_eq!(by_command(&host, &["--from", "1d"])["rows"]["read"], 105);
    assert_eq!(by_command(&host, &["--from", "2100-01-01"])["rows"]["read"], 0);
    assert_eq!(by_command(&host, &["--from", "30d", "--to", "20d"])["rows"]["read"], 0);
}
