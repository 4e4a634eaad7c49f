//! What the MQTT sink says besides alerts: whether the host is there, and what died.

use std::sync::Arc;

use tidegate_config::{MqttSink, MqttVersion};
use tidegate_model::{DeadLetter, Delivery, Sink, Stage};
use tidegate_sinks::Mqtt;

use crate::alerts;
use crate::mosquitto::Mosquitto;
use crate::mqtt_sink::{next, settings, subscribe};

const STATUS: &str = "tidegate/edge-1/status";

fn word(word: &str) -> (String, Vec<u8>) {
    (STATUS.to_owned(), word.as_bytes().to_vec())
}

/// Guarantees: a host says that it is there without any alert, before the first of them, and again after its broker was away;
/// when it vanishes the broker says so, and when it ends well it says so itself. Who subscribes later learns it too.
#[tokio::test(flavor = "multi_thread")]
async fn online_and_offline() {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let Some(mut broker) = Mosquitto::stopped("") else { return };
        let settings = MqttSink { status_topic: Some(STATUS.to_owned()), ..settings(&broker, version) };
        let sink = Mqtt::new(settings.clone());
        // The broker is not there yet.
        let presence = tokio::spawn(sink.presence().unwrap());
        broker.run();
        let mut early = subscribe(broker.port).await;
        assert_eq!(next(&mut early).await, word("online"), "{version:?}");
        let mut late = subscribe(broker.port).await;
        assert_eq!(next(&mut late).await, word("online"), "{version:?}: retained");

        broker.kill();
        broker.run();
        let mut received = subscribe(broker.port).await;
        assert_eq!(next(&mut received).await, word("online"), "{version:?}: after the broker was away");

        // As a host that is killed: nothing more is sent.
        presence.abort();
        drop((sink, presence));
        assert_eq!(next(&mut received).await, word("offline"), "{version:?}: the last will");

        let mut sink = Mqtt::new(settings);
        sink.write(&[alerts(0, 1)]).await.unwrap();
        assert_eq!(next(&mut received).await, word("online"), "{version:?}: before the first alert");
        assert_eq!(next(&mut received).await.0, "alerts/overheat/dev/line0/temp");
        let presence = tokio::spawn(sink.presence().unwrap());
        sink.close().await;
        assert_eq!(next(&mut received).await, word("offline"), "{version:?}: the last word");
        tokio::time::timeout(crate::PATIENCE, presence).await.expect("it should end with the sink").unwrap();
    }
}

/// Guarantees: without a topic for it there is no presence to keep, and no connection before the first alert.
#[test]
fn no_status_topic() {
    let Some(broker) = Mosquitto::stopped("") else { return };
    assert!(Mqtt::new(settings(&broker, MqttVersion::V5)).presence().is_none());
}

/// Guarantees: dead letters are published, as JSON and below the levels that were chosen, only by a sink that is told to.
#[tokio::test]
async fn copies_of_dead_letters() {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let Some(broker) = Mosquitto::start() else { return };
        let mut received = subscribe(broker.port).await;
        let letter = |topic: &str| DeadLetter {
            source: "plant".into(),
            topic: topic.into(),
            received_us: 0,
            marks: 0,
            payload: vec![0xff],
            properties: Vec::new(),
            stage: Stage::Decode,
            rule: Some("json-reading".into()),
            module: None,
            reason: "expected a value".into(),
            backtrace: None,
        };
        let dead_letters = vec![letter("dev/a"), letter("a+b/#"), letter("")];
        let delivery = [Arc::new(Delivery { dead_letters, ..Delivery::default() })];
        let mut without = Mqtt::new(settings(&broker, version));
        assert!(!without.wants().dead_letters);
        without.write(&delivery).await.unwrap();

        let mut sink =
            Mqtt::new(MqttSink { dead_letters: Some("site/dead".to_owned()), ..settings(&broker, version) });
        assert!(sink.wants().dead_letters);
        sink.write(&delivery).await.unwrap();
        let (topic, json) = next(&mut received).await;
        assert_eq!(topic, "site/dead/dev/a");
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((json["payload_base64"].as_str(), json["rule"].as_str()), (Some("/w=="), Some("json-reading")));
        assert_eq!(next(&mut received).await.0, "site/dead/a_b/_");
        assert_eq!(next(&mut received).await.0, "site/dead");
        sink.close().await;
    }
}
