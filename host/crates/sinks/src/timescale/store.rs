//! The transaction of a write.

use std::ops::Range;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use futures_util::future::join;
use tidegate_model::Books;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use super::fault::Fault;
use super::schema::{Found, Tables};
use super::session::Session;
use super::survey::Survey;
use super::template::{
    COPY_HEADER, COPY_TRAILER, RowTemplate, cleaned, nearest_timestamp, put_cleaned, put_number, put_timestamp,
};
use crate::json;
use crate::series::SeriesCache;

/// How much is encoded before it is handed to the connection: the server parses one part while the next is made.
const PART_BYTES: usize = 64 * 1024;
/// After how many rows the size is looked at.
const PART_ROWS: usize = 256;

/// Where a write is stored.
pub(super) struct Store<'a> {
    pub(super) session: &'a Session,
    pub(super) tables: &'a Tables,
    pub(super) books: &'a Books,
    pub(super) series: &'a SeriesCache<RowTemplate>,
    pub(super) found: Found,
    /// The most rows of one COPY: what `statement_timeout` is a bound for.
    pub(super) max_rows: usize,
    pub(super) timeout_ms: u128,
}

/// What follows a COPY in the same breath, to save the wait for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Commit,
}

impl Store<'_> {
    /// Stores all that the survey has, but the points it refuses, in one transaction. Points that the database refuses are noted
    /// in the survey.
    pub(super) async fn all(&self, survey: &mut Survey<'_>, buffer: &mut BytesMut) -> Result<(), Fault> {
        let points = survey.storable(&(0..survey.len()));
        if points == 0 && survey.alerts().next().is_none() && !self.has_news_of_series() {
            return Ok(());
        }
        let Err(fault) = self.at_once(survey, buffer).await else { return Ok(()) };
        if points == 0 || fault.of_data().is_none() {
            return Err(fault);
        }
        self.session.answer(self.session.client.batch_execute("ROLLBACK")).await?;
        self.by_halves(survey, buffer).await
    }

    /// The usual way: everything, or nothing.
    async fn at_once(&self, survey: &Survey<'_>, buffer: &mut BytesMut) -> Result<(), Fault> {
        let copy = self.begin("").await?;
        self.store_series().await?;
        self.store_alerts(survey, buffer).await?;
        let parts = parts(survey.len(), self.max_rows);
        let Some((last, before)) = parts.split_last() else {
            return self.session.answer(self.session.client.batch_execute("COMMIT")).await;
        };
        for range in before {
            self.copy_points(copy.clone(), range.clone(), survey, buffer, Then::Nothing).await?;
        }
        self.copy_points(copy, last.clone(), survey, buffer, Then::Commit).await
    }

    /// The way when some rows are refused: what fails is halved, under savepoints, until the rows at fault stand alone.
    async fn by_halves(&self, survey: &mut Survey<'_>, buffer: &mut BytesMut) -> Result<(), Fault> {
        let client = &self.session.client;
        // Constraints that would speak at COMMIT, when no row can be told any more, speak at once.
        let copy = self.begin("SET CONSTRAINTS ALL IMMEDIATE").await?;
        self.store_series().await?;
        self.store_alerts(survey, buffer).await?;
        let mut left = parts(survey.len(), self.max_rows);
        left.reverse();
        while let Some(range) = left.pop() {
            let rows = survey.storable(&range);
            if rows == 0 {
                continue;
            }
            self.session.answer(client.batch_execute("SAVEPOINT part")).await?;
            let copied = self.copy_points(copy.clone(), range.clone(), survey, buffer, Then::Nothing).await;
            let Err(fault) = copied else {
                self.session.answer(client.batch_execute("RELEASE SAVEPOINT part")).await?;
                continue;
            };
            let Some((reason, line)) = fault.of_data() else { return Err(fault) };
            let undo = "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part";
            self.session.answer(client.batch_execute(undo)).await?;
            // The row that the database names is tried alone: a hint, which saves most of the halving.
            let named = line.and_then(|line| survey.nth_storable(&range, line.checked_sub(1)?));
            if rows == 1 {
                if let Some(number) = survey.nth_storable(&range, 0) {
                    survey.refuse(number, reason);
                }
            } else {
                let (before, rest) = match named {
                    Some(number) if number > range.start => (range.start..number, number..range.end),
                    Some(number) => (range.start..number + 1, number + 1..range.end),
                    None => {
                        let middle = range.start + range.len() / 2;
                        (range.start..middle, middle..range.end)
                    }
                };
                left.extend([rest, before]);
            }
        }
        drop(copy);
        self.session.answer(client.batch_execute("COMMIT")).await
    }

    /// Begins the transaction and has the COPY of points parsed, in one round trip. The statement lives no longer than the transaction.
    async fn begin(&self, and: &str) -> Result<Statement, Fault> {
        let client = &self.session.client;
        let begin = format!("BEGIN; SET LOCAL statement_timeout = {}; {and}", self.timeout_ms);
        let copy = format!(
            "COPY {} (time, topic, value, value_str, quality, unit) FROM STDIN (FORMAT binary)",
            self.tables.metrics
        );
        let both = async {
            let (began, parsed) = join(client.batch_execute(&begin), client.prepare(&copy)).await;
            began.and(parsed)
        };
        self.session.answer(both).await
    }

    async fn copy_points(
        &self,
        copy: Statement,
        range: Range<usize>,
        survey: &Survey<'_>,
        buffer: &mut BytesMut,
        then: Then,
    ) -> Result<(), Fault> {
        let client = &self.session.client;
        let copying = async {
            let mut wire = pin!(client.copy_in::<_, Bytes>(&copy).await?);
            // The last to go closes the statement, which has to happen before COMMIT: after it, PgBouncer may have given the server
            // connection, with the statement still in it, to somebody else.
            drop(copy);
            buffer.clear();
            buffer.extend_from_slice(&COPY_HEADER);
            let mut from = range.start;
            while from < range.end {
                let to = range.end.min(from + PART_ROWS);
                survey.encode(from..to, self.series, buffer);
                from = to;
                if buffer.len() >= PART_BYTES {
                    wire.feed(buffer.split().freeze()).await?;
                    // Takes the memory back that has been sent meanwhile.
                    buffer.reserve(PART_BYTES + PART_BYTES / 2);
                }
            }
            buffer.extend_from_slice(&COPY_TRAILER);
            wire.feed(buffer.split().freeze()).await?;
            match then {
                Then::Nothing => wire.finish().await,
                Then::Commit => finish_and_commit(wire, client).await,
            }
        };
        self.session.answer(copying).await.map(drop)
    }

    async fn store_alerts(&self, survey: &Survey<'_>, buffer: &mut BytesMut) -> Result<(), Fault> {
        let mut alerts = survey.alerts().peekable();
        if alerts.peek().is_none() {
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
        let copy = format!(
            "COPY {} (time, rule, topic, key, transition, severity, value, message) FROM STDIN (FORMAT binary)",
            self.tables.alerts
        );
        let rows = buffer.split().freeze();
        let copying = async {
            let mut wire = pin!(self.session.client.copy_in::<_, Bytes>(&copy).await?);
            wire.feed(rows).await?;
            wire.finish().await
        };
        // An alert is no row that could be rejected: that the table does not take it, somebody has to look at.
        self.session.answer(copying).await.map(drop).map_err(|fault| self.blame_table(&self.tables.alerts, fault))
    }

    /// Tells the database what is new about series: one statement, however many.
    async fn store_series(&self) -> Result<(), Fault> {
        if !self.has_news_of_series() {
            return Ok(());
        }
        let (mut topics, mut units, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for &id in self.series.untold() {
            let refused = self.series.get(id).and_then(RowTemplate::refused);
            if let (Some(description), None) = (self.series.description(id), refused) {
                topics.push(self.books.series_topic(id));
                units.push(description.unit.as_deref());
                let clean = description.labels.iter().map(|(key, value)| (cleaned(key), cleaned(value)));
                labels.push(json::labels(&clean.collect::<Vec<_>>()));
            }
        }
        let upsert = format!(
            "INSERT INTO {0} AS known (topic, unit, labels) \
             SELECT topic, unit, labels::jsonb FROM unnest($1::text[], $2::text[], $3::text[]) AS new (topic, unit, labels) \
             ORDER BY topic \
             ON CONFLICT (topic) DO UPDATE SET unit = excluded.unit, labels = excluded.labels \
             WHERE (known.unit, known.labels) IS DISTINCT FROM (excluded.unit, excluded.labels)",
            self.tables.series
        );
        // `execute_typed`: the statement has no name, so none is left behind in a pooled server.
        let telling = async {
            let columns: [(&(dyn ToSql + Sync), Type); 3] =
                [(&topics, Type::TEXT_ARRAY), (&units, Type::TEXT_ARRAY), (&labels, Type::TEXT_ARRAY)];
            self.session.client.execute_typed(&upsert, &columns).await
        };
        self.session.answer(telling).await.map(drop).map_err(|fault| self.blame_table(&self.tables.series, fault))
    }

    fn has_news_of_series(&self) -> bool {
        self.found.series && !self.series.untold().is_empty()
    }

    fn blame_table(&self, table: &str, fault: Fault) -> Fault {
        match fault.of_data() {
            Some((reason, _)) => {
                Fault::Operator(format!("table {table} refuses what Tidegate writes to it: {reason}"))
            }
            None => fault,
        }
    }
}

/// Ends the COPY and commits without waiting in between: a COPY that fails turns the COMMIT into a rollback, and its error is given.
async fn finish_and_commit(
    wire: std::pin::Pin<&mut tokio_postgres::CopyInSink<Bytes>>,
    client: &Client,
) -> Result<u64, tokio_postgres::Error> {
    let (copied, committed) = join(wire.finish(), client.batch_execute("COMMIT")).await;
    copied.and_then(|rows| committed.map(|()| rows))
}

/// `0..len` in parts of at most `max`.
fn parts(len: usize, max: usize) -> Vec<Range<usize>> {
    (0..len).step_by(max).map(|from| from..len.min(from + max)).collect()
}
