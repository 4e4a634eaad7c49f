//! What a source is subscribed to, and by which protocol its group moves partitions.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::RebalanceProtocol;

use super::*;

/// Guarantees: of the topics that there are, those are read that a pattern matches or that are named, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn topics_by_pattern_and_by_name() {
    let cluster = Cluster::new(1);
    let (wanted, others) = (["fleet-a", "fleet-b", "plain"], ["my-fleet-c", "plainer"]);
    for topic in wanted.iter().chain(&others) {
        cluster.0.create_topic(topic, 1, 1).unwrap();
    }
    // Those that are not wanted first: what is there already would come.
    for topic in others.iter().chain(&["fleet"]).chain(&wanted) {
        cluster.produce_to(topic, 0, &[(Some((*topic).to_owned()), None, None)]);
    }
    let topics = vec!["^fleet-.*".into(), "plain".into()];
    let mut host = start(Settings { topics, ..cluster.settings() }, 1);
    let mut got = host.settle(3).await;
    for topic in others.iter().chain(&wanted) {
        cluster.produce_to(topic, 0, &[(Some((*topic).to_owned()), None, None)]);
    }
    got.extend(host.settle(3).await);
    assert!(got.iter().all(|got| got.topic == got.payload), "{got:?}");
    let topics: BTreeSet<&str> = got.iter().map(|got| &*got.topic).collect();
    assert_eq!(topics, BTreeSet::from(wanted));
    assert!(host.anything_waiting().is_none());
    host.close().await;
}

/// Guarantees: whatever a configuration asks of librdkafka, partitions move one by one between members (cooperative-sticky), and only what is settled is
/// committed.
#[test]
fn what_a_configuration_cannot_change() {
    let cluster = Cluster::new(2);
    let mut settings = cluster.settings();
    let asked = [
        ("partition.assignment.strategy", "range", "cooperative-sticky"),
        ("enable.auto.offset.store", "true", "false"),
        ("auto.offset.reset", "latest", "earliest"),
    ];
    for (key, value, _) in asked {
        settings.client.insert(key.to_owned(), Secret::new(value));
    }
    let config = super::super::client::config(&settings);
    for (key, _, due) in asked {
        assert_eq!(config.get(key), Some(due), "{key}");
    }
    // As librdkafka itself has it, once it is in the group.
    let member: BaseConsumer = config.create().unwrap();
    member.subscribe(&["fleet"]).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while member.assignment().unwrap().count() < 2 {
        assert!(Instant::now() < deadline, "no partition was assigned: {:?}", member.assignment());
        member.poll(Duration::from_millis(100)).transpose().unwrap();
    }
    assert!(matches!(member.rebalance_protocol(), RebalanceProtocol::Cooperative));
}
