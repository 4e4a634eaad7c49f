//! When what was cut goes to the store, and when it does not.

use std::time::Duration;

use tidegate_model::{Alert, KeptAlerts, KeptState, OffsetMark, PacketMark, SavedState, StateTotals, StateUnread};

use super::*;

/// A store that writes down what it is put, and says when it is on disk.
#[derive(Debug, Default)]
struct Notes {
    put: Mutex<Vec<String>>,
    unkept: Mutex<Vec<Ack>>,
}

impl Notes {
    fn put(&self) -> Vec<String> {
        self.put.lock().unwrap().clone()
    }
}

impl StateStore for Notes {
    fn put(&self, changes: Vec<StateChange>, kept: Ack) {
        let words = changes.iter().map(|change| match change {
            StateChange::Saved { rule, version, .. } => format!("{rule} {version}"),
            StateChange::Forgotten { rule } => format!("no {rule}"),
            StateChange::Taken { stream, .. } => format!("has {stream}"),
            StateChange::Alert(alert) => format!("{} {}", alert.rule, alert.topic),
        });
        self.put.lock().unwrap().extend(words);
        self.unkept.lock().unwrap().push(kept);
    }

    fn load(&self, _: &str) -> Result<Vec<KeptState>, StateUnread> {
        Ok(Vec::new())
    }

    fn alerts(&self) -> Result<KeptAlerts, StateUnread> {
        Ok(KeptAlerts::default())
    }

    fn packets(&self, _: &str) -> Result<Vec<PacketMark>, StateUnread> {
        Ok(Vec::new())
    }

    fn offsets(&self, _: &str) -> Result<Option<OffsetMark>, StateUnread> {
        Ok(None)
    }

    fn rules(&self) -> Vec<String> {
        Vec::new()
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn sync(&self, _: Duration) -> bool {
        true
    }

    fn totals(&self) -> StateTotals {
        StateTotals::default()
    }
}

fn saved(rule: &str, version: u32) -> StateChange {
    StateChange::Saved { rule: rule.into(), version: version.to_string(), cells: SavedState::default() }
}

fn begin() -> (Arc<Notes>, Arc<Epoch>) {
    begin_of(watch::channel(false).1)
}

fn begin_of(give_up: watch::Receiver<bool>) -> (Arc<Notes>, Arc<Epoch>) {
    let notes = Arc::new(Notes::default());
    (notes.clone(), Epoch::first(notes, give_up))
}

/// Guarantees: what was cut is put when all that was sent before the cut is confirmed, and in order, whatever is confirmed first; what is sent
/// after a cut does not hold it back.
#[test]
fn in_order_once_all_is_confirmed() {
    let (notes, mut epoch) = begin();
    epoch = epoch.cut(vec![saved("a", 1)], Ack::none());
    assert_eq!(notes.put(), ["a 1"], "nothing was sent before it");
    let (one, two) = (epoch.clone(), epoch.clone());
    epoch = epoch.cut(vec![saved("a", 2)], Ack::none());
    let three = epoch.clone();
    epoch = epoch.cut(vec![saved("a", 3)], Ack::none());
    let _four = epoch.clone();
    drop((one, three));
    assert_eq!(notes.put(), ["a 1"], "the second is not confirmed");
    drop(two);
    assert_eq!(notes.put(), ["a 1", "a 2", "a 3"]);
}

/// Guarantees: when a lane is gone, what it left is put once it is confirmed, and nothing of what it did not cut.
#[test]
fn after_the_lane() {
    let (notes, epoch) = begin();
    let sent = epoch.clone();
    drop(epoch.cut(vec![saved("a", 1)], Ack::none()));
    assert!(notes.put().is_empty());
    drop(sent);
    assert_eq!(notes.put(), ["a 1"]);
}

/// Guarantees: after something was returned at the end nothing is put any more, neither what waits nor what is cut later; what was confirmed before
/// is. A host that goes on keeps what it has.
#[test]
fn nothing_after_a_return() {
    let (give_up, told) = watch::channel(false);
    let (notes, mut epoch) = begin_of(told);
    let went_back = epoch.clone();
    epoch = epoch.cut(vec![saved("a", 0)], Ack::none());
    went_back.returned();
    drop(went_back);
    assert_eq!(notes.put(), ["a 0"]);
    give_up.send_replace(true);
    let first = epoch.clone();
    epoch = epoch.cut(vec![saved("a", 1)], Ack::none());
    let second = epoch.clone();
    epoch = epoch.cut(vec![saved("a", 2)], Ack::none());
    drop(first);
    second.returned();
    drop(second);
    assert!(epoch.is_broken());
    drop(epoch.cut(vec![saved("a", 3)], Ack::none()));
    assert_eq!(notes.put(), ["a 0", "a 1"]);
}

/// Guarantees: so many cuts wait for sinks and no more, and as many for a disk as its thread takes; both make room again.
#[test]
fn bounded() {
    let (notes, mut epoch) = begin();
    let sent = epoch.clone();
    for _ in 0..MOST_WAITING {
        assert!(epoch.may_cut());
        epoch = epoch.cut(vec![saved("a", 1)], Ack::none());
    }
    assert!(epoch.is_held() && !epoch.may_cut());
    drop(sent);
    assert!(!epoch.is_held() && epoch.may_cut());
    while epoch.may_cut() {
        epoch = epoch.cut(vec![saved("a", 1)], Ack::none());
    }
    assert_eq!(notes.put().len(), MOST_UNKEPT);
    assert!(!epoch.is_held(), "a disk is no sink");
    notes.unkept.lock().unwrap().pop().unwrap().resolve(Outcome::Settled);
    assert!(epoch.may_cut());
}

/// Guarantees: of a rule that is forgotten no state is put afterwards, though it was cut before; that its alerts were raised is put before, so that the
/// store knows whose they are, and that they are cleared when the sinks have that.
#[test]
fn forgotten() {
    let (notes, mut epoch) = begin();
    let sent = epoch.clone();
    let alert = |rule: &str, topic: &str, transition| {
        StateChange::Alert(Alert {
            rule: rule.into(),
            topic: topic.into(),
            key: "".into(),
            time_us: 0,
            transition,
            severity: tidegate_model::Severity::Info,
            value: 0.0,
            message: String::new(),
        })
    };
    let (raised, cleared) = (alert("a", "t", Transition::Raised), alert("a", "u", Transition::Cleared));
    let others = alert("b", "t", Transition::Raised);
    epoch = epoch.cut(vec![saved("a", 1), saved("b", 1), raised, cleared, others], Ack::none());
    epoch.forget(&"a".into());
    assert_eq!(notes.put(), ["a t", "no a"]);
    drop(sent);
    assert_eq!(notes.put(), ["a t", "no a", "b 1", "a u", "b t"]);
}

/// Guarantees: what waits for a cut is told when that is on disk, and not when the sinks have confirmed; where it is never kept, it goes back.
#[test]
fn who_waits_for_the_disk() {
    let (give_up, told) = watch::channel(false);
    let (notes, mut epoch) = begin_of(told);
    let log = Arc::new(Mutex::new(Vec::new()));
    let ack = |number: u32| {
        let log = log.clone();
        Ack::new(move |outcome| log.lock().unwrap().push((number, outcome)))
    };
    let sent = epoch.clone();
    epoch = epoch.cut(vec![saved("a", 1)], ack(1));
    drop(sent);
    assert!(notes.put() == ["a 1"] && log.lock().unwrap().is_empty());
    notes.unkept.lock().unwrap().remove(0).resolve(Outcome::Settled);
    assert_eq!(*log.lock().unwrap(), [(1, Outcome::Settled)]);
    give_up.send_replace(true);
    let sent = epoch.clone();
    drop(epoch.cut(vec![saved("a", 2)], ack(2)));
    sent.returned();
    drop(sent);
    assert_eq!(log.lock().unwrap()[1..], [(2, Outcome::Returned)]);
}
