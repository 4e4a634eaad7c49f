//! Alerts: raised, cleared, published, kept.

use serde_json::json;
use tidegate_tests::{
    AlertRow, DEADLINE, Host, Listener, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, built_module, plain,
    wait_for,
};

const HOT: &str = r#"
module = "threshold.wasm"
topics = ["dev/oven/#"]

[config]
above = 90.0
hysteresis = 5.0
severity = "critical" # the oven is wood
"#;

const SILENT: &str = r#"
module = "absence.wasm"
topics = ["dev/quiet/#"]

[config]
after_s = 1.0
"#;

const OVEN: &str = "dev/oven/temp";

struct House {
    host: Host,
    publisher: Publisher,
    listener: Listener,
    number: u64,
}

impl House {
    fn start(broker: &Mosquitto, sections: &str) -> Self {
        let host = Setup::new()
            .mqtt(broker, Protocol::V5, r#"["dev/#"]"#, "")
            .toml(&format!("[sinks.mqtt.alerts]\nurl = \"{}\"\n{sections}", broker.url()))
            .module("json-reading")
            .bytes("threshold", &built_module("threshold"))
            .bytes("absence", &built_module("absence"))
            .rule("hot", HOT)
            .rule("silent", SILENT)
            .start();
        let listener = Listener::start(broker, "alerts/#");
        Self { host, publisher: Publisher::connect(broker, Qos::One), listener, number: 0 }
    }

    /// Publishes a value and waits until it is settled.
    fn measure(&mut self, topic: &str, value: f64) {
        self.number += 1;
        self.publisher.deliver([plain(topic, self.number, value)]);
        self.host.wait_settled(self.number);
    }
}

/// Guarantees: an alert is raised once, stands through the hysteresis, and is cleared once; both arrive as JSON on
/// `alerts/<rule>/<topic>` and stand in SQLite with the same words.
#[test]
fn raised_and_cleared() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = House::start(&broker, "[sinks.sqlite.store]");
    house.measure(OVEN, 70.0);
    house.measure(OVEN, 95.5);
    house.listener.wait_for(1);
    assert_eq!(house.host.status().alerts_standing, 1);
    for value in [96.0, 89.0, 97.0] {
        house.measure(OVEN, value);
    }
    house.measure(OVEN, 80.0);
    let heard = house.listener.wait_for(2);
    let [raised, cleared] = [heard[0].json(), heard[1].json()];
    assert!(heard.iter().all(|heard| heard.topic == "alerts/hot/dev/oven/temp"), "{heard:?}");
    for (alert, transition, value, number) in [(&raised, "raised", 95.5, 2), (&cleared, "cleared", 80.0, 6)] {
        let time_us = 1_703_289_600_000_000_i64 + number * 1_000;
        assert_eq!(alert["rule"], "hot", "{alert}");
        assert_eq!(alert["topic"], OVEN, "{alert}");
        assert_eq!(alert["transition"], transition, "{alert}");
        assert_eq!(alert["severity"], "critical", "{alert}");
        assert_eq!(alert["value"], json!(value), "{alert}");
        assert_eq!(alert["time_us"], json!(time_us), "{alert}");
        assert_eq!(alert["time"], format!("2023-12-23T00:00:00.00{number}000Z"), "{alert}");
    }
    let row = |alert: &serde_json::Value| AlertRow {
        rule: "hot".into(),
        topic: OVEN.into(),
        transition: alert["transition"].as_str().unwrap().into(),
        severity: "critical".into(),
        value: alert["value"].as_f64(),
        message: alert["message"].as_str().unwrap().into(),
    };
    assert_eq!(house.host.alerts(), [row(&raised), row(&cleared)]);
    let status = house.host.status();
    assert_eq!((status.alerts_standing, house.listener.heard().len()), (0, 2));
    house.host.account(house.publisher.sent()).assert_exact("alerts do not change what is stored");
}

/// Guarantees: alerts stand in PostgreSQL beside the points.
#[test]
fn alerts_in_postgresql() {
    let (Some(broker), Some(postgres)) = (Mosquitto::start(), Postgres::start()) else { return };
    let mut house = House::start(&broker, &format!("[sinks.timescale.db]\nurl = \"{}\"", postgres.url()));
    house.measure(OVEN, 95.5);
    house.measure(OVEN, 80.0);
    house.listener.wait_for(2);
    let alerts = wait_for("two alerts", DEADLINE, || {
        let alerts = postgres.alerts()?;
        if alerts.len() >= 2 { Ok(alerts) } else { Err(format!("{alerts:?}")) }
    });
    let words: Vec<_> =
        alerts.iter().map(|alert| (alert.rule.as_str(), alert.transition.as_str(), alert.value)).collect();
    assert_eq!(words, [("hot", "raised", Some(95.5)), ("hot", "cleared", Some(80.0))]);
}

/// Guarantees: disabling a rule over HTTP clears what it raised, with that reason, and is written into its file, whose
/// comments stay; while it is disabled it raises nothing; enabling it brings it back. Unknown rules are 404.
#[test]
fn disabled_and_enabled() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = House::start(&broker, "[sinks.sqlite.store]");
    house.measure(OVEN, 99.0);
    house.listener.wait_for(1);

    let answer = house.host.post("/api/v1/rules/hot/disable");
    assert_eq!((answer.code, answer.json()["state"].as_str()), (200, Some("disabled")), "{answer:?}");
    let cleared = house.listener.wait_for(2)[1].json();
    assert_eq!(cleared["transition"], "cleared", "{cleared}");
    assert!(cleared["message"].as_str().unwrap().contains("disabled"), "{cleared}");
    let file = std::fs::read_to_string(house.host.rules_dir().join("hot.toml")).unwrap();
    assert!(file.contains("enabled = false") && file.contains("# the oven is wood"), "{file}");
    house.measure(OVEN, 100.0);
    assert_eq!(house.host.status().alerts_standing, 0);

    let answer = house.host.post("/api/v1/rules/hot/enable");
    assert_eq!((answer.code, answer.json()["state"].as_str()), (200, Some("serving")), "{answer:?}");
    let file = std::fs::read_to_string(house.host.rules_dir().join("hot.toml")).unwrap();
    assert!(file.contains("enabled = true") && file.contains("# the oven is wood"), "{file}");
    house.measure(OVEN, 101.0);
    let heard = house.listener.wait_for(3);
    let raised = heard[2].json();
    assert_eq!((raised["transition"].as_str(), raised["value"].as_f64()), (Some("raised"), Some(101.0)), "{raised}");
    assert_eq!(heard.len(), 3);
    assert_eq!(house.host.post("/api/v1/rules/nobody/disable").code, 404);
}

/// Guarantees: a series that falls silent is noticed by the clock, without any message; its next reading clears it.
#[test]
fn silence() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut house = House::start(&broker, "[sinks.sqlite.store]");
    house.measure("dev/quiet/pump", 1.0);
    let raised = house.listener.wait_for(1)[0].clone();
    assert_eq!(raised.topic, "alerts/silent/dev/quiet/pump");
    assert_eq!(raised.json()["transition"], "raised");
    house.measure("dev/quiet/pump", 2.0);
    let cleared = house.listener.wait_for(2)[1].json();
    assert_eq!((cleared["rule"].as_str(), cleared["transition"].as_str()), (Some("silent"), Some("cleared")));
    let kept = house.host.alerts();
    assert_eq!((kept[0].transition.as_str(), kept[1].transition.as_str()), ("raised", "cleared"));
}
