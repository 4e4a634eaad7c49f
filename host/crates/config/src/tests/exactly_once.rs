//! `exactly_once = "kafka"`: what goes with it and what does not.

use super::mistakes::check;
use super::{good, parse};
use crate::{Name, Offsets, SinkSettings, SourceSettings};

const KAFKA: &str = "[sources.kafka.fleet]\nbrokers = \"b:9092\"\ngroup = \"g\"\ntopics = [\"t\"]\n";
const SINK: &str = "[sinks.timescale.db]\nurl = \"postgres://u@h/d?sslmode=require\"\nexactly_once = \"kafka\"\n";

/// Guarantees: the sink and every Kafka source agree that offsets are stored with the points, and there is no spool, though it would be there by
/// default; what MQTT brings beside it is a warning.
#[test]
fn accepted() {
    let name = |text: &str| -> Name { text.parse().unwrap() };
    let config = good(&format!("{KAFKA}{SINK}"));
    assert!(config.spools.is_empty() && config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(matches!(&config.sources[&name("fleet")], SourceSettings::Kafka(s) if s.offsets == Offsets::WithPoints));
    assert!(matches!(&config.sinks[&name("db")], SinkSettings::Timescale(s) if s.offsets == Offsets::WithPoints));
    good(&format!("{KAFKA}{SINK}spool = {{ enabled = false }}\n"));

    let with_mqtt = good(&format!("{}{KAFKA}{SINK}", super::SOURCE));
    assert!(with_mqtt.warnings[0].contains("does not hold for what comes from `plant`"), "{:?}", with_mqtt.warnings);
    let without = good(&format!("{KAFKA}{}", SINK.replace("exactly_once", "# exactly_once")));
    assert!(matches!(&without.sources[&name("fleet")], SourceSettings::Kafka(s) if s.offsets == Offsets::Group));
    assert_eq!(without.spools.len(), 1);
}

/// Guarantees: what would break the promise is refused, with the reason.
#[test]
fn refused() {
    check(
        &format!("{KAFKA}{SINK}spool = {{ max_mib = 64 }}\n"),
        "t.toml:8:9: with exactly_once there can be no spool: what it acknowledges is not stored together with its offset; write enabled = false in it, or take `exactly_once` out",
    );
    check(
        &format!("{}{SINK}", super::SOURCE),
        "t.toml:6:16: there is no Kafka source, so there are no offsets to be stored; remove it, or add [sources.kafka.…]",
    );
    check(
        &format!("{KAFKA}lane_by = [0]\n{SINK}"),
        "t.toml:5:11: with exactly_once each Kafka partition keeps to one lane, so `lane_by` cannot choose; remove it, or write \"partition\"; records of one key are of one partition",
    );
    check(
        &format!("{KAFKA}{SINK}{}", SINK.replace("db", "other")),
        "t.toml:10:16: two sinks cannot both be exact: after a crash one may have stored what the other has not; keep one of them",
    );
    assert!(parse(&format!("{KAFKA}{}", SINK.replace("kafka\"", "mqtt\""))).is_err());
}
