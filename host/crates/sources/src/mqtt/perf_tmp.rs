#![allow(clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::{Duration, Instant};
use tidegate_config::*;
use tidegate_model::*;
use std::sync::Arc;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::*;
use rdkafka::consumer::*;
use rdkafka::ClientConfig;

fn cpu_ns() -> u64 { std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse().unwrap() }
fn cpu_of(name: &str) -> u64 { for t in std::fs::read_dir("/proc/self/task").unwrap() { let t = t.unwrap().path(); if std::fs::read_to_string(t.join("comm")).unwrap().trim() == name { return std::fs::read_to_string(t.join("schedstat")).unwrap().split(' ').next().unwrap().parse().unwrap(); } } 0 }
#[test]
fn perf() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("fleet", 16, 1).unwrap();
    let p: BaseProducer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).set("queue.buffering.max.messages", "1000000").set("linger.ms", "20").set("batch.num.messages","10000").create().unwrap();
    let n = 600_000usize;
    let produce = || { for i in 0..n { let payload = format!("{{\"v\":{}.5,\"q\":\"good\",\"ts\":1703289600000,\"u\":\"C\"}}", i % 1000); let key = format!("dev/line{}/plc{}/tag{}", i % 10, (i / 10) % 10, (i / 100) % 10);
        while p.send(BaseRecord::to("fleet").partition((i % 16) as i32).payload(&payload).key(&key)).is_err() { p.poll(Duration::from_millis(10)); } 
        if i % 1000 == 0 { p.poll(Duration::ZERO); } }
      p.flush(Duration::from_secs(60)).unwrap(); };
    produce();
    for round in 0..3 {
        let c: BaseConsumer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", format!("bare{round}")).set("auto.offset.reset", "earliest").set("enable.auto.offset.store","false").set("fetch.queue.backoff.ms","20").create().unwrap();
        c.subscribe(&["fleet"]).unwrap();
        let (mut got, mut start) = (0, Instant::now());
        let mut bytes = 0; let mut c0 = 0;
        while got < n { if let Some(Ok(m)) = c.poll(Duration::from_millis(100)) { if got == 0 { start = Instant::now(); c0 = cpu_ns(); } got += 1; bytes += rdkafka::Message::payload(&m).unwrap().len(); } }
        println!("bare {} ns cpu, {:.0} k/s {bytes}", (cpu_ns() - c0) / n as u64, n as f64 / start.elapsed().as_secs_f64() / 1e3);
        drop(c);
        let settings = tidegate_config::KafkaSource { brokers: cluster.bootstrap_servers(), group: format!("ours{round}"), topics: vec!["fleet".into()], topic_from: TopicFrom::Key, lane_by: LaneBy::Topic, start: KafkaStart::Earliest, max_in_flight: 100_000, client: Default::default() };
        let (tx, mut rx) = tokio::sync::mpsc::channel::<Parcel>(64);
        let inlet = Inlet::new("t".into(), Arc::new(Books::new(100_000)), Arc::new(SystemClock), vec![tx], ParcelLimits::default());
        let (ptx, prx) = tokio::sync::watch::channel(Phase::Running);
        let lanes = std::thread::spawn(move || { let (mut got, mut parcels) = (0, 0); let mut c0 = 0; let mut start = Instant::now(); while got < n { let p = rx.blocking_recv().unwrap(); if got == 0 { start = Instant::now(); c0 = cpu_of("kafka-t"); } got += p.messages.len(); parcels += 1; p.ack.resolve(Outcome::Settled); }
          println!("ours {} ns cpu, {:.0} k/s, {} a parcel", (cpu_of("kafka-t") - c0) / n as u64, n as f64 / start.elapsed().as_secs_f64() / 1e3, got / parcels);
          ptx.send_replace(Phase::Closed); });
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async { Box::new(crate::KafkaSource::new(settings)).run(inlet, prx).await.unwrap() });
        lanes.join().unwrap();
    }
}
