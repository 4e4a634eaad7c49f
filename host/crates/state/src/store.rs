//! The store as lanes see it; [`crate::writer`] is its thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_model::{
    Ack, Books, Clock, KeptAlerts, KeptState, OffsetMark, PacketMark, StateChange, StateStore, StateTotals,
    StateUnread,
};

use crate::writer::{Account, Ask, Writer, is_writing};

/// Handovers that may wait for the thread: more than lanes make that await our word on a few before they make the next, so that who puts, which
/// may be a sink that has just confirmed, never waits for a disk that stands still.
const QUEUE: usize = 1_024;
/// How long a reader waits for the thread.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end waits for a disk that stands still.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The store in a directory.
#[derive(Debug)]
pub struct StateFile {
    /// None once it is dropped.
    ask: Option<SyncSender<Ask>>,
    account: Arc<Account>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StateFile {
    /// The store in `<data_dir>/state`. A file that cannot be read is set aside, one that cannot be written is tried again: the host
    /// starts all the same.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn open(data_dir: &Path, books: Arc<Books>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let (ask, asked) = sync_channel(QUEUE);
        let account = Arc::<Account>::default();
        let writer = Writer::new(path(data_dir), books, clock, account.clone());
        let thread = tidegate_telemetry::thread("state", move || writer.run(&asked))?;
        Ok(Self { ask: Some(ask), account, thread: Mutex::new(Some(thread)) })
    }

    fn tell<T>(&self, patience: Duration, ask: impl FnOnce(SyncSender<T>) -> Ask) -> Option<T> {
        let deadline = Instant::now() + patience;
        let (reply, answer) = sync_channel(1);
        let mut ask = ask(reply);
        // Where the disk stands still the queue is full for good.
        while let Err(refused) = self.ask.as_ref()?.try_send(ask) {
            let TrySendError::Full(back) = refused else { return None };
            if Instant::now() >= deadline {
                return None;
            }
            ask = back;
            std::thread::sleep(LOOK_AGAIN);
        }
        answer.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

impl StateStore for StateFile {
    fn put(&self, changes: Vec<StateChange>, kept: Ack) {
        if is_writing() {
            return self.account.own.lock().unwrap_or_else(PoisonError::into_inner).push((changes, kept));
        }
        if let Some(ask) = &self.ask {
            // Without its thread, which ended by a bug of ours and said so, there is nobody to tell.
            let _ = ask.send(Ask::Put(changes, kept));
        }
    }

    fn load(&self, rule: &str) -> Result<Vec<KeptState>, StateUnread> {
        self.tell(PATIENCE, |reply| Ask::Load { rule: rule.to_owned(), reply }).unwrap_or_else(unanswered)
    }

    fn alerts(&self) -> Result<KeptAlerts, StateUnread> {
        self.tell(PATIENCE, |reply| Ask::Alerts { reply }).unwrap_or_else(unanswered)
    }

    fn packets(&self, stream: &str) -> Result<Vec<PacketMark>, StateUnread> {
        self.tell(PATIENCE, |reply| Ask::Packets { stream: stream.to_owned(), reply }).unwrap_or_else(unanswered)
    }

    fn offsets(&self, stream: &str) -> Result<Option<OffsetMark>, StateUnread> {
        self.tell(PATIENCE, |reply| Ask::Offsets { stream: stream.to_owned(), reply }).unwrap_or_else(unanswered)
    }

    fn rules(&self) -> Vec<String> {
        self.tell(PATIENCE, |reply| Ask::Rules { reply }).unwrap_or_default()
    }

    fn epoch(&self) -> u64 {
        self.account.epoch.load(Acquire)
    }

    fn sync(&self, patience: Duration) -> bool {
        self.tell(patience, |reply| Ask::Sync { reply }).unwrap_or(false)
    }

    fn totals(&self) -> StateTotals {
        StateTotals {
            written: self.account.written.load(Relaxed),
            failures: self.account.failures.load(Relaxed),
            damaged: self.account.damaged.load(Relaxed),
            unnamed: self.account.unnamed.load(Relaxed),
            down: self.account.down.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Drop for StateFile {
    /// What was put is written, if the disk takes it; one that stands still is left standing.
    fn drop(&mut self) {
        self.ask = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = Instant::now() + LAST_PATIENCE;
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
        }
        if let Some(thread) = thread.filter(JoinHandle::is_finished) {
            // It says itself when it ends by a panic.
            let _ = thread.join();
        }
    }
}

fn unanswered<T>() -> Result<T, StateUnread> {
    Err(StateUnread(format!("the disk did not answer within {PATIENCE:?}")))
}

/// Where the store of a `data_dir` stands.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("state").join("state.db")
}
