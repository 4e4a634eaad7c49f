//! What the gate writes into the two books: each change before and after, each refusal for want of a right.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use axum::http::StatusCode;

use super::Changed;
use super::audit::{Audit, Book, Line};
use super::pace::{Pace, Payer};
use crate::problem::Problem;

/// How many refusals are written a second; twice as many at once. The rest is counted.
const DENIALS_PER_S: u32 = 20;

/// Both books, for all addresses together.
pub(crate) struct AuditWriter {
    changes: Audit,
    denials: Audit,
    pace: Pace,
    /// Refusals that were not written, since there were too many.
    unwritten: AtomicU64,
}

/// Who asks for what.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub who: String,
    pub from: String,
    pub operation: &'static str,
    pub about: String,
    /// Which part of that.
    pub of: String,
}

/// A change that has been written down as begun.
pub(super) struct Begun {
    deed: Deed,
    number: String,
}

impl AuditWriter {
    pub fn new(data_dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            changes: Audit::new(Book::Changes, data_dir),
            denials: Audit::new(Book::Denials, data_dir),
            pace: Pace::new(DENIALS_PER_S, 0, Instant::now()),
            unwritten: AtomicU64::new(0),
        })
    }

    /// Writes down that a change is about to be made. An error means that it must not be.
    pub(super) async fn begin(self: &Arc<Self>, deed: Deed) -> Result<Begun, Problem> {
        let number = format!("{:016x}", fastrand::u64(..));
        let begun = Begun { deed, number };
        let (audit, line) = (self.clone(), begun.line("begun", None, "", Changed::default()));
        let written = tokio::task::spawn_blocking(move || line.write(&audit.changes, 0)).await;
        match written {
            Ok(Ok(())) => Ok(begun),
            failed => {
                tracing::error!(
                    "nothing can be changed by the API, since the audit log cannot be written: {failed:?}"
                );
                Err(Problem::busy("the audit log cannot be written, so nothing is changed; see the host's log"))
            }
        }
    }

    /// Writes down what has come of it.
    pub(super) async fn end(self: &Arc<Self>, begun: Begun, status: StatusCode, refused: &str, changed: Changed) {
        let (audit, line) = (self.clone(), begun.line("ended", Some(status), refused, changed));
        let written = tokio::task::spawn_blocking(move || line.write(&audit.changes, 0)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::error!("a line of the audit log could not be written: {written:?}");
        }
    }

    /// Writes a refusal down, if there are not too many.
    pub(super) async fn deny(self: &Arc<Self>, deed: Deed, problem: &Problem) {
        // Who is over their rate must not fill the disk, nor turn others out of the book.
        let over = problem.status() == StatusCode::TOO_MANY_REQUESTS;
        if over || !self.pace.take(&Payer::Anybody, Instant::now()) {
            self.unwritten.fetch_add(1, Relaxed);
            return;
        }
        let unwritten = self.unwritten.swap(0, Relaxed);
        let owned = Owned {
            deed,
            phase: "denied",
            number: None,
            status: Some(problem.status()),
            refused: problem.code().to_owned(),
            changed: Changed::default(),
        };
        let audit = self.clone();
        let written = tokio::task::spawn_blocking(move || owned.write(&audit.denials, unwritten)).await;
        if !matches!(written, Ok(Ok(()))) {
            self.unwritten.fetch_add(unwritten + 1, Relaxed);
            tracing::error!("a refusal could not be written down: {written:?}");
        }
    }
}

impl Begun {
    fn line(&self, phase: &'static str, status: Option<StatusCode>, refused: &str, changed: Changed) -> Owned {
        let (deed, number) = (self.deed.clone(), Some(self.number.clone()));
        Owned { deed, phase, number, status, refused: refused.to_owned(), changed }
    }
}

/// A line on its way to a thread that may block.
struct Owned {
    deed: Deed,
    phase: &'static str,
    number: Option<String>,
    status: Option<StatusCode>,
    refused: String,
    changed: Changed,
}

impl Owned {
    fn write(&self, book: &Audit, unwritten: u64) -> std::io::Result<()> {
        book.write(&Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            phase: self.phase,
            change: self.number.clone(),
            who: &self.deed.who,
            from: self.deed.from.clone(),
            operation: self.deed.operation,
            about: &self.deed.about,
            of: &self.deed.of,
            status: self.status.map(|status| status.as_u16()),
            refused: &self.refused,
            before: self.changed.before.as_deref(),
            after: self.changed.after.as_deref(),
            unwritten,
        })
    }
}
