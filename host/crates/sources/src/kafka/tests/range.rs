//! Ranges: what `tidegate replay` reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::kafka::{Bound, KafkaRange, RangeProgress};

/// A host that reads this range of "fleet", and how far it has come.
pub(super) fn range(settings: Settings, bounds: (Bound, Bound)) -> (Host, Arc<RangeProgress>) {
    let range = KafkaRange::find(settings, "fleet", bounds, &BTreeMap::new()).unwrap();
    let progress = range.progress();
    (Host::with(range, 1, 1_000, ParcelLimits { rows: 5, bytes: 1 << 20 }), progress)
}

/// Waits for its end, which must be a good one.
pub(super) async fn until_read(progress: &RangeProgress) {
    tokio::time::timeout(DEADLINE, progress.ended()).await.unwrap().unwrap();
}

/// Guarantees: what is read again counts as received when it was produced, unless its source has another place for that and a record says it
/// there; never at the time of the replay, which would put it beside what comes now.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_what_is_read_again() {
    let cluster = Cluster::new(1);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.0.bootstrap_servers()).create().unwrap();
    for (ms, at) in [(1_000, None), (2_000, Some("77"))] {
        let mut record = BaseRecord::<(), str>::to("fleet").partition(0).payload("{\"v\":1}").timestamp(ms);
        if let Some(value) = at {
            record = record.headers(OwnedHeaders::new().insert(Header { key: "at", value: Some(value) }));
        }
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    for (time_from, expected) in [
        (TimeFrom::Arrival, [1_000_000, 2_000_000]),
        (TimeFrom::Record, [1_000_000, 2_000_000]),
        (TimeFrom::Header("at".into()), [1_000_000, 77]),
    ] {
        let settings = Settings { time_from: time_from.clone(), ..cluster.settings() };
        let (mut host, progress) = range(settings, (Bound::Earliest, Bound::Latest));
        let mut times = Vec::new();
        while times.len() < 2 {
            let parcel = host.parcel().await;
            times.extend(parcel.messages.received_us.clone());
            settled(parcel);
        }
        assert_eq!(times, expected, "{time_from:?}");
        until_read(&progress).await;
        host.close().await;
    }
}

/// Guarantees: what of a range the brokers have deleted is known before it is read, as far as it can be, by `--from` and by `--resume`; an end before
/// the oldest record counts as well.
#[test]
fn what_is_deleted() {
    let cluster = Cluster::new(1);
    // The mock cluster keeps 5 MiB of a partition.
    let large = "x".repeat(600_000);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.0.bootstrap_servers()).create().unwrap();
    for _ in 0..20 {
        let record = BaseRecord::<(), str>::to("fleet").partition(0).payload(&large);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(DEADLINE).unwrap();
    }
    let (low, high) = producer.client().fetch_watermarks("fleet", 0, DEADLINE).unwrap();
    assert!(0 < low && low < high && high == 20, "{low} {high}");
    let stretch = |from, to, resume: &[(i32, i64)]| {
        let resume = resume.iter().copied().collect();
        let range = KafkaRange::find(cluster.settings(), "fleet", (from, to), &resume).unwrap();
        let progress = range.progress();
        (progress.stretches()[0].from, progress.total(), progress.stretches()[0].deleted)
    };
    let (there, all) = ((high - low) as u64, low as u64);
    assert_eq!(stretch(Bound::Offset(0), Bound::Latest, &[]), (low, there, Some(all)));
    assert_eq!(stretch(Bound::Offset(1), Bound::Offset(3), &[]), (low, 0, Some(2)));
    assert_eq!(stretch(Bound::Earliest, Bound::Latest, &[(0, 1)]), (low, there, Some(all - 1)));
    assert_eq!(stretch(Bound::Offset(0), Bound::Latest, &[(0, low)]), (low, there, Some(0)));
    assert_eq!(stretch(Bound::Earliest, Bound::Latest, &[]), (low, there, Some(0)));
}

/// Guarantees: a replay ends with a word where records are given back to it, instead of waiting for ever for what nobody reads again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_ends_a_replay() {
    let cluster = Cluster::new(1);
    cluster.produce(0, 0..10);
    let (mut host, progress) = range(cluster.settings(), (Bound::Earliest, Bound::Latest));
    let (_, mut parcels) = host.hold(10).await;
    settled(parcels.remove(0));
    parcels.remove(0).ack.resolve(Outcome::Returned);
    let ended = tokio::time::timeout(DEADLINE, progress.ended()).await.unwrap();
    assert!(ended.as_ref().is_err_and(|why| why.contains("given back")), "{ended:?}");
    assert!(progress.stretches()[0].next() < 10);
    host.kill().await;
}
