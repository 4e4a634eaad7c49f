//! What the Kafka sink sends again of a write that failed: what was not acknowledged, and no more than order asks for.

use std::sync::Arc;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tidegate_model::{Books, Sink, SinkError};
use tidegate_sinks::Kafka;

use crate::alerts;
use crate::kafka_sink::{Cluster, numbered, values};

/// Guarantees: where one topic of a sink takes nothing for a while, each record of the others is there once, however often the write is tried; when it
/// does, the write ends, and counts as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_takes_nothing() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let mut sink = Kafka::new(cluster.settings(), Arc::clone(&books));
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.0.topic_error("alerts", denied).unwrap();
    let write = [numbered(&books, 0, 700), alerts(7, 1), numbered(&books, 700, 700)];
    for _ in 0..3 {
        let failed = sink.write(&write).await;
        assert!(matches!(&failed, Err(SinkError::NeedsOperator(text)) if text.contains("rights")), "{failed:?}");
    }
    assert_eq!(cluster.records("points").len(), 1_400);
    cluster.0.topic_error("alerts", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    let written = sink.write(&write).await.unwrap();
    assert_eq!((written.points, written.alerts, written.rejected.len()), (1_400, 1, 0));
    assert_eq!((cluster.records("points").len(), cluster.records("alerts").len()), (1_400, 1));
    // What is known of one write is not used for the next.
    assert_eq!(sink.write(&[numbered(&books, 1_400, 7)]).await.unwrap().points, 7);
    assert_eq!(cluster.records("points").len(), 1_407);
}

/// Guarantees: a batch with which a broker finds fault has what comes behind it under its keys sent again, in order, and nothing of other
/// partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_refused() {
    let cluster = Cluster::start();
    let books = Arc::new(Books::new(99));
    let mut sink = Kafka::new(cluster.settings(), Arc::clone(&books));
    cluster.0.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    assert_eq!(sink.write(&[numbered(&books, 0, 7_000)]).await.unwrap().points, 7_000);
    let mut partitions_with_repeats = std::collections::BTreeSet::new();
    for (partition, records) in cluster.partitions("points") {
        for (key, found) in values(&records) {
            let mut once = found.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), 1_000, "{key}");
            assert!(found.ends_with(&once[once.len() - 1..]), "{key}: the newest comes last");
            if found.len() > once.len() {
                partitions_with_repeats.insert(partition);
            }
        }
    }
    assert!(partitions_with_repeats.len() <= 1, "{partitions_with_repeats:?}");
}
