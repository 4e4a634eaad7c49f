//! A generation in the place of another: what it refuses, and lanes that are held back meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};

use tidegate_model::KeptState;

use super::store::{Memory, end, house_with};
use super::*;

/// To the guest's `restore`: an error with three bytes of text, which stand at 600.
pub const REFUSE: &str = "(i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const 600))
    (i32.store (i32.const 520) (i32.const 3)) (i32.store (i32.const 600) (i32.const 0x21216f6e)) (return (i32.const 512))";

/// A generation of a rule that keeps state and cannot be given any.
pub fn refuses(house: &mut House, rule: &Rule, on_refused_state: OnRefusedState) -> Arc<Rule> {
    made_of(house, rule, &[("restore", REFUSE)], on_refused_state)
}

/// A generation of a rule whose module is the honest guest with these instructions.
pub fn made_of(
    house: &mut House,
    rule: &Rule,
    instructions: &[(&str, &str)],
    on_refused_state: OnRefusedState,
) -> Arc<Rule> {
    let module = Module::load(&ENGINE, &wat_guest::wat_guest("number", instructions)).unwrap();
    house.next(rule, |next| (next.module, next.on_refused_state) = (Arc::new(module), on_refused_state))
}

/// Guarantees: a generation that refuses the state of the one before it does not serve, and that one goes on as if nothing had been
/// tried; only where its file says `discard_state = true` it serves, begins without state, and that is counted.
#[test]
fn refused_state() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    house.send(&[reading("dev/a", 7.0), reading("dev/b", 7.0)]);
    let next = refuses(&mut house, &rule, OnRefusedState::Refuse);
    let error = house.deploy.install(&next).unwrap_err();
    assert_eq!(error.code(), "state");
    assert!(error.to_string().contains("no!") && error.to_string().contains("discard_state"), "{error}");
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0]);
    let next = refuses(&mut house, &rule, OnRefusedState::Discard);
    house.deploy.install(&next).unwrap();
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0, 7.0], "it lets pass what it gets");
    assert_eq!(rule.stats.totals().state_discarded, 1);
    house.install("number", "brittle", 10, "dev/#", "{}");
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0, 7.0, 1.0], "there was nothing to take over");
}

/// Guarantees: a generation that traps or never comes to an end when it is given the state of the one before it does not serve, and says why; the one before
/// goes on, has lost nothing, and no fault is counted against it. Only where its file says `discard_state = true` it serves, without state.
#[test]
fn a_restore_that_fails_at_a_swap() {
    for (words, why) in [("unreachable", "trapped"), ("(loop $for_ever (br $for_ever))", "CPU time")] {
        let mut house = House::new(2);
        house.install("read", "json-reading", 0, "dev/#", "{}");
        let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
        let both = [reading("dev/a", 7.0), reading("dev/b", 7.0)];
        house.send(&both);
        let next = made_of(&mut house, &rule, &[("restore", words)], OnRefusedState::Refuse);
        let error = house.deploy.install(&next).unwrap_err();
        assert_eq!(error.code(), "state", "{error}");
        assert!(error.to_string().contains(why), "{error}");
        house.send(&both);
        for topic in ["dev/a", "dev/b"] {
            assert_eq!(numbers(&house)[topic], [1.0, 2.0], "{words}");
        }
        let totals = rule.stats.totals();
        assert_eq!((totals.state_lost, totals.faults.values().sum::<u64>()), (0, 0), "{totals:?}");
        let next = made_of(&mut house, &rule, &[("restore", words)], OnRefusedState::Discard);
        house.deploy.install(&next).unwrap();
        house.send(&both);
        assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0, 7.0], "it lets pass what it gets");
        assert_eq!(rule.stats.totals().state_discarded, 1);
    }
}

/// Guarantees: a rule that changes between lanes and the node does not begin while a lane that a sink holds back has yet to forget it: what that
/// forgets later would be the new state. It is tried again, and begins then.
#[test]
fn a_lane_that_is_held_back_forgets_nothing_new() {
    let (books, store) = (Arc::new(Books::new(1_000)), Arc::<Memory>::default());
    let mut house = house_with(2, &books, &store);
    let number = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    house.send(&[reading("dev/a", 7.0), reading("dev/b", 7.0)]);
    wait_until("the state to be kept", || store.kept().0 == 2);
    let of_node = house.next(&number, |next| {
        (next.module, next.on_refused_state) = (module("tally"), OnRefusedState::Discard);
    });
    house.gate.close_for("lane-1");
    let busy = house.deploy.install(&of_node).unwrap_err();
    assert!(matches!(busy, LoadError::Busy(_)), "{busy}");
    assert_eq!(store.kept().0, 2, "nothing is forgotten");
    house.gate.open();
    house.send(&[reading("dev/a", 7.0), reading("dev/b", 7.0)]);
    let numbers = numbers(&house);
    assert_eq!(
        (&numbers["dev/a"][..], &numbers["dev/b"][..]),
        (&[1.0, 2.0][..], &[1.0, 2.0][..]),
        "the old one serves"
    );
    house.deploy.install(&of_node).unwrap();
    house.send(&[reading("dev/a", 7.0)]);
    house.send(&[reading("dev/b", 7.0)]);
    assert_eq!(self::numbers(&house)["dev/b"], [1.0, 2.0, 2.0], "the second of the node");
    wait_until("the state of the node to be kept", || store.kept().0 == 2);
}

/// A place within a change where one thread waits each time, until it is told or this is dropped.
pub struct Between {
    pub reached: Receiver<()>,
    /// It goes on when this says so, or is gone.
    held: Sender<()>,
}

type Waits = (Sender<()>, Arc<Mutex<Receiver<()>>>);
/// By place and thread: what is done at a place is the same for all tests, which run side by side.
static WAITING: Mutex<BTreeMap<(&str, &str), Waits>> = Mutex::new(BTreeMap::new());

impl Between {
    /// For the thread of that name; others pass.
    pub fn at(site: &'static str, name: &'static str) -> Self {
        let ((reach, reached), (held, told)) = (channel(), channel());
        WAITING.lock().unwrap().insert((site, name), (reach, Arc::new(Mutex::new(told))));
        fail::cfg_callback(site, move || {
            let thread = std::thread::current();
            let waits = WAITING.lock().unwrap().get(&(site, thread.name().unwrap_or_default())).cloned();
            if let Some((reach, told)) = waits {
                // Nobody may be there any more.
                let _ = reach.send(());
                let _ = told.lock().unwrap().recv();
            }
        })
        .unwrap();
        Self { reached, held }
    }

    /// Lets it go on to where it comes to this place again.
    pub fn pass(&self) {
        let _ = self.held.send(());
    }
}

/// Guarantees: where a lane refuses a generation that another has taken already, one generation serves on all lanes in the end: the old one, which
/// begins without state where it does not take what the new one has made of it; or, where the lane was held back for so long that nobody waits for
/// its answer, the new one, without state there.
#[test]
fn one_generation_on_all_lanes() {
    for held_back in [false, true] {
        let mut house = House::new(2);
        house.install("read", "json-reading", 0, "dev/#", "{}");
        let old = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
        // The partitions of the two lanes, before the rule has state of one.
        for topic in ["dev/a", "dev/b"] {
            house.inlet.topic(topic, topic).unwrap();
        }
        // Takes no state but none; once it has been given a row it saves a cell of its first series, at 708, whose layout no other knows.
        let save = "(if (i32.load8_u (i32.const 690)) (then
            (i32.store (i32.const 512) (i32.const 700)) (i32.store (i32.const 516) (i32.const 1))
            (i32.store (i32.const 520) (i32.const 704)) (i32.store (i32.const 524) (i32.const 1))
            (i32.store (i32.const 528) (i32.const 708)) (i32.store (i32.const 532) (i32.const 1))
            (i32.store (i32.const 704) (i32.const 1)) (i32.store8 (i32.const 708) (i32.const 9))
            (return (i32.const 512))))";
        let places = [("restore", REFUSE), ("process", "(i32.store8 (i32.const 690) (i32.const 1))"), ("save", save)];
        let new = made_of(&mut house, &old, &places, OnRefusedState::Refuse);
        let name = if held_back { "installs-held-back" } else { "installs" };
        let between = Between::at("swap-within", name);
        let mut deploy = house.pipeline.deploy();
        let install = move || deploy.install(&new);
        let installs = std::thread::Builder::new().name(name.into()).spawn(install).unwrap();
        between.reached.recv_timeout(Duration::from_secs(180)).unwrap();
        house.send(&[reading("dev/a", 7.0), reading("dev/b", 7.0)]);
        let first = numbers(&house);
        assert_eq!((first["dev/a"][0], first["dev/b"][0]), (7.0, 1.0), "one lane has the new one, the other has not");
        if held_back {
            house.gate.close_for("lane-1");
        }
        drop(between);
        let installed = installs.join().unwrap();
        house.gate.open();
        house.send(&[reading("dev/a", 7.0)]);
        house.send(&[reading("dev/b", 7.0)]);
        let then = numbers(&house);
        if held_back {
            installed.unwrap();
            assert_eq!((then["dev/a"][1], then["dev/b"][1]), (7.0, 7.0), "the new one on both");
        } else {
            assert_eq!(installed.unwrap_err().code(), "state");
            assert_eq!((then["dev/a"][1], then["dev/b"][1]), (1.0, 2.0), "the old one on both");
            old.stats.quarantine_partition(old.generation, "dev/b", "it fails");
            assert!(old.stats.shuns("dev/b"), "what is said of the one that serves is listened to");
        }
        assert_eq!(old.stats.totals().state_discarded, 1, "said and counted");
    }
}

/// A guest of the tests whose module says that it is another version.
pub fn of_version(guest: &str, version: &str) -> Arc<Module> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../../target/guests/{guest}.wasm"));
    let mut module = std::fs::read(path).unwrap();
    // The crate's version and what it says of itself stand side by side among its constants.
    let own = env!("CARGO_PKG_VERSION");
    let said = format!("{own}Numbers the readings of each");
    let at = module.windows(said.len()).position(|bytes| bytes == said.as_bytes()).unwrap();
    assert_eq!(own.len(), version.len());
    module[at..at + own.len()].copy_from_slice(version.as_bytes());
    let module = Module::load(&ENGINE, &module).unwrap();
    assert_eq!(module.description().version, version);
    Arc::new(module)
}

/// Guarantees: while readings come, one version takes over from another and back again, and each reading is counted once by one of them; what is
/// on disk afterwards is all in the form of the last, and what begins with that goes on counting.
#[test]
fn one_version_after_another() {
    let (books, store) = (Arc::new(Books::new(1_000)), Arc::<Memory>::default());
    let mut house = house_with(2, &books, &store);
    let mut rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let versions = [of_version("brittle", "9.8.7"), rule.module.clone()];
    let readings: Vec<_> = (0..40).map(|topic| reading(&format!("dev/t{topic}"), 7.0)).collect();
    let mut sent = 0;
    for round in 0..9 {
        rule = house.next(&rule, |next| next.module = versions[round % 2].clone());
        let mut deploy = house.pipeline.deploy();
        std::thread::scope(|scope| {
            let swap = scope.spawn(|| deploy.install(&rule).unwrap());
            while !swap.is_finished() || sent < (round + 1) * 20 {
                house.send(&readings);
                sent += 1;
            }
        });
    }
    let all_in_its_form = |kept: Vec<KeptState>| kept.len() == 1 && kept[0].version == "9.8.7";
    wait_until("the last version's form on disk", || store.load("number").is_ok_and(all_in_its_form));
    end(&house);
    for (topic, numbers) in numbers(&house) {
        assert_eq!(numbers, (1..=sent).map(|number| number as f64).collect::<Vec<_>>(), "{topic}");
    }
    let mut house = house_with(1, &books, &store);
    house.install("number", "brittle", 10, "dev/#", "{}");
    house.send(&readings);
    assert!(numbers(&house).values().all(|numbers| *numbers == [(sent + 1) as f64]), "{:?}", numbers(&house));
    assert_eq!(numbers(&house).len(), 40);
    assert_eq!(rule.stats.totals().state_lost, 0);
}

/// Guarantees: what changes in hundreds of cells while another version's form of the state is made, and again after that, is in that form too, for the rule
/// and for the store, with what is new.
#[test]
fn changes_while_the_form_is_made() {
    const TOPICS: usize = 1_200;
    let (books, store) = (Arc::new(Books::new(10_000)), Arc::<Memory>::default());
    let mut house = house_with(1, &books, &store);
    let old = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let of = |topics: std::ops::Range<usize>| -> Vec<_> {
        topics.map(|topic| reading(&format!("dev/t{topic}"), 7.0)).collect()
    };
    house.send(&of(0..TOPICS));
    let new = house.next(&old, |next| next.module = of_version("brittle", "9.8.7"));
    let name = "swaps-in-rounds";
    let between = Between::at("swap-round", name);
    let mut deploy = house.pipeline.deploy();
    let install = move || deploy.install(&new);
    let installs = std::thread::Builder::new().name(name.into()).spawn(install).unwrap();
    between.reached.recv_timeout(Duration::from_secs(180)).unwrap();
    house.send(&of(0..TOPICS));
    house.send(&of(TOPICS..TOPICS + 9));
    drop(between);
    installs.join().unwrap().unwrap();
    // The others are as the form said.
    house.send(&of(0..9));
    end(&house);
    let due = |topic: usize| match topic {
        ..9 => vec![1.0, 2.0, 3.0],
        9..TOPICS => vec![1.0, 2.0],
        _ => vec![1.0],
    };
    let seen = numbers(&house);
    assert_eq!(seen.len(), TOPICS + 9);
    for topic in 0..TOPICS + 9 {
        assert_eq!(seen[&format!("dev/t{topic}")], due(topic), "{topic}");
    }
    let kept = store.load("number").unwrap();
    assert!(kept.len() == 1 && kept[0].version == "9.8.7" && kept[0].cells.series.len() == TOPICS + 9);
    let mut house = house_with(1, &books, &store);
    house.install_so("number", "brittle", 10, "dev/#", "{}", |next| next.module = of_version("brittle", "9.8.7"));
    house.send(&of(0..TOPICS + 9));
    let seen = numbers(&house);
    for (topic, last) in (0..TOPICS + 9).map(|topic| (topic, due(topic).len() as f64 + 1.0)) {
        assert_eq!(seen[&format!("dev/t{topic}")], [last], "{topic}");
    }
}
