//! `lane_by`: which records stay together.

use std::collections::BTreeMap;

use super::*;

/// Topic, key and number of a record.
fn record<'a>(topic: &'a str, key: Option<&'a str>, n: u32) -> Record<'a> {
    (Some(number(n)), key, Some(("t", topic)))
}

fn settings(cluster: &Cluster, lane_by: RecordsBy) -> Settings {
    Settings { topic_from: TopicFrom::Header("t".into()), lane_by, ..cluster.settings() }
}

/// Takes so many messages; gives them by lane, in the order in which they came.
async fn by_lane(host: &mut Host, count: usize) -> BTreeMap<usize, Vec<Got>> {
    let mut lanes = BTreeMap::<usize, Vec<Got>>::new();
    while lanes.values().map(Vec::len).sum::<usize>() < count {
        let (lane, parcel) = host.parcel_of().await;
        lanes.entry(lane).or_default().extend(host.open(&parcel));
        settled(parcel);
    }
    lanes
}

/// Guarantees: with `lane_by = "key"` the records of one key come in their order from one lane, whatever their topics, and to rules they are one
/// partition, which has the key as its name. A record whose topic came with another key goes where its topic goes, and is counted; one without a key
/// stays with its topic, and is counted where that has one.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_one_key() {
    let cluster = Cluster::new(1);
    let topics: Vec<String> = (0..40).map(|n| format!("dev/{n}")).collect();
    let keys: Vec<String> = (0..4).map(|n| format!("pump-{n}")).collect();
    // Ten topics for each key, in turn.
    let records: Vec<Record<'_>> =
        (0..400).map(|n| record(&topics[n as usize % 40], Some(&keys[n as usize % 4]), n)).collect();
    cluster.produce_records(0, &records);
    let source = KafkaSource::new(settings(&cluster, RecordsBy::Key));
    let mut host = Host::with(source, 3, 1_000, ParcelLimits { rows: 7, bytes: 1 << 20 });
    let lanes = by_lane(&mut host, 400).await;
    assert!(lanes.len() > 1, "four keys are on one lane of three");
    for (at, key) in keys.iter().enumerate() {
        let is_of = |got: &Got| got.payload.parse::<usize>().is_ok_and(|n| n % 4 == at);
        let of_key = lanes.values().map(|got| got.iter().filter(|got| is_of(got)).map(|got| &got.payload).collect());
        let of_key: Vec<Vec<&String>> = of_key.filter(|got: &Vec<&String>| !got.is_empty()).collect();
        assert_eq!(of_key.len(), 1, "{key} is on several lanes");
        assert!(of_key[0].len() == 100 && of_key[0].is_sorted(), "{key}: {of_key:?}");
    }
    assert_eq!(host.partition_of("dev/7"), "pump-3");
    assert_eq!(host.inlet.health().strays(), 0);

    // pump-1's, by another key and by none; a new one without a key, and then with one.
    let strays = [
        record("dev/1", Some("pump-2"), 400),
        record("dev/1", None, 401),
        record("dev/1", Some("pump-1"), 402),
        record("dev/alone", None, 403),
        record("dev/alone", Some(""), 404),
        record("dev/alone", Some("pump-1"), 405),
        record("dev/alone", Some("pump-1"), 406),
        record("dev/alone", Some("pump-1"), 407),
        record("dev/1", Some("pump-2"), 408),
        record("dev/1", None, 409),
    ];
    cluster.produce_records(0, &strays);
    let lanes = by_lane(&mut host, 10).await;
    for topic in ["dev/1", "dev/alone"] {
        let of_topic = lanes.values().map(|got| got.iter().filter(|got| got.topic == topic).count());
        assert_eq!(of_topic.filter(|&count| count > 0).collect::<Vec<_>>(), [5], "{topic} is on several lanes");
    }
    assert_eq!((host.partition_of("dev/1"), host.partition_of("dev/alone")), ("pump-1".into(), "dev/alone".into()));
    assert_eq!(host.inlet.health().strays(), 7);
    host.close().await;
}

/// Guarantees: with `lane_by = "partition"` the records of one Kafka partition come in their order from one lane; a topic stays with the one that it
/// first came by.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_one_partition() {
    let cluster = Cluster::new(3);
    let topics: Vec<String> = (0..30).map(|n| format!("dev/{n}")).collect();
    for partition in 0..3 {
        let records: Vec<Record<'_>> = (0..100)
            .map(|n| record(&topics[partition * 10 + n % 10], None, (partition * 1_000 + n) as u32))
            .collect();
        cluster.produce_records(partition as i32, &records);
    }
    let source = KafkaSource::new(settings(&cluster, RecordsBy::Partition));
    let mut host = Host::with(source, 3, 1_000, ParcelLimits { rows: 7, bytes: 1 << 20 });
    let lanes = by_lane(&mut host, 300).await;
    assert_eq!(lanes.len(), 3, "three partitions, dealt out evenly");
    for got in lanes.values() {
        let payloads: Vec<&String> = got.iter().map(|got| &got.payload).collect();
        assert!(payloads.len() == 100 && payloads.is_sorted(), "{payloads:?}");
    }
    assert_eq!((host.partition_of("dev/25"), host.inlet.health().strays()), ("fleet/2".into(), 0));
    cluster.produce_records(0, &[record("dev/25", None, 1), record("dev/0", None, 2)]);
    by_lane(&mut host, 2).await;
    assert_eq!((host.partition_of("dev/25"), host.inlet.health().strays()), ("fleet/2".into(), 1));
    host.close().await;
}
