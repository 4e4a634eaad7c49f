//! The MQTT sink against mosquitto.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tidegate_config::{MqttSink, MqttVersion, Qos};
use tidegate_model::{Command, Delivery, Sink, SinkError};
use tidegate_sinks::Mqtt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::mosquitto::Mosquitto;
use crate::{PATIENCE, alerts};

pub fn settings(broker: &Mosquitto, version: MqttVersion) -> MqttSink {
    MqttSink {
        endpoint: broker.endpoint("tidegate-alerts", version),
        prefix: "alerts".to_owned(),
        qos: Qos::AtLeastOnce,
        retain: false,
        dead_letters: None,
        status_topic: None,
    }
}

fn sink(broker: &Mosquitto, version: MqttVersion) -> Mqtt {
    Mqtt::new(settings(broker, version))
}

/// All messages that arrive at a subscriber, from when this returns until the broker goes.
pub async fn subscribe(port: u16) -> mpsc::UnboundedReceiver<(String, Vec<u8>)> {
    let mut options = MqttOptions::new("listener", "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20).set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
    let (to, received) = mpsc::unbounded_channel();
    let (subscribed, ready) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let _client = client;
        let mut subscribed = Some(subscribed);
        while let Ok(event) = events.poll().await {
            match event {
                Event::Incoming(Packet::SubAck(_)) => drop(subscribed.take().map(|s| s.send(()))),
                Event::Incoming(Packet::Publish(p)) => drop(to.send((p.topic, p.payload.to_vec()))),
                _ => {}
            }
        }
    });
    timeout(PATIENCE, ready).await.unwrap().unwrap();
    received
}

pub async fn next(received: &mut mpsc::UnboundedReceiver<(String, Vec<u8>)>) -> (String, Vec<u8>) {
    timeout(PATIENCE, received.recv()).await.unwrap().unwrap()
}

/// Guarantees: alerts arrive on their topics as JSON and commands as they are, in order, more of them than fit the window, over
/// both versions of MQTT; what MQTT cannot carry does not stop the others.
#[tokio::test]
async fn alerts_and_commands_arrive() {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let Some(mut broker) = Mosquitto::stopped("max_queued_messages 0") else { return };
        broker.run();
        let mut received = subscribe(broker.port).await;
        let mut sink = sink(&broker, version);
        // With the QoS of the alerts: a broker may hand a message of QoS 0 out before those of QoS 1 that wait for their
        // subscriber's window (MQTT 5, 4.6: order holds for messages of the same topic and QoS).
        let command = |topic: &str, payload: &[u8]| Command {
            rule: "shutdown".into(),
            topic: topic.to_owned(),
            payload: payload.to_vec(),
            qos: 1,
            retain: false,
        };
        let mut many = Delivery { alerts: alerts(0, 1_000).alerts.clone(), ..Delivery::default() };
        many.commands =
            vec![command("cmd/+/x", b"never"), command("cmd/big", &vec![0; 2 << 20]), command("cmd/x", b"\xff\x00")];
        let written = sink.write(&[Arc::new(many), alerts(1_000, 1)]).await.unwrap();
        assert_eq!((written.alerts, written.points), (1_001, 0));

        for n in 0..1_000 {
            assert_eq!(next(&mut received).await.0, format!("alerts/overheat/dev/line{n}/temp"));
        }
        assert_eq!(next(&mut received).await, ("cmd/x".to_owned(), b"\xff\x00".to_vec()));
        let (_, json) = next(&mut received).await;
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["message"], "too hot: 1000");
        assert_eq!(json["time"], "2023-12-23T00:00:00.001000Z");
        timeout(PATIENCE, sink.close()).await.unwrap();
    }
}

/// Guarantees: while the broker is down a write is to be tried again; when it is back the same write delivers; a broker that dies
/// between or within writes loses nothing that was given to it.
#[tokio::test]
async fn a_broker_that_is_down_is_tried_again() {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let Some(mut broker) = Mosquitto::stopped("") else { return };
        let mut sink = sink(&broker, version);
        let first = [alerts(0, 3)];
        let refused = sink.write(&first).await;
        assert!(matches!(&refused, Err(SinkError::Retry(text)) if text.contains("127.0.0.1")), "{refused:?}");

        broker.run();
        let mut received = subscribe(broker.port).await;
        assert_eq!(sink.write(&first).await.unwrap().alerts, 3);
        for n in 0..3 {
            assert_eq!(next(&mut received).await.0, format!("alerts/overheat/dev/line{n}/temp"));
        }

        // Killed while the connection is idle: the next write notices, or fails and is tried again.
        broker.kill();
        broker.run();
        let mut received = subscribe(broker.port).await;
        let second = [alerts(10, 300)];
        let mut tries = 0;
        while let Err(error) = sink.write(&second).await {
            tries += 1;
            assert!(matches!(error, SinkError::Retry(_)) && tries < 5, "{error}");
        }
        let mut missing: BTreeSet<String> = (10..310).map(|n| format!("alerts/overheat/dev/line{n}/temp")).collect();
        while !missing.is_empty() {
            missing.remove(&next(&mut received).await.0);
        }
        sink.close().await;
    }
}

/// Guarantees: a write that is cut off in the middle is to be tried again, and when it is, all its alerts arrive; those that come twice do
/// so behind the others: the order in which alerts are first heard is that in which they were raised.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_in_the_middle() {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let Some(mut broker) = Mosquitto::stopped("max_queued_messages 0") else { return };
        broker.run();
        // A write that was through before anybody could cut it off shows nothing: then more of them.
        let mut alerts = 20_000;
        while !is_cut_off_and_arrives(&broker, version, alerts).await {
            alerts *= 4;
            assert!(alerts < 2_000_000, "{version:?}: no write was cut off");
        }
    }
}

/// Whether a write of so many alerts was cut off; all of them must arrive, in order.
async fn is_cut_off_and_arrives(broker: &Mosquitto, version: MqttVersion, count: u32) -> bool {
    let mut received = subscribe(broker.port).await;
    let mut sink = sink(broker, version);
    let writing = tokio::spawn(async move {
        let deliveries = [alerts(0, count)];
        let mut tries = 1;
        while let Err(error) = sink.write(&deliveries).await {
            tries += 1;
            assert!(matches!(error, SinkError::Retry(_)) && tries < 5, "{error}");
        }
        sink.close().await;
        tries
    });
    let mut heard = vec![next(&mut received).await.0];
    // A broker lets only one client of an id stay: the newer.
    let (_client, mut events) = AsyncClient::new(MqttOptions::new("tidegate-alerts", "127.0.0.1", broker.port), 1);
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::ConnAck(_))) {}
    drop(events);

    let mut known: BTreeSet<String> = heard.iter().cloned().collect();
    while known.len() < count as usize {
        let (topic, _) = next(&mut received).await;
        if known.insert(topic.clone()) {
            heard.push(topic);
        }
    }
    let raised = (0..count).map(|n| format!("alerts/overheat/dev/line{n}/temp"));
    assert!(raised.eq(heard), "{version:?}: out of order");
    writing.await.unwrap() > 1
}

/// Guarantees: a broker that knows nothing of our user, and one that does not let it publish, want an operator, who is told which it is.
#[tokio::test]
async fn a_broker_that_refuses_wants_an_operator() {
    for version in [MqttVersion::V3, MqttVersion::V5] {
        let Some(mut broker) = Mosquitto::stopped("") else { return };
        broker.write(
            "mosquitto.conf",
            &format!("listener {} 127.0.0.1\nallow_anonymous false\nuser root\n", broker.port),
        );
        broker.run();
        let refused = sink(&broker, version).write(&[alerts(0, 1)]).await;
        assert!(matches!(&refused, Err(SinkError::NeedsOperator(text)) if text.contains("let us in")), "{refused:?}");
    }
    let Some(mut broker) = Mosquitto::stopped("") else { return };
    let acl = broker.write("acl", "topic read #\ntopic write alerts/other/#\n");
    let config =
        format!("listener {} 127.0.0.1\nallow_anonymous true\nuser root\nacl_file {}\n", broker.port, acl.display());
    broker.write("mosquitto.conf", &config);
    broker.run();
    let refused = sink(&broker, MqttVersion::V5).write(&[alerts(4, 1)]).await;
    assert!(
        matches!(&refused, Err(SinkError::NeedsOperator(text)) if text.contains("dev/line4/temp")),
        "{refused:?}"
    );
}
