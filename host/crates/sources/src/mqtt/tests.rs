//! Against a real mosquitto, by both versions of the protocol; against a few bytes on a socket where mosquitto would not
//! misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod broker;
mod hostile;
mod subscriptions;
pub(in crate::mqtt) mod wire;

use std::time::Duration;

use rumqttc::QoS;
use tidegate_config::{LaneBy, MqttEndpoint, MqttSource as Settings, MqttVersion, Name, Qos, Subscription, Tls};
use tidegate_model::{Marks, Outcome, ParcelLimits, Phase, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::broker::{Broker, number};
use super::MqttSource;
use crate::testing::{Host, payloads, settled};

pub(in crate::mqtt) const VERSIONS: [MqttVersion; 2] = [MqttVersion::V3, MqttVersion::V5];

pub(in crate::mqtt) fn settings(port: u16, version: MqttVersion, qos: Qos) -> Settings {
    Settings {
        endpoint: MqttEndpoint {
            host: "127.0.0.1".into(),
            port,
            tls: None,
            version,
            client_id: "tidegate".into(),
            username: None,
            password: None,
            keep_alive: Duration::from_secs(30),
            max_packet_bytes: 1 << 20,
        },
        subscriptions: vec![Subscription { filter: "dev/#".parse().unwrap(), qos, lane_by: LaneBy::Topic }],
        share: None,
        share_by: tidegate_config::ShareBy::Unknown,
        connections: 1,
        receive_maximum: 200,
        session_expiry: Duration::from_secs(3600),
        stale_after: None,
        journal: tidegate_config::Journal::Off,
    }
}

async fn up(settings: &Settings) -> Host {
    let host = Host::start(MqttSource::new(settings.clone()));
    host.until("the source is up", |host| host.inlet.health().state() == State::Up).await;
    host
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(number).collect()
}

/// Guarantees: what was not settled when the source dies is delivered to its successor, marked as repeated, and what was
/// settled is not.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_only_after_settled() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let settings = settings(broker.port, version, Qos::AtLeastOnce);
        let mut first = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..50).await;
        let (got, held) = first.hold(50).await;
        assert_eq!(payloads(&got), numbers(0..50), "{version:?}");
        first.kill().await;
        drop(held);

        let mut second = up(&settings).await;
        let again = second.settle(50).await;
        assert_eq!(payloads(&again), numbers(0..50), "{version:?}");
        assert!(again.iter().all(|got| got.marks.has(Marks::REDELIVERED)), "{version:?}");
        second.close().await;

        let mut third = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 50..51).await;
        assert_eq!(payloads(&third.settle(1).await), numbers(50..51), "{version:?}: what was settled came again");
        third.close().await;
    }
}

/// Guarantees: a message that is settled while an older one is open is not acknowledged before it, even by a source that
/// closes in order; what is settled in order is.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_in_order_of_receipt() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let settings = settings(broker.port, version, Qos::AtLeastOnce);
        // One message a parcel, so that each is settled by itself.
        let limits = ParcelLimits { rows: 1, bytes: 1 };
        let mut first = Host::with(MqttSource::new(settings.clone()), 1, 64, limits);
        first.until("up", |host| host.inlet.health().state() == State::Up).await;
        let mut parcels = Vec::new();
        for n in 0..10 {
            broker.publish_numbers(QoS::AtLeastOnce, "dev/a", n..n + 1).await;
            parcels.push(first.parcel().await);
        }
        let open = parcels.remove(4);
        parcels.into_iter().rev().for_each(settled);
        first.close().await;
        drop(open);

        let mut second = up(&settings).await;
        assert_eq!(payloads(&second.settle(6).await), numbers(4..10), "{version:?}");
        second.close().await;
    }
}

/// Guarantees: messages given back by the lanes are delivered again by the running source, and nothing is lost or left.
#[tokio::test(flavor = "multi_thread")]
async fn returned_is_delivered_again() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let settings = settings(broker.port, version, Qos::AtLeastOnce);
        let mut host = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..20).await;
        let (_, parcels) = host.hold(20).await;
        parcels.into_iter().for_each(|parcel| parcel.ack.resolve(Outcome::Returned));
        assert_eq!(payloads(&host.settle(20).await), numbers(0..20), "{version:?}");
        host.close().await;
    }
}

/// Guarantees: a broker that restarts with its sessions is found again, health says so both times, and what was open
/// when it went comes again; settlements of the old connection acknowledge nothing on the new one.
#[tokio::test(flavor = "multi_thread")]
async fn broker_restart() {
    let Some(mut broker) = Broker::start() else { return };
    for version in VERSIONS {
        let settings = settings(broker.port, version, Qos::AtLeastOnce);
        let mut host = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..30).await;
        let (_, held) = host.hold(30).await;
        broker.stop();
        host.until("down", |host| matches!(host.inlet.health().state(), State::Down(_))).await;
        held.into_iter().for_each(settled);
        broker.restart();
        host.until("up again", |host| host.inlet.health().state() == State::Up).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 30..40).await;
        assert_eq!(payloads(&host.settle(40).await), numbers(0..40), "{version:?}");
        host.close().await;
    }
}

/// Guarantees: QoS 0 messages come, are counted, and hold nothing up when they are settled or given back.
#[tokio::test(flavor = "multi_thread")]
async fn qos_0() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let settings = settings(broker.port, version, Qos::AtMostOnce);
        let mut host = up(&settings).await;
        broker.publish_numbers(QoS::AtMostOnce, "dev/a", 0..100).await;
        assert_eq!(payloads(&host.settle(100).await), numbers(0..100), "{version:?}");
        let totals = host.inlet.ledger().totals();
        assert_eq!((totals.received, totals.decoded, totals.in_flight), (100, 100, 0), "{version:?}");
        broker.publish_numbers(QoS::AtMostOnce, "dev/a", 0..1).await;
        drop(host.parcel().await);
        broker.publish_numbers(QoS::AtMostOnce, "dev/a", 1..2).await;
        assert_eq!(payloads(&host.settle(1).await), numbers(1..2), "{version:?}");
        host.close().await;
    }
}

/// Guarantees: a host that drains takes nothing more, counts nothing more, but its acknowledgements still reach the broker;
/// what arrived meanwhile is there for the next.
#[tokio::test(flavor = "multi_thread")]
async fn draining() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let settings = settings(broker.port, version, Qos::AtLeastOnce);
        let mut first = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..10).await;
        let (_, held) = first.hold(10).await;
        first.enter(Phase::Draining);
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 10..20).await;
        held.into_iter().for_each(settled);
        let ledger = first.inlet.ledger().clone();
        // The broker had sent all it has by the time it answers our leaving.
        first.close().await;
        assert_eq!(ledger.totals().received, 10, "{version:?}");

        let mut second = up(&settings).await;
        assert_eq!(payloads(&second.settle(10).await), numbers(10..20), "{version:?}");
        second.close().await;
    }
}

/// Guarantees: slow lanes hold the broker back; nothing is lost, repeated or taken out of order, and the connection lasts.
#[tokio::test(flavor = "multi_thread")]
async fn slow_lanes() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let settings = settings(broker.port, version, Qos::AtLeastOnce);
        let mut host = Host::with(MqttSource::new(settings), 1, 1, ParcelLimits { rows: 7, bytes: 1 << 20 });
        host.until("up", |host| host.inlet.health().state() == State::Up).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..3_000).await;
        let got: Vec<_> = host.settle(3_000).await.into_iter().map(|got| got.payload).collect();
        let wrong = got.iter().zip(numbers(0..3_000)).position(|(got, expected)| *got != expected);
        assert_eq!(wrong, None, "{version:?}: {:?}", wrong.map(|at| (&got[at], &got[at.saturating_sub(1)])));
        assert_eq!(host.inlet.health().failures(), 0, "{version:?}");
        host.close().await;
    }
}

/// Guarantees: several connections of a shared subscription get each message once, between them.
#[tokio::test(flavor = "multi_thread")]
async fn shared_connections() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let mut settings = settings(broker.port, version, Qos::AtLeastOnce);
        settings.share = Some("hosts".parse::<Name>().unwrap());
        settings.connections = 3;
        let mut host = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..300).await;
        assert_eq!(payloads(&host.settle(300).await), numbers(0..300), "{version:?}");
        assert_eq!(host.anything_waiting(), None, "{version:?}");
        host.close().await;
    }
}

/// Guarantees: kept messages are marked, user properties arrive and what a message says of itself, byte for byte, and topics that agree in the levels
/// named stay together. A message whose topic is one too many for this host has them all the same.
#[tokio::test(flavor = "multi_thread")]
async fn marks_properties_and_lanes() {
    let Some(broker) = Broker::start() else { return };
    broker.publish(QoS::AtLeastOnce, &[("dev/kept".into(), "old".into(), true)]).await;
    let mut by_level = settings(broker.port, MqttVersion::V5, Qos::AtLeastOnce);
    by_level.subscriptions[0].lane_by = LaneBy::Levels(vec![1]);
    let mut host = Host::start(MqttSource::new(by_level));
    let kept = host.settle(1).await.remove(0);
    assert_eq!((kept.topic.as_str(), kept.payload.as_str()), ("dev/kept", "old"));
    assert!(kept.marks.has(Marks::RETAINED));

    publish_v5_with_property(broker.port).await;
    let live = host.settle(1).await.remove(0);
    assert!(!live.marks.has(Marks::RETAINED));
    let said = [
        ("mqtt.content-type", "application/json"),
        ("mqtt.response-topic", "answers/7"),
        ("mqtt.correlation-data", "\0\u{fffd}"),
        ("site", "north"),
    ];
    let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(live.properties, said);
    let (one, lane) = host.inlet.topic("dev/x/1", "ignored").unwrap();
    let (two, same) = host.inlet.topic("dev/x/2", "x").unwrap();
    assert_ne!(one, two);
    assert_eq!(lane, same);
    host.close().await;

    let mut another = settings(broker.port, MqttVersion::V5, Qos::AtLeastOnce);
    another.endpoint.client_id = "full".into();
    let mut host = Host::knowing(0, MqttSource::new(another), 2, 64, ParcelLimits::default());
    let old = host.settle(1).await.remove(0);
    assert_eq!(old.topic, "!dev/kept");
    publish_v5_with_property(broker.port).await;
    let live = host.settle(1).await.remove(0);
    assert_eq!((live.topic.as_str(), live.properties), ("!dev/x/1", Vec::from(said)));
    host.close().await;
}

/// Guarantees: a connection on which nothing comes for too long is made anew, which is counted and said until a message comes; what
/// is published meanwhile is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn silence() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let mut settings = settings(broker.port, version, Qos::AtLeastOnce);
        settings.stale_after = Some(Duration::from_millis(300));
        let mut host = Host::start(MqttSource::new(settings));
        let silent = |host: &Host| matches!(host.inlet.health().state(), State::Down(why) if why.contains("no message for 0.3 s"));
        host.until("silence", |host| host.inlet.health().stale() >= 2 && silent(host)).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..3).await;
        let (got, held) = host.hold(3).await;
        assert_eq!(payloads(&got), numbers(0..3), "{version:?}");
        // Nothing is silent while we hold what came.
        host.until("up", |host| host.inlet.health().state() == State::Up).await;
        let up = host.inlet.health().failures();
        held.into_iter().for_each(settled);
        host.until("silence again", |host| host.inlet.health().failures() > up).await;
        host.close().await;
    }
}

/// Guarantees: silence that we cause, by not acknowledging what came, does not end the connection, though the one beside it, which
/// hears nothing either, is made anew again and again.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_silence() {
    let Some(broker) = Broker::start() else { return };
    for version in VERSIONS {
        let mut settings = settings(broker.port, version, Qos::AtLeastOnce);
        settings.stale_after = Some(Duration::from_millis(500));
        let mut busy = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..1).await;
        let (_, held) = busy.hold(1).await;
        let stale = busy.inlet.health().stale();
        settings.endpoint.client_id = "idle".into();
        settings.subscriptions[0].filter = "nothing/#".parse().unwrap();
        let idle = Host::start(MqttSource::new(settings));
        idle.until("silence", |host| host.inlet.health().stale() >= 2).await;
        assert_eq!(busy.inlet.health().stale(), stale, "{version:?}");
        held.into_iter().for_each(settled);
        busy.until("silence", |host| host.inlet.health().stale() > stale).await;
        busy.close().await;
        idle.close().await;
    }
}

async fn publish_v5_with_property(port: u16) {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};
    let (client, mut eventloop) = AsyncClient::new(MqttOptions::new("v5-publisher", "127.0.0.1", port), 4);
    // What only a source may say is left out.
    let given = [("kafka.key", "x"), ("kafka.tombstone", ""), ("site", "north")];
    let properties = PublishProperties {
        content_type: Some("application/json".into()),
        response_topic: Some("answers/7".into()),
        correlation_data: Some(b"\0\xff".as_slice().into()),
        user_properties: given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..PublishProperties::default()
    };
    client.publish_with_properties("dev/x/1", QoS::AtLeastOnce, false, "live", properties).await.unwrap();
    while !matches!(eventloop.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))) {}
}

/// Guarantees: a subscription the broker refuses is named in the health, and tried again.
#[tokio::test(flavor = "multi_thread")]
async fn refused_subscription() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = tokio::spawn(async move {
        let mut attempts = 0;
        while attempts < 2 {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut packet = [0; 256];
            assert!(socket.read(&mut packet).await.unwrap() > 0);
            socket.write_all(&[0x20, 2, 0, 0]).await.unwrap();
            assert!(socket.read(&mut packet).await.unwrap() > 4);
            assert_eq!(packet[0], 0x82, "SUBSCRIBE should follow CONNACK");
            // The packet id is the first two bytes after the fixed header, whose length is one byte here.
            socket.write_all(&[0x90, 3, packet[2], packet[3], 0x80]).await.unwrap();
            // Hangs up only after the source has, so that it sees the answer.
            while socket.read(&mut packet).await.is_ok_and(|read| read > 0) {}
            attempts += 1;
        }
    });
    let host = Host::start(MqttSource::new(settings(port, MqttVersion::V3, Qos::AtLeastOnce)));
    host.until("refusal", |host| matches!(host.inlet.health().state(), State::Down(why) if why.contains("`dev/#`")))
        .await;
    tokio::time::timeout(crate::testing::DEADLINE, broker).await.expect("should subscribe again").unwrap();
    host.close().await;
}

/// Guarantees: a topic beyond the limit of the books reaches the lanes with its name and bytes, to be dead-lettered.
#[tokio::test(flavor = "multi_thread")]
async fn topics_beyond_the_limit() {
    let Some(broker) = Broker::start() else { return };
    let mut host = up(&settings(broker.port, MqttVersion::V3, Qos::AtLeastOnce)).await;
    let messages: Vec<_> = (0..10_005).map(|n| (format!("dev/{n:05}"), "x".to_owned(), false)).collect();
    broker.publish(QoS::AtLeastOnce, &messages).await;
    let got = host.settle(10_005).await;
    let refused: Vec<_> = got.iter().filter(|got| got.topic.starts_with('!')).map(|got| got.topic.as_str()).collect();
    assert_eq!(refused, ["!dev/10000", "!dev/10001", "!dev/10002", "!dev/10003", "!dev/10004"]);
    host.close().await;
}

/// Guarantees: with TLS both sides prove who they are: our certificate is shown to a broker that demands one, and a broker
/// whose certificate we do not trust is not spoken to, with the reason in the health.
#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls() {
    let Some(broker) = Broker::start_tls() else { return };
    for version in VERSIONS {
        let mut settings = settings(broker.tls_port, version, Qos::AtLeastOnce);
        settings.endpoint.host = "localhost".into();
        settings.endpoint.tls = Some(broker.tls());
        let mut host = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..3).await;
        assert_eq!(payloads(&host.settle(3).await), numbers(0..3), "{version:?}");
        host.close().await;

        // The client's own certificate authority did not sign the broker's certificate.
        settings.endpoint.tls = Some(Tls { ca_file: broker.tls().cert_file, ..broker.tls() });
        let host = Host::start(MqttSource::new(settings));
        host.until(
            "distrust",
            |host| matches!(host.inlet.health().state(), State::Down(why) if why.contains("certificate")),
        )
        .await;
        host.close().await;
    }
}

/// Guarantees: a TLS file that is not there ends the source with its name, rather than failing at every connection.
#[tokio::test]
async fn missing_tls_file() {
    use tidegate_model::Source as _;
    let mut settings = settings(1, MqttVersion::V3, Qos::AtLeastOnce);
    settings.endpoint.tls = Some(Tls { ca_file: Some("/nonexistent/ca.pem".into()), ..Tls::default() });
    let host = Host::start(MqttSource::new(settings.clone()));
    let (_phase, watch) = tokio::sync::watch::channel(Phase::Running);
    let error = Box::new(MqttSource::new(settings)).run(host.inlet.clone(), watch).await.unwrap_err();
    assert!(error.0.contains("/nonexistent/ca.pem"), "{error}");
}
