//! One backtest: waited for, running, over; and what it has found so far.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_engine::Rule;
use tidegate_model::{Books, HistoryError, Past};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Source;
use super::findings::{Backtest, Findings, JobState};
use super::run::{Before, Leave, Run, Stop};
use super::upload::{self, Pieces, Upload, Waker};
use crate::problem::Problem;

/// How long one waits for its upload to begin.
const UPLOAD_WITHIN: Duration = Duration::from_secs(60);
/// How long one may run.
const LONGEST: Duration = Duration::from_secs(3600);
/// Names that one may have of each kind.
const MAX_SERIES: usize = 100_000;
/// How often its findings are shown while it runs.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// A backtest.
pub(crate) struct Job {
    pub(super) id: u64,
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
    /// For when it waits for a piece of it.
    waker: Option<Waker>,
    problem: Option<String>,
    done: Option<f64>,
    started: Option<Instant>,
    ended: Option<Instant>,
    findings: Findings,
}

impl Job {
    pub(super) fn new(id: u64, rule: Arc<Rule>, source: Source) -> Self {
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
                waker: None,
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
        let mut told = self.told(&self.lock(), Findings::in_short);
        // Its words are a module's or a database's.
        if let Some(problem) = &mut told.problem {
            *problem = format!("it failed: GET /api/v1/backtests/{} says why, to who may see data", self.id);
        }
        told
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

    pub(super) fn is_ready(&self) -> bool {
        let inner = self.lock();
        inner.state == JobState::Waiting
            && match inner.source {
                Some(Source::Stored(..)) => true,
                Some(Source::Upload(_)) => inner.upload.is_some(),
                None => false,
            }
    }

    /// What it is to read, if it is its turn: from now on it runs.
    pub(super) fn take_source(&self) -> Option<(Source, Option<Upload>)> {
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
    pub(super) fn has_no_upload(&self) -> bool {
        let inner = self.lock();
        let waits = matches!(inner.source, Some(Source::Upload(_))) && inner.upload.is_none();
        waits && inner.state == JobState::Waiting && self.asked.elapsed() >= UPLOAD_WITHIN
    }

    pub(super) fn over_for(&self) -> Option<Duration> {
        self.lock().ended.map(|ended| ended.elapsed())
    }

    pub(super) fn expect_upload(&self, bytes: Option<u64>) -> Result<Pieces, Problem> {
        let mut inner = self.lock();
        if inner.state != JobState::Waiting
            || !matches!(inner.source, Some(Source::Upload(_)))
            || inner.upload.is_some()
        {
            return Err(Problem::conflict("no_upload", "this backtest waits for no upload"));
        }
        let (pieces, upload, waker) = upload::pair(bytes, self.cancelled.clone());
        (inner.upload, inner.waker) = (Some(upload), Some(waker));
        Ok(pieces)
    }

    /// Ends it if it is not over; gives whether it was.
    pub(super) fn cancel(&self) -> bool {
        self.cancelled.store(true, SeqCst);
        let inner = self.lock();
        let state = inner.state;
        inner.waker.iter().for_each(Waker::wake);
        drop(inner);
        // One that runs ends itself, with what it has found.
        if state == JobState::Waiting {
            self.end(JobState::Cancelled, None);
        }
        state.is_over()
    }

    pub(super) fn run(&self, source: (Source, Option<Upload>)) {
        let (state, problem) = outcome(|| self.read(source));
        self.end(state, problem);
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
                Err(_) if self.cancelled.load(SeqCst) => (None, Err(Stop::Cancelled)),
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

    pub(super) fn end(&self, state: JobState, problem: Option<String>) {
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

/// How a run has ended. One that panics ends as a job that failed: the thread is one of few, and the next job's.
fn outcome(run: impl FnOnce() -> Result<(), Stop>) -> (JobState, Option<String>) {
    let panicked = |_| Err(Stop::Because("it ended by a mistake in Tidegate; the host's log tells of it".to_owned()));
    match tidegate_telemetry::caught("backtest", run).unwrap_or_else(panicked) {
        Ok(()) => (JobState::Done, None),
        Err(Stop::Cancelled) => (JobState::Cancelled, None),
        Err(Stop::Because(why)) => (JobState::Failed, Some(why)),
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

#[cfg(test)]
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: a run that panics ends its job and not its thread, of which there are few; nothing of the panic's text is told, which may be of the rows.
    #[test]
    fn a_panic_ends_the_job_alone() {
        for _ in 0..=super::super::RUNS {
            let (state, problem) = outcome(|| panic!("row 7 is secret"));
            assert!(
                state == JobState::Failed && problem.is_some_and(|it| it.contains("log") && !it.contains("secret"))
            );
        }
        assert!(matches!(outcome(|| Ok(())), (JobState::Done, None)));
        assert!(matches!(outcome(|| Err(Stop::Cancelled)), (JobState::Cancelled, None)));
    }
}
