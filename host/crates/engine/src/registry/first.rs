//! The first reading of the rules directory, for which others wait: what is there should serve before messages come. But a module can take a minute to be
//! compiled, and be refused then, so nobody waits without end for what is new ([`FirstReading::over_or_stuck`]), unless messages are lost without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::registry::Registry;
use crate::registry::known::Known;
use crate::registry::scan::Wanted;

/// How far the first reading is.
#[derive(Default)]
pub(super) struct FirstReading {
    stands: Mutex<Stands>,
    changed: Condvar,
}

#[derive(Default)]
struct Stands {
    /// Rules that came to serve.
    serve: u64,
    /// Those yet to be looked at that are waited for as long as their compiler may take; none while that is not known.
    awaited: Option<BTreeSet<String>>,
    /// How it ended, once it has.
    over: Option<FirstLook>,
    /// Nobody waits for it any more.
    given_up: bool,
}

/// How far the first reading came for who waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLook {
    /// All rules have been looked over.
    Over,
    /// It goes on, but nobody should wait for those that are left.
    Stuck,
    /// It ended by a bug of the host, and nobody looks after the rules.
    Failed,
}

/// It is over when this is dropped, however it ended.
pub(super) struct UnderWay<'a>(&'a FirstReading);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let ended = if std::thread::panicking() { FirstLook::Failed } else { FirstLook::Over };
        self.0.change(|stands| stands.over = Some(ended));
    }
}

impl FirstReading {
    pub fn begin(&self) -> UnderWay<'_> {
        UnderWay(self)
    }

    /// What is waited for without [`Self::over_or_stuck`]'s patience.
    pub fn awaits(&self, rules: BTreeSet<String>) {
        self.change(|stands| stands.awaited = Some(rules));
    }

    /// Whether no other than that rule is awaited any more.
    pub fn ends_with(&self, rule: &str) -> bool {
        self.stands().awaited.as_ref().is_some_and(|awaited| awaited.len() == 1 && awaited.contains(rule))
    }

    /// A rule has been looked at, and serves or not.
    pub fn met(&self, rule: &str, serves: bool) {
        self.change(|stands| {
            stands.serve += u64::from(serves);
            stands.awaited.as_mut().map(|awaited| awaited.remove(rule));
        });
    }

    pub fn is_under_way(&self) -> bool {
        self.stands().over.is_none()
    }

    /// Whether somebody waits for it, or may yet.
    pub fn is_awaited(&self) -> bool {
        let stands = self.stands();
        stands.over.is_none() && !stands.given_up
    }

    /// Waits until it is over; gives whether it ended well.
    pub fn over(&self) -> bool {
        let ended = self.changed.wait_while(self.stands(), |stands| stands.over.is_none());
        ended.unwrap_or_else(PoisonError::into_inner).over == Some(FirstLook::Over)
    }

    /// The same, but gives up once no rule has come to serve for so long and none is left of those that are awaited.
    pub fn over_or_stuck(&self, patience: Duration) -> FirstLook {
        let awaits = |stands: &Stands| stands.awaited.as_ref().is_none_or(|awaited| !awaited.is_empty());
        let mut stands = self.stands();
        loop {
            let held = self.changed.wait_while(stands, |stands| stands.over.is_none() && awaits(stands));
            stands = held.unwrap_or_else(PoisonError::into_inner);
            let before = stands.serve;
            let same = |stands: &mut Stands| stands.over.is_none() && stands.serve == before;
            let waited = self.changed.wait_timeout_while(stands, patience, same);
            let (now, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            stands = now;
            if let Some(ended) = stands.over {
                return ended;
            }
            if waited.timed_out() {
                stands.given_up = true;
                return FirstLook::Stuck;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Stands)) {
        change(&mut self.stands());
        self.changed.notify_all();
    }

    fn stands(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Shows of rules that are new, and whose modules have to be compiled, that they are on their way. While the host starts those come first that messages
    /// must not pass by: which served before, or are decoders.
    pub(super) fn expect(&mut self, rules: &mut [(String, Wanted)]) {
        if self.first.is_under_way() {
            let awaited = self.awaited(rules);
            rules.sort_by_key(|(name, _)| !awaited.contains(name));
            self.first.awaits(awaited);
        }
        for (name, wanted) in rules {
            let ask = &self.ask;
            let pending = || Known::pending(super::counted(ask), wanted.clone());
            self.rules.entry(name.clone()).or_insert_with(pending);
        }
    }

    fn awaited(&self, rules: &[(String, Wanted)]) -> BTreeSet<String> {
        let (mut decoders, mut awaited) = (BTreeMap::new(), BTreeSet::new());
        for (name, wanted) in rules {
            let served = self.generations.as_ref().is_some_and(|store| store.serving(name).is_some());
            if served || *decoders.entry(&wanted.module).or_insert_with(|| self.scanner.is_decoder(wanted)) {
                awaited.insert(name.clone());
            }
        }
        awaited
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Guarantees: who waits goes on when the reading is over, and hears how it ended, and not before while rules come to serve; where none does, patience ends.
    #[test]
    fn patience() {
        let first = Arc::new(FirstReading::default());
        first.awaits(BTreeSet::new());
        assert_eq!(first.over_or_stuck(Duration::ZERO), FirstLook::Stuck, "none serves");
        assert!(!first.is_awaited());

        let first = Arc::new(FirstReading::default());
        let reads = first.clone();
        let reading = std::thread::spawn(move || {
            let _under_way = reads.begin();
            reads.awaits(["a".to_owned()].into());
            reads.met("b", true);
            panic!("a reading that ends by a bug");
        });
        assert_eq!(first.over_or_stuck(Duration::from_secs(60)), FirstLook::Failed);
        assert!(!first.is_awaited() && !first.over());
        assert!(reading.join().is_err());
    }
}
