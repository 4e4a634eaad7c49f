//! The first reading of the rules directory, for which others wait: what is there should serve before messages come. But a module can take a minute to be
//! compiled, and be refused then, so nobody waits without end ([`FirstReading::over`]).

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
    over: bool,
    /// Nobody waits for it any more.
    given_up: bool,
}

/// It is over when this is dropped, however it ended.
pub(super) struct UnderWay<'a>(&'a FirstReading);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.change(|stands| stands.over = true);
    }
}

impl FirstReading {
    pub fn begin(&self) -> UnderWay<'_> {
        UnderWay(self)
    }

    pub fn one_serves(&self) {
        self.change(|stands| stands.serve += 1);
    }

    /// Whether somebody waits for it, or may yet.
    pub fn is_awaited(&self) -> bool {
        let stands = self.stands();
        !stands.over && !stands.given_up
    }

    /// Waits until it is over.
    pub fn over(&self) {
        drop(self.changed.wait_while(self.stands(), |stands| !stands.over));
    }

    /// The same, but gives up once no rule has come to serve for so long; gives whether it is over.
    pub fn over_or_stuck(&self, patience: Duration) -> bool {
        let mut stands = self.stands();
        loop {
            let before = stands.serve;
            let same = |stands: &mut Stands| !stands.over && stands.serve == before;
            let waited = self.changed.wait_timeout_while(stands, patience, same);
            let (now, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            stands = now;
            if stands.over || waited.timed_out() {
                stands.given_up = !stands.over;
                return stands.over;
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
    /// Shows of rules that are new, and whose modules have to be compiled, that they are on their way.
    pub(super) fn expect(&mut self, rules: &[(String, Wanted)]) {
        for (name, wanted) in rules {
            let ask = &self.ask;
            let pending = || Known::pending(super::counted(ask), wanted.clone());
            self.rules.entry(name.clone()).or_insert_with(pending);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Guarantees: who waits goes on when the reading is over, however it ended, and not before while rules come to serve; where none does, patience ends.
    #[test]
    fn patience() {
        let first = Arc::new(FirstReading::default());
        assert!(!first.over_or_stuck(Duration::ZERO) && !first.is_awaited(), "none serves");

        let first = Arc::new(FirstReading::default());
        let reads = first.clone();
        let reading = std::thread::spawn(move || {
            let _under_way = reads.begin();
            reads.one_serves();
            panic!("a reading that ends by a bug");
        });
        assert!(first.over_or_stuck(Duration::from_secs(60)) && !first.is_awaited());
        first.over();
        assert!(reading.join().is_err());
    }
}
