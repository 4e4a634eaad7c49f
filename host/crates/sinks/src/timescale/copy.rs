//! Rows on their way to the wire, in parts: while the database reads one, the next is made. When all of a share are sent, and the database is
//! at work on them until it has committed, the first rows of the share that comes next on the same connection are made, of this write or of the
//! one announced after it: one share ahead, and no more. Nothing of it is sent before COMMIT is answered.

use std::ops::Range;
use std::pin::pin;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use fail::fail_point;
use futures_util::future::{join, try_join3};
use futures_util::{FutureExt as _, SinkExt};
use tidegate_model::Alert;
use tokio::task::yield_now;
use tokio_postgres::Statement;

use super::fault::Fault;
use super::stage;
use super::store::{Manner, Next, Store, Task};
use super::survey::Survey;
use super::template::{
    COPY_HEADER, COPY_TRAILER, RowTemplate, nearest_timestamp, put_cleaned, put_number, put_timestamp,
};
use crate::series::SeriesCache;

/// How much is encoded before it is handed to the connection: the server parses one part while the next is made.
const PART_BYTES: usize = 64 * 1024;
/// After how many rows the size is looked at.
const PART_ROWS: usize = 256;

/// What follows a COPY in the same breath, to save the wait for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Commit,
    /// The rows go on from the stage.
    Move,
}

/// The rows of one connection.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Kept for its memory.
    buffer: BytesMut,
    ahead: Option<Ahead>,
}

/// The first COPY of a share, made before its turn.
#[derive(Debug)]
struct Ahead {
    /// The number of the write, and of the share in it.
    of: (u64, usize),
    rows: usize,
    parts: Vec<Bytes>,
}

/// Rows that are being encoded.
struct Encoding<'a> {
    survey: &'a Survey,
    series: &'a SeriesCache<RowTemplate>,
    left: std::slice::Chunks<'a, u32>,
    over: bool,
}

impl Lines {
    /// Another write begins than the one that was announced: what was made ahead is of no use.
    pub(super) fn forget_ahead(&mut self) {
        self.ahead = None;
    }

    fn begin<'a>(&mut self, survey: &'a Survey, manner: Manner<'a>, numbers: &'a [u32]) -> Encoding<'a> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&COPY_HEADER);
        Encoding { survey, series: manner.series, left: numbers.chunks(PART_ROWS), over: false }
    }

    /// The next part, until all rows are in one.
    fn part(&mut self, rows: &mut Encoding<'_>) -> Option<Bytes> {
        if rows.over {
            return None;
        }
        while self.buffer.len() < PART_BYTES {
            let Some(some) = rows.left.next() else {
                rows.over = true;
                self.buffer.extend_from_slice(&COPY_TRAILER);
                return Some(self.buffer.split().freeze());
            };
            rows.survey.encode(some, rows.series, &mut self.buffer);
        }
        let part = self.buffer.split().freeze();
        // Takes the memory back that has been sent meanwhile.
        self.buffer.reserve(PART_BYTES + PART_BYTES / 2);
        Some(part)
    }

    /// Makes the first COPY of the share that comes next, if there is one. What is on its way to the database has its turn first, and in between.
    async fn look_ahead(&mut self, next: Option<Next<'_>>, manner: Manner<'_>) {
        let Some(next) = next else { return };
        yield_now().await;
        let Some((survey, number)) = next.share() else { return };
        let numbers = &survey.shares()[number].numbers;
        let rows = numbers.len().min(manner.max_rows);
        let mut encoding = self.begin(survey, manner, &numbers[..rows]);
        let mut parts = Vec::new();
        while let Some(part) = self.part(&mut encoding) {
            parts.push(part);
            yield_now().await;
        }
        self.ahead = Some(Ahead { of: (survey.write(), number), rows, parts });
        fail_point!("encoded-ahead");
    }

    /// What was made ahead, if it is these rows. It is used now or never.
    fn made(&mut self, task: Task<'_>, range: &Range<usize>) -> Option<Vec<Bytes>> {
        let ahead = self.ahead.take()?;
        // Some of a share's rows may be stored already.
        let all = std::ptr::eq(task.numbers, &raw const *task.share.numbers);
        let these = all && ahead.of == (task.survey.write(), task.number) && *range == (0..ahead.rows);
        if these {
            fail_point!("sent-ahead");
        }
        these.then_some(ahead.parts)
    }
}

impl Store<'_> {
    /// Gives how many rows the last statement took.
    pub(super) async fn copy_points(
        &self,
        copy: Statement,
        range: Range<usize>,
        task: Task<'_>,
        lines: &mut Lines,
        then: Then,
    ) -> Result<u64, Fault> {
        let client = &self.session.client;
        let sending = async {
            fail_point!("copy-before", |_| std::process::abort());
            let mut wire = Box::pin(client.copy_in::<_, Bytes>(&copy).await?);
            // The last to go closes the statement, which has to happen before COMMIT: after it, PgBouncer may have given the server
            // connection, with the statement still in it, to somebody else.
            drop(copy);
            match lines.made(task, &range) {
                Some(parts) => {
                    for part in parts {
                        wire.feed(part).await?;
                    }
                }
                None => {
                    let mut rows = lines.begin(task.survey, self.manner, &task.numbers[range]);
                    while let Some(part) = lines.part(&mut rows) {
                        wire.feed(part).await?;
                    }
                }
            }
            Ok(wire)
        };
        let mut wire = self.session.answer(sending).await?;
        let ahead = lines.look_ahead(task.next, self.manner);
        let copying = async {
            let copied = wire.as_mut().finish().await;
            fail_point!("copy-after", |_| std::process::abort());
            copied
        };
        match then {
            Then::Nothing => self.session.answer(copying).await,
            // Without waiting in between. A COPY that fails turns the COMMIT into a rollback, and its error is given; but the COMMIT's answer is
            // waited for all the same. PgBouncer gives the server connection to others with that answer, and whatever were said before it
            // would never be answered. Only of a server that is silent nothing more is expected.
            Then::Commit => {
                let finish = self.session.answer(copying).map(|copied| match copied {
                    Err(fault @ Fault::Silent(_)) => Err(fault),
                    copied => Ok(copied),
                });
                let commit = async {
                    fail_point!("commit-before", |_| std::process::abort());
                    Ok(self.session.commit().await)
                };
                let (copied, committed, ()) = try_join3(finish, commit, ahead.map(Ok)).await?;
                fail_point!("commit-after", |_| std::process::abort());
                copied.and_then(|rows| committed.map(|()| rows))
            }
            Then::Move => {
                let moving = stage::move_over(client, self.manner.tables);
                let (moved, ()) = join(self.session.answers(copying, moving), ahead).await;
                moved
            }
        }
    }

    /// Stores alerts, all or none.
    pub(super) async fn copy_alerts(&self, alerts: &[&Alert], lines: &mut Lines) -> Result<(), Fault> {
        if alerts.is_empty() {
            return Ok(());
        }
        let (Lines { buffer, .. }, began) = (lines, Instant::now());
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
        self.session.answer(copying).await.map(drop).map_err(|fault| {
            fault.or_slow(&self.manner.tables.alerts, alerts.len(), began.elapsed() >= self.manner.timeout)
        })
    }
}
