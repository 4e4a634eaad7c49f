//! What the lanes cannot do now is done later: a generation returns, a rule goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate_engine::{
    Admission, Deploy, Engine, LoadError, Registry, Rule, RuleState, ShadowReport, ShadowStart, SwitchError,
};

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// Tells of each attempt; says that it is busy so many times, once told to.
struct Lanes {
    attempts: Sender<Arc<Rule>>,
    busy: Arc<Mutex<usize>>,
}

impl Lanes {
    fn is_free(&self) -> Result<(), LoadError> {
        let mut busy = self.busy.lock().unwrap();
        if *busy > 0 {
            *busy -= 1;
            return Err(LoadError::Busy("a sink holds the lane back".into()));
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

    fn remove(&mut self, _rule: &str, _reason: &str) -> Result<(), LoadError> {
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

fn next(attempts: &Receiver<Arc<Rule>>) -> Arc<Rule> {
    attempts.recv_timeout(Duration::from_secs(20)).expect("an attempt within 20 s")
}

/// Guarantees: where the lanes are busy when a generation is quarantined, the good one before it is not forgotten: it is tried again
/// until it serves, and what stood against the bad one is over then.
#[test]
fn a_retreat_waits_for_busy_lanes() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("watch.wasm"), wat_guest::wat_guest("watch", &[])).unwrap();
    let (send, attempts) = channel();
    let busy = Arc::new(Mutex::new(0));
    let lanes = Lanes { attempts: send, busy: busy.clone() };
    let admission = Admission::in_process(Engine::new().unwrap());
    let registry = Registry::start(admission, directory.path(), None, Box::new(lanes)).unwrap();
    let good = next(&attempts);
    let changed = wat_guest::wat_guest("watch", &[("tick", "nop")]);
    std::fs::write(directory.path().join("watch.wasm"), changed).unwrap();
    registry.rescan();
    let bad = next(&attempts);
    assert_ne!(good.module.sha256(), bad.module.sha256());
    *busy.lock().unwrap() = 1;
    bad.stats.quarantine(bad.generation, "it failed again and again");
    for attempt in ["while the lanes are busy", "and once more"] {
        let again = next(&attempts);
        assert_eq!(again.module.sha256(), good.module.sha256(), "{attempt}");
    }
    registry.rescan();
    let status = registry.rule("watch").unwrap();
    assert_eq!(status.sha256.as_deref(), Some(&**good.module.sha256()));
    assert_eq!((status.problem_code, good.stats.quarantined()), (Some("quarantined"), None));
    assert!(attempts.try_recv().is_err(), "it serves, and nothing is tried again");
    registry.stop();
}

/// Guarantees: a rule that cannot be taken from the lanes now goes on serving and says so; put back meanwhile it is as it was, and else it goes by
/// itself once it can. One that cannot be switched off now is as it was, its file too.
#[test]
fn a_rule_goes_when_the_lanes_let_it() {
    let directory = tempfile::tempdir().unwrap();
    let (module, file) = (directory.path().join("watch.wasm"), directory.path().join("hot.toml"));
    std::fs::write(&module, wat_guest::wat_guest("watch", &[])).unwrap();
    let text = "module = \"watch.wasm\"\n";
    std::fs::write(&file, text).unwrap();
    let (send, attempts) = channel();
    let busy = Arc::new(Mutex::new(0));
    let lanes = Lanes { attempts: send, busy: busy.clone() };
    let admission = Admission::in_process(Engine::new().unwrap());
    let registry = Registry::start(admission, directory.path(), None, Box::new(lanes)).unwrap();
    assert_eq!(&*next(&attempts).name, "hot");
    let shown = || registry.rule("hot").map(|rule| (rule.state, rule.problem_code));
    *busy.lock().unwrap() = usize::MAX;
    assert!(matches!(registry.set_enabled("hot", false), Err(SwitchError::Held(_))));
    assert_eq!(shown(), Some((RuleState::Serving, None)));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("false"));

    for put_back in [true, false] {
        std::fs::remove_file(&file).unwrap();
        std::fs::rename(&module, directory.path().join("aside")).unwrap();
        registry.rescan();
        assert_eq!(shown(), Some((RuleState::Serving, Some("still_called"))));
        if put_back {
            std::fs::rename(directory.path().join("aside"), &module).unwrap();
            std::fs::write(&file, text).unwrap();
            registry.rescan();
            assert_eq!(shown(), Some((RuleState::Serving, None)));
        }
    }
    *busy.lock().unwrap() = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while shown().is_some() {
        assert!(Instant::now() < deadline, "waited for it to go: {:?}", shown());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(attempts.try_recv().is_err(), "what never went need not come again");
    registry.stop();
}
