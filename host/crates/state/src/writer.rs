//! The thread that writes what lanes tell, and reads what is asked of it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_model::{
    Ack, Books, Clock, KeptAlerts, KeptState, OffsetMark, Outcome, PacketMark, StateChange, StateUnread,
};

use crate::database::{Database, is_damage};
use crate::unwritten::{Took, Unwritten};

/// How long after a failure the disk is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// After a write the disk is left alone for as long as the write took, and no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(5);
const HOUR_US: i64 = 3_600_000_000;
/// Damaged files that are kept beside the new one.
const DAMAGED_KEPT: usize = 2;

/// What lanes and their store's thread both know.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub written: AtomicU64,
    pub failures: AtomicU64,
    pub damaged: AtomicU64,
    pub unnamed: AtomicU64,
    pub epoch: AtomicU64,
    pub down: Mutex<Option<String>>,
    /// What was put by the thread itself, as it told of what is on disk: a lane that waited for another one's state goes on then. It must not
    /// wait for room in its own queue.
    pub own: Mutex<Vec<(Vec<StateChange>, Ack)>>,
}

thread_local! {
    /// Whether this is the thread that writes.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// What the thread is asked.
pub(crate) enum Ask {
    Put(Vec<StateChange>, Ack),
    Load { rule: String, reply: SyncSender<Result<Vec<KeptState>, StateUnread>> },
    Alerts { reply: SyncSender<Result<KeptAlerts, StateUnread>> },
    Rules { reply: SyncSender<Vec<String>> },
    Packets { stream: String, reply: SyncSender<Result<Vec<PacketMark>, StateUnread>> },
    Offsets { stream: String, reply: SyncSender<Result<Option<OffsetMark>, StateUnread>> },
    Sync { reply: SyncSender<bool> },
}

/// Whether this is the thread that writes.
pub(crate) fn is_writing() -> bool {
    WRITES.get()
}

/// What the thread has.
pub(crate) struct Writer {
    path: PathBuf,
    books: Arc<Books>,
    clock: Arc<dyn Clock>,
    account: Arc<Account>,
    database: Option<Database>,
    unwritten: Unwritten,
    /// Who waits for what is unwritten: a few a lane.
    unkept: Vec<Ack>,
    write_at: Instant,
}

impl Writer {
    pub fn new(path: PathBuf, books: Arc<Books>, clock: Arc<dyn Clock>, account: Arc<Account>) -> Self {
        let (unwritten, unkept, write_at) = (Unwritten::default(), Vec::new(), Instant::now());
        Self { path, books, clock, account, database: None, unwritten, unkept, write_at }
    }

    /// Works until nobody is left to ask, and what waits then is written, if the disk takes it.
    pub fn run(mut self, asked: &Receiver<Ask>) {
        WRITES.set(true);
        loop {
            self.take_own();
            let wait = if self.unwritten.is_empty() && self.unkept.is_empty() {
                LONGEST_REST
            } else {
                self.write_at.saturating_duration_since(Instant::now())
            };
            match asked.recv_timeout(wait) {
                Ok(ask) => {
                    self.answer(ask);
                    asked.try_iter().for_each(|ask| self.answer(ask));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_all();
                    return;
                }
            }
            if Instant::now() >= self.write_at {
                self.write();
            }
        }
    }

    // Who asked may have stopped waiting.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Put(changes, kept) => self.take(changes, kept),
            Ask::Sync { reply } => drop(reply.send(self.write_all())),
            Ask::Load { rule, reply } => {
                self.write();
                let loaded = match self.read(|database, books| database.load(&rule, books)) {
                    Ok(loaded) => loaded,
                    Err(unread) => return drop(reply.send(Err(unread))),
                };
                self.account.damaged.fetch_add(loaded.damaged, Relaxed);
                self.account.unnamed.fetch_add(loaded.unnamed, Relaxed);
                if loaded.damaged + loaded.unnamed > 0 {
                    let (damaged, unnamed) = (loaded.damaged, loaded.unnamed);
                    tracing::error!(
                        rule,
                        damaged,
                        unnamed,
                        "not all of the rule's state comes back: damaged cells are lost; unnamed ones are of series beyond `max_series`, and wait"
                    );
                }
                drop(reply.send(Ok(loaded.states)));
            }
            Ask::Alerts { reply } => {
                self.write();
                drop(reply.send(self.read(|database, _| database.alerts())));
            }
            Ask::Packets { stream, reply } => {
                self.write();
                let read = self.read(|database, _| database.packets(&stream));
                drop(reply.send(read.map(|found| self.sound(found))));
            }
            Ask::Offsets { stream, reply } => {
                self.write();
                let read = self.read(|database, _| database.offsets(&stream));
                drop(reply.send(read.map(|found| self.sound(found))));
            }
            Ask::Rules { reply } => {
                self.write();
                drop(reply.send(self.read(|database, _| database.rules()).unwrap_or_default()));
            }
        }
    }

    fn take(&mut self, changes: Vec<StateChange>, kept: Ack) {
        self.unkept.push(kept);
        if self.unwritten.take(changes) == Took::NotAll {
            self.account.epoch.fetch_add(1, Release);
        }
    }

    /// Takes what this thread has put itself; gives whether there was any.
    fn take_own(&mut self) -> bool {
        let own = std::mem::take(&mut *self.account.own.lock().unwrap_or_else(PoisonError::into_inner));
        let any = !own.is_empty();
        own.into_iter().for_each(|(changes, kept)| self.take(changes, kept));
        any
    }

    /// Writes what waits, and what was waiting for that: lanes wait for the node's lane, and that for nobody.
    fn write_all(&mut self) -> bool {
        self.write() && (!self.take_own() || self.write())
    }

    /// Writes what waits; gives whether nothing waits any more.
    fn write(&mut self) -> bool {
        if self.unwritten.is_empty() {
            self.tell_kept();
            return true;
        }
        let began = Instant::now();
        let unwritten = std::mem::take(&mut self.unwritten);
        let hour = self.clock.now_us() / HOUR_US;
        let done = self.with(|database, books| database.write(&unwritten, books, hour));
        match done {
            Some(cells) => {
                self.account.written.fetch_add(cells, Relaxed);
                self.write_at = Instant::now() + began.elapsed().min(LONGEST_REST);
                self.tell_kept();
                true
            }
            None => {
                self.unwritten = unwritten;
                self.account.failures.fetch_add(1, Relaxed);
                self.write_at = Instant::now() + TRY_AGAIN;
                false
            }
        }
    }

    /// Of what was read, that which is not damaged.
    fn sound<T>(&self, (found, damaged): (T, u64)) -> T {
        if damaged > 0 {
            self.account.damaged.fetch_add(damaged, Relaxed);
            tracing::error!(
                damaged,
                "what says which messages the state has is damaged in part: those among them that come again are taken for new ones"
            );
        }
        found
    }

    fn tell_kept(&mut self) {
        self.unkept.drain(..).for_each(|kept| kept.resolve(Outcome::Settled));
    }

    /// Reads; where there is no file yet, there is nothing, and none is made for it.
    fn read<T: Default>(
        &mut self,
        work: impl Fn(&Database, &Books) -> rusqlite::Result<T>,
    ) -> Result<T, StateUnread> {
        if self.database.is_none() && is_nothing(&self.path) {
            return Ok(T::default());
        }
        let why = |account: &Account| account.down.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let done = self.with(|database, books| work(database, books));
        done.ok_or_else(|| StateUnread(why(&self.account).unwrap_or_default()))
    }

    /// Runs `work` on the open file; once more on a new one, where the old one is damaged.
    fn with<T>(&mut self, mut work: impl FnMut(&mut Database, &Books) -> rusqlite::Result<T>) -> Option<T> {
        let mut done = self.attempt(&mut work);
        if let Err(error) = &done
            && is_damage(error)
        {
            self.set_aside(&error.to_string());
            done = self.attempt(&mut work);
        }
        let mut down = self.account.down.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(done) => {
                if down.take().is_some() {
                    tracing::info!("the state of rules is kept again");
                }
                Some(done)
            }
            Err(error) => {
                let why = format!("{}: {error}", self.path.display());
                if down.is_none() {
                    tracing::error!(
                        "the state of rules cannot be kept, and is lost if the host ends now; it is tried again every second: {why}"
                    );
                }
                *down = Some(why);
                None
            }
        }
    }

    fn attempt<T>(
        &mut self,
        work: &mut impl FnMut(&mut Database, &Books) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut database = match self.database.take() {
            Some(database) => database,
            None => {
                if let Some(parent) = self.path.parent() {
                    // What is wrong with it, opening the file says better.
                    let _ = std::fs::create_dir_all(parent);
                }
                Database::open(&self.path)?
            }
        };
        let done = work(&mut database, &self.books)?;
        self.database = Some(database);
        Ok(done)
    }

    /// The file is no good: it is kept beside, and a new one begun, for which all is asked again.
    fn set_aside(&mut self, why: &str) {
        self.database = None;
        let aside = self.path.with_file_name(format!("damaged-{:020}.db", self.clock.now_us()));
        let moved = std::fs::rename(&self.path, &aside);
        for suffix in ["-wal", "-shm"] {
            let mut beside = self.path.clone().into_os_string();
            beside.push(suffix);
            // What is left of it would be taken for the new one's.
            let _ = std::fs::remove_file(beside);
        }
        self.account.damaged.fetch_add(1, Relaxed);
        self.account.epoch.fetch_add(1, Release);
        let aside = aside.display();
        match moved {
            Ok(()) => {
                tracing::error!(%aside, "the state of rules on disk is damaged and was set aside: rules begin without it, and what serves is kept anew: {why}")
            }
            Err(error) => {
                tracing::error!("the state of rules on disk is damaged, and cannot be set aside ({error}): {why}")
            }
        }
        self.forget_oldest_damaged();
    }

    fn forget_oldest_damaged(&self) {
        let Some(entries) = self.path.parent().and_then(|parent| std::fs::read_dir(parent).ok()) else { return };
        let is_damaged =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("damaged-"));
        let mut old: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_damaged).collect();
        old.sort();
        for path in old.iter().rev().skip(DAMAGED_KEPT) {
            // It is looked for again next time.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether certainly nothing was ever kept there; a disk that does not say has perhaps something.
fn is_nothing(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::metadata(path) {
        Ok(file) => file.len() == 0,
        Err(error) => matches!(error.kind(), NotFound | NotADirectory),
    }
}
