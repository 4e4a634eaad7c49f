//! Live data for those who look on: messages, points and alerts as they pass, without holding anybody up.
//!
//! While nobody looks on, a lane pays one atomic load a batch. While somebody does, it pays a look into a table of bytes a row: whether
//! a topic matches is worked out once a topic, and kept. What matches is copied out as columns, at most so many rows a batch and so
//! many a second, into a bounded queue; the rest is counted as skipped. The budget is refilled by the one who reads, so a reader
//! who is slow gets a sample, and costs the lane no more than counting.

mod tail;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_model::{Alert, Books, Delivery, Messages, Points, TopicFilter};
use tokio::sync::mpsc;

use crate::lane::Fate;
pub use tail::Tail;

/// The most who look on at once.
pub const MOST_TAILS: usize = 8;
/// The most rows of one kind that are copied out of one batch.
const ROWS_A_BATCH: usize = 128;
/// The most bytes of payloads and texts that are copied out of one batch for one who looks on.
const BYTES_A_BATCH: usize = 1 << 20;
/// Glimpses that wait for their reader. With [`BYTES_A_BATCH`], what all of them can take up is bounded.
const WAITING: usize = 8;

/// What somebody wants to see.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Topics of messages, series of points and alerts; all if none.
    pub topics: Option<TopicFilter>,
    /// Messages as they came.
    pub messages: bool,
    /// Points as they go to the sinks.
    pub points: bool,
    /// Alerts as they go to the sinks.
    pub alerts: bool,
    /// The most rows of all kinds in a second.
    pub rows_per_s: u32,
    /// A payload that is larger is cut off after so many bytes.
    pub payload_bytes: usize,
}

/// So many look on already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTails;

/// What passed in one batch, as far as it was wanted and there was room.
#[derive(Debug, Default)]
pub struct Glimpse {
    /// Messages; a payload that was cut off is [`tidegate_model::Marks::TRUNCATED`].
    pub messages: Messages,
    /// The source of each message.
    pub sources: Vec<Arc<str>>,
    /// How each message ended in the lane.
    pub fates: Vec<Fate>,
    /// Points on their way to the sinks.
    pub points: Points,
    /// Alerts on their way to the sinks.
    pub alerts: Vec<Alert>,
}

/// All who look on. Shared by all lanes.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    /// How many there are: all that a lane reads while there is none.
    watching: AtomicUsize,
    all: Mutex<Arc<[Arc<Tap>]>>,
}

/// One who looks on, as lanes see it.
#[derive(Debug)]
pub(crate) struct Tap {
    wanted: Wanted,
    topics: Known,
    series: Known,
    /// Rows that may still be shown; refilled by the reader.
    budget: AtomicI64,
    /// Rows that were wanted and not shown.
    skipped: AtomicU64,
    to: mpsc::Sender<Glimpse>,
}

/// Whether each id of a book matches the filter, as far as it was asked.
#[derive(Debug)]
struct Known(Box<[AtomicU8]>);

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

impl Taps {
    /// Whether anybody does.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.watching.load(Relaxed) > 0
    }

    /// Shows a batch to all who look on. `fates` are those of `delivery.origin`; none where no message was at its beginning.
    #[inline]
    pub fn show(&self, delivery: &Delivery, fates: &[Fate], books: &Books) {
        if self.is_watched() {
            self.show_all(delivery, fates, books);
        }
    }

    #[cold]
    fn show_all(&self, delivery: &Delivery, fates: &[Fate], books: &Books) {
        let all = self.lock().clone();
        all.iter().for_each(|tap| tap.show(delivery, fates, books));
    }

    /// Begins to look on.
    pub fn open(self: &Arc<Self>, wanted: Wanted, books: &Books) -> Result<Tail, TooManyTails> {
        let (to, glimpses) = mpsc::channel(WAITING);
        let tap = Arc::new(Tap {
            topics: Known::new(&wanted, books.all_topics().limit()),
            series: Known::new(&wanted, books.all_series().most()),
            budget: AtomicI64::new(i64::from(wanted.rows_per_s)),
            skipped: AtomicU64::new(0),
            wanted,
            to,
        });
        let mut all = self.lock();
        if all.len() >= MOST_TAILS {
            return Err(TooManyTails);
        }
        *all = all.iter().cloned().chain([tap.clone()]).collect();
        self.watching.store(all.len(), Relaxed);
        drop(all);
        Ok(Tail::new(self.clone(), tap, glimpses))
    }

    fn close(&self, gone: &Arc<Tap>) {
        let mut all = self.lock();
        *all = all.iter().filter(|tap| !Arc::ptr_eq(tap, gone)).cloned().collect();
        self.watching.store(all.len(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Arc<Tap>]>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    fn show(&self, delivery: &Delivery, fates: &[Fate], books: &Books) {
        let wanted = &self.wanted;
        let alerts = if wanted.alerts { self.alerts(&delivery.alerts) } else { Vec::new() };
        let messages = if wanted.messages { self.messages(&delivery.origin, books) } else { Vec::new() };
        let points = if wanted.points { self.points(&delivery.points, books) } else { Vec::new() };
        let found = alerts.len() + messages.len() + points.len();
        if found == 0 {
            return;
        }
        // Before anything is copied: who has not read what waits costs the lane no more than counting.
        let Ok(place) = self.to.try_reserve() else {
            self.skipped.fetch_add(found as u64, Relaxed);
            return;
        };
        // Alerts are few and news; what is left is shared by messages and points.
        let room = usize::try_from(self.budget.load(Relaxed)).unwrap_or(0);
        let alerts = sampled(alerts, room);
        let room = room - alerts.len();
        let half = if points.is_empty() { room } else { room.div_ceil(2) };
        let messages = sampled(messages, half);
        let points = sampled(points, room - messages.len());
        let glimpse = self.glimpse(delivery, fates, &alerts, &messages, &points);
        let shown = glimpse.alerts.len() + glimpse.messages.len() + glimpse.points.len();
        if shown > 0 {
            place.send(glimpse);
        }
        self.budget.fetch_sub(shown as i64, Relaxed);
        self.skipped.fetch_add((found - shown) as u64, Relaxed);
    }

    fn alerts(&self, alerts: &[Alert]) -> Vec<u32> {
        let matches = |alert: &Alert| self.wanted.topics.as_ref().is_none_or(|filter| filter.matches(&alert.topic));
        (0..alerts.len() as u32).filter(|&i| matches(&alerts[i as usize])).collect()
    }

    fn messages(&self, messages: &Messages, books: &Books) -> Vec<u32> {
        let Some(filter) = &self.wanted.topics else { return (0..messages.len() as u32).collect() };
        let mut unnamed = messages.unnamed.iter().peekable();
        let mut matches = |row: u32| match unnamed.next_if(|(at, _)| *at == row) {
            Some((_, name)) => filter.matches(name),
            None => {
                let topic = messages.topic[row as usize];
                self.topics.matches(topic.index(), || filter.matches(books.topic_name(topic)))
            }
        };
        (0..messages.len() as u32).filter(|&row| matches(row)).collect()
    }

    fn points(&self, points: &Points, books: &Books) -> Vec<u32> {
        let Some(filter) = &self.wanted.topics else { return (0..points.len() as u32).collect() };
        let matches = |row: &u32| {
            let series = points.series[*row as usize];
            self.series.matches(series.index(), || filter.matches(books.series_topic(series)))
        };
        (0..points.len() as u32).filter(matches).collect()
    }

    /// The rows named, copied out as far as their bytes have room.
    fn glimpse(&self, from: &Delivery, fates: &[Fate], alerts: &[u32], messages: &[u32], points: &[u32]) -> Glimpse {
        let mut glimpse = Glimpse::default();
        let mut room = BYTES_A_BATCH;
        for &row in messages {
            let whole = from.origin.payload.get(row as usize);
            let payload = &whole[..whole.len().min(self.wanted.payload_bytes)];
            let properties: usize = from.origin.properties.of(row).map(|(key, value)| key.len() + value.len()).sum();
            match room.checked_sub(payload.len() + properties) {
                Some(left) => room = left,
                None => continue,
            }
            glimpse.take_message(&from.origin, row, payload);
            glimpse.sources.push(from.source_of(row).cloned().unwrap_or_default());
            glimpse.fates.push(fates.get(row as usize).copied().unwrap_or(Fate::Decoded));
        }
        let fits = |row: &u32| {
            let left = room.checked_sub(from.points.texts.get(*row).map_or(0, <[u8]>::len));
            room = left.unwrap_or(room);
            left.is_some()
        };
        glimpse.points = from.points.gather(&points.iter().copied().filter(fits).collect::<Vec<_>>());
        glimpse.alerts = alerts.iter().map(|&i| from.alerts[i as usize].clone()).collect();
        glimpse
    }
}

impl Glimpse {
    fn take_message(&mut self, from: &Messages, row: u32, payload: &[u8]) {
        let at = row as usize;
        let cut = if payload.len() < from.payload.get(at).len() { tidegate_model::Marks::TRUNCATED.0 } else { 0 };
        let marks = tidegate_model::Marks(from.marks[at] | cut);
        let new = self.messages.push(from.topic[at], from.received_us[at], marks, payload);
        from.properties.of(row).for_each(|(key, value)| self.messages.properties.push(new, key, value));
        if let Ok(i) = from.unnamed.binary_search_by_key(&row, |(row, _)| *row) {
            self.messages.unnamed.push((new, from.unnamed[i].1.clone()));
        }
    }
}

impl Known {
    /// Without a filter nothing is ever asked.
    fn new(wanted: &Wanted, ids: usize) -> Self {
        let ids = if wanted.topics.is_some() { ids } else { 0 };
        Self((0..ids).map(|_| AtomicU8::new(UNKNOWN)).collect())
    }

    #[inline]
    fn matches(&self, id: usize, work_out: impl FnOnce() -> bool) -> bool {
        let Some(known) = self.0.get(id) else { return work_out() };
        match known.load(Relaxed) {
            YES => true,
            NO => false,
            _ => {
                let matches = work_out();
                known.store(if matches { YES } else { NO }, Relaxed);
                matches
            }
        }
    }
}

/// At most `room` of the rows, and [`ROWS_A_BATCH`], evenly from all of them.
fn sampled(rows: Vec<u32>, room: usize) -> Vec<u32> {
    let room = room.min(ROWS_A_BATCH);
    if rows.len() <= room {
        return rows;
    }
    (0..room).map(|i| rows[i * rows.len() / room]).collect()
}
