//! What comes beside a payload, as labels of its series.

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_tests::{DEADLINE, Kafka, Postgres, Setup, wait_for};

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
