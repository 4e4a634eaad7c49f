//! What raises the engine's epoch, so that running guests are looked at: a thread of its own, since a busy runtime must not make guests immortal.
//!
//! While no guest runs it rests: a host at an edge that has nothing to do does not wake its CPU a thousand times a second for it. A call says
//! that it begins by a flag of its Store, which no other lane writes to, and then looks whether the clock rests; the clock says that it rests and
//! then looks at the flags. Both are sequentially consistent, so one of the two sees the other.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// How often running guests are looked at. Their limits are counted in it.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// After how many ticks in which no call began it is asked whether one still runs.
const REST_AFTER: u32 = 20;

/// The thread. It ends when this is dropped.
pub(crate) struct Clock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// The thread sleeps until it is woken.
    resting: AtomicBool,
    /// A call has begun since the last tick: only so that the flags need not be looked at with each.
    called: AtomicBool,
    /// Of each Store, whether a call runs in it.
    running: Mutex<Vec<Weak<AtomicBool>>>,
    thread: OnceLock<Thread>,
}

/// Of one Store: whether a call runs in it. The default is one whose calls no clock watches.
#[derive(Default)]
pub(crate) struct Running {
    flag: Arc<AtomicBool>,
    clock: Arc<Shared>,
}

impl Clock {
    /// Calls `tick` every [`TICK`] while a call runs.
    pub fn start(mut tick: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let clock = shared.clone();
        let thread = tidegate_telemetry::thread("epoch", move || {
            let _ = clock.thread.set(std::thread::current());
            let mut quiet = 0;
            while !clock.over.load(SeqCst) {
                std::thread::sleep(TICK);
                tick();
                quiet = if clock.called.swap(false, Relaxed) { 0 } else { quiet + 1 };
                if quiet == REST_AFTER {
                    clock.rest();
                    quiet = 0;
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// For the calls of one more Store.
    pub fn watch(&self) -> Running {
        let running = Running { flag: Arc::default(), clock: self.shared.clone() };
        let mut flags = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of Stores that are no more go before the list would grow.
        if flags.len() == flags.capacity() {
            flags.retain(|flag| flag.strong_count() > 0);
        }
        flags.push(Arc::downgrade(&running.flag));
        running
    }
}

impl Shared {
    /// Sleeps until a call begins, if none runs.
    fn rest(&self) {
        self.resting.store(true, SeqCst);
        let flags = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = flags.iter().filter_map(Weak::upgrade).any(|flag| flag.load(SeqCst));
        drop(flags);
        if busy {
            self.resting.store(false, SeqCst);
        }
        while self.resting.load(SeqCst) && !self.over.load(SeqCst) {
            std::thread::park();
        }
    }

    fn wake(&self) {
        if self.resting.swap(false, SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Running {
    /// A call begins.
    pub fn begin(&self) {
        self.flag.store(true, SeqCst);
        if !self.clock.called.load(Relaxed) {
            self.clock.called.store(true, Relaxed);
        }
        if self.clock.resting.load(SeqCst) {
            self.clock.wake();
        }
    }

    /// It has ended.
    pub fn end(&self) {
        self.flag.store(false, Release);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends within a tick; that it panicked is of no interest any more.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    use super::*;

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(180), "waited for {what}");
            std::thread::yield_now();
        }
    }

    /// Guarantees: it rests while nothing runs, ticks from the beginning of a call to its end however long that is, whatever other Stores there were,
    /// and rests again.
    #[test]
    fn ticks_while_calls_run() {
        let ticks = Arc::new(AtomicU32::new(0));
        let counted = ticks.clone();
        let clock = Clock::start(move || {
            counted.fetch_add(1, SeqCst);
        })
        .unwrap();
        let rests = || clock.shared.resting.load(SeqCst);
        let running = clock.watch();
        for _ in 0..3 {
            (0..100).for_each(|_| drop(clock.watch()));
            wait_until("its rest", rests);
            let before = ticks.load(SeqCst);
            running.begin();
            wait_until("ticks of a long call", || ticks.load(SeqCst) > before + 5 * REST_AFTER);
            running.end();
        }
        assert!(clock.shared.running.lock().unwrap().len() <= 128, "flags of Stores that are no more pile up");
        wait_until("its rest", rests);
        drop(clock);
    }
}
