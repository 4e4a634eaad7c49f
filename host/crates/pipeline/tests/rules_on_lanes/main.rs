//! A pipeline with the real rule library on it, fed by hand and watched at its end.
//!
//! Needs the modules in `target/rules` (`make rules`); says so when they are absent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_engine::{Deploy, Engine, Limits, Module, OnQuarantine, OnRefusedState, Rule, RuleStats};
use tidegate_model::{
    Ack, Books, Delivery, Inlet, Marks, MessageTotals, Outcome, ParcelLimits, Sink, SinkError, StateStore,
    SystemClock, Transition, Wants, Written,
};
use tidegate_pipeline::{Drained, LaneDeploy, Pipeline, PipelineSettings, SinkSetup};
use tokio::runtime::Runtime;

#[path = "../../../../../tests/src/wat_guest.rs"]
mod wat_guest;

mod held;
mod node;
mod state;

/// Keeps every delivery; refuses to write while told so.
#[derive(Clone, Default)]
struct Keeper {
    kept: Arc<Mutex<Vec<Arc<Delivery>>>>,
    down: Arc<Mutex<bool>>,
    letters: bool,
}

#[async_trait]
impl Sink for Keeper {
    fn wants(&self) -> Wants {
        if self.letters {
            Wants { dead_letters: true, ..Wants::default() }
        } else {
            Wants { points: true, alerts: true, commands: true, ..Wants::default() }
        }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        if *self.down.lock().unwrap() {
            return Err(SinkError::Retry("told to be down".into()));
        }
        self.kept.lock().unwrap().extend(deliveries.iter().cloned());
        Ok(Written::default())
    }
}

struct House {
    runtime: Runtime,
    pipeline: Pipeline,
    deploy: LaneDeploy,
    engine: Engine,
    books: Arc<Books>,
    points: Keeper,
    letters: Keeper,
    inlet: Inlet,
    generation: u64,
}

impl House {
    fn new(lanes: usize) -> Self {
        Self::with(lanes, Arc::new(Books::new(10_000)), None)
    }

    fn with(lanes: usize, books: Arc<Books>, state: Option<Arc<dyn StateStore>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (points, letters) = (Keeper::default(), Keeper { letters: true, ..Keeper::default() });
        let settings = PipelineSettings {
            lanes,
            batch_rows: 1_000,
            parcel: ParcelLimits::default(),
            books: books.clone(),
            clock: Arc::new(SystemClock),
            state,
        };
        let sinks = vec![SinkSetup::new("keeper", Box::new(points.clone()))];
        let pipeline = Pipeline::start(settings, sinks, Box::new(letters.clone()), runtime.handle()).unwrap();
        let (deploy, inlet) = (pipeline.deploy(), pipeline.inlet("test"));
        let engine = Engine::new().unwrap();
        Self { runtime, pipeline, deploy, engine, books, points, letters, inlet, generation: 0 }
    }

    fn install(&mut self, name: &str, module: &str, order: i32, topic: &str, config: &str) {
        self.install_so(name, module, order, topic, config, |_| {});
    }

    /// `module` is that of the rule library, or a guest of the tests if there is none. `change` has the last word on the rule.
    fn install_so(
        &mut self,
        name: &str,
        module: &str,
        order: i32,
        topic: &str,
        config: &str,
        change: impl FnOnce(&mut Rule),
    ) -> Arc<Rule> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target");
        let bytes =
            ["rules", "guests"].iter().find_map(|at| std::fs::read(target.join(format!("{at}/{module}.wasm"))).ok());
        let bytes = bytes.unwrap_or_else(|| {
            panic!(
                "there is no {module}.wasm in target/rules or target/guests; `make test` builds them, and runs this"
            )
        });
        self.generation += 1;
        let mut rule = Rule {
            name: name.into(),
            generation: self.generation,
            module: Arc::new(Module::load(&self.engine, &bytes).unwrap()),
            config: config.into(),
            filters: vec![topic.parse().unwrap()],
            order,
            commands: vec![],
            on_quarantine: OnQuarantine::default(),
            on_refused_state: Default::default(),
            limits: Limits::default(),
            stats: Arc::default(),
        };
        change(&mut rule);
        let rule = Arc::new(rule);
        self.deploy.install(&rule).unwrap();
        rule
    }

    /// Sends messages as one parcel a lane, and waits until all are settled.
    fn send(&self, messages: &[(String, Vec<u8>)]) {
        self.hand_over(messages);
        self.wait("all messages to be settled", |totals| totals.in_flight == 0);
    }

    fn hand_over(&self, messages: &[(String, Vec<u8>)]) {
        let mut parcels = self.inlet.parcels(|tokens: Vec<()>| {
            drop(tokens);
            Ack::new(|outcome| assert_eq!(outcome, Outcome::Settled))
        });
        for (topic, payload) in messages {
            let place = self.inlet.topic(topic, topic).unwrap();
            parcels.push(place, self.inlet.now_us(), Marks::default(), payload, ());
        }
        self.runtime.block_on(parcels.send()).unwrap();
    }

    fn wait(&self, what: &str, done: impl Fn(MessageTotals) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done(self.inlet.ledger().totals()) {
            assert!(Instant::now() < deadline, "waited for {what}: {:?}", self.inlet.ledger().totals());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Topic and value of every point kept, in the order they came.
    fn stored(&self) -> Vec<(String, f64)> {
        let kept = self.points.kept.lock().unwrap();
        let rows = kept.iter().flat_map(|d| d.points.series.iter().zip(&d.points.value));
        rows.map(|(series, value)| (self.books.series_topic(*series).to_owned(), *value)).collect()
    }

    fn alerts(&self) -> Vec<(String, Transition)> {
        let kept = self.points.kept.lock().unwrap();
        kept.iter().flat_map(|d| d.alerts.iter().map(|a| (a.topic.to_string(), a.transition))).collect()
    }
}

fn reading(topic: &str, value: f64) -> (String, Vec<u8>) {
    (topic.to_owned(), format!("{{\"v\":{value},\"ts\":1703289600000}}").into_bytes())
}

/// Guarantees: messages of a thousand topics over two lanes are decoded, each value once, and the ledgers balance.
#[test]
fn a_thousand_topics_over_two_lanes() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let messages: Vec<_> = (0..5_000).map(|i| reading(&format!("dev/t{}", i % 1_000), f64::from(i))).collect();
    house.send(&messages);
    let mut values: Vec<f64> = house.stored().iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, (0..5_000).map(f64::from).collect::<Vec<_>>());
    let totals = house.inlet.ledger().totals();
    assert_eq!((totals.received, totals.decoded, totals.in_flight), (5_000, 5_000, 0));
    let points = house.pipeline.status().points;
    assert_eq!((points.produced, points.stored, points.in_flight), (5_000, 5_000, 0));
}

/// Guarantees: garbage and messages nobody decodes are dead letters, whole and with a reason; their neighbours are stored.
#[test]
fn bad_messages_beside_good_ones() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let bad = (String::from("dev/a"), b"\xff\x00 not json".to_vec());
    let lost = (String::from("elsewhere/x"), b"{}".to_vec());
    house.send(&[reading("dev/a", 1.0), bad.clone(), reading("dev/b", 2.0), lost.clone()]);
    assert_eq!(house.stored(), [("dev/a".into(), 1.0), ("dev/b".into(), 2.0)]);
    let totals = house.inlet.ledger().totals();
    assert_eq!((totals.received, totals.decoded, totals.dead_lettered), (4, 2, 2));
    let kept = house.letters.kept.lock().unwrap();
    let mut letters: Vec<_> = kept.iter().flat_map(|d| &d.dead_letters).collect();
    letters.sort_by_key(|letter| letter.topic.clone());
    assert_eq!(letters.iter().map(|l| &l.payload).collect::<Vec<_>>(), [&bad.1, &lost.1]);
    assert_eq!(letters[0].rule.as_deref(), Some("read"));
    assert!(!letters[0].reason.is_empty() && letters[1].reason.contains("elsewhere/x"), "{letters:?}");
}

/// Guarantees: bad messages that are the same to the byte, of one topic and one moment, are a letter each.
#[test]
fn twins_have_a_letter_each() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let bad = (String::from("dev/a"), Vec::new());
    house.send(&[bad.clone(), bad.clone(), bad]);
    assert_eq!(house.inlet.ledger().totals().dead_lettered, 3);
    let kept = house.letters.kept.lock().unwrap();
    assert_eq!(kept.iter().map(|delivery| delivery.dead_letters.len()).sum::<usize>(), 3);
}

/// Guarantees: a narrow rule changes only its own rows, in place, and the chain runs in order.
#[test]
fn narrow_rules_and_order() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("double", "scale", 10, "dev/+/hot", r#"{"factor":2.0}"#);
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    house.send(&[reading("dev/a/hot", 50.0), reading("dev/a/cold", 80.0), reading("dev/b/hot", 10.0)]);
    assert_eq!(
        house.stored(),
        [("dev/a/hot".into(), 100.0), ("dev/a/cold".into(), 80.0), ("dev/b/hot".into(), 20.0)]
    );
    assert_eq!(house.alerts(), [("dev/a/hot".into(), Transition::Raised)]);
}

/// Guarantees: a swap carries the state over: what stands is neither raised again nor forgotten.
#[test]
fn a_swap_keeps_state() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    house.send(&[reading("dev/a", 95.0)]);
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0,"severity":"critical"}"#);
    house.send(&[reading("dev/a", 96.0)]);
    house.send(&[reading("dev/a", 20.0)]);
    assert_eq!(house.alerts(), [("dev/a".into(), Transition::Raised), ("dev/a".into(), Transition::Cleared)]);
}

/// Guarantees: a rule that is removed clears what it raised.
#[test]
fn a_removed_rule_clears() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    house.send(&[reading("dev/a", 95.0)]);
    house.deploy.remove("watch", "the rule was removed").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while house.alerts().len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", house.alerts());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(house.alerts()[1].1, Transition::Cleared);
    assert_eq!(house.pipeline.status().alerts_standing, 0);
}

/// Guarantees: a sink that is down holds messages in flight; when it works again all are stored, none twice; and a shutdown drains.
#[test]
fn a_sink_down_loses_nothing() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    *house.points.down.lock().unwrap() = true;
    let messages: Vec<_> = (0..100).map(|i| reading("dev/a", f64::from(i))).collect();
    house.hand_over(&messages);
    let deadline = Instant::now() + Duration::from_secs(60);
    while house.pipeline.status().sinks[0].down.is_none() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(house.inlet.ledger().totals().in_flight, 100);
    *house.points.down.lock().unwrap() = false;
    let drained = house.runtime.block_on(house.pipeline.shutdown(Duration::from_secs(10)));
    assert_eq!(drained, Drained::Completely);
    assert_eq!(house.stored().len(), 100);
    assert_eq!(house.inlet.ledger().totals().decoded, 100);
}

/// Guarantees: a shutdown whose sink never works ends in time, with the messages returned, not lost.
#[test]
fn a_shutdown_in_vain_returns_messages() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    *house.points.down.lock().unwrap() = true;
    let mut parcels = house.inlet.parcels(|_: Vec<()>| Ack::new(|o| assert_eq!(o, Outcome::Returned)));
    let place = house.inlet.topic("dev/a", "dev/a").unwrap();
    parcels.push(place, 0, Marks::default(), br#"{"v":1}"#, ());
    house.runtime.block_on(parcels.send()).unwrap();
    let began = Instant::now();
    let drained = house.runtime.block_on(house.pipeline.shutdown(Duration::from_secs(1)));
    assert_eq!(drained, Drained::InPart);
    assert!(began.elapsed() < Duration::from_secs(30));
    let totals = house.inlet.ledger().totals();
    assert_eq!((totals.returned, totals.in_flight), (1, 0));
}

/// The numbers that `brittle` gave, by topic, in the order they came.
fn numbers(house: &House) -> std::collections::BTreeMap<String, Vec<f64>> {
    let mut numbers = std::collections::BTreeMap::<String, Vec<f64>>::new();
    for (topic, value) in house.stored() {
        numbers.entry(topic).or_default().push(value);
    }
    numbers
}

/// Guarantees: after a trap a rule's state is what it was before the row that it trapped on: a rule that numbers its readings leaves
/// out none and gives none twice, whatever was saved when, over traps in many batches and a swap; the poison stands alone in the dead
/// letters.
#[test]
fn state_is_exact_over_traps_and_swaps() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let (topics, mut sound, mut poisons) = (30, 0, 0);
    for batch in 0..40 {
        let messages: Vec<_> = (0..200)
            .map(|i| {
                // No topic has so many that it is quarantined.
                let poison = i == 100 + batch % 7 && batch % 2 == 0;
                (sound, poisons) = (sound + u32::from(!poison), poisons + u32::from(poison));
                reading(&format!("dev/t{}", (i + batch * 11) % topics), if poison { 666.0 } else { f64::from(i) })
            })
            .collect();
        house.send(&messages);
        if batch == 25 {
            house.install("number", "brittle", 10, "dev/#", "{}");
        }
    }
    let numbers = numbers(&house);
    assert_eq!(numbers.len(), topics as usize);
    for (topic, given) in &numbers {
        assert_eq!(*given, (1..=given.len()).map(|n| n as f64).collect::<Vec<_>>(), "{topic}");
    }
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), sound as usize);
    let letters: usize = house.letters.kept.lock().unwrap().iter().map(|d| d.dead_letters.len()).sum();
    assert_eq!(letters, poisons as usize);
    let totals = rule.stats.totals();
    assert!(totals.replayed > 0 && totals.state_lost == 0 && totals.faults["trap"] > 0, "{totals:?}");
}

/// Guarantees: a device that sends poison again and again is set apart: the rule is not called for it any more, and its rows pass by;
/// another device sees nothing of it. A new generation begins afresh. Where the file says so the rows are parked in the dead letters.
#[test]
fn a_partition_is_quarantined() {
    for (choice, bypassed, parked) in [(OnQuarantine::Bypass, 10, 0), (OnQuarantine::Park, 0, 10)] {
        let mut house = House::new(1);
        house.install("read", "json-reading", 0, "dev/#", "{}");
        let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |rule| rule.on_quarantine = choice);
        for _ in 0..5 {
            house.send(&[reading("dev/bad", 666.0), reading("dev/good", 1.0)]);
        }
        assert_eq!(rule.stats.totals().quarantined_partitions.keys().collect::<Vec<_>>(), ["dev/bad"]);
        for _ in 0..10 {
            house.send(&[reading("dev/bad", 666.0), reading("dev/good", 1.0)]);
        }
        let totals = rule.stats.totals();
        assert_eq!((totals.bypassed, totals.parked, totals.faults["trap"]), (bypassed, parked, 5 * 2), "{choice:?}");
        let numbers = numbers(&house);
        assert_eq!(numbers["dev/good"], (1..=15).map(f64::from).collect::<Vec<_>>());
        assert_eq!(numbers.get("dev/bad").map_or(0, Vec::len) as u64, bypassed);
        let parked_letters = house
            .letters
            .kept
            .lock()
            .unwrap()
            .iter()
            .flat_map(|d| d.dead_letters.clone())
            .filter(|letter| letter.reason.starts_with("parked") && letter.stage.as_str() == "parked")
            .count();
        assert_eq!(parked_letters as u64, parked);
        house.install("number", "brittle", 10, "dev/#", "{}");
        house.send(&[reading("dev/bad", 3.0)]);
        let last = self::numbers(&house)["dev/bad"].last().copied();
        assert_eq!(last, Some(1.0), "called again, for the first reading that it could count");
    }
}

/// Guarantees: a quarantine made elsewhere costs a sound instance no state: who comes after it goes on from its last call, though that
/// was never saved.
#[test]
fn a_quarantine_leaves_the_state_as_it_is() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    house.send(&[reading("dev/a", 7.0), reading("dev/a", 7.0)]);
    rule.stats.quarantine(rule.generation, "another lane said so");
    house.send(&[reading("dev/a", 50.0)]);
    let stats = rule.stats.clone();
    house.install_so("number", "brittle", 10, "dev/#", "{}", |rule| rule.stats = stats);
    assert_eq!(rule.stats.quarantined(), None);
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0, 50.0, 3.0]);
    assert_eq!(rule.stats.totals().state_lost, 0);
}

/// Guarantees: a rule that fails on partition after partition is quarantined as a whole, on every lane; its rows pass by, and its neighbour
/// goes on.
#[test]
fn a_rule_that_fails_all_over_is_quarantined() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/bad/#", "{}", |_| {});
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    for _ in 0..5 {
        let poison: Vec<_> = (0..40).map(|device| reading(&format!("dev/bad/{device}"), 666.0)).collect();
        house.send(&poison);
    }
    assert!(rule.stats.is_quarantined(rule.generation), "{:?}", rule.stats.totals());
    assert!(rule.stats.quarantined().is_some_and(|reason| reason.contains("many partitions")));
    let before = house.stored().len();
    let more: Vec<_> = (0..40).map(|device| reading(&format!("dev/bad/{device}"), 95.0)).collect();
    house.send(&more);
    let stored = house.stored();
    assert_eq!(stored.len(), before + 40);
    assert!(stored[before..].iter().all(|(_, value)| *value == 95.0), "as they came");
    let raised: std::collections::BTreeSet<_> = house.alerts().into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(raised.len(), 40, "its neighbour watches on");
}

/// A generation of a rule that keeps state and cannot be given any.
fn refuses(engine: &Engine, generation: u64, on_refused_state: OnRefusedState, stats: &Arc<RuleStats>) -> Arc<Rule> {
    // An error with three bytes of text, which stand at 600.
    let words = "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const 600))
        (i32.store (i32.const 520) (i32.const 3)) (i32.store (i32.const 600) (i32.const 0x21216f6e)) (return (i32.const 512))";
    let module = wat_guest::wat_guest("number", &[("restore", words)]);
    Arc::new(Rule {
        name: "number".into(),
        generation,
        module: Arc::new(Module::load(engine, &module).unwrap()),
        config: "{}".into(),
        filters: vec!["dev/#".parse().unwrap()],
        order: 10,
        commands: vec![],
        on_quarantine: OnQuarantine::default(),
        on_refused_state,
        limits: Limits::default(),
        stats: stats.clone(),
    })
}

/// Guarantees: a generation that refuses the state of the one before it does not serve, and that one goes on as if nothing had been
/// tried; only where its file says `discard_state = true` it serves, begins without state, and that is counted.
#[test]
fn refused_state() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    house.send(&[reading("dev/a", 7.0), reading("dev/b", 7.0)]);
    let next = refuses(&house.engine, 50, OnRefusedState::Refuse, &rule.stats);
    let error = house.deploy.install(&next).unwrap_err();
    assert_eq!(error.code(), "state");
    assert!(error.to_string().contains("no!") && error.to_string().contains("discard_state"), "{error}");
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0]);
    let next = refuses(&house.engine, 51, OnRefusedState::Discard, &rule.stats);
    house.deploy.install(&next).unwrap();
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0, 7.0], "it lets pass what it gets");
    assert_eq!(rule.stats.totals().state_discarded, 1);
    house.install("number", "brittle", 10, "dev/#", "{}");
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0, 7.0, 1.0], "there was nothing to take over");
}
