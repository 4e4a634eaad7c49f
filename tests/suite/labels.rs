//! What comes beside a payload, as labels of its series.

use std::process::Command;

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_tests::{DEADLINE, Kafka, Mosquitto, Postgres, Protocol, Setup, installed, wait_for};

/// Guarantees: a Kafka header and the key are given to a WebAssembly decoder, which makes labels of them that stand in the database; a header that changes
/// changes the label of the series, and the points of both times are there.
#[test]
fn a_header_and_the_key() {
    let Some(database) = Postgres::start() else { return };
    let kafka = Kafka::start("fleet", 1);
    let host = Setup::new()
        .kafka(&kafka, "fleet")
        .toml(&format!("[sinks.timescale.db]\nurl = \"{}\"\n", database.url()))
        .module("json-fields")
        .rule(
            "json-fields",
            "module = \"json-fields.wasm\"\ntopics = [\"dev/#\"]\n[config]\nlabels = { site = \"{header:site}\", device = \"d-{key}\" }\n",
        )
        .start();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    for (value, site) in [(1, "north"), (2, "south")] {
        let payload = format!("{{\"temp\":{value}}}");
        let headers = OwnedHeaders::new().insert(Header { key: "site", value: Some(site) });
        producer.send(BaseRecord::to("fleet").key("dev/a").payload(&payload).headers(headers)).unwrap();
        producer.flush(DEADLINE).unwrap();
        let labels = format!("{{\"site\": \"{site}\", \"device\": \"d-dev/a\"}}");
        let found = format!("SELECT count(*) FROM series WHERE topic = 'dev/a/temp' AND labels = '{labels}'::jsonb");
        wait_for(&format!("the labels of {site}"), DEADLINE, || match database.number(&found) {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}; {}", host.tail())),
        });
        let stored = format!("SELECT count(*) FROM metrics WHERE topic = 'dev/a/temp' AND value = {value}");
        wait_for("its point", DEADLINE, || match database.number(&stored) {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}; {}", host.tail())),
        });
    }
    host.wait_settled(2).assert_balanced("labels");
}

/// Guarantees: a user property of MQTT 5 comes over a broker to a WebAssembly decoder, which makes a label of it; one that is not there, or that nobody asked for, makes none.
#[test]
fn a_user_property() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Postgres::start()) else { return };
    assert!(installed("mosquitto_pub", "mosquitto-clients"), "mosquitto_pub is not here, run deploy/dev/setup.sh");
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!("[sinks.timescale.db]\nurl = \"{}\"\n", database.url()))
        .module("json-fields")
        .rule(
            "json-fields",
            "module = \"json-fields.wasm\"\ntopics = [\"dev/#\"]\n[config]\nlabels = { site = \"{header:site}\", device = \"d-{1}\" }\n",
        )
        .start();
    for (value, property, labels) in [
        (1, Some(["site", "north"]), r#"{"site": "north", "device": "d-a"}"#),
        (2, Some(["site", "south"]), r#"{"site": "south", "device": "d-a"}"#),
        (3, Some(["trace", "7"]), r#"{"device": "d-a"}"#),
        (4, None, r#"{"device": "d-a"}"#),
    ] {
        let mut publish = Command::new("mosquitto_pub");
        let port = broker.port().to_string();
        publish.args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "dev/a"]);
        publish.args(["-m", &format!("{{\"temp\":{value}}}")]);
        if let Some([name, text]) = property {
            publish.args(["-D", "publish", "user-property", name, text]);
        }
        assert!(publish.status().unwrap().success());
        let found = format!(
            "SELECT count(*) FROM series, metrics WHERE series.topic = 'dev/a/temp' AND labels = '{labels}'::jsonb AND metrics.topic = series.topic AND value = {value}"
        );
        wait_for(&format!("the labels of {property:?}, and the point"), DEADLINE, || match database.number(&found) {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}; {}", host.tail())),
        });
    }
    host.wait_settled(4).assert_balanced("labels");
}
