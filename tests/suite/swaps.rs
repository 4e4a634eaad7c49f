//! Rules replaced while messages flow.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_tests::{
    Account, Host, Message, Mosquitto, Protocol, Publisher, Qos, Row, Setup, built_module, guest_module, plain,
    readings, variant,
};

const SWAPS: u32 = 50;
/// How many times rules are given another name.
const RENAMES: u32 = 20;

/// How many swaps by the API; TIDEGATE_SWAPS says otherwise, as `make swaps` does.
const SWAPS_BY_API: u32 = 100;
/// Messages that are handed over just before each of those.
const MESSAGES_A_SWAP: u64 = 500;

/// The first module with a foreign import that comes to mind: `(module (import "env" "now" (func)))`.
const FOREIGN: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0b\x01\x03env\x03now\0\0";

/// Guarantees: a decoder's module and a transform's file, replaced 50 times under load by rename and by overwriting, cost
/// not one message; none is handled by two generations; each replacement is a new generation.
#[test]
fn fifty_swaps_under_load() {
    let Some(broker) = Mosquitto::start() else { return };
    let decoder = built_module("json-reading");
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .bytes("json-reading", &decoder)
        .bytes("scale", &built_module("scale"))
        .rule("double", &scale_file(2))
        .start();
    let load = Publisher::connect(&broker, Qos::One).load(2_000, telling);
    let first = generations(&host);
    for swap in 0..SWAPS {
        let (rule, file, bytes) = match swap % 4 {
            0 | 1 => ("json-reading", "json-reading.wasm", variant(&decoder, swap)),
            2 => ("double", "double.toml", scale_file(3).into_bytes()),
            _ => ("double", "double.toml", scale_file(2).into_bytes()),
        };
        let before = host.status().rule(rule).generation;
        if swap % 2 == 0 {
            host.drop_by_rename(file, &bytes);
        } else {
            host.drop_by_overwrite(file, &bytes);
        }
        host.wait_status(&format!("swap {swap} of {rule} to serve"), |status| {
            let rule = status.rule(rule);
            (rule.generation > before && rule.problem.is_none() && rule.state == "serving").then_some(())
        });
    }
    let publisher = load.end();
    let sent = publisher.sent().len() as u64;
    let status = host.wait_settled(sent);
    assert!(generations(&host) >= first + u64::from(SWAPS), "{status:?}");
    assert!(status.rules.iter().all(|rule| rule.stats.faults.values().all(|&faults| faults == 0)), "{status:?}");
    status.assert_balanced("swaps");

    let mut factors = BTreeSet::new();
    let rows = host.rows().into_iter().map(|row| unscaled(row, &mut factors));
    Account::of(publisher.sent(), rows, &host.dead_letters()).assert_exact("swaps");
    assert_eq!(factors, BTreeSet::from([2, 3]), "both configurations have served");
}

/// Guarantees: a transform that is changed by the API as fast as it answers, every tenth time by going back, while messages come as fast as they are
/// taken, costs not one message; each row has gone through one generation, and so have all rows of its batch; no answer came before its generation served. A
/// rule with a state beside it, which is changed as well, has counted each row once.
#[test]
fn many_swaps_by_the_api() {
    let Some(broker) = Mosquitto::start() else { return };
    let swaps = std::env::var("TIDEGATE_SWAPS").map_or(SWAPS_BY_API, |text| text.parse().unwrap());
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("scale", &built_module("scale"))
        .rule("double", &scale_file(2))
        .bytes("teller", &guest_module("teller"))
        .rule("teller", "module = \"teller.wasm\"\ntopics = [\"dev/#\"]\norder = 900_000\n")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let patch = |rule: &str, patch: serde_json::Value| {
        let path = format!("/api/v1/rules/{rule}");
        host.ask("PATCH", &path).body("application/merge-patch+json", patch.to_string().as_bytes()).send()
    };
    let mut generation = host.status().rules.iter().map(|rule| rule.generation).max().unwrap();
    for swap in 0..swaps {
        // They are on their way meanwhile, as fast as they are taken; what is not taken in time waits, and there is more and more of it.
        let burst = u64::from(swap) * MESSAGES_A_SWAP..u64::from(swap + 1) * MESSAGES_A_SWAP;
        publisher.publish(burst.map(telling));
        let answer = match swap % 10 {
            // Behind the one that is changed most: it tells what came of that.
            4 => patch("teller", json!({"order": 900_000 + swap})),
            9 => host.ask("POST", "/api/v1/rules/double/rollback").json(&json!({})).send(),
            _ => patch("double", json!({"config": {"factor": 2.0 + f64::from(swap % 2)}, "order": swap})),
        };
        let rule = answer.expect(200);
        let next = rule["generation"].as_u64().unwrap();
        assert!(next > generation && rule["state"] == "serving" && rule["problem"].is_null(), "swap {swap}: {rule}");
        generation = next;
    }
    publisher.flush();
    let status = host.wait_settled(publisher.sent().len() as u64);
    assert!(status.rules.iter().all(|rule| rule.stats.faults.values().all(|&faults| faults == 0)), "{status:?}");
    status.assert_balanced("swaps by the API");

    let (mut factors, mut of_batch, mut numbers) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let rows = host.rows().into_iter().map(|mut row| {
        let text = row.text.take().unwrap();
        let (batch, number) = text.split_once(' ').unwrap();
        let seen: &mut u64 = numbers.entry(row.topic.clone()).or_default();
        *seen += 1;
        assert_eq!(number.parse(), Ok(*seen), "{row}: counted by the rule with the state, and in the store");
        let mut factor = BTreeSet::new();
        let row = unscaled(row, &mut factor);
        let of_batch = of_batch.entry(batch.to_owned()).or_insert_with(|| factor.clone());
        assert_eq!(*of_batch, factor, "{row}: a batch went through two generations");
        factors.append(&mut factor);
        row
    });
    Account::of(publisher.sent(), rows, &host.dead_letters()).assert_exact("swaps by the API");
    assert_eq!(factors, BTreeSet::from([2, 3]), "both configurations have served");
    println!("{swaps} swaps, {} messages in {} batches", publisher.sent().len(), of_batch.len());
}

/// Guarantees: a decoder, a transform and a rule of the whole node that documents give other names, again and again under load, take each row once: none comes to
/// the dead letters for want of a decoder, none passes the transform by, and none goes through it twice.
#[test]
fn renamed_under_load() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .bytes("json-reading", &built_module("json-reading"))
        .bytes("scale", &built_module("scale"))
        .rule("read-0", "module = \"json-reading.wasm\"\ntopics = [\"dev/#\"]\n")
        .rule("double-0", &scale_file(2))
        .bytes("k-of-n", &built_module("k-of-n"))
        .rule("together-0", "module = \"k-of-n.wasm\"\ntopics = [\"dev/swap/#\"]\n[config]\nk = 2\ntopic = \"dev/hot-together\"\nabove = 1e9\n")
        .start();
    let load = Publisher::connect(&broker, Qos::One).load(2_000, telling);
    for name in 1..=RENAMES {
        let together = json!({"k": 2, "topic": "dev/hot-together", "above": 1e9});
        let document = json!({"rules": {
            format!("together-{name}"): {"module": "k-of-n.wasm", "topics": ["dev/swap/#"], "config": together},
            format!("read-{name}"): {"module": "json-reading.wasm", "topics": ["dev/#"]},
            format!("double-{name}"): {"module": "scale.wasm", "topics": ["dev/#"], "config": {"factor": 2.0}},
        }});
        let before = host.status().messages.received;
        host.ask("PUT", "/api/v1/desired").json(&document).send().expect(200);
        let rules = host.ask("GET", "/api/v1/rules").send().expect(200);
        let names: Vec<&str> = rules.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["double", "read", "together"].map(|rule| format!("{rule}-{name}")));
        host.wait_status("rows by the new names", |status| {
            let go_by = |rule: &str| status.rule(&format!("{rule}-{name}")).stats.rows_in > 0;
            (status.messages.received > before + 200 && go_by("together") && go_by("double")).then_some(())
        });
    }
    let publisher = load.end();
    let status = host.wait_settled(publisher.sent().len() as u64);
    status.assert_balanced("renaming");
    let mut factors = BTreeSet::new();
    let rows = host.rows().into_iter().map(|row| unscaled(row, &mut factors));
    Account::of(publisher.sent(), rows, &host.dead_letters()).assert_exact("renaming");
    assert_eq!(factors, BTreeSet::from([2]));
}

/// A reading whose value tells by which factor it went, once or twice: it is one more than a multiple of six.
fn telling(number: u64) -> Message {
    plain(&format!("dev/swap/t{}", number % 50), number, (6 * number + 1) as f64)
}

fn scale_file(factor: u32) -> String {
    format!("module = \"scale.wasm\"\ntopics = [\"dev/#\"]\n[config]\nfactor = {factor}.0\n")
}

/// The newest generation of all rules: they are counted together.
fn generations(host: &Host) -> u64 {
    host.status().rules.iter().map(|rule| rule.generation).max().unwrap()
}

/// The row as it was before one of the two factors, of which the remainder tells.
fn unscaled(mut row: Row, factors: &mut BTreeSet<u32>) -> Row {
    let value = row.number().unwrap();
    let factor = match (value % 6.0) as u32 {
        factor @ (2 | 3) => factor,
        other => panic!("{row}: went through no generation, or through two: the remainder is {other}"),
    };
    factors.insert(factor);
    row.value = Some((value / f64::from(factor)).to_bits());
    row
}

/// Guarantees: a module that cannot be used, dropped over one that serves, leaves that one serving and says why; messages
/// flow meanwhile; the next good one takes over. Without an older one the rule is failed, and says why too.
#[test]
fn broken_modules() {
    let Some(broker) = Mosquitto::start() else { return };
    let good = built_module("json-reading");
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").bytes("json-reading", &good).start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let served = host.status().rule("json-reading").sha256.clone().expect("the good one serves");
    let broken: [(&str, &[u8], &str); 4] = [
        ("truncated", &good[..good.len() / 2], "no WebAssembly module"),
        ("garbage", &b"#!/bin/sh\nexit 0\n".repeat(1_000), "no WebAssembly module"),
        ("empty", b"", "empty"),
        ("foreign import", FOREIGN, "contract"),
    ];
    let mut number = 0;
    for (what, bytes, why) in broken {
        host.drop_by_overwrite("json-reading.wasm", bytes);
        host.wait_status(&format!("{what} to be refused"), |status| {
            let rule = status.rule("json-reading");
            let said = rule.problem.as_ref().is_some_and(|problem| problem.contains(why));
            (said && rule.state == "serving" && rule.sha256.as_ref() == Some(&served)).then_some(())
        });
        assert_eq!(host.get("/readyz").code, 200, "{what}: a rule that is refused does not make the host unready");
        assert!(host.get("/health").body.contains("degraded"), "{what}: the health tells");
        publisher.deliver(readings(number..number + 100, 20));
        number += 100;
        host.wait_rows(number);
    }
    host.drop_by_rename("new.wasm", FOREIGN);
    host.wait_status("a new rule to be failed", |status| {
        let rule = status.rules.iter().find(|rule| rule.name == "new")?;
        (rule.state == "failed" && rule.problem.is_some()).then_some(())
    });
    host.drop_by_rename("json-reading.wasm", &variant(&good, 1));
    host.wait_status("a good one to take over", |status| {
        let rule = status.rule("json-reading");
        (rule.problem.is_none() && rule.sha256.as_ref() != Some(&served)).then_some(())
    });
    publisher.deliver(readings(number..number + 100, 20));
    host.wait_rows(number + 100);
    host.account(publisher.sent()).assert_exact("broken modules");
}
