//! Backtests: a rule given what was stored, sent or uploaded, to learn what it would have done. Nothing is done.
//!
//! A backtest is a job: asked for, waited for, looked at, taken back. Jobs run on threads of their own, which give way to all others,
//! [`RUNS`] at a time, on instances and books of their own; never on a lane. How many jobs there are, how long one runs and how long
//! its findings are kept is bounded.

mod batch;
mod findings;
mod input;
mod lines;
mod rehearsed;
mod run;
mod upload;
mod upstream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use tidegate_engine::Rule;
use tidegate_model::{Books, History, HistoryError, Past, Span};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

pub(crate) use findings::Backtest;
pub(crate) use input::{BacktestInput, KafkaPart, ReadFrom};

use crate::problem::Problem;
use findings::{Findings, JobState};
pub(crate) use run::Before;
use run::{Leave, Run, Stop};
use upload::{Pieces, Upload};

/// How many run at once.
const RUNS: usize = 2;
/// How many may wait for their turn, or for what is uploaded.
const WAITING: usize = 8;
/// How many are kept, with those that are over.
const KEPT: usize = 32;
/// How long one that is over is kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// How long one waits for its upload to begin.
const UPLOAD_WITHIN: Duration = Duration::from_secs(60);
/// How long one may run.
const LONGEST: Duration = Duration::from_secs(3600);
/// Names that one may have of each kind.
const MAX_SERIES: usize = 100_000;
/// How often its findings are shown while it runs.
const SHOWN_EVERY: Duration = Duration::from_millis(200);
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

/// One of them.
pub(crate) struct Job {
    id: u64,
    rule: Arc<Rule>,
    asked: Instant,
    asked_us: i64,
    cancelled: Arc<AtomicBool>,
    inner: Mutex<Inner>,
    /// It has been shown anew, or has ended.
    news: Notify,
}

struct Inner {
    state: JobState,
    /// What it reads, until it does.
    source: Option<Source>,
    upload: Option<Upload>,
    problem: Option<String>,
    done: Option<f64>,
    started: Option<Instant>,
    ended: Option<Instant>,
    findings: Findings,
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
            self.begin()?;
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

impl Job {
    fn new(id: u64, rule: Arc<Rule>, source: Source) -> Self {
        Self {
            id,
            rule,
            asked: Instant::now(),
            asked_us: now_us(),
            cancelled: Arc::default(),
            inner: Mutex::new(Inner {
                state: JobState::Waiting,
                source: Some(source),
                upload: None,
                problem: None,
                done: None,
                started: None,
                ended: None,
                findings: Findings::default(),
            }),
            news: Notify::new(),
        }
    }

    /// As it is shown.
    pub fn shown(&self) -> Backtest {
        self.told(&self.lock(), Findings::clone)
    }

    /// Waits until it is shown anew or has ended. What happens from the first poll on is not missed.
    pub fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// The same without what may be long, or may tell of the rows.
    pub fn in_short(&self) -> Backtest {
        self.told(&self.lock(), Findings::in_short)
    }

    fn told(&self, inner: &Inner, findings: fn(&Findings) -> Findings) -> Backtest {
        let until = inner.ended.unwrap_or_else(Instant::now);
        Backtest {
            id: self.id,
            rule: self.rule.name.to_string(),
            module: self.rule.module.sha256().to_string(),
            state: inner.state,
            problem: inner.problem.clone(),
            asked_us: self.asked_us,
            done: inner.done,
            seconds: inner.started.map_or(0.0, |started| until.saturating_duration_since(started).as_secs_f64()),
            findings: findings(&inner.findings),
        }
    }

    pub fn state(&self) -> JobState {
        self.lock().state
    }

    fn is_ready(&self) -> bool {
        let inner = self.lock();
        inner.state == JobState::Waiting
            && match inner.source {
                Some(Source::Stored(..)) => true,
                Some(Source::Upload(_)) => inner.upload.is_some(),
                None => false,
            }
    }

    /// What it is to read, if it is its turn: from now on it runs.
    fn take_source(&self) -> Option<(Source, Option<Upload>)> {
        if !self.is_ready() {
            return None;
        }
        let mut inner = self.lock();
        let source = inner.source.take()?;
        inner.state = JobState::Running;
        inner.started = Some(Instant::now());
        let upload = inner.upload.take();
        drop(inner);
        self.news.notify_waiters();
        Some((source, upload))
    }

    /// It waits for an upload that has not begun, and for too long.
    fn has_no_upload(&self) -> bool {
        let inner = self.lock();
        let waits = matches!(inner.source, Some(Source::Upload(_))) && inner.upload.is_none();
        waits && inner.state == JobState::Waiting && self.asked.elapsed() >= UPLOAD_WITHIN
    }

    fn over_for(&self) -> Option<Duration> {
        self.lock().ended.map(|ended| ended.elapsed())
    }

    fn expect_upload(&self, bytes: Option<u64>) -> Result<Pieces, Problem> {
        let mut inner = self.lock();
        if inner.state != JobState::Waiting
            || !matches!(inner.source, Some(Source::Upload(_)))
            || inner.upload.is_some()
        {
            return Err(Problem::conflict("no_upload", "this backtest waits for no upload"));
        }
        let (pieces, upload) = upload::pair(bytes);
        inner.upload = Some(upload);
        Ok(pieces)
    }

    /// Ends it if it is not over; gives whether it was.
    fn cancel(&self) -> bool {
        self.cancelled.store(true, Relaxed);
        let state = self.state();
        // One that runs ends itself, with what it has found.
        if state == JobState::Waiting {
            self.end(JobState::Cancelled, None);
        }
        state.is_over()
    }

    fn run(&self, source: (Source, Option<Upload>)) {
        match self.read(source) {
            Ok(()) => self.end(JobState::Done, None),
            Err(Stop::Cancelled) => self.end(JobState::Cancelled, None),
            Err(Stop::Because(why)) => self.end(JobState::Failed, Some(why)),
        }
    }

    fn read(&self, (source, upload): (Source, Option<Upload>)) -> Result<(), Stop> {
        let books = Arc::new(Books::new(MAX_SERIES));
        let mut before = Before::default();
        let mut past: Box<dyn Past> = match (source, upload) {
            (Source::Stored(history, span, rules), _) => {
                before = rules;
                history.open(span, books.clone())?
            }
            (Source::Upload(span), Some(upload)) => Box::new(upload.open(span, self.rule.kind(), books.clone())),
            (Source::Upload(_), None) => return Err(Stop::Because("its upload is gone".to_owned())),
        };
        let leave = Leave { cancelled: self.cancelled.clone(), until: Instant::now() + LONGEST };
        let run = Run::new(self.rule.clone(), &before, books, now_us(), leave);
        let mut run = run.map_err(|error| Stop::Because(error.to_string()))?;
        let mut shown = Instant::now();
        let outcome = loop {
            let (done, outcome) = match past.next_page() {
                Ok(None) => break Ok(()),
                Ok(Some(page)) => (page.done, run.page(page)),
                Err(error) => (None, Err(error.into())),
            };
            if outcome.is_err() {
                break outcome;
            }
            if shown.elapsed() >= SHOWN_EVERY {
                self.show(run.findings(), done);
                shown = Instant::now();
            }
        };
        self.show(run.findings(), None);
        outcome
    }

    fn show(&self, findings: &Findings, done: Option<f64>) {
        let mut inner = self.lock();
        inner.findings.clone_from(findings);
        inner.done = done.or(inner.done);
        drop(inner);
        self.news.notify_waiters();
    }

    fn end(&self, state: JobState, problem: Option<String>) {
        let mut inner = self.lock();
        inner.state = state;
        inner.problem = problem;
        inner.ended = Some(Instant::now());
        // What it would have read is let go: an upload under way is told so.
        (inner.source, inner.upload) = (None, None);
        if state == JobState::Done {
            inner.done = Some(1.0);
        }
        drop(inner);
        self.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<HistoryError> for Stop {
    fn from(error: HistoryError) -> Self {
        Stop::Because(error.0)
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
