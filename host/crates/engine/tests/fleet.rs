//! A fleet of as many topics as a host has series by default, within the limits that a rule has by default.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_engine::{Cells, Engine, Instance, Limits, Module, OnQuarantine, Rule};
use tidegate_model::{Books, Description, Marks, Messages, Points, SeriesId, StateBook};

/// `max_series`, unless a host is told otherwise.
const TOPICS: usize = 100_000;
/// The most rows of a batch, unless a host is told otherwise.
const BATCH: usize = 10_000;
const NOW_US: i64 = 1_703_289_600_000_000;

/// An instance of a bundled rule, with the limits it has when its file says nothing.
fn instance(module: &str, config: &str, books: &Arc<Books>) -> Instance {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Engine::new().unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../../target/rules/{module}.wasm"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; `make test` builds the rule library, and runs this", path.display())
    });
    let rule = Rule {
        name: module.into(),
        generation: 1,
        module: Arc::new(Module::load(engine, &bytes).unwrap()),
        config: config.into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: OnQuarantine::default(),
        on_refused_state: Default::default(),
        signature_expires: None,
        // How fast this machine is is not the question.
        limits: Limits {
            batch_cpu: Duration::from_secs(60),
            batch_wall: Duration::from_secs(60),
            lifecycle_cpu: Duration::from_secs(60),
            lifecycle_wall: Duration::from_secs(60),
            ..Limits::default()
        },
        stats: Arc::default(),
    };
    Arc::new(rule).instantiate(books).unwrap()
}

fn topic(number: usize) -> String {
    format!("users/user-{number:06}/devices/device-{}/telemetry", number % 7)
}

/// What a decoder takes up once it has met the whole fleet twice, and a tenth of it once more in other words: MiB.
fn after_decoding(module: &str, payload: fn(usize) -> String) -> f64 {
    let books = Arc::new(Books::new(TOPICS));
    let mut decoder = instance(module, "{}", &books);
    for round in 0..2 {
        for first in (0..TOPICS).step_by(BATCH) {
            let mut batch = Messages::default();
            for number in first..first + BATCH {
                let name = topic(number);
                let topic = books.intern_topic(&name, &name).unwrap();
                batch.push(topic, NOW_US + round, Marks::default(), payload(number).as_bytes());
            }
            let decoded = decoder.decode(NOW_US, &batch).unwrap_or_else(|fault| {
                panic!("{module}: {fault} after {first} topics, {} bytes", decoder.memory_bytes())
            });
            assert_eq!((decoded.points.len(), decoded.rejects.row.len()), (BATCH, 0), "{module}");
        }
    }
    report(module, &decoder)
}

/// What a processor takes up once it has met the whole fleet twice, and has handed its state over to a successor: MiB of either.
fn after_processing(module: &str, config: &str) -> f64 {
    // And one for a rule that makes its own.
    let books = Arc::new(Books::new(TOPICS + 1));
    let mut processor = instance(module, config, &books);
    let series: Vec<SeriesId> = (0..TOPICS)
        .map(|number| {
            let name = topic(number);
            let partition = books.intern_partition(&name).unwrap();
            let description = Description { unit: Some("°C".into()), labels: vec![("user".into(), name.clone())] };
            books.intern_series(&name, partition, description).unwrap()
        })
        .collect();
    for round in 0..2 {
        for rows in series.chunks(BATCH) {
            let mut batch = Points::default();
            rows.iter().for_each(|&series| batch.push(series, NOW_US + round, 1_000.0, 192));
            processor.process(NOW_US, &batch).unwrap_or_else(|fault| {
                panic!("{module}: {fault} in round {round}, {} bytes", processor.memory_bytes())
            });
        }
    }
    let mut state = StateBook::default();
    state.take(processor.save(Cells::All).unwrap());
    let mut successor = instance(module, config, &books);
    successor.restore("0.1.0", &state).unwrap();
    report(module, &processor).max(report(module, &successor))
}

fn report(module: &str, instance: &Instance) -> f64 {
    let mib = instance.memory_bytes() as f64 / f64::from(1 << 20);
    println!("{module}: {mib:.1} MiB with {TOPICS} topics");
    mib
}

/// Guarantees: a fleet of as many topics as a host has series by default fits every rule of the library with its default limits; and but for the
/// one that makes a name of its own for each of them, without what it may have beside for so many names.
#[test]
fn a_whole_fleet_fits_by_default() {
    let reading = after_decoding("json-reading", |number| format!(r#"{{"v":{number}.5,"q":"good","u":"°C"}}"#));
    let fields = after_decoding("json-fields", |number| format!(r#"{{"temperature":{number}.5}}"#));
    let others = [
        after_processing("threshold", r#"{"above": 80, "for_s": 5}"#),
        after_processing("absence", r#"{"after_s": 30}"#),
        after_processing("k-of-n", r#"{"k": 3, "topic": "plant/overheat", "above": 80}"#),
        after_processing("scale", r#"{"factor": 2, "unit": "°F"}"#),
    ];
    assert!(reading < 16.0, "json-reading: {reading} MiB");
    assert!(fields < 32.0, "json-fields: {fields} MiB");
    assert!(others.iter().all(|mib| *mib < 16.0), "threshold, absence, k-of-n, scale: {others:?} MiB");
}
