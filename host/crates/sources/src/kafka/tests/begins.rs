//! Where a group begins that has committed nothing, and topics that are made while a host runs.

use super::*;

/// Guarantees: a group that begins at the end does so once: what is produced while no host runs is read by the next, also where nothing was read before;
/// so is a topic that is made while a host runs, from its beginning; and where the group stands beyond what there is, the oldest is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_begins_at_the_end() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..5);
    let mut settings = Settings { start: KafkaStart::Latest, topics: vec!["^fleet.*".into()], ..cluster.settings() };
    settings.client.insert("topic.metadata.refresh.interval.ms".into(), Secret::new("500"));
    let first = start(settings.clone(), 5);
    first.until("where it begins is committed", |_| cluster.committed() == Offset::Offset(5)).await;
    first.close().await;

    cluster.produce(0, 5..15);
    let mut second = start(settings.clone(), 5);
    assert_eq!(payloads(&second.settle(10).await), numbers(5..15));
    cluster.0.create_topic("fleet-two", 1, 1).unwrap();
    cluster.produce_to("fleet-two", 0, &[(Some(number(100)), None, None)]);
    assert_eq!(payloads(&second.settle(1).await), numbers(100..101));
    second.close().await;

    cluster.commit("others", 1_000);
    let mut third = start(Settings { topics: vec!["fleet".into()], group: "others".into(), ..settings }, 5);
    assert_eq!(payloads(&third.settle(15).await), numbers(0..15));
    third.close().await;
}

/// Guarantees: a source of which one topic is not there says so for as long as that is so, and reads the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there() {
    let cluster = Cluster::new(1);
    let topics = vec!["fleet".into(), "missing".into()];
    let mut settings = Settings { topics, ..cluster.settings() };
    settings.client.insert("allow.auto.create.topics".into(), Secret::new("false"));
    settings.client.insert("topic.metadata.refresh.interval.ms".into(), Secret::new("500"));
    let mut host = start(settings, 5);
    host.until(
        "it is missed",
        |host| matches!(host.inlet.health().state(), State::Down(why) if why.contains("create the topic")),
    )
    .await;
    cluster.produce(0, 0..5);
    assert_eq!(payloads(&host.settle(5).await), numbers(0..5));
    assert!(matches!(host.inlet.health().state(), State::Down(_)));
    cluster.0.create_topic("missing", 1, 1).unwrap();
    host.until("it is there", |host| host.inlet.health().state() == State::Up).await;
    host.close().await;
}
