//! `tidegate replay`: a part of a Kafka topic once more through the rules, beside a group whose offsets do not move.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tidegate_tests::{
    Account, DEADLINE, Kafka, Message, Server, binary, built_module, readings, sqlite_count, sqlite_dead_letters,
    sqlite_rows, wait_for,
};

/// A directory with a configuration and rules, without a host.
fn house(kafka: &Kafka) -> tempfile::TempDir {
    let directory = tempfile::TempDir::new().unwrap();
    std::fs::create_dir_all(directory.path().join("rules.d")).unwrap();
    std::fs::write(directory.path().join("rules.d/json-reading.wasm"), built_module("json-reading")).unwrap();
    let text = format!(
        "lanes = 2\n[sources.kafka.fleet]\nbrokers = \"{}\"\ngroup = \"live\"\ntopics = [\"telemetry\"]\ntopic_from = \"key\"\n\
         [sinks.sqlite.store]\npath = \"store.db\"\n[sinks.mqtt.alerts]\nurl = \"mqtt://127.0.0.1:1\"\n",
        kafka.brokers()
    );
    std::fs::write(directory.path().join("tidegate.toml"), text).unwrap();
    directory
}

/// The same, with a sink that stores offsets with its points, beside which another may be.
fn exact_house(kafka: &Kafka) -> tempfile::TempDir {
    let directory = house(kafka);
    let path = directory.path().join("tidegate.toml");
    let sink = "[sinks.timescale.db]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\nexactly_once = \"kafka\"\n";
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + sink).unwrap();
    directory
}

fn replay(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).arg("replay").args(arguments).current_dir(directory).output().unwrap()
}

/// The account that a replay prints, which must have ended so.
fn account(directory: &Path, code: i32, arguments: &[&str]) -> Value {
    let done = replay(directory, &[arguments, &["--json"]].concat());
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {told}");
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// Guarantees: a replay of all there is makes a row of every reading and a dead letter of all else, once, with a ledger that balances; a dry run
/// finds the same and stores nothing; a range by offset begins where it is told to, and `--resume` goes on from there; no offset of
/// the live group moves.
fn a_range_once_more(mut kafka: Kafka) {
    let mut all = readings(0..3_000, 100);
    all.extend((0..20).map(|i| Message::poison(format!("dev/bad{i}"), "no reading")));
    kafka.deliver(all);
    let directory = house(&kafka);
    let total = kafka.sent().len() as u64;

    let dry = account(directory.path(), 0, &["--from", "earliest", "--dry-run"]);
    assert_eq!(
        (dry["messages"]["decoded"].as_u64(), dry["messages"]["dead_lettered"].as_u64()),
        (Some(3_000), Some(20))
    );
    assert!(!directory.path().join("store.db").exists() && !directory.path().join("data/dead_letters.db").exists());

    let told = account(directory.path(), 0, &["--from", "earliest", "--sink", "store"]);
    assert_eq!(
        (told["complete"].as_bool(), told["messages"]["received"].as_u64()),
        (Some(true), Some(total)),
        "{told}"
    );
    assert_eq!((told["points"]["stored"].as_u64(), told["resume"].as_str()), (Some(3_000), None), "{told}");
    let (seconds, rate) = (told["seconds"].as_f64().unwrap(), told["messages_per_s"].as_f64().unwrap());
    assert!(seconds > 0.0 && (rate - total as f64 / seconds).abs() < 1.0, "{told}");
    let store = directory.path().join("store.db");
    let letters = sqlite_dead_letters(&directory.path().join("data"));
    Account::of(kafka.sent(), sqlite_rows(&store), &letters).assert_exact("replayed");

    let ends: Vec<i64> = told["partitions"].as_array().unwrap().iter().map(|p| p["to"].as_i64().unwrap()).collect();
    let part = account(directory.path(), 0, &["--from", "offset:0", "--to", "offset:10", "--dry-run"]);
    assert_eq!(part["messages"]["received"].as_i64(), Some(ends.iter().map(|end| 10.min(*end)).sum()), "{part}");
    let left: Vec<String> = ends.iter().enumerate().map(|(i, end)| format!("{i}:{}", (end - 5).max(0))).collect();
    let rest = account(directory.path(), 0, &["--from", "earliest", "--resume", &left.join(","), "--dry-run"]);
    assert_eq!(rest["messages"]["received"].as_i64(), Some(ends.iter().map(|end| 5.min(*end)).sum()), "{rest}");
    assert!(kafka.committed("live").iter().all(|offset| *offset == 0));

    for (arguments, words) in [
        (&["--from", "earliest", "--sink", "alerts"][..], "takes no points"),
        (&["--from", "earliest", "--sink", "stor"], "known here: alerts, store"),
        (&["--from", "yesterday", "--dry-run"], "2026-11-21T08:00:00Z"),
    ] {
        let done = replay(directory.path(), arguments);
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && told.contains(words), "{arguments:?}: {told}");
    }
}

/// Guarantees: a replay says how much it has before it, and while its sink does not take it, every now and then, how far it is and how fast; when the sink
/// takes it again it goes on to the end.
#[test]
fn how_far_it_is() {
    let mut kafka = Kafka::start("telemetry", 3);
    kafka.deliver(readings(0..500, 50));
    let directory = house(&kafka);
    // There is a database then.
    account(directory.path(), 0, &["--from", "earliest", "--sink", "store"]);
    let store = directory.path().join("store.db");
    let holds_up = rusqlite::Connection::open(&store).unwrap();
    holds_up.execute_batch("BEGIN IMMEDIATE").unwrap();
    let log = directory.path().join("replay.log");
    let mut command = Command::new(binary());
    command.args(["replay", "--from", "earliest", "--sink", "store"]).current_dir(directory.path());
    let mut replaying = Server::spawn("tidegate replay", &mut command, &log);
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_for("a line of progress", DEADLINE, || {
        let line =
            said().lines().find(|line| line.contains("0.0 %  0 of 500  0/s  0 dead letters")).map(str::to_owned);
        line.ok_or_else(said)
    });
    assert!(said().contains("telemetry: 500 records or fewer in 3 partitions"), "{}", said());
    holds_up.execute_batch("COMMIT").unwrap();
    assert!(replaying.wait(DEADLINE).success(), "{}", said());
    assert!(said().contains("telemetry: 500 messages in "), "{}", said());
    assert_eq!(sqlite_count(&store), 1_000);
}

/// Guarantees: a replay into a sink with `exactly_once`, which would store a second time what it has, is refused with what to do instead, and nothing is
/// read or written; the other sinks of such a host take one as ever.
#[test]
fn what_is_stored_once_stays_so() {
    let mut kafka = Kafka::start("telemetry", 3);
    kafka.deliver(readings(0..100, 10));
    let directory = exact_house(&kafka);
    let refused = replay(directory.path(), &["--from", "earliest", "--sink", "db"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    for words in ["the sink db", "exactly_once", "choose another sink with --sink", "--config"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("partitions") && !directory.path().join("data").exists(), "{told}");
    let all = account(directory.path(), 0, &["--from", "earliest", "--sink", "store"]);
    assert_eq!(all["points"]["stored"].as_u64(), Some(100), "{all}");
}

#[test]
fn a_range_once_more_by_the_mock_cluster() {
    a_range_once_more(Kafka::start("telemetry", 3));
}

/// Guarantees: the same, and a range by time: it ends before what was produced later.
#[test]
fn a_range_once_more_by_apache_kafka() {
    let Some(mut kafka) = Kafka::apache("telemetry", 3) else { return };
    kafka.deliver(readings(0..100, 10));
    let directory = house(&kafka);
    let none = account(
        directory.path(),
        0,
        &["--from", "2000-01-01T00:00:00Z", "--to", "2001-01-01T00:00:00Z", "--dry-run"],
    );
    assert_eq!(none["messages"]["received"].as_u64(), Some(0), "{none}");
    let all = account(
        directory.path(),
        0,
        &["--from", "2001-01-01T00:00:00Z", "--to", "2999-01-01T00:00:00Z", "--dry-run"],
    );
    assert_eq!(all["messages"]["received"].as_u64(), Some(100), "{all}");
    drop(directory);
    drop(kafka);
    let Some(kafka) = Kafka::apache("telemetry", 3) else { return };
    a_range_once_more(kafka);
}
