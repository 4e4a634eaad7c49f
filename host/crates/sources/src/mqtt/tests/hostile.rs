//! Brokers that do not keep to the protocol, or to what we told them.

use rumqttc::QoS;
use tidegate_config::Qos;
use tidegate_model::{Marks, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::broker::Broker;
use super::wire::{connack, packet, publish, suback};
use super::{VERSIONS, settings, up};
use crate::mqtt::MqttSource;
use crate::testing::{Host, payloads};

/// Guarantees: a broker that sends nonsense behind good messages is left with words that say so, and is tried again; what was good
/// is kept.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense() {
    for version in VERSIONS {
        for (nonsense, words) in [
            // 256 MiB are promised: nobody waits for them, or makes room.
            (vec![0x90, 0xFF, 0xFF, 0xFF, 0x7F], "max_packet_bytes"),
            (packet(0x32, &[0, 200, b'd']), "malformed"),
            (vec![0xF0, 0], "malformed"),
            (connack(version), "CONNACK twice"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let broker = tokio::spawn(async move {
                for _attempt in 0..2 {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    let mut packet = [0; 256];
                    assert!(socket.read(&mut packet).await.unwrap() > 0);
                    let all = [connack(version), suback(version), publish(version, 1, b"good"), nonsense.clone()];
                    socket.write_all(&all.concat()).await.unwrap();
                    while socket.read(&mut packet).await.is_ok_and(|read| read > 0) {}
                }
            });
            let mut host = Host::start(MqttSource::new(settings(port, version, Qos::AtLeastOnce)));
            host.until(words, |host| matches!(host.inlet.health().state(), State::Down(why) if why.contains(words)))
                .await;
            assert_eq!(payloads(&host.settle(2).await), ["good", "good"], "{version:?}: {words}");
            tokio::time::timeout(crate::testing::DEADLINE, broker).await.expect("should connect again").unwrap();
            host.close().await;
        }
    }
}

/// Guarantees: of a message over `max_packet_bytes` its beginning comes, marked and with its length, by both versions, and it is acknowledged like
/// all others. The messages behind it come, on the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn larger_than_we_take() {
    for version in VERSIONS {
        let Some(broker) = Broker::start() else { return };
        let mut settings = settings(broker.port, version, Qos::AtLeastOnce);
        settings.endpoint.max_packet_bytes = 200;
        let mut host = up(&settings).await;
        let messages =
            [("dev/a".to_owned(), "x".repeat(9_000), false), ("dev/a".to_owned(), "small".to_owned(), false)];
        broker.publish(QoS::AtLeastOnce, &messages).await;
        let mut got = host.settle(2).await;
        let large = got.remove(0);
        assert!(large.marks.has(Marks::TRUNCATED) && large.payload == "x".repeat(1_024), "{version:?}: {large:?}");
        assert_eq!(large.properties, [("payload-bytes".to_owned(), "9000".to_owned())], "{version:?}");
        assert_eq!(payloads(&got), ["small"], "{version:?}");
        assert!(!got[0].marks.has(Marks::TRUNCATED), "{version:?}");
        assert_eq!(host.inlet.health().failures(), 0, "{version:?}");
        host.close().await;

        let mut next = up(&settings).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..1).await;
        assert_eq!(payloads(&next.settle(1).await), ["000000"], "{version:?}: what was acknowledged came again");
        next.close().await;
    }
}
