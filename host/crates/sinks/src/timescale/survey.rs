//! What a write is about to store, looked over before anything goes on the wire, and shared out over connections.

use std::sync::Arc;

use bytes::BytesMut;
use tidegate_config::Offsets;
use tidegate_model::{Alert, Books, Delivery, Log, Position, Positions, Rejected, SeriesId};

use super::are_same;
use super::believed::Believed;
use super::chunks::{Age, Chunks};
use super::earlier::EarlierRows;
use super::positions::{Place, Span};
use super::template::{RowTemplate, timestamp};
use crate::rows::{TextCursor, UNKNOWN_SERIES, readable};
use crate::series::SeriesCache;

/// Fewer rows are not worth a transaction of their own.
const LEAST_SHARE: usize = 1_000;

/// How points are shared out. The same deliveries are shared out the same way each time by the same division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// The most connections.
    pub(super) most: usize,
    /// About how many rows a transaction has: from half as many to half as many again where there are more.
    pub(super) rows: usize,
    /// How the table is cut in time, if it is.
    pub(super) chunks: Option<Chunks>,
    /// [`Offsets::WithPoints`]: what came of one log is in one share, with how far it goes.
    pub(super) offsets: Offsets,
    pub(super) now_us: i64,
    pub(super) believed: Believed,
}

/// What goes over one connection in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Which connection, were there as many as wanted.
    pub(super) connection: usize,
    /// Its points, ascending.
    pub(super) numbers: Vec<u32>,
    /// Late if any of them is; all are, but where offsets keep them together.
    pub(super) age: Age,
    /// Where the message of each point stands; empty if that is not asked for.
    pub(super) places: Vec<Place>,
}

/// All points of a write, numbered through from 0 over all its deliveries: which of them cannot be stored, and which connection
/// takes which of the others. The rows of one series go over one connection, in order, but those for chunks that may be compressed.
#[derive(Debug)]
pub(super) struct Survey {
    /// Which write it is of: no other has this number while the same is known of the database. Then they begin again from 1, so what connections made ahead must be
    /// forgotten before: no survey is at hand then, and a write without one forgets it.
    write: u64,
    deliveries: Vec<Arc<Delivery>>,
    /// The number of each delivery's first point.
    starts: Vec<usize>,
    /// The storable points: what each connection takes is in the order in which it writes it.
    shares: Vec<Share>,
    connections: usize,
    /// The logs that the messages are of.
    spans: Vec<Span>,
    /// Points refused before the wire.
    refused: Vec<(u32, String)>,
    /// Points of messages that come a second time within the write.
    again: u64,
    /// Points for chunks that may be compressed.
    late: u64,
    division: Division,
    earlier: EarlierRows,
}

/// The messages of one delivery, as far as they have positions.
struct Entry {
    /// The span of each of its logs.
    spans: Vec<u32>,
    /// The messages that an earlier one of the write is the same as, ascending.
    again: Vec<u32>,
}

impl Survey {
    /// Looks at every point: series are brought up to date, points that PostgreSQL could not take are noted, the others are dealt
    /// out over the connections, and parted where they are too far apart in time.
    pub(super) fn new(
        deliveries: &[Arc<Delivery>],
        books: &Books,
        series: &mut SeriesCache<RowTemplate>,
        division: Division,
    ) -> Self {
        let write = series.begin_write();
        for &id in deliveries.iter().flat_map(|delivery| &delivery.points.series) {
            series.refresh(books, id, RowTemplate::new);
        }
        Self::with(write, deliveries, books, series, division)
    }

    /// The same of a write that is yet to come, while another is under way. None where a series is new or described anew, which is told
    /// before; or where points are late, which may go another way.
    pub(super) fn ahead(
        deliveries: &[Arc<Delivery>],
        books: &Books,
        series: &SeriesCache<RowTemplate>,
        division: Division,
    ) -> Option<Self> {
        let late = division.chunks.as_ref().and_then(|chunks| chunks.late_before_us(division.now_us));
        let mut times = deliveries.iter().flat_map(|delivery| &delivery.points.time_us);
        if late.is_some_and(|before| times.any(|&time| time < before)) {
            return None;
        }
        let mut all = deliveries.iter().flat_map(|delivery| &delivery.points.series);
        all.all(|&id| series.stands(books, id))
            .then(|| Self::with(series.begin_write(), deliveries, books, series, division))
    }

    fn with(
        write: u64,
        deliveries: &[Arc<Delivery>],
        books: &Books,
        series: &SeriesCache<RowTemplate>,
        division: Division,
    ) -> Self {
        let total: usize = deliveries.iter().map(|delivery| delivery.points.len()).sum();
        let connections = total.div_ceil(LEAST_SHARE).clamp(1, division.most.max(1));
        let share = |connection| Share {
            connection,
            numbers: Vec::with_capacity(total / connections + total / connections / 4),
            age: Age::Fresh,
            places: Vec::new(),
        };
        let mut survey = Self {
            write,
            deliveries: deliveries.to_vec(),
            starts: Vec::with_capacity(deliveries.len()),
            shares: (0..connections).map(share).collect(),
            connections,
            spans: Vec::new(),
            refused: Vec::new(),
            again: 0,
            late: 0,
            division,
            earlier: EarlierRows::default(),
        };
        let (mut first_us, mut last_us) = (i64::MAX, i64::MIN);
        let mut first = 0;
        for (at, delivery) in deliveries.iter().enumerate() {
            survey.starts.push(first);
            let points = &delivery.points;
            let entry = match division.offsets {
                Offsets::WithPoints => Some(survey.enter(&delivery.positions)),
                Offsets::Group => None,
            };
            let mut texts = TextCursor::from_row(&points.texts, 0);
            for (row, (&id, &time_us)) in points.series.iter().zip(&points.time_us).enumerate() {
                let latest = series.get(id);
                let of_then = survey.earlier.make(books, at, delivery, id);
                let number = (first + row) as u32;
                if entry.as_ref().is_some_and(|entry| entry.has_again(delivery, row as u32)) {
                    survey.again += 1;
                    continue;
                }
                let received_us = || received_us(delivery, row as u32);
                let why_not = why_not(of_then.or(latest), time_us, texts.of(row))
                    .or_else(|| division.believed.why_not(time_us, received_us));
                match why_not {
                    None => {
                        first_us = first_us.min(time_us);
                        last_us = last_us.max(time_us);
                        match &entry {
                            None => survey.shares[id.index() % connections].numbers.push(number),
                            Some(entry) => survey.place_by_log(delivery, row as u32, number, &entry.spans, id),
                        }
                    }
                    Some(reason) => survey.refused.push((number, reason)),
                }
            }
            first += points.len();
        }
        let apart = division
            .chunks
            .filter(|chunks| first_us <= last_us && !chunks.together(first_us, last_us, division.now_us));
        match (division.offsets, apart) {
            // A log's points and how far it goes are one transaction, whatever their times.
            (Offsets::WithPoints, None) => {}
            (Offsets::WithPoints, Some(chunks)) => survey.mark(chunks, division.now_us),
            (Offsets::Group, chunks) => {
                if let Some(chunks) = chunks {
                    survey.part(chunks, division.now_us);
                }
                survey.cut(division.rows.max(LEAST_SHARE));
            }
        }
        survey
    }

    /// Takes in how far the messages of a delivery go. One that is before where its log stands by now came twice: after a partition was lost
    /// and given back, say, while what was read before still waited for the database.
    fn enter(&mut self, positions: &Positions) -> Entry {
        let span = |log: &Arc<Log>| {
            let known = self.spans.iter().position(|span| span.log == *log);
            let at = known.unwrap_or_else(|| {
                // The partitions of one topic go over different connections.
                let hash = log
                    .topic
                    .bytes()
                    .fold(log.partition as usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
                let connection = hash % self.connections;
                self.spans.push(Span { log: log.clone(), next: 0, after: 0, connection });
                self.spans.len() - 1
            });
            at as u32
        };
        let spans: Vec<u32> = positions.logs().iter().map(span).collect();
        let mut again = Vec::new();
        for (row, log, Position { offset, after }) in positions.iter() {
            let span = &mut self.spans[spans[log as usize] as usize];
            if offset < span.next {
                again.push(row);
            } else {
                if after > span.next {
                    span.after = after;
                }
                span.next = offset + 1;
            }
        }
        Entry { spans, again }
    }

    /// Gives a point to the connection of its message's log; one without to that of its series.
    fn place_by_log(&mut self, delivery: &Delivery, row: u32, number: u32, spans: &[u32], series: SeriesId) {
        let position = delivery.origin_row(row).and_then(|message| delivery.positions.of(message));
        let place = position.map(|(log, at)| (spans[log as usize], at.offset));
        let connection = match place {
            Some((span, _)) => self.spans[span as usize].connection,
            None => series.index() % self.connections,
        };
        let share = &mut self.shares[connection];
        share.numbers.push(number);
        share.places.push(place);
    }

    /// The logs whose points a share has, each with its number.
    pub(super) fn spans_of(&self, share: &Share) -> Vec<(u32, &Span)> {
        let numbered = self.spans.iter().enumerate().map(|(at, span)| (at as u32, span));
        numbered.filter(|(_, span)| span.connection == share.connection).collect()
    }

    /// Parts each share by the chunks of its points.
    fn part(&mut self, chunks: Chunks, now_us: i64) {
        let shares = std::mem::take(&mut self.shares);
        let parted = shares.into_iter().flat_map(|share| {
            let parts = chunks.divide(share.numbers, |number| self.time_us(number), now_us);
            parts.into_iter().map(move |(age, numbers)| Share {
                connection: share.connection,
                numbers,
                age,
                places: Vec::new(),
            })
        });
        // Late ones behind all others, should a connection have to take those of another too.
        let (fresh, mut late): (Vec<Share>, Vec<Share>) = parted.partition(|share| share.age == Age::Fresh);
        // Each by the next connection: what one device has to tell of a month would else go one transaction after the other, the other connections stand
        // idle, and the next write of this sink, which is mostly one for late points alone, wait for it. Points of one chunk and series are in one share, so that shares need no order among each other.
        for (turn, share) in late.iter_mut().enumerate() {
            share.connection = turn % self.connections;
        }
        self.late = late.iter().map(|share| share.numbers.len() as u64).sum();
        self.shares = fresh;
        self.shares.extend(late);
    }

    /// Marks each share that has a late point.
    fn mark(&mut self, chunks: Chunks, now_us: i64) {
        let is_late = |number: &&u32| chunks.age_of(self.time_us(**number), now_us) == Age::Late;
        let late: Vec<usize> = self.shares.iter().map(|share| share.numbers.iter().filter(is_late).count()).collect();
        for (share, late) in self.shares.iter_mut().zip(late) {
            share.age = if late > 0 { Age::Late } else { Age::Fresh };
            self.late += late as u64;
        }
    }

    /// Cuts what is much more than `rows` rows evenly: while one piece is committed the next can be made ready.
    fn cut(&mut self, rows: usize) {
        let pieces = |share: &Share| ((share.numbers.len() + rows / 2) / rows).max(1);
        if self.shares.iter().all(|share| pieces(share) == 1) {
            return;
        }
        let cut = std::mem::take(&mut self.shares).into_iter().flat_map(|share| {
            // An empty one is one piece.
            let size = share.numbers.len().div_ceil(pieces(&share)).max(1);
            let mut left = share.numbers;
            let mut of_share = Vec::new();
            while left.len() > size {
                let rest = left.split_off(size);
                of_share.push(std::mem::replace(&mut left, rest));
            }
            of_share.push(left);
            of_share.into_iter().map(move |numbers| Share {
                connection: share.connection,
                numbers,
                age: share.age,
                places: Vec::new(),
            })
        });
        self.shares = cut.collect();
    }

    fn time_us(&self, number: u32) -> i64 {
        let (at, row) = self.place(number);
        self.deliveries[at].points.time_us[row]
    }

    /// The delivery of a point, and its row there.
    fn place(&self, number: u32) -> (usize, usize) {
        let at = self.starts.partition_point(|&start| start <= number as usize).saturating_sub(1);
        (at, number as usize - self.starts[at])
    }

    /// The shares, one at least.
    pub(super) fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Whether it is of these deliveries.
    pub(super) fn is_of(&self, deliveries: &[Arc<Delivery>]) -> bool {
        are_same(&self.deliveries, deliveries)
    }

    /// The deliveries, and how they were shared out.
    pub(super) fn made_of(&self) -> (&[Arc<Delivery>], Division) {
        (&self.deliveries, self.division)
    }

    /// The number of its write.
    pub(super) fn write(&self) -> u64 {
        self.write
    }

    /// How many points are left out because their messages are in the write before.
    pub(super) fn again(&self) -> u64 {
        self.again
    }

    /// How many points are for chunks that may be compressed.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Why a point may be nowhere though its message is stored already.
    pub(super) fn doubt(&self, number: u32) -> Option<String> {
        self.division.believed.doubt(self.time_us(number))
    }

    /// How many connections they are for.
    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// All alerts of the write.
    pub(super) fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.deliveries.iter().flat_map(|delivery| &delivery.alerts)
    }

    /// The points that were not stored, as the pipeline names them: those noted here, and those that the database refused.
    pub(super) fn rejected(&self, by_database: impl IntoIterator<Item = (u32, String)>) -> Vec<Rejected> {
        let mut refused = self.refused.clone();
        refused.extend(by_database);
        refused.sort_by_key(|(number, _)| *number);
        let rejected = |(number, reason): (u32, String)| {
            let (delivery, row) = self.place(number);
            Rejected { delivery, row: row as u32, reason }
        };
        refused.into_iter().map(rejected).collect()
    }

    /// Appends these points, some of a share and in its order, to `to`, in COPY's binary format.
    pub(super) fn encode(&self, numbers: &[u32], series: &SeriesCache<RowTemplate>, to: &mut BytesMut) {
        let mut left = numbers;
        while let Some(&first) = left.first() {
            let (at, row) = self.place(first);
            let (start, points) = (first as usize - row, &self.deliveries[at].points);
            let here = left.partition_point(|&number| (number as usize) < start + points.len());
            let (of_delivery, rest) = left.split_at(here);
            let mut texts = TextCursor::from_row(&points.texts, row);
            for &number in of_delivery {
                let row = number as usize - start;
                // Neither is ever missing for a point that the survey let pass.
                let id = points.series[row];
                let template = self.earlier.get(at, id).or_else(|| series.get(id));
                if let (Some(template), Some(time)) = (template, timestamp(points.time_us[row])) {
                    template.put_row(to, time, points.value[row], points.quality[row], texts.of(row));
                }
            }
            left = rest;
        }
    }
}

impl Entry {
    /// Whether the message of a point is one that came before.
    fn has_again(&self, delivery: &Delivery, row: u32) -> bool {
        let again = |message| self.again.binary_search(&message).is_ok();
        !self.again.is_empty() && delivery.origin_row(row).is_some_and(again)
    }
}

/// When the message of a point was received; where it is of none, the last of those it came with.
fn received_us(delivery: &Delivery, row: u32) -> Option<i64> {
    let all = &delivery.origin.received_us;
    let own = delivery.origin_row(row).and_then(|message| all.get(message as usize));
    own.or(all.last()).copied()
}

/// Why such a point is not for PostgreSQL, whatever the table.
fn why_not(template: Option<&RowTemplate>, time_us: i64, text: Option<&[u8]>) -> Option<String> {
    let Some(template) = template else { return Some(UNKNOWN_SERIES.to_owned()) };
    if let Some(reason) = template.refused() {
        return Some(reason.to_owned());
    }
    if timestamp(time_us).is_none() {
        return Some(format!("its time ({time_us} µs) is before what PostgreSQL can store"));
    }
    match readable(text?) {
        Err(reason) => Some(reason),
        Ok(text) if text.contains('\0') => {
            Some("its text has a NUL character, which PostgreSQL cannot store".to_owned())
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
