//! The commands, as people type them.

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::{Ask, DEADLINE, Listener, Mosquitto, Server, Signal, binary, built_module, root, wait_for};

fn tidegate(directory: &TempDir, args: &[&str]) -> Output {
    Command::new(binary()).args(args).current_dir(directory.path()).output().unwrap()
}

fn last_line(output: &Output) -> Value {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    let line = out.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("the last line is no JSON ({error}): {line}\n{err}"))
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {object}"))
}

/// Guarantees: a misspelled key is named with its file, its line and the key that was meant, and the check fails; nothing is
/// connected to. The corrected file passes.
#[test]
fn check_names_a_misspelled_key() {
    let directory = TempDir::new().unwrap();
    let config =
        |key: &str| format!("lanes = 2\n\n[sources.mqtt.plant]\n{key} = [\"dev/#\"]\nurl = \"mqtt://192.0.2.1\"\n");
    let check = |key: &str| {
        std::fs::write(directory.path().join("tidegate.toml"), config(key)).unwrap();
        let output = tidegate(&directory, &["check"]);
        let words = [&output.stdout[..], &output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&words).into_owned())
    };
    let (fine, words) = check("topcis");
    assert!(!fine, "{words}");
    for part in ["tidegate.toml:4", "`topcis`", "`topics`"] {
        assert!(words.contains(part), "{part} is not in: {words}");
    }
    let (fine, words) = check("topics");
    assert!(fine && words.contains("plant"), "{words}");
}

/// Guarantees: a check sees the rules that a host would run, no others, and refuses those that the host would: what the API has put there to
/// wait is no rule, nor is a module beside a file that names another; a configuration that its module does not take is a mistake.
#[test]
fn check_sees_what_a_host_would_run() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    let check = || {
        let output = tidegate(&directory, &["check"]);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), format!("{out}{err}"))
    };
    std::fs::create_dir(directory.path().join("rules.d")).unwrap();
    write("tidegate.toml", b"[sources.mqtt.plant]\nurl = \"mqtt://192.0.2.1\"\ntopics = [\"dev/#\"]\n");
    write("rules.d/json-reading.wasm", &built_module("json-reading"));
    write("rules.d/threshold.wasm", &built_module("threshold"));
    write(&format!("rules.d/{}.wasm", "ab".repeat(32)), &built_module("scale"));
    write("rules.d/hot.wasm", &built_module("k-of-n"));
    write("rules.d/hot.toml", b"module = \"threshold.wasm\"\n[config]\nabove = 90.0\n");
    let (fine, words) = check();
    let rules: Vec<_> = words.lines().skip_while(|line| !line.starts_with("rules ")).collect();
    assert!(fine && rules.iter().filter(|line| line.starts_with("  ")).count() == 2, "{words}");
    assert!(words.contains("\n  hot ") && words.contains("\n  json-reading "), "{words}");

    write("rules.d/hot.toml", b"module = \"threshold.wasm\"\n[config]\nabov = 90.0\n");
    let (fine, words) = check();
    assert!(!fine && words.contains("the rule hot") && words.contains("abov"), "{words}");
}

/// What a demo says of its messages at its end.
fn balances(end: &Value) {
    let n = |key: &str| number(end, key);
    assert!(n("received") > 0.0 && n("stored") > 0.0 && n("msgs_per_s") > 0.0, "{end}");
    assert_eq!(n("received"), n("decoded") + n("filtered") + n("dead_lettered") + n("in_flight"), "{end}");
    assert_eq!(n("in_flight"), 0.0, "it drains: {end}");
}

/// Guarantees: the demo runs by itself, all its rules serve, alerts are raised; it ends when told, or after its time; and its last line is one JSON
/// object whose messages balance.
#[test]
fn demo_balances() {
    let directory = TempDir::new().unwrap();
    let (house, log) = (directory.path().join("house"), directory.path().join("log"));
    let mut command = Command::new(binary());
    command.args(["demo", "--rate", "200", "--json", "--dir"]).arg(&house);
    let mut demo = Server::spawn("demo", &mut command, &log);
    let files = std::fs::read_dir(root().join("host/src/demo/rules.d")).unwrap().count();
    let said = || std::fs::read_to_string(&log).unwrap();
    // A motor is too hot from the fourth second on, a tag silent from the third.
    wait_for("all rules to serve and an alert", DEADLINE, || {
        assert!(demo.ended().is_none(), "the demo ended; {}", demo.tail());
        let said = said();
        let raised = said.lines().any(|line| line.contains(" raised, ") && !line.contains("alerts 0 raised"));
        let port =
            said.split("API       http://127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
        let (true, Some(port)) = (raised, port) else { return Err(demo.tail()) };
        let rules = Ask::new(port, "GET", "/api/v1/rules").send().expect(200);
        let serving = rules.as_array().unwrap().iter().filter(|rule| rule["state"] == "serving").count();
        if serving == files { Ok(()) } else { Err(rules.to_string()) }
    });
    demo.signal(Signal::Int);
    assert!(demo.wait(DEADLINE).success(), "{}", demo.tail());
    let end: Value = serde_json::from_str(said().lines().next_back().unwrap()).unwrap();
    balances(&end);
    let n = |key: &str| number(&end, key);
    assert!(n("p50_ms") > 0.0 && n("p99_ms") >= n("p50_ms") && n("alerts_raised") > 0.0, "{end}");
    assert_eq!(end["rules"], files, "each rule of the demo serves, and no module stands there without a file: {end}");

    let house = house.to_str().unwrap();
    let end = last_line(&tidegate(&directory, &["demo", "--for", "2s", "--rate", "200", "--json", "--dir", house]));
    balances(&end);
    assert!(number(&end, "seconds") >= 2.0, "{end}");
}

/// Guarantees: who asks the demo to end while it still starts is heard, also in a script's background, where a shell has SIGINT ignored; it
/// ends in order.
#[test]
fn a_demo_ended_early() {
    let directory = TempDir::new().unwrap();
    let (house, log) = (directory.path().join("house"), directory.path().join("log"));
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' INT; exec \"$0\" demo --plain --dir \"$1\""]).arg(binary()).arg(&house);
    let mut demo = Server::spawn("demo", &mut command, &log);
    // It is written when the broker is up, before rules are compiled and the host starts.
    wait_for("the configuration", DEADLINE, || {
        if house.join("tidegate.toml").exists() { Ok(()) } else { Err(demo.tail()) }
    });
    demo.signal(Signal::Int);
    assert!(demo.wait(DEADLINE).success(), "{}", demo.tail());
    assert!(demo.tail().contains("draining"), "{}", demo.tail());
}

/// Guarantees: the load tester keeps its rate against a real broker, which gets every message it says was acknowledged, on
/// the topics of a fleet and of a plant.
#[test]
fn load_reports_its_rate() {
    let Some(broker) = Mosquitto::start() else { return };
    let listener = Listener::start(&broker, "#");
    let directory = TempDir::new().unwrap();
    let args = "--users 5 --devices-per-user 2 --plant 2x2x5 --rate 200 --qos 1 --for 3s --seed 7 --json";
    let url = broker.url();
    let args: Vec<&str> = ["load", "--url", &url].into_iter().chain(args.split(' ')).collect();
    let end = last_line(&tidegate(&directory, &args));
    let (sent, acked, rate) = (number(&end, "sent"), number(&end, "acked"), number(&end, "rate"));
    assert_eq!(sent, acked, "{end}");
    // A busy machine may make it late, nothing may make it early.
    assert!(rate > 0.0 && rate < 250.0 && sent >= 30.0, "{end}");
    assert_eq!(number(&end, "target_rate"), 200.0, "{end}");
    let heard = listener.wait_for(sent as usize);
    for start in ["users/", "dev/"] {
        assert!(heard.iter().any(|heard| heard.topic.starts_with(start)), "nothing on {start}");
    }
}
