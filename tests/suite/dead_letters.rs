//! What died comes back when an operator says so, and nothing is acknowledged that is not kept.

use std::process::Command;

use serde_json::Value;
use tidegate_tests::{
    DEADLINE, Host, Mosquitto, Protocol, Publisher, Qos, Setup, binary, built_module, garbage, readings, wait_for,
};

/// `tidegate dead-letters` on the host's configuration; its result as JSON.
pub(crate) fn dead_letters(host: &Host, args: &[&str]) -> Value {
    let output = Command::new(binary())
        .arg("dead-letters")
        .args(args)
        .arg("--json")
        .current_dir(host.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn wait_no_letters(host: &Host) {
    wait_for("the letters to be replayed", DEADLINE, || match host.dead_letters().len() {
        0 => Ok(()),
        left => Err(format!("{left} are left; {}", host.tail())),
    });
}

/// Guarantees: messages that died for want of a decoder are stored byte for byte when they are replayed with one, whether that was
/// asked for while the host ran or while it did not; the ledger balances over both lives of a message, and what was stored is
/// not sent again by the broker.
#[test]
fn replayed() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..2_000, 100));
    let status = host.wait_settled(2_000);
    assert_eq!(status.messages.dead_lettered, 2_000);
    assert_eq!(host.dead_letters().len(), 2_000);

    host.drop_by_rename("json-reading.wasm", &built_module("json-reading"));
    host.wait_status("the decoder to serve", |status| {
        status.rules.iter().any(|rule| rule.state == "serving").then_some(())
    });
    let result = dead_letters(&host, &["replay", "--topic", "dev/#", "--stage", "route"]);
    assert_eq!(result["requested"], 2_000);
    wait_no_letters(&host);
    let status = host.wait_settled(4_000);
    assert_eq!((status.messages.received, status.messages.decoded), (4_000, 2_000));
    status.assert_balanced("replayed");
    host.account(publisher.sent()).assert_exact("replayed");
    let source = |name: &str| status.sources.iter().find(|source| source.name == name).unwrap().messages;
    assert_eq!((source("plant").received, source("replay").received), (2_000, 2_000));
    wait_for("the replays to be counted", DEADLINE, || {
        let metrics = host.get("/metrics").body;
        let lines = ["tidegate_dead_letters_replayed_total{} 2000.0", "tidegate_dead_letters{} 0.0"];
        if lines.iter().all(|line| metrics.lines().any(|l| l == *line)) { Ok(()) } else { Err(metrics) }
    });

    // What is garbage stays garbage: it dies again, of its own source, and is one new letter.
    let bad = garbage();
    publisher.deliver(bad.clone());
    host.wait_settled(4_000 + bad.len() as u64);
    let before = host.dead_letters();
    assert_eq!(before.len(), bad.len());
    assert!(host.stop().success(), "{}", host.tail());
    assert_eq!(dead_letters(&host, &["replay", "--rule", "json-reading"])["requested"], bad.len());
    host.start_again();
    host.wait_status("all to die again", |status| {
        let again = status.sources.iter().find(|source| source.name == "replay")?.messages;
        (again.dead_lettered == bad.len() as u64).then_some(())
    });
    let sorted = |letters: Vec<tidegate_tests::DeadLetter>| {
        let mut all: Vec<_> = letters.into_iter().map(|l| (l.topic, l.payload, l.source, l.reason)).collect();
        all.sort();
        all
    };
    wait_for("the old letters to go", DEADLINE, || {
        let now = host.dead_letters();
        if now.len() == before.len() { Ok(()) } else { Err(format!("{} letters", now.len())) }
    });
    assert_eq!(dead_letters(&host, &["purge", "--requested", "--dry-run"])["purged"], 0);
    assert_eq!(sorted(host.dead_letters()), sorted(before));
    host.account(publisher.sent()).assert_exact("garbage replayed");
    assert_eq!(dead_letters(&host, &["purge", "--all"])["purged"], bad.len());
}

/// Guarantees: messages that were beyond a limit are stored when an operator asks for them, and are not held against that limit again.
#[test]
fn too_much_replayed() {
    let Some(broker) = Mosquitto::start() else { return };
    let limit = r#"limit = { messages_per_s = 1, burst = 50, excess = "dead_letter" }"#;
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, limit).module("json-reading").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..500, 10));
    host.wait_settled(500);
    assert!(host.dead_letters().len() > 300, "{} letters", host.dead_letters().len());
    dead_letters(&host, &["replay", "--stage", "route"]);
    wait_no_letters(&host);
    host.account(publisher.sent()).assert_exact("too much, replayed");
}

/// Guarantees: where the dead letters cannot be written, a message that belongs there is not acknowledged: the host says why, holds
/// it, gives it back when it ends, and gets it again when it is started with room for it.
#[test]
fn no_room_for_dead_letters() {
    let Some(broker) = Mosquitto::start() else { return };
    let setup = Setup::new()
        .line("shutdown_timeout_s = 3")
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading");
    let in_the_way = setup.path().join("data").join("dead_letters.db");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let mut host = setup.launch();
    host.wait_status("the source to be up", |status| {
        status.sources.iter().any(|source| source.name == "plant" && source.up).then_some(())
    });
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(garbage());
    let count = publisher.sent().len() as u64;
    host.wait_status("the messages to wait", |status| (status.messages.in_flight == count).then_some(()));
    wait_for("the host to say why", DEADLINE, || match host.get("/readyz") {
        ready if ready.code == 503 && ready.body.contains("sink dead-letters") => Ok(()),
        ready => Err(format!("{ready:?}")),
    });
    let code = host.stop().code();
    assert_eq!(code, Some(3), "it could not drain");

    std::fs::remove_dir(&in_the_way).unwrap();
    host.start_again();
    host.wait_settled(count).assert_balanced("with room");
    host.account(publisher.sent()).assert_exact("with room");
}
