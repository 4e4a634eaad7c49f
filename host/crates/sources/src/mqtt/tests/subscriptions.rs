//! What a mosquitto still has of earlier settings.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rumqttc::QoS;
use tidegate_config::{MqttSource as Settings, MqttVersion, Qos};
use tidegate_model::State;

use super::broker::Broker;
use super::{VERSIONS, numbers, settings};
use crate::mqtt::MqttSource;
use crate::testing::{Host, payloads};

/// A source that notes in `data_dir` what it is subscribed to.
async fn remembering(settings: &Settings, data_dir: &Path) -> Host {
    let host = Host::start(MqttSource::new(settings.clone()).remembering(data_dir.to_owned(), Vec::new()));
    host.until("the source is up", |host| host.inlet.health().state() == State::Up).await;
    host
}

/// Until the broker has answered all that was asked, and that is written down: these client ids with these filters and no others.
async fn until_subscribed(host: &Host, data_dir: &Path, sessions: &[(&str, &[&str])]) {
    let due = serde_json::json!({
        "sessions": sessions.iter().map(|(id, filters)| serde_json::json!({"client_id": id, "filters": filters})).collect::<Vec<_>>()
    });
    let written = || {
        let text = std::fs::read(data_dir.join("mqtt/test.json")).ok()?;
        let mut file: serde_json::Value = serde_json::from_slice(&text).ok()?;
        // They stand in the order in which they were connected.
        file["sessions"].as_array_mut()?.sort_by_key(|session| session["client_id"].to_string());
        Some(file)
    };
    host.until(&format!("{due}, {:?}", written()), |_| written().as_ref() == Some(&due)).await;
}

/// Guarantees: where `share` is added, each message comes once from then on: what was subscribed to without it is taken back, also where the file is not
/// there, as after an upgrade; and where `share` goes again, so does the shared subscription.
#[tokio::test(flavor = "multi_thread")]
async fn share_added_and_removed() {
    for (version, known) in VERSIONS.into_iter().flat_map(|version| [(version, true), (version, false)]) {
        let Some(broker) = Broker::start() else { return };
        let data_dir = tempfile::tempdir().unwrap();
        let mut settings = settings(broker.port, version, Qos::AtLeastOnce);
        let plain = remembering(&settings, data_dir.path()).await;
        until_subscribed(&plain, data_dir.path(), &[("tidegate", &["dev/#"])]).await;
        plain.close().await;
        if !known {
            std::fs::remove_file(data_dir.path().join("mqtt/test.json")).unwrap();
        }

        settings.share = Some("hosts".parse().unwrap());
        let mut shared = remembering(&settings, data_dir.path()).await;
        until_subscribed(&shared, data_dir.path(), &[("tidegate", &["$share/hosts/dev/#"])]).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..100).await;
        assert_eq!(payloads(&shared.settle(100).await), numbers(0..100), "{version:?} {known}");
        shared.close().await;

        settings.share = None;
        let mut plain = remembering(&settings, data_dir.path()).await;
        until_subscribed(&plain, data_dir.path(), &[("tidegate", &["dev/#"])]).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 100..200).await;
        assert_eq!(payloads(&plain.settle(100).await), numbers(100..200), "{version:?} {known}");
        plain.close().await;
    }
}

/// Guarantees: a filter that was removed while the host was away is taken back, and what came by it until then is not lost; the others lose nothing.
#[tokio::test(flavor = "multi_thread")]
async fn filter_removed_while_away() {
    for version in VERSIONS {
        let Some(broker) = Broker::start() else { return };
        let data_dir = tempfile::tempdir().unwrap();
        let mut settings = settings(broker.port, version, Qos::AtLeastOnce);
        let mut flood = settings.subscriptions[0].clone();
        flood.filter = "b/#".parse().unwrap();
        settings.subscriptions.push(flood);
        remembering(&settings, data_dir.path()).await.close().await;
        broker.publish_numbers(QoS::AtLeastOnce, "b/x", 0..5).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 5..10).await;

        settings.subscriptions.truncate(1);
        let mut host = remembering(&settings, data_dir.path()).await;
        assert_eq!(payloads(&host.settle(10).await), numbers(0..10), "{version:?}");
        until_subscribed(&host, data_dir.path(), &[("tidegate", &["dev/#"])]).await;
        broker.publish_numbers(QoS::AtLeastOnce, "b/x", 10..20).await;
        broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 20..25).await;
        assert_eq!(payloads(&host.settle(5).await), numbers(20..25), "{version:?}");
        host.close().await;
    }
}

/// Guarantees: with fewer `connections` than before nothing is lost to the sessions of the others: what the broker has dealt them is taken, they get no more,
/// and are forgotten when they are empty; a client id that something else in this process has is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn fewer_connections() {
    // Side by side, since a session counts as empty only after some time.
    tokio::join!(fewer_connections_by(MqttVersion::V3), fewer_connections_by(MqttVersion::V5));
}

async fn fewer_connections_by(version: MqttVersion) {
    let Some(broker) = Broker::start() else { return };
    let data_dir = tempfile::tempdir().unwrap();
    let mut settings = settings(broker.port, version, Qos::AtLeastOnce);
    settings.share = Some("hosts".parse().unwrap());
    settings.connections = 3;
    settings.endpoint.keep_alive = Duration::from_secs(5);
    let shared: &[&str] = &["$share/hosts/dev/#"];
    let three = remembering(&settings, data_dir.path()).await;
    let all = [("tidegate-1", shared), ("tidegate-2", shared), ("tidegate-3", shared)];
    until_subscribed(&three, data_dir.path(), &all).await;
    three.close().await;

    settings.connections = 1;
    let source = MqttSource::new(settings.clone());
    let one = Host::start(source.remembering(data_dir.path().to_owned(), vec!["tidegate-3".into()]));
    until_subscribed(&one, data_dir.path(), &[("tidegate", shared), ("tidegate-3", shared)]).await;
    one.close().await;

    // Both sessions that are left get their part of these, and now nobody else has the id of the other one.
    broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 0..90).await;
    let mut one = remembering(&settings, data_dir.path()).await;
    until_seen(&mut one, 0..90).await;
    until_subscribed(&one, data_dir.path(), &[("tidegate", shared)]).await;
    broker.publish_numbers(QoS::AtLeastOnce, "dev/a", 90..190).await;
    until_seen(&mut one, 90..190).await;
    one.close().await;
}

/// Until each of these has come.
async fn until_seen(host: &mut Host, range: std::ops::Range<u32>) {
    let mut missing: BTreeSet<String> = numbers(range).into_iter().collect();
    while !missing.is_empty() {
        for payload in payloads(&host.settle(1).await) {
            missing.remove(&payload);
        }
    }
}
