//! Modules that are only to be tried: kept in memory for a while, and written nowhere. So a candidate can be tried where the rules directory is
//! nobody's to write, and leaves nothing behind where it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_engine::{Manifest, Terms, Wasi};
use tokio::time::MissedTickBehavior;

use super::modules::kept_name;
use super::{Desk, digest};
use crate::problem::{Mistake, Problem};
use crate::shapes::{Module, ModulePart};

/// The most there are at once, in number and bytes: the oldest makes room.
const MOST: usize = 8;
const MOST_BYTES: usize = 128 << 20;
/// How long one is kept: time enough to ask for what it came for.
const KEPT_FOR: Duration = Duration::from_secs(900);
/// How often it is looked for those whose time is over, so that their memory is free though nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Modules on trial, the oldest first.
#[derive(Default)]
pub(crate) struct OnTrial(Mutex<Vec<Held>>);

/// One of them.
#[derive(Clone)]
pub(super) struct Held {
    sha256: String,
    pub bytes: Arc<[u8]>,
    /// What vouches for it.
    pub manifest: Option<Arc<str>>,
    since: Instant,
}

impl OnTrial {
    fn put(&self, sha256: &str, bytes: Vec<u8>, manifest: Option<String>, now: Instant) {
        let new =
            Held { sha256: sha256.to_owned(), bytes: bytes.into(), manifest: manifest.map(Into::into), since: now };
        let mut all = self.in_time(now);
        all.retain(|it| it.sha256 != sha256);
        all.push(new);
        while all.len() > MOST || all.iter().map(|it| it.bytes.len()).sum::<usize>() > MOST_BYTES {
            all.remove(0);
        }
    }

    /// One, if it is still there.
    pub(super) fn get(&self, sha256: &str, now: Instant) -> Option<Held> {
        self.in_time(now).iter().find(|it| it.sha256 == sha256).cloned()
    }

    /// Those whose time is not over; the others are dropped.
    fn in_time(&self, now: Instant) -> MutexGuard<'_, Vec<Held>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|it| now.saturating_duration_since(it.since) < KEPT_FOR);
        all
    }

    /// Drops each when its time is over, for as long as it is polled.
    pub async fn forget_in_time(self: Arc<Self>) {
        self.forget_every(LOOK_EVERY).await;
    }

    async fn forget_every(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            drop(self.in_time(Instant::now()));
        }
    }
}

impl Desk {
    /// Looks over a module that is to be tried, and keeps it for a while. Blocks.
    pub fn take_on_trial(&self, part: &ModulePart, wasi: Wasi) -> Result<Module, Problem> {
        let wrong = |field: &str, detail: String| {
            Problem::unusable("body", detail.clone(), vec![Mistake::new(field, detail)])
        };
        let content = part.content.as_ref().ok_or_else(|| wrong("/content", "there are no bytes".to_owned()))?;
        let bytes = STANDARD.decode(content).map_err(|e| wrong("/content", format!("this is no base64: {e}")))?;
        let sha256 = digest(&bytes);
        if sha256 != part.sha256 {
            return Err(wrong("/sha256", format!("the content's sha256 is {sha256}")));
        }
        let manifest = part.manifest.as_ref().map(|manifest| Manifest::read(manifest.to_string().as_bytes()));
        let manifest = manifest.transpose().map_err(|error| wrong("/manifest", error.to_string()))?;
        let manifest = manifest.map(|manifest| manifest.to_json());
        let voucher = manifest.as_ref().map(|text| text.as_bytes());
        let admitted = self.registry.admit(&bytes, voucher, Terms::of_no_rule(wasi))?;
        let mut module = Module::new(&sha256, &kept_name(&sha256), bytes.len() as u64);
        module.description = Some(self.remember(&admitted));
        self.on_trial.put(&sha256, bytes, manifest, Instant::now());
        Ok(module)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: there are never more than so many, nor more bytes; the oldest goes, one that came again is young again, and none stays longer
    /// than its time.
    #[test]
    fn bounded() {
        let (trial, start) = (OnTrial::default(), Instant::now());
        let there = |name: &str, now| trial.get(name, now).is_some();
        for n in 0..MOST {
            trial.put(&n.to_string(), vec![0], None, start);
        }
        trial.put("0", vec![0], None, start + Duration::from_secs(1));
        trial.put("new", vec![0], None, start + Duration::from_secs(1));
        assert_eq!(
            [there("0", start), there("1", start), there("2", start), there("new", start)],
            [true, false, true, true]
        );
        trial.put("large", vec![0; MOST_BYTES - 1], None, start + Duration::from_secs(2));
        assert_eq!([there("7", start), there("new", start), there("large", start)], [false, true, true]);
        let later = start + Duration::from_secs(1) + KEPT_FOR;
        assert_eq!([there("new", later), there("large", later)], [false, true]);
    }

    /// Guarantees: those whose time is over take up no memory any more once another comes, or a while has passed in which nobody asked.
    #[tokio::test]
    async fn forgotten_unasked() {
        let (trial, now) = (OnTrial::default(), Instant::now());
        let held = || trial.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        let long_ago = now.checked_sub(KEPT_FOR).unwrap();
        trial.put("old", vec![0], None, long_ago);
        trial.put("older", vec![0], None, long_ago);
        assert_eq!(held(), 2);
        trial.put("new", vec![0], None, now);
        assert_eq!(held(), 1, "another came");

        let trial = OnTrial::default();
        let held = || trial.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        trial.put("old", vec![0], None, long_ago);
        let gone = async {
            while held() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                () = trial.forget_every(Duration::from_millis(1)) => {}
                () = gone => {}
            }
        });
        assert!(in_time.await.is_ok(), "it is held still");
    }
}
