//! The transaction of a share: alerts and points, or nothing.

use std::ops::Range;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use fail::fail_point;
use futures_util::SinkExt;
use futures_util::future::join;
use tidegate_config::Repeats;
use tidegate_model::Books;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use super::chunks::Age;
use super::fault::{Fault, Objection, To};
use super::pace::Steps;
use super::positions::{self, Span};
use super::schema::Tables;
use super::session::Session;
use super::stage;
use super::survey::{Share, Survey};
use super::template::{
    COPY_HEADER, COPY_TRAILER, RowTemplate, cleaned, nearest_timestamp, put_cleaned, put_number, put_timestamp,
};
use crate::json;
use crate::series::SeriesCache;

/// How much is encoded before it is handed to the connection: the server parses one part while the next is made.
const PART_BYTES: usize = 64 * 1024;
/// After how many rows the size is looked at.
const PART_ROWS: usize = 256;

/// To look for repeats in a compressed chunk, some versions of TimescaleDB unpack what is there of the same series, and give up beyond a number of
/// rows; a late row would come again and again then. Few chunks and the statement's timeout are bound enough. Only versions that have the limit
/// know its name.
const UNPACK: &str = "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings \
    WHERE name = 'timescaledb.max_tuples_decompressed_per_dml_transaction';";

/// How many rows are tried alone to see whether any passes.
const PROBES: usize = 32;

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
    pub(super) timeout: Duration,
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
    pub(super) survey: &'a Survey<'a>,
    pub(super) share: &'a Share,
    /// The numbers of its points, as far as they are to be stored.
    pub(super) numbers: &'a [u32],
    /// The logs that move on with it.
    pub(super) spans: &'a [(u32, &'a Span)],
    pub(super) alerts: Alerts,
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

/// What follows a COPY in the same breath, to save the wait for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Commit,
    /// The rows go on from the stage.
    Move,
}

/// What becomes of the parts of a share that the database takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Kept,
    /// They were only tried.
    Undone,
}

const UNDO: &str = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";

impl Parts {
    fn end(self) -> &'static str {
        match self {
            Parts::Kept => "RELEASE SAVEPOINT part",
            Parts::Undone => UNDO,
        }
    }
}

/// The numbers of the points that are left to be stored, and of those that are stored.
type Divided = (Vec<u32>, Vec<u32>);

impl Store<'_> {
    /// Stores a share in one transaction, but the points that the database refuses.
    pub(super) async fn share(&self, task: Task<'_>, buffer: &mut BytesMut) -> Result<Stored, Fault> {
        let began = Instant::now();
        let stored = match self.sent(task, buffer).await {
            Err(Fault::WentBack(why)) => {
                let of_no_message = self.of_no_message(task, buffer).await;
                of_no_message.map(|()| Stored { went_back: Some(why), ..Stored::default() })
            }
            other => other,
        };
        stored.map_err(|fault| fault.or_slow(self.most_at_once(task), began.elapsed() >= self.manner.timeout))
    }

    /// The most rows of a statement.
    fn most_at_once(&self, task: Task<'_>) -> usize {
        match (self.manner.steps, self.manner.repeats) {
            // All that wait go on from the stage in one.
            (Steps::Usual, Repeats::Dropped) => task.numbers.len(),
            _ => task.numbers.len().min(self.manner.max_rows),
        }
    }

    async fn sent(&self, task: Task<'_>, buffer: &mut BytesMut) -> Result<Stored, Fault> {
        match self.manner.steps {
            Steps::Usual => self.whole(task, buffer).await,
            // Its statements are short, and none waits for COMMIT to be checked.
            Steps::Short => self.by_halves(task, buffer).await,
        }
    }

    /// What no message brings again when messages go back to their source: the alerts, and points that came of none.
    async fn of_no_message(&self, task: Task<'_>, buffer: &mut BytesMut) -> Result<(), Fault> {
        self.session.run("ROLLBACK").await?;
        let placed = task.numbers.iter().zip(&task.share.places);
        let numbers: Vec<u32> = placed.filter(|(_, place)| place.is_none()).map(|(&number, _)| number).collect();
        let refused = self.sent(Task { numbers: &numbers, spans: &[], ..task }, buffer).await?.refused;
        if let Some((_, reason)) = refused.first() {
            tracing::error!(
                points = refused.len(),
                reason,
                "points that rules made by themselves were refused while what is stored went back: they are lost"
            );
        }
        Ok(())
    }

    async fn whole(&self, task: Task<'_>, buffer: &mut BytesMut) -> Result<Stored, Fault> {
        let fault = match self.at_once(task, buffer).await {
            Ok(stored) => return Ok(stored),
            Err(fault) => fault,
        };
        if task.numbers.is_empty() || fault.of_data().is_none() {
            return Err(fault);
        }
        self.session.run("ROLLBACK").await?;
        self.by_halves(task, buffer).await
    }

    /// The usual way: everything, or nothing.
    async fn at_once(&self, task: Task<'_>, buffer: &mut BytesMut) -> Result<Stored, Fault> {
        let copy = self.begin(task.share.age, "").await?;
        let divided = self.advance(task).await?;
        let mut stored = self.told_again(&copy, task, divided.as_ref(), buffer).await?;
        let task = Task { numbers: divided.as_ref().map_or(task.numbers, |(left, _)| left), ..task };
        self.store_alerts(task, buffer).await?;
        let parts = parts(task.numbers.len(), self.manner.max_rows);
        let Some((last, before)) = parts.split_last() else {
            drop(copy);
            self.session.run("COMMIT").await?;
            return Ok(stored);
        };
        for range in before {
            self.copy_points(copy.clone(), range.clone(), task, buffer, Then::Nothing).await?;
        }
        let last = last.clone();
        if self.manner.repeats == Repeats::Stored {
            self.copy_points(copy, last, task, buffer, Then::Commit).await?;
            return Ok(stored);
        }
        let moved = self.copy_points(copy, last, task, buffer, Then::Move).await?;
        let (repeats, differing) =
            stage::left_out(self.session, self.manner.tables, task.share.age, task.numbers.len(), moved).await?;
        fail_point!("commit-before", |_| std::process::abort());
        self.session.run("COMMIT").await?;
        fail_point!("commit-after", |_| std::process::abort());
        stored.repeats += repeats;
        stored.differing += differing;
        Ok(stored)
    }

    /// The way when some rows are refused: what fails is halved, under savepoints, until the rows at fault stand alone.
    async fn by_halves(&self, task: Task<'_>, buffer: &mut BytesMut) -> Result<Stored, Fault> {
        // Constraints that would speak at COMMIT, when no row can be told any more, speak at once.
        let copy = self.begin(task.share.age, "SET CONSTRAINTS ALL IMMEDIATE").await?;
        let divided = self.advance(task).await?;
        let mut stored = self.told_again(&copy, task, divided.as_ref(), buffer).await?;
        let task = Task { numbers: divided.as_ref().map_or(task.numbers, |(left, _)| left), ..task };
        self.store_alerts(task, buffer).await?;
        let halved = self.halve(&copy, task, Parts::Kept, buffer).await?;
        drop(copy);
        self.session.run("COMMIT").await?;
        stored.refused.extend(halved.refused);
        stored.repeats += halved.repeats;
        stored.differing += halved.differing;
        Ok(stored)
    }

    /// What is said of points that are stored already. Some of them may have been refused then, and whoever was to hear of it died, or lost the
    /// connection within COMMIT: they are written once more and undone, and what the database refuses now is told again. Only what comes a second
    /// time has this to bear.
    async fn told_again(
        &self,
        copy: &Statement,
        task: Task<'_>,
        divided: Option<&Divided>,
        buffer: &mut BytesMut,
    ) -> Result<Stored, Fault> {
        let Some((_, known)) = divided.filter(|(_, known)| !known.is_empty()) else { return Ok(Stored::default()) };
        // As when they were refused: by row, not at COMMIT.
        self.session.run("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let Stored { refused, .. } = self.halve(copy, Task { numbers: known, ..task }, Parts::Undone, buffer).await?;
        Ok(Stored { repeats: (known.len() - refused.len()) as u64, refused, ..Stored::default() })
    }

    /// Writes the points of a task in parts, and what fails of them in halves.
    async fn halve(
        &self,
        copy: &Statement,
        task: Task<'_>,
        parts_are: Parts,
        buffer: &mut BytesMut,
    ) -> Result<Stored, Fault> {
        let mut stored = Stored::default();
        // Of points that are stored already it is only told what becomes of them: to be told of too many loses nothing.
        let mut others = if parts_are == Parts::Undone { Others::Passed } else { self.manner.others };
        let mut left = parts(task.numbers.len(), self.manner.max_rows);
        left.reverse();
        while let Some(range) = left.pop() {
            self.session.run("SAVEPOINT part").await?;
            let fault = match self.part(copy.clone(), range.clone(), task, buffer).await {
                Ok((repeats, differing)) => {
                    stored.repeats += repeats;
                    stored.differing += differing;
                    others = Others::Passed;
                    self.session.run(parts_are.end()).await?;
                    continue;
                }
                Err(fault) => fault,
            };
            let Some(Objection { reason, line, to }) = fault.of_data() else { return Err(fault) };
            self.session.run(UNDO).await?;
            if to == To::RowIfOthersPass && others == Others::Unknown {
                if !self.any_passes(copy, task, buffer).await? {
                    return Err(fault);
                }
                others = Others::Passed;
            }
            // It is in its own way, and so are most of them, perhaps.
            let is_there = parts_are == Parts::Undone && fault.of_repeat();
            if range.len() == 1 {
                let number = task.numbers.get(range.start).filter(|_| !is_there);
                stored.refused.extend(number.map(|&number| (number, reason)));
                continue;
            }
            // The row that the database names is tried alone: a hint, which saves most of the halving.
            let named = line
                .and_then(|line| Some(range.start + line.checked_sub(1)?))
                .filter(|row| range.contains(row) && !is_there);
            let (before, rest) = match named {
                Some(row) if row > range.start => (range.start..row, row..range.end),
                Some(row) => (range.start..row + 1, row + 1..range.end),
                None => {
                    let middle = range.start + range.len() / 2;
                    (range.start..middle, middle..range.end)
                }
            };
            left.extend([rest, before]);
        }
        Ok(stored)
    }

    /// Whether the database takes any of a task's points: some from all over it are tried alone, and undone.
    async fn any_passes(&self, copy: &Statement, task: Task<'_>, buffer: &mut BytesMut) -> Result<bool, Fault> {
        let rows = task.numbers.len();
        let stride = rows.div_ceil(PROBES).max(1);
        for from in (0..rows).step_by(stride) {
            // Not each time at the same place of a stride: points of one series may come so.
            let row = fastrand::usize(from..rows.min(from + stride));
            self.session.run("SAVEPOINT part").await?;
            let tried = self.part(copy.clone(), row..row + 1, task, buffer).await;
            match tried {
                Err(fault) if fault.of_data().is_none() => return Err(fault),
                _ => self.session.run(UNDO).await?,
            }
            if tried.is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One part of the way by halves; gives repeats and differing ones.
    async fn part(
        &self,
        copy: Statement,
        range: Range<usize>,
        task: Task<'_>,
        buffer: &mut BytesMut,
    ) -> Result<(u64, u64), Fault> {
        let rows = range.len();
        if self.manner.repeats == Repeats::Stored {
            self.copy_points(copy, range, task, buffer, Then::Nothing).await?;
            return Ok((0, 0));
        }
        let moved = self.copy_points(copy, range, task, buffer, Then::Move).await?;
        let left_out = stage::left_out(self.session, self.manner.tables, task.share.age, rows, moved).await?;
        self.session.run(stage::EMPTY).await?;
        Ok(left_out)
    }

    /// Moves the logs of a share on, if it has any; divides its points if some of them are stored already.
    async fn advance(&self, task: Task<'_>) -> Result<Option<Divided>, Fault> {
        if task.spans.is_empty() {
            return Ok(None);
        }
        let spans: Vec<&Span> = task.spans.iter().map(|(_, span)| *span).collect();
        let before = positions::advance(self.session, self.manner.tables, &spans).await?;
        let stored_to = |wanted: u32| {
            let at = task.spans.iter().position(|(number, _)| *number == wanted);
            at.map_or(0, |at| before[at])
        };
        if before.iter().all(|&offset| offset == 0) {
            return Ok(None);
        }
        Ok(Some(positions::divide(task.numbers, &task.share.places, stored_to)))
    }

    /// Begins the transaction and has the COPY of points parsed, in one round trip. The statement lives no longer than the transaction.
    async fn begin(&self, age: Age, and: &str) -> Result<Statement, Fault> {
        let client = &self.session.client;
        let (stage, copy) = match self.manner.repeats {
            Repeats::Stored => ("", &self.manner.tables.copy_points),
            Repeats::Dropped => (stage::MAKE, &self.manner.tables.copy_to_stage),
        };
        let late = if age == Age::Late { UNPACK } else { "" };
        let timeout_ms = self.manner.timeout.as_millis();
        let begin = format!("BEGIN; SET LOCAL statement_timeout = {timeout_ms}; {late} {stage} {and}");
        let both = async {
            let (began, parsed) = join(client.batch_execute(&begin), client.prepare(copy)).await;
            began.and(parsed)
        };
        self.session.answer(both).await
    }

    /// Gives how many rows the last statement took.
    async fn copy_points(
        &self,
        copy: Statement,
        range: Range<usize>,
        task: Task<'_>,
        buffer: &mut BytesMut,
        then: Then,
    ) -> Result<u64, Fault> {
        let client = &self.session.client;
        let copying = async {
            fail_point!("copy-before", |_| std::process::abort());
            let mut wire = pin!(client.copy_in::<_, Bytes>(&copy).await?);
            // The last to go closes the statement, which has to happen before COMMIT: after it, PgBouncer may have given the server
            // connection, with the statement still in it, to somebody else.
            drop(copy);
            buffer.clear();
            buffer.extend_from_slice(&COPY_HEADER);
            for some in task.numbers[range].chunks(PART_ROWS) {
                task.survey.encode(some, self.manner.series, buffer);
                if buffer.len() >= PART_BYTES {
                    wire.feed(buffer.split().freeze()).await?;
                    // Takes the memory back that has been sent meanwhile.
                    buffer.reserve(PART_BYTES + PART_BYTES / 2);
                }
            }
            buffer.extend_from_slice(&COPY_TRAILER);
            wire.feed(buffer.split().freeze()).await?;
            match then {
                Then::Nothing => {
                    let copied = wire.finish().await;
                    fail_point!("copy-after", |_| std::process::abort());
                    copied
                }
                Then::Commit => finish_and_commit(wire, client).await,
                Then::Move => {
                    let (copied, moved) = join(wire.finish(), stage::move_over(client, self.manner.tables)).await;
                    fail_point!("copy-after", |_| std::process::abort());
                    copied.and(moved)
                }
            }
        };
        self.session.answer(copying).await
    }

    async fn store_alerts(&self, task: Task<'_>, buffer: &mut BytesMut) -> Result<(), Fault> {
        let mut alerts = task.survey.alerts().peekable();
        if task.alerts == Alerts::Elsewhere || alerts.peek().is_none() {
            return Ok(());
        }
        buffer.clear();
        buffer.extend_from_slice(&COPY_HEADER);
        for alert in alerts {
            buffer.put_i16(8);
            put_timestamp(buffer, nearest_timestamp(alert.time_us));
            put_cleaned(buffer, &alert.rule);
            put_cleaned(buffer, &alert.topic);
            put_cleaned(buffer, &alert.key);
            put_cleaned(buffer, alert.transition.as_str());
            put_cleaned(buffer, alert.severity.as_str());
            put_number(buffer, alert.value);
            put_cleaned(buffer, &alert.message);
        }
        buffer.extend_from_slice(&COPY_TRAILER);
        let rows = buffer.split().freeze();
        let copying = async {
            let mut wire = pin!(self.session.client.copy_in::<_, Bytes>(&self.manner.tables.copy_alerts).await?);
            wire.feed(rows).await?;
            wire.finish().await
        };
        // An alert is no row that could be rejected: that the table does not take it, somebody has to look at.
        self.session.answer(copying).await.map(drop).map_err(|fault| fault.of_table(&self.manner.tables.alerts))
    }
}

/// Tells the database what is new about series: one statement, however many, and a transaction of its own. It comes before the
/// points, for tables that refer to it.
pub(super) async fn tell_series(
    session: &Session,
    tables: &Tables,
    books: &Books,
    series: &SeriesCache<RowTemplate>,
    timeout: Duration,
) -> Result<(), Fault> {
    let (mut topics, mut units, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for &id in series.untold() {
        let refused = series.get(id).and_then(RowTemplate::refused);
        if let (Some(description), None) = (series.description(id), refused) {
            topics.push(books.series_topic(id));
            units.push(description.unit.as_deref());
            let clean = description.labels.iter().map(|(key, value)| (cleaned(key), cleaned(value)));
            labels.push(json::labels(&clean.collect::<Vec<_>>()));
        }
    }
    session.run(&format!("BEGIN; SET LOCAL statement_timeout = {}", timeout.as_millis())).await?;
    // `execute_typed`: the statement has no name, so none is left behind in a pooled server.
    let telling = async {
        let columns: [(&(dyn ToSql + Sync), Type); 3] =
            [(&topics, Type::TEXT_ARRAY), (&units, Type::TEXT_ARRAY), (&labels, Type::TEXT_ARRAY)];
        session.client.execute_typed(&tables.upsert_series, &columns).await
    };
    session.answer(telling).await.map_err(|fault| fault.of_table(&tables.series))?;
    session.run("COMMIT").await
}

/// Ends the COPY and commits without waiting in between: a COPY that fails turns the COMMIT into a rollback, and its error is given.
async fn finish_and_commit(
    wire: std::pin::Pin<&mut tokio_postgres::CopyInSink<Bytes>>,
    client: &Client,
) -> Result<u64, tokio_postgres::Error> {
    let commit = async {
        fail_point!("commit-before", |_| std::process::abort());
        client.batch_execute("COMMIT").await
    };
    let copy = async {
        let copied = wire.finish().await;
        fail_point!("copy-after", |_| std::process::abort());
        copied
    };
    let (copied, committed) = join(copy, commit).await;
    fail_point!("commit-after", |_| std::process::abort());
    copied.and_then(|rows| committed.map(|()| rows))
}

/// `0..len` in parts of at most `max`.
fn parts(len: usize, max: usize) -> Vec<Range<usize>> {
    (0..len).step_by(max).map(|from| from..len.min(from + max)).collect()
}
