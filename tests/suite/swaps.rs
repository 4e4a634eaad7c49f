//! Rules replaced while messages flow.

use std::collections::BTreeSet;

use serde_json::json;
use tidegate_tests::{
    Account, Host, Mosquitto, Protocol, Publisher, Qos, Row, Setup, built_module, plain, readings, variant,
};

const SWAPS: u32 = 50;

/// How many swaps by the API; TIDEGATE_SWAPS says otherwise, as `make swaps` does.
const SWAPS_BY_API: u32 = 100;

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
        .rule("double", &scale_file(1))
        .start();
    // Odd values, so that what comes out tells by which factor it went.
    let load = Publisher::connect(&broker, Qos::One)
        .load(2_000, |number| plain(&format!("dev/swap/t{}", number % 50), number, (2 * number + 1) as f64));
    let first = generations(&host);
    for swap in 0..SWAPS {
        let (rule, file, bytes) = match swap % 4 {
            0 | 1 => ("json-reading", "json-reading.wasm", variant(&decoder, swap)),
            2 => ("double", "double.toml", scale_file(2).into_bytes()),
            _ => ("double", "double.toml", scale_file(1).into_bytes()),
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
    assert_eq!(factors, BTreeSet::from([1, 2]), "both configurations have served");
}

/// Guarantees: a transform that is changed by the API as fast as it answers, every tenth time by going back, while messages flow, costs not
/// one message; each row has gone through one generation, and no answer came before its generation served.
#[test]
fn many_swaps_by_the_api() {
    let Some(broker) = Mosquitto::start() else { return };
    let swaps = std::env::var("TIDEGATE_SWAPS").map_or(SWAPS_BY_API, |text| text.parse().unwrap());
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("scale", &built_module("scale"))
        .rule("double", &scale_file(1))
        .start();
    let load = Publisher::connect(&broker, Qos::One)
        .load(4_000, |number| plain(&format!("dev/swap/t{}", number % 50), number, (2 * number + 1) as f64));
    let mut generation = host.status().rule("double").generation;
    for swap in 0..swaps {
        let answer = if swap % 10 == 9 {
            host.ask("POST", "/api/v1/rules/double/rollback").json(&json!({})).send()
        } else {
            let patch = json!({"config": {"factor": 1.0 + f64::from(swap % 2)}, "order": swap}).to_string();
            host.ask("PATCH", "/api/v1/rules/double").body("application/merge-patch+json", patch.as_bytes()).send()
        };
        let rule = answer.expect(200);
        let next = rule["generation"].as_u64().unwrap();
        assert!(next > generation && rule["state"] == "serving" && rule["problem"].is_null(), "swap {swap}: {rule}");
        generation = next;
    }
    let publisher = load.end();
    let status = host.wait_settled(publisher.sent().len() as u64);
    assert!(status.rule("double").stats.faults.values().all(|&faults| faults == 0), "{status:?}");
    status.assert_balanced("swaps by the API");
    let mut factors = BTreeSet::new();
    let rows = host.rows().into_iter().map(|row| unscaled(row, &mut factors));
    Account::of(publisher.sent(), rows, &host.dead_letters()).assert_exact("swaps by the API");
    assert_eq!(factors, BTreeSet::from([1, 2]), "both configurations have served");
}

fn scale_file(factor: u32) -> String {
    format!("module = \"scale.wasm\"\ntopics = [\"dev/#\"]\n[config]\nfactor = {factor}.0\n")
}

/// The newest generation of all rules: they are counted together.
fn generations(host: &Host) -> u64 {
    host.status().rules.iter().map(|rule| rule.generation).max().unwrap()
}

fn unscaled(mut row: Row, factors: &mut BTreeSet<u32>) -> Row {
    let value = row.number().unwrap();
    let factor = if value % 2.0 == 0.0 { 2 } else { 1 };
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
