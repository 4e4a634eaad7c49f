//! Backtests: a rule given what was stored, sent or uploaded, to learn what it would have done. Nothing is done.
//!
//! A backtest is a job: asked for, waited for, looked at, taken back. Jobs run on threads of their own, which give way to all others,
//! [`RUNS`] at a time, on instances and books of their own; never on a lane. How many jobs there are, how long one runs and how long
//! its findings are kept is bounded.

mod batch;
mod findings;
mod input;
mod job;
mod lines;
mod rehearsed;
mod run;
mod upload;
mod upstream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tidegate_engine::Rule;
use tidegate_model::{History, Span};

pub(crate) use findings::Backtest;
pub(crate) use input::{BacktestInput, KafkaPart, ReadFrom};

use crate::problem::Problem;
use findings::JobState;
pub(crate) use job::Job;
pub(crate) use run::Before;
use upload::Pieces;

/// How many run at once.
const RUNS: usize = 2;
/// How many may wait for their turn, or for what is uploaded.
const WAITING: usize = 8;
/// How many are kept, with those that are over.
const KEPT: usize = 32;
/// How long one that is over is kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// How far a thread gives way to others.
const NICE: i32 = 19;

/// What a job reads.
pub(crate) enum Source {
    /// What a sink has stored, or a log has of messages.
    Stored(Arc<dyn History>, Span, Before),
    /// What comes in by a request of its own, of which only this part is used.
    Upload(Span),
}

/// All jobs.
#[derive(Default)]
pub(crate) struct Backtests {
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
    last_id: AtomicU64,
    running: Mutex<usize>,
}

impl Backtests {
    /// Takes a job in.
    pub fn ask(self: &Arc<Self>, rule: Arc<Rule>, source: Source) -> Result<Arc<Job>, Problem> {
        let mut jobs = self.tidied();
        let waiting = jobs.values().filter(|job| job.state() == JobState::Waiting).count();
        if waiting >= WAITING {
            let detail = format!("{waiting} backtests wait already; try again later, or cancel one");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_backtests", detail));
        }
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let at_once = matches!(source, Source::Stored(..));
        let job = Arc::new(Job::new(id, rule, source));
        jobs.insert(id, job.clone());
        drop(jobs);
        if at_once {
            // Nobody hears of one that is not begun.
            self.begin().inspect_err(|_| drop(self.lock().remove(&id)))?;
        }
        Ok(job)
    }

    /// All there are, the newest first.
    pub fn all(&self) -> Vec<Arc<Job>> {
        self.tidied().values().rev().cloned().collect()
    }

    pub fn find(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let found = id.parse().ok().and_then(|id: u64| self.tidied().get(&id).cloned());
        found.ok_or_else(|| {
            Problem::missing(format!("there is no backtest {id}; those that are over are kept for an hour"))
        })
    }

    /// Ends those whose time is over.
    pub fn tidy(&self) {
        drop(self.tidied());
    }

    /// Ends a job, or forgets one that is over.
    pub fn cancel(&self, id: &str) -> Result<(), Problem> {
        let job = self.find(id)?;
        if job.cancel() {
            self.lock().remove(&job.id);
        }
        Ok(())
    }

    /// Where the pieces of a job's upload go to.
    ///
    /// `bytes`: how many will come, if that is known.
    pub fn upload(self: &Arc<Self>, id: &str, bytes: Option<u64>) -> Result<Pieces, Problem> {
        let pieces = self.find(id)?.expect_upload(bytes)?;
        self.begin()?;
        Ok(pieces)
    }

    /// Has threads for what waits.
    fn begin(self: &Arc<Self>) -> Result<(), Problem> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if *running >= RUNS {
            return Ok(());
        }
        let all = self.clone();
        let worker = tidegate_telemetry::thread("backtest", move || {
            // It is no worse to run at the pace of the others.
            let _ = rustix::process::setpriority_process(None, NICE);
            all.work();
        });
        worker.map_err(|error| Problem::internal(format!("there is no thread for a backtest: {error}")))?;
        *running += 1;
        Ok(())
    }

    /// Runs what waits, one after the other, until nothing does.
    fn work(&self) {
        loop {
            let ready = self.lock().values().find_map(|job| Some((job.clone(), job.take_source()?)));
            if let Some((job, source)) = ready {
                job.run(source);
                continue;
            }
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked at again under this lock: who begins now waits for it, and then has a thread of its own.
            if !self.lock().values().any(|job| job.is_ready()) {
                *running -= 1;
                return;
            }
        }
    }

    /// The jobs, without those whose time is over.
    fn tidied(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Job>>> {
        let mut jobs = self.lock();
        for job in jobs.values().filter(|job| job.has_no_upload()) {
            job.end(JobState::Failed, Some("nothing was uploaded within a minute".to_owned()));
        }
        jobs.retain(|_, job| job.over_for().is_none_or(|over| over < KEPT_FOR));
        while jobs.len() >= KEPT
            && let Some(oldest) = jobs.values().find(|job| job.over_for().is_some()).map(|job| job.id)
        {
            jobs.remove(&oldest);
        }
        jobs
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all: nobody will ask any more.
    pub fn stop(&self) {
        for job in self.lock().values() {
            job.cancel();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use tidegate_engine::{Engine, Limits, Module};
    use tidegate_model::{Books, HistoryError, Page, Past};

    use super::*;

    /// A history that is a mistake of ours, or has no row.
    struct Odd {
        panics: bool,
    }

    impl History for Odd {
        fn open(&self, _: Span, _: Arc<Books>) -> Result<Box<dyn Past>, HistoryError> {
            assert!(!self.panics, "row 7 is secret");
            Ok(Box::new(Nothing))
        }
    }

    struct Nothing;

    impl Past for Nothing {
        fn next_page(&mut self) -> Result<Option<Page>, HistoryError> {
            Ok(None)
        }
    }

    /// Guarantees: jobs that panic give their places back, of which there are few: as many as there are places, one after the other and side by side, and what comes
    /// after them runs.
    #[test]
    fn a_panic_gives_its_place_back() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/rules/json-reading.wasm");
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; `make rules` builds it", path.display()));
        let rule = Arc::new(Rule {
            name: "read".into(),
            generation: 1,
            module: Arc::new(Module::load(&Engine::new().unwrap(), &bytes).unwrap()),
            config: "{}".into(),
            filters: vec!["#".parse().unwrap()],
            order: 0,
            commands: Vec::new(),
            on_quarantine: Default::default(),
            on_refused_state: Default::default(),
            limits: Limits::default(),
            signature_expires: None,
            stats: Arc::default(),
        });
        let all = Arc::<Backtests>::default();
        let ask = |panics| {
            let source = Source::Stored(Arc::new(Odd { panics }), Span::default(), Before::default());
            all.ask(rule.clone(), source).ok().unwrap()
        };
        let jobs: Vec<_> = (0..=RUNS).map(|_| ask(true)).chain([ask(false)]).collect();
        let deadline = Instant::now() + Duration::from_secs(180);
        while let Some(job) = jobs.iter().find(|job| !job.state().is_over()) {
            assert!(Instant::now() < deadline, "waited for backtest {}: {:?}", job.id, job.state());
            std::thread::sleep(Duration::from_millis(5));
        }
        let states: Vec<_> = jobs.iter().map(|job| job.state()).collect();
        assert!(states[..=RUNS].iter().all(|state| *state == JobState::Failed), "{states:?}");
        assert_eq!(states[RUNS + 1], JobState::Done);
    }
}
