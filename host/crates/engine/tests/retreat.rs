//! What the lanes cannot do now is done later: a generation returns, a rule goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tidegate_config::Signatures;
use tidegate_engine::{
    Admission, Deploy, Engine, LoadError, Manifest, OnRefusedState, Registry, RegistryHandle, Rule, RuleState,
    ShadowReport, ShadowStart, SigningKey, Trust,
};

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// Tells of each attempt; says so many times, once told to, why not.
struct Lanes {
    attempts: Sender<Arc<Rule>>,
    not: Arc<Mutex<(usize, Not)>>,
    /// What was to go, each time.
    removals: Arc<Mutex<Vec<String>>>,
    /// What was to be called otherwise, each time.
    renamed: Arc<Mutex<Vec<String>>>,
}

/// Why not.
#[derive(Clone, Copy, Default)]
enum Not {
    /// A lane is busy.
    #[default]
    Busy,
    /// The rule takes no state but none.
    State,
}

impl Lanes {
    fn is_free(&self) -> Result<(), LoadError> {
        let (times, not) = &mut *self.not.lock().unwrap();
        if *times > 0 {
            *times -= 1;
            return Err(match not {
                Not::Busy => LoadError::Busy("a sink holds the lane back".into()),
                Not::State => LoadError::State("no such layout".into()),
            });
        }
        Ok(())
    }
}

impl Deploy for Lanes {
    fn install(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.attempts.send(rule.clone()).unwrap();
        self.is_free()?;
        rule.stats.release(rule.generation);
        Ok(())
    }

    fn rename(&mut self, rule: &Arc<Rule>, gone: &str, _reason: &str) -> Result<(), LoadError> {
        self.renamed.lock().unwrap().push(format!("{gone} → {}", rule.name));
        self.install(rule)
    }

    fn remove(&mut self, rule: &str, _reason: &str) -> Result<(), LoadError> {
        self.removals.lock().unwrap().push(rule.to_owned());
        self.is_free()
    }

    fn shadow(&mut self, _: &Arc<Rule>, _: &Arc<ShadowReport>, _: ShadowStart) -> Result<(), LoadError> {
        Ok(())
    }

    fn end_shadow(&mut self, _rule: &str) -> Result<(), LoadError> {
        Ok(())
    }

    fn promote(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.install(rule)
    }
}

/// How long anything here may take: far more than it does, since a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(180);

fn next(attempts: &Receiver<Arc<Rule>>) -> Arc<Rule> {
    attempts.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("waited {DEADLINE:?} for an attempt"))
}

/// A rules directory, and what tries to serve from now on.
struct House {
    registry: RegistryHandle,
    attempts: Receiver<Arc<Rule>>,
    not: Arc<Mutex<(usize, Not)>>,
    removals: Arc<Mutex<Vec<String>>>,
    renamed: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
}

impl House {
    /// With one module, and the file of a rule that uses it, if there is one.
    fn new(file: Option<&str>) -> Self {
        Self::of(tempfile::tempdir().unwrap(), Trust::everybody(), file)
    }

    fn of(directory: TempDir, trust: Trust, file: Option<&str>) -> Self {
        std::fs::write(directory.path().join("watch.wasm"), wat_guest::wat_guest("watch", &[])).unwrap();
        if let Some(text) = file {
            std::fs::write(directory.path().join("hot.toml"), text).unwrap();
        }
        let (send, attempts) = channel();
        let not = Arc::<Mutex<(usize, Not)>>::default();
        let (removals, renamed) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let lanes = Lanes { attempts: send, not: not.clone(), removals: removals.clone(), renamed: renamed.clone() };
        let admission = Admission::in_process(Engine::new().unwrap()).trusting(trust);
        let registry = Registry::start(admission, directory.path(), None, Box::new(lanes)).unwrap();
        Self { registry, attempts, not, removals, renamed, directory }
    }

    fn is_not(&self, times: usize, not: Not) {
        *self.not.lock().unwrap() = (times, not);
    }

    /// A good generation that serves, and another after it.
    fn two_generations(&self) -> [Arc<Rule>; 2] {
        let good = next(&self.attempts);
        let changed = wat_guest::wat_guest("watch", &[("tick", "nop")]);
        std::fs::write(self.directory.path().join("watch.wasm"), changed).unwrap();
        self.registry.rescan().unwrap();
        let bad = next(&self.attempts);
        assert_ne!(good.module.sha256(), bad.module.sha256());
        [good, bad]
    }
}

/// Guarantees: where the lanes are busy when a generation is quarantined, the good one before it is not forgotten: it is tried again
/// until it serves, and what stood against the bad one is over then.
#[test]
fn a_retreat_waits_for_busy_lanes() {
    let house = House::new(None);
    let [good, bad] = house.two_generations();
    house.is_not(3, Not::Busy);
    bad.stats.quarantine(bad.generation, "it failed again and again");
    for attempt in 1..=4 {
        house.registry.rescan().unwrap();
        let again = next(&house.attempts);
        assert_eq!(again.module.sha256(), good.module.sha256(), "{attempt}");
        assert_eq!(again.generation, bad.generation + 1, "each try takes the same number");
    }
    house.registry.rescan().unwrap();
    let status = house.registry.rule("watch").unwrap();
    assert_eq!(status.sha256.as_deref(), Some(&**good.module.sha256()));
    assert_eq!((status.problem_code, good.stats.quarantined()), (Some("quarantined"), None));
    assert!(house.attempts.try_recv().is_err(), "it serves, and nothing is tried again");
    house.registry.stop();
}

/// Guarantees: when the signature of a generation that returned expires is told, and not that of the one in whose place it serves.
#[test]
fn what_returns_is_signed() {
    let (directory, key) = (tempfile::tempdir().unwrap(), SigningKey::of(&[1; 32]));
    let keys = vec![("ours".parse().unwrap(), key.public())];
    let trust = Trust::open(&Signatures { required: true, keys }, None).unwrap();
    let sign = |path: &Path, module: &[u8], version: &str, expires: SystemTime| {
        let sha256: String = Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect();
        let version = version.parse().unwrap();
        let manifest = Manifest::sign("watch".parse().unwrap(), version, &sha256, expires, &key).unwrap();
        std::fs::write(path.join("watch.wasm.sig"), manifest.to_json()).unwrap();
    };
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let day = |days: u64| UNIX_EPOCH + Duration::from_secs(second + days * 86_400);
    sign(directory.path(), &wat_guest::wat_guest("watch", &[]), "1.0.0", day(3));
    let house = House::of(directory, trust, None);
    let good = next(&house.attempts);
    let changed = wat_guest::wat_guest("watch", &[("tick", "nop")]);
    sign(house.directory.path(), &changed, "1.0.0", day(7));
    std::fs::write(house.directory.path().join("watch.wasm"), changed).unwrap();
    house.registry.rescan().unwrap();
    let bad = next(&house.attempts);
    assert_eq!((good.signature_expires, bad.signature_expires), (Some(day(3)), Some(day(7))));
    bad.stats.quarantine(bad.generation, "it failed again and again");
    let returned = next(&house.attempts);
    assert_eq!(returned.module.sha256(), good.module.sha256());
    assert_eq!(returned.signature_expires, Some(day(3)));
    house.registry.stop();
    let expires_ms = house.registry.rule("watch").unwrap().signature_expires_ms;
    assert_eq!(expires_ms, Some((second + 3 * 86_400) * 1_000));
}

/// Guarantees: a change that waits for busy lanes takes one number, however often it is tried; another rule has another.
#[test]
fn a_change_that_waits_takes_one_number() {
    let text = |order: u32| format!("module = \"watch.wasm\"\norder = {order}\n");
    let house = House::new(Some(&text(0)));
    let House { registry, attempts, directory, .. } = &house;
    assert_eq!(next(attempts).generation, 1);
    house.is_not(3, Not::Busy);
    std::fs::write(directory.path().join("hot.toml"), text(1)).unwrap();
    for _ in 0..4 {
        registry.rescan().unwrap();
        assert_eq!(next(attempts).generation, 2);
    }
    std::fs::write(directory.path().join("warm.toml"), text(0)).unwrap();
    registry.rescan().unwrap();
    assert_eq!(next(attempts).generation, 3);
    std::fs::write(directory.path().join("hot.toml"), text(2)).unwrap();
    registry.rescan().unwrap();
    assert_eq!(next(attempts).generation, 4);
    registry.stop();
}

/// Guarantees: a good generation that refuses the state of the quarantined one serves without it, and that is said.
#[test]
fn a_retreat_without_state() {
    let house = House::new(None);
    let [good, bad] = house.two_generations();
    house.is_not(1, Not::State);
    bad.stats.quarantine(bad.generation, "it failed again and again");
    for choice in [OnRefusedState::Refuse, OnRefusedState::Discard] {
        let again = next(&house.attempts);
        assert_eq!((again.module.sha256(), again.on_refused_state), (good.module.sha256(), choice));
    }
    house.registry.rescan().unwrap();
    let status = house.registry.rule("watch").unwrap();
    assert_eq!((status.problem_code, good.stats.quarantined()), (Some("quarantined"), None));
    assert!(status.problem.is_some_and(|said| said.contains("serves again, without state")));
    assert!(house.attempts.try_recv().is_err(), "it serves, and nothing is tried again");
    house.registry.stop();
}

/// Guarantees: a rule that cannot be taken from the lanes now, be it deleted or switched off, goes on serving and says so; put back meanwhile it is as it
/// was, and else it goes by itself once it can.
#[test]
fn a_rule_goes_when_the_lanes_let_it() {
    let text = "module = \"watch.wasm\"\n";
    let house = House::new(Some(text));
    let House { registry, attempts, directory, .. } = &house;
    let (module, file) = (directory.path().join("watch.wasm"), directory.path().join("hot.toml"));
    assert_eq!(&*next(attempts).name, "hot");
    let shown = || registry.rule("hot").map(|rule| (rule.state, rule.problem_code));
    house.is_not(usize::MAX, Not::Busy);
    std::fs::write(&file, format!("{text}enabled = false\n")).unwrap();
    registry.rescan().unwrap();
    assert_eq!(shown(), Some((RuleState::Serving, Some("still_called"))));
    std::fs::write(&file, text).unwrap();
    registry.rescan().unwrap();
    assert_eq!(shown(), Some((RuleState::Serving, None)));

    for put_back in [true, false] {
        // At no moment a module without a file, which would be a rule of its own.
        std::fs::rename(&module, directory.path().join("aside")).unwrap();
        std::fs::remove_file(&file).unwrap();
        registry.rescan().unwrap();
        assert_eq!(shown(), Some((RuleState::Serving, Some("still_called"))));
        if put_back {
            std::fs::write(&file, text).unwrap();
            std::fs::rename(directory.path().join("aside"), &module).unwrap();
            registry.rescan().unwrap();
            assert_eq!(shown(), Some((RuleState::Serving, None)));
        }
    }
    house.is_not(0, Not::Busy);
    let deadline = Instant::now() + DEADLINE;
    while shown().is_some() {
        assert!(Instant::now() < deadline, "waited for it to go: {:?}", shown());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(attempts.try_recv().is_err(), "what never went need not come again");
    registry.stop();
}

/// Guarantees: of rules that are to go at once, none goes before the first can, so that all of them can be put back as they were; and a new rule, be it one of
/// them under another name, does not serve before that; then it takes the place of that one in one step.
#[test]
fn rules_go_one_after_the_other_and_others_come_after() {
    let text = "module = \"watch.wasm\"\n";
    let house = House::new(Some(text));
    let House { registry, attempts, directory, .. } = &house;
    let file = |name: &str| directory.path().join(format!("{name}.toml"));
    assert_eq!(&*next(attempts).name, "hot");
    std::fs::write(file("warm"), text).unwrap();
    registry.rescan().unwrap();
    assert_eq!(&*next(attempts).name, "warm");
    let shown = |name: &str| registry.rule(name).map(|rule| (rule.state, rule.problem_code));
    let (serves, held) = (Some((RuleState::Serving, None)), Some((RuleState::Serving, Some("still_called"))));

    house.is_not(usize::MAX, Not::Busy);
    std::fs::rename(file("hot"), file("new")).unwrap();
    std::fs::remove_file(file("warm")).unwrap();
    registry.rescan().unwrap();
    assert_eq!([shown("hot"), shown("warm")], [held, held]);
    assert_eq!(shown("new"), Some((RuleState::Failed, Some("busy"))));
    assert!(attempts.try_recv().is_err(), "beside the one that is to go");
    assert!(house.removals.lock().unwrap().iter().all(|rule| rule == "warm"), "the other waits for it");
    assert!(house.renamed.lock().unwrap().is_empty());
    std::fs::rename(file("new"), file("hot")).unwrap();
    std::fs::write(file("warm"), text).unwrap();
    registry.rescan().unwrap();
    assert_eq!([shown("hot"), shown("warm"), shown("new")], [serves, serves, None]);
    assert!(attempts.try_recv().is_err(), "what never went need not come again");

    // Alone it is held where it would take the place.
    std::fs::rename(file("hot"), file("new")).unwrap();
    registry.rescan().unwrap();
    assert_eq!([shown("hot"), shown("warm"), shown("new")], [held, serves, Some((RuleState::Failed, Some("busy")))]);
    house.is_not(0, Not::Busy);
    registry.rescan().unwrap();
    assert_eq!([shown("hot"), shown("warm"), shown("new")], [None, serves, serves]);
    assert!(house.renamed.lock().unwrap().iter().all(|it| it == "hot → new"));
    assert!(house.removals.lock().unwrap().iter().all(|rule| rule == "warm"), "it never went by itself");
    registry.stop();
}

/// Guarantees: of several rules of one module that go, the one with the same settings is the one that has another name now; where the new one cannot serve, the old
/// one goes alone, as its files say; and one that stands failed takes nobody's place.
#[test]
fn the_same_under_another_name() {
    let text = |order: u32| format!("module = \"watch.wasm\"\norder = {order}\n");
    let house = House::new(Some(&text(1)));
    let House { registry, directory, .. } = &house;
    let file = |name: &str| directory.path().join(format!("{name}.toml"));
    for (name, order) in [("cold", 3), ("warm", 2)] {
        std::fs::write(file(name), text(order)).unwrap();
    }
    registry.rescan().unwrap();
    for (from, to) in [("hot", "z"), ("warm", "b"), ("cold", "a")] {
        std::fs::rename(file(from), file(to)).unwrap();
    }
    registry.rescan().unwrap();
    assert_eq!(*house.renamed.lock().unwrap(), ["cold → a", "warm → b", "hot → z"]);
    house.is_not(1, Not::State);
    std::fs::rename(file("z"), file("y")).unwrap();
    registry.rescan().unwrap();
    assert_eq!(*house.removals.lock().unwrap(), ["z"]);
    let shown = registry.rule("y").map(|rule| (rule.state, rule.problem_code));
    assert_eq!((shown, registry.rules().len()), (Some((RuleState::Failed, Some("state"))), 3));
    // One that stands failed does not come, so it is no other's new name.
    std::fs::remove_file(file("a")).unwrap();
    std::fs::write(file("zz"), text(9)).unwrap();
    registry.rescan().unwrap();
    assert_eq!(house.renamed.lock().unwrap().last().unwrap(), "a → zz");
    assert!(registry.rule("a").is_none() && registry.rule("zz").is_some());
    registry.stop();
}
