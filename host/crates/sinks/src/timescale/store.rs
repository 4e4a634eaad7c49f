//! The transaction of a share: alerts and points, or nothing.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fail::fail_point;
use futures_util::future::join;
use tidegate_config::Repeats;
use tidegate_model::Alert;
use tokio_postgres::Statement;

use super::chunks::Unpacking;
use super::copy::{Lines, Then};
use super::fault::Fault;
use super::pace::Steps;
use super::positions::{self, Divided, Span};
use super::schema::Tables;
use super::session::{Session, begin};
use super::stage;
use super::survey::{Share, Survey};
use super::template::RowTemplate;
use crate::series::SeriesCache;

/// How the shares of a write are stored.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) tables: &'a Tables,
    pub(super) series: &'a SeriesCache<RowTemplate>,
    pub(super) repeats: Repeats,
    /// The most rows of one COPY: what `statement_timeout` is a bound for.
    pub(super) max_rows: usize,
    pub(super) steps: Steps,
    /// What became of other rows of the write.
    pub(super) others: Others,
    /// What became of all rows before it.
    pub(super) ever: Others,
    pub(super) timeout: Duration,
    pub(super) unpacking: Unpacking,
}

/// What became of other rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    Unknown,
    /// The database took some: it is not that it takes none.
    Passed,
}

/// Where a share is stored, and how.
pub(super) struct Store<'a> {
    pub(super) session: &'a Session,
    pub(super) manner: Manner<'a>,
}

/// What is stored in one transaction.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) survey: &'a Survey,
    pub(super) share: &'a Share,
    /// The share's number.
    pub(super) number: usize,
    /// What the connection stores next.
    pub(super) next: Option<Next<'a>>,
    /// The numbers of its points, as far as they are to be stored.
    pub(super) numbers: &'a [u32],
    /// The logs that move on with it.
    pub(super) spans: &'a [(u32, &'a Span)],
    pub(super) alerts: Alerts,
}

impl<'a> Task<'a> {
    /// The alerts that go with it.
    pub(super) fn alerts(&self) -> Vec<&'a Alert> {
        match self.alerts {
            Alerts::WithThis => self.survey.alerts().collect(),
            Alerts::Elsewhere => Vec::new(),
        }
    }
}

/// What a connection stores after a share.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    /// The share of this number.
    Share(&'a Survey, usize),
    /// Its first share of the write announced, where it is number so much of so many connections.
    Write(&'a Announced<'a>, (usize, usize)),
}

impl<'a> Next<'a> {
    /// The number of the share, and what it is a share of.
    pub(super) fn share(self) -> Option<(&'a Survey, usize)> {
        match self {
            Next::Share(survey, number) => Some((survey, number)),
            Next::Write(announced, (at, of)) => {
                let survey = announced.survey.get_or_init(announced.look).as_ref()?;
                let is_first = |share: &Share| share.connection % of == at && !share.numbers.is_empty();
                Some((survey, survey.shares().iter().position(is_first)?))
            }
        }
    }
}

/// The write that was announced, looked over when a connection has sent all that it has to send before.
pub(super) struct Announced<'a> {
    pub(super) look: &'a (dyn Fn() -> Option<Survey> + Sync),
    pub(super) survey: OnceLock<Option<Survey>>,
}

/// Which share the alerts go with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alerts {
    WithThis,
    Elsewhere,
}

/// What came of a share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// Points that the database will never take, by number.
    pub(super) refused: Vec<(u32, String)>,
    /// Points that were there already.
    pub(super) repeats: u64,
    /// Of those, the ones whose value is another.
    pub(super) differing: u64,
    /// Why nothing is stored but what no message brings again, where what is stored of a log went back: the write as a whole is given back, once
    /// its other shares are stored.
    pub(super) went_back: Option<String>,
}

impl Stored {
    /// Whether the database took a point of its share.
    pub(super) fn has_passed(&self, share: &Share) -> bool {
        self.went_back.is_none() && self.refused.len() < share.numbers.len()
    }
}

impl Store<'_> {
    /// Stores a share in one transaction, but the points that the database refuses.
    pub(super) async fn share(&self, task: Task<'_>, lines: &mut Lines) -> Result<Stored, Fault> {
        let began = Instant::now();
        let stored = match self.sent(task, lines).await {
            Err(Fault::WentBack(why)) => {
                let of_no_message = self.of_no_message(task, lines).await;
                of_no_message.map(|()| Stored { went_back: Some(why), ..Stored::default() })
            }
            other => other,
        };
        stored.map_err(|fault| {
            let waited = began.elapsed() >= self.manner.timeout;
            fault.or_slow(&self.manner.tables.metrics, self.most_at_once(task), waited)
        })
    }

    /// The most rows of a statement.
    fn most_at_once(&self, task: Task<'_>) -> usize {
        match (self.manner.steps, self.manner.repeats) {
            // All that wait go on from the stage in one.
            (Steps::Usual, Repeats::Dropped) => task.numbers.len(),
            _ => task.numbers.len().min(self.manner.max_rows),
        }
    }

    async fn sent(&self, task: Task<'_>, lines: &mut Lines) -> Result<Stored, Fault> {
        match self.manner.steps {
            Steps::Usual => self.whole(task, lines).await,
            // Its statements are short, and none waits for COMMIT to be checked.
            Steps::Short => self.by_halves(task, lines).await,
        }
    }

    /// What no message brings again when messages go back to their source: the alerts, and points that came of none.
    async fn of_no_message(&self, task: Task<'_>, lines: &mut Lines) -> Result<(), Fault> {
        self.session.run("ROLLBACK").await?;
        let placed = task.numbers.iter().zip(&task.share.places);
        let numbers: Vec<u32> = placed.filter(|(_, place)| place.is_none()).map(|(&number, _)| number).collect();
        let refused = self.sent(Task { numbers: &numbers, spans: &[], ..task }, lines).await?.refused;
        if let Some((_, reason)) = refused.first() {
            tracing::error!(
                points = refused.len(),
                reason,
                "points that rules made by themselves were refused while what is stored went back: they are lost"
            );
        }
        Ok(())
    }

    async fn whole(&self, task: Task<'_>, lines: &mut Lines) -> Result<Stored, Fault> {
        let fault = match self.at_once(task, lines).await {
            Ok(stored) => return Ok(stored),
            Err(fault) => fault,
        };
        let has_rows = !task.numbers.is_empty() || task.alerts == Alerts::WithThis;
        if !has_rows || fault.of_data().is_none() {
            return Err(fault);
        }
        self.session.run("ROLLBACK").await?;
        self.by_halves(task, lines).await
    }

    /// The usual way: everything, or nothing.
    async fn at_once(&self, task: Task<'_>, lines: &mut Lines) -> Result<Stored, Fault> {
        let copy = self.begin("").await?;
        let divided = self.advance(task).await?;
        let mut stored = self.told_again(&copy, task, divided.as_ref(), lines).await?;
        let task = Task { numbers: divided.as_ref().map_or(task.numbers, |(left, _)| left), ..task };
        self.copy_alerts(&task.alerts(), lines).await?;
        let parts = parts(task.numbers.len(), self.manner.max_rows);
        let Some((last, before)) = parts.split_last() else {
            drop(copy);
            self.session.commit().await?;
            return Ok(stored);
        };
        for range in before {
            self.copy_points(copy.clone(), range.clone(), task, lines, Then::Nothing).await?;
        }
        let last = last.clone();
        if self.manner.repeats == Repeats::Stored {
            self.copy_points(copy, last, task, lines, Then::Commit).await?;
            return Ok(stored);
        }
        let moved = self.copy_points(copy, last, task, lines, Then::Move).await?;
        let (repeats, differing) =
            stage::left_out(self.session, self.manner.tables, task.share.age, task.numbers.len(), moved).await?;
        fail_point!("commit-before", |_| std::process::abort());
        self.session.commit().await?;
        fail_point!("commit-after", |_| std::process::abort());
        stored.repeats += repeats;
        stored.differing += differing;
        Ok(stored)
    }

    /// Moves the logs of a share on, if it has any; divides its points if some of them are stored already.
    pub(super) async fn advance(&self, task: Task<'_>) -> Result<Option<Divided>, Fault> {
        if task.spans.is_empty() {
            return Ok(None);
        }
        let spans: Vec<&Span> = task.spans.iter().map(|(_, span)| *span).collect();
        let positions = &self.manner.tables.positions;
        // Fewer rows in a statement are no help.
        let waits = || {
            format!(
                "somebody has a lock on rows of table {positions} (pg_locks), as another host that had these partitions"
            )
        };
        let advanced = positions::advance(self.session, self.manner.tables, &spans).await;
        let before = advanced.map_err(|fault| fault.waiting(&waits()))?;
        let stored_to = |wanted: u32| {
            let at = task.spans.iter().position(|(number, _)| *number == wanted);
            at.map_or(0, |at| before[at])
        };
        Ok(positions::divide(task.numbers, &task.share.places, stored_to))
    }

    /// Begins the transaction and has the COPY of points parsed, in one round trip. The statement lives no longer than the transaction.
    pub(super) async fn begin(&self, and: &str) -> Result<Statement, Fault> {
        let client = &self.session.client;
        let (stage, copy) = match self.manner.repeats {
            Repeats::Stored => ("", &self.manner.tables.copy_points),
            Repeats::Dropped => (stage::MAKE, &self.manner.tables.copy_to_stage),
        };
        let begin = format!("{} {} {stage} {and}", begin(self.manner.timeout), self.manner.unpacking.freed());
        let both = async {
            let (began, parsed) = join(client.batch_execute(&begin), client.prepare(copy)).await;
            began.and(parsed)
        };
        self.session.answer(both).await
    }
}

/// `0..len` in parts of at most `max`.
pub(super) fn parts(len: usize, max: usize) -> Vec<Range<usize>> {
    (0..len).step_by(max).map(|from| from..len.min(from + max)).collect()
}
