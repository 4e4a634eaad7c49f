//! What an instance's Store holds beside the guest: its limits, its ids, and what the running call has asked for.

mod limits;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use tidegate_model::{Books, Description, Full, PartitionId, Series, SeriesId, Telling, TopicId};

use crate::bindings::host::{Host, Level, NewSeries, Refusal};
use crate::clock::Running;
use crate::context::limits::MemoryLimit;
pub use crate::context::limits::thread_cpu;
pub(crate) use crate::context::limits::{Deadline, MAX_INSTANCES};
use crate::ids::IdMap;
use crate::rule::Limits;
use crate::stats::{RuleStats, is_metric_name};
use crate::wasi::Wasi;
use crate::words::cut;

/// Log lines kept of one call, until the rule's limit is asked.
const MAX_LOG_LINES_A_CALL: usize = 100;
const MAX_LOG_BYTES: usize = 1_000;
const MAX_COUNTS_A_CALL: usize = 100;
const MAX_TOPIC_BYTES: usize = 1_024;
const MAX_UNIT_BYTES: usize = 64;
const MAX_LABELS: usize = 32;
const MAX_LABEL_BYTES: usize = 256;
/// Of all labels of a series: the host has them for as long as it runs.
const MAX_LABELS_BYTES: usize = 2_048;
/// A rule has room for the labels of a fleet, however large a one the host is set to take: so much for each series, where that is more than
/// [`Limits::label_bytes`].
const LABELS_A_SERIES_BYTES: usize = 640;
/// What a series that was asked for, and one of its labels, take up beside their texts until the call returns.
const SERIES_BYTES: usize = size_of::<PendingSeries>() + 64;
const LABEL_BYTES: usize = size_of::<(String, String)>();
/// Memory that a guest may have for each name the host has told it of, beside its limit, and for how many: how large a fleet is is not the rule's
/// doing, and no guest has more names than the host gives it.
const NAME_BYTES: usize = 256;
const MAX_NAMES_PAID: usize = 100_000;
/// How many rules can have their share of the series beyond the limit of the host.
const RULES_IN_RESERVE: usize = 4;

pub(crate) struct Context {
    pub limits: Limits,
    pub memory: MemoryLimit,
    pub deadline: Deadline,
    pub running: Running,
    pub books: Arc<Books>,
    stats: Arc<RuleStats>,
    pub topics: IdMap,
    pub series: IdMap,
    pub partitions: IdMap,
    pub rowless: Rowless,
    /// Only of components that may have it.
    pub wasi: Option<Box<Wasi>>,
    /// What the running call has asked for; it takes effect when the call returns, or not at all.
    pub effects: Effects,
}

/// Whether units and labels that a guest gives to series which are known already are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptions {
    Told,
    Withheld,
}

#[derive(Default)]
pub(crate) struct Effects {
    /// Series asked for, in the order of their local ids, which begin at the number of those known before the call.
    pub series: Vec<PendingSeries>,
    /// How many of them the host did not know when they were asked for.
    new: usize,
    /// Where each of them stands: whoever asks again gets the same id.
    asked: HashMap<Arc<str>, usize>,
    /// What series and descriptions take up: bytes. wasmtime bounds what one call to the host hands over; a guest can make many of them.
    bytes: usize,
    /// Known series that have a new unit or new labels.
    pub described: Vec<(SeriesId, Description)>,
    /// How many descriptions that took effect had to leave their labels out.
    pub labels_left_out: u64,
    pub log: Vec<(Level, String)>,
    pub log_suppressed: u64,
    pub counts: Vec<(String, u64)>,
    pub gauges: Vec<(String, f64)>,
}

pub(crate) struct PendingSeries {
    pub topic: Arc<str>,
    pub description: Description,
    pub from_row: u32,
}

/// How to find the partition of a row of the running call's batch.
pub(crate) enum Rows<'a> {
    /// There are no rows, as in `tick`.
    None,
    /// By the topic of each row.
    Topics(&'a [TopicId]),
    /// By the series of each row.
    Series(&'a [SeriesId]),
}

/// To which partition a series belongs that no row led to, as in `tick`. The books fix it for as long as the process lives, and the state and the rows of
/// a series go by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rowless {
    /// To the one of its own name.
    #[default]
    ByItself,
    /// To that of a series or topic which the instance knows, the nearest above it or else the first: so that its state comes back to the lane that made it.
    WithTheRest,
}

impl Host for Context {
    fn log(&mut self, level: Level, mut message: String) -> wasmtime::Result<()> {
        if self.effects.log.len() >= MAX_LOG_LINES_A_CALL {
            self.effects.log_suppressed += 1;
            return Ok(());
        }
        cut(&mut message, MAX_LOG_BYTES);
        self.effects.log.push((level, message));
        Ok(())
    }

    fn resolve(&mut self, new: Vec<NewSeries>) -> wasmtime::Result<Vec<Result<u32, Refusal>>> {
        Ok(new.into_iter().map(|series| self.resolve_one(series)).collect())
    }

    fn count(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        if self.effects.counts.len() < MAX_COUNTS_A_CALL && is_metric_name(&name) {
            self.effects.counts.push((name, by));
        }
        Ok(())
    }

    fn gauge(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        if self.effects.gauges.len() < MAX_COUNTS_A_CALL && is_metric_name(&name) {
            self.effects.gauges.push((name, value));
        }
        Ok(())
    }
}

impl Effects {
    /// Whether a call has asked for nothing but series.
    pub fn said_nothing(&self) -> bool {
        self.log.is_empty() && self.counts.is_empty() && self.gauges.is_empty()
    }

    /// Room for a series that is asked for or described, where a call may hand over so many bytes.
    fn make_room(&mut self, topic: &str, description: &Description, most: usize) -> Result<(), Refusal> {
        let unit = description.unit.as_ref().map_or(0, |unit| unit.len());
        let labels: usize = description.labels.iter().map(|(key, value)| LABEL_BYTES + key.len() + value.len()).sum();
        self.bytes += SERIES_BYTES + topic.len() + unit + labels;
        if self.bytes > most { Err(Refusal::Limit) } else { Ok(()) }
    }
}

impl Context {
    pub fn new(books: Arc<Books>, stats: Arc<RuleStats>, limits: &Limits) -> Self {
        Self {
            limits: *limits,
            memory: MemoryLimit::of(limits.memory_bytes),
            deadline: Deadline::new(limits.lifecycle_cpu, limits.lifecycle_wall),
            running: Running::default(),
            books,
            stats,
            topics: IdMap::default(),
            series: IdMap::default(),
            partitions: IdMap::default(),
            rowless: Rowless::default(),
            wasi: None,
            effects: Effects::default(),
        }
    }

    /// The guest knows more topics and series than before.
    pub fn pay_for_names(&mut self) {
        let names = (self.topics.len() + self.series.len()).min(MAX_NAMES_PAID);
        self.memory.limit_bytes = self.limits.memory_bytes + names * NAME_BYTES;
    }

    /// Series made from now on are counted there, within these limits.
    pub fn count_for(&mut self, stats: &Arc<RuleStats>, limits: &Limits) {
        self.stats = stats.clone();
        self.limits = *limits;
    }

    fn resolve_one(&mut self, new: NewSeries) -> Result<u32, Refusal> {
        let NewSeries { topic, unit, labels, from_row } = new;
        let plain = |text: &str, limit: usize| text.len() <= limit && !text.contains('\0');
        if topic.is_empty() || !plain(&topic, MAX_TOPIC_BYTES) || topic.contains(['+', '#']) {
            return Err(Refusal::BadTopic);
        }
        let unit = unit.filter(|unit| plain(unit, MAX_UNIT_BYTES)).map(Into::into);
        let mut room = MAX_LABELS_BYTES;
        let mut labels: Vec<_> = labels
            .into_iter()
            .filter(|(key, value)| plain(key, MAX_LABEL_BYTES) && plain(value, MAX_LABEL_BYTES))
            .filter(|(key, value)| match room.checked_sub(key.len() + value.len()) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            })
            .take(MAX_LABELS)
            .collect();
        // What was left out was a part of the same list.
        labels.shrink_to_fit();
        let description = Description { unit, labels };
        let known = self.books.all_series().find(&topic);
        if let Some(id) = known.map(SeriesId)
            && let Some(local) = self.series.local(id.0)
        {
            let unchanged = self.books.series(id).is_some_and(|series| **series.description.load() == description);
            if !unchanged {
                self.effects.make_room(&topic, &description, self.limits.call_bytes)?;
                self.effects.described.push((id, description));
            }
            return Ok(local);
        }
        let local = |at: usize| (self.series.len() + at) as u32;
        if let Some(&at) = self.effects.asked.get(topic.as_str()) {
            self.effects.make_room(&topic, &description, self.limits.call_bytes)?;
            if let Some(pending) = self.effects.series.get_mut(at) {
                pending.description = description;
            }
            return Ok(local(at));
        }
        if known.is_none() && !self.may_make_one() {
            return Err(Refusal::Limit);
        }
        self.effects.make_room(&topic, &description, self.limits.call_bytes)?;
        self.effects.new += usize::from(known.is_none());
        let (topic, at) = (Arc::<str>::from(topic), self.effects.series.len());
        self.effects.asked.insert(topic.clone(), at);
        self.effects.series.push(PendingSeries { topic, description, from_row });
        Ok(local(at))
    }

    /// Whether this rule may make a series more than it has made and has asked for in this call.
    fn may_make_one(&self) -> bool {
        let (series, asked) = (self.books.all_series(), self.effects.new);
        if self.stats.series_made.load(Relaxed) + asked as u64 >= self.limits.series {
            return false;
        }
        series.len() + asked < series.limit() || (series.len() + asked < series.most() && self.has_share(asked))
    }

    /// Whether something is left to this rule, beside what it has `asked` for, of its share of the series beyond the limit of the host. One that
    /// takes all names up to there leaves its neighbours their shares.
    fn has_share(&self, asked: usize) -> bool {
        let taken = self.stats.series_beyond.load(Relaxed) as usize;
        taken.saturating_add(asked) < self.books.all_series().reserve() / RULES_IN_RESERVE
    }

    /// Makes known what the call that has just returned has asked for. An error, after which the instance's ids are not
    /// to be trusted, if other lanes have taken the last places meanwhile.
    pub fn commit_series(&mut self, rows: &Rows<'_>, told: Descriptions) -> Result<(), Full> {
        let described = std::mem::take(&mut self.effects.described);
        self.effects.asked.clear();
        (self.effects.new, self.effects.bytes) = (0, 0);
        for pending in std::mem::take(&mut self.effects.series) {
            let led_to =
                self.partition_of(rows, pending.from_row).or_else(|| self.partition_without(rows, &pending.topic));
            let partition = match led_to {
                Some(partition) => partition,
                None => self.books.intern_partition(&pending.topic)?,
            };
            if told == Descriptions::Withheld
                && let Some(known) = self.books.all_series().find(&pending.topic)
            {
                self.series.alias(known);
                continue;
            }
            let telling = self.with_room(&pending.topic, pending.description);
            let known = self.books.all_series().len();
            // Other lanes of this rule may have taken its share meanwhile.
            let id = match self.has_share(0) {
                true => self.books.intern_series_for_rule(&pending.topic, partition, telling)?,
                false => self.books.intern_series(&pending.topic, partition, telling)?,
            };
            if id.index() >= known {
                self.stats.series_made.fetch_add(1, Relaxed);
                if id.index() >= self.books.all_series().limit() {
                    self.stats.series_beyond.fetch_add(1, Relaxed);
                }
            }
            self.series.alias(id.0);
        }
        // Last, so that a call that comes to nothing says nothing of other series either.
        if told == Descriptions::Told {
            for (id, description) in described {
                let books = self.books.clone();
                books.describe(id, self.with_room(books.series_topic(id), description));
            }
        }
        Ok(())
    }

    /// A description without its labels where this rule has no room left for them: the series and its points go on all the same.
    fn with_room(&mut self, topic: &str, description: Description) -> Telling {
        if description.labels.is_empty() {
            return description.into();
        }
        let series = self.books.all_series();
        let most = self.limits.label_bytes.max(series.limit().saturating_mul(LABELS_A_SERIES_BYTES));
        let before = series.find(topic).and_then(|id| self.books.series(SeriesId(id))).and_then(Series::labels_place);
        let (told, fits) = self.stats.labels.take_in(description, before.as_deref(), most);
        self.effects.labels_left_out += u64::from(!fits);
        told
    }

    /// Of a series that no row led to, if it is not one of its own.
    fn partition_without(&self, rows: &Rows<'_>, topic: &str) -> Option<PartitionId> {
        if self.rowless == Rowless::ByItself {
            return None;
        }
        let series = |id: u32| self.books.series(SeriesId(id)).map(|series| series.partition);
        let known = |name: &str| self.books.all_series().find(name).filter(|&id| self.series.local(id).is_some());
        let above = topic.match_indices('/').rev().find_map(|(at, _)| known(&topic[..at]));
        let first_series = || self.series.global(0).and_then(series);
        let first_topic = || self.books.topic(TopicId(self.topics.global(0)?)).map(|topic| topic.partition);
        above.and_then(series).or_else(|| self.partition_of(rows, 0)).or_else(first_series).or_else(first_topic)
    }

    fn partition_of(&self, rows: &Rows<'_>, row: u32) -> Option<PartitionId> {
        match rows {
            Rows::None => None,
            Rows::Topics(topics) => self.books.topic(*topics.get(row as usize)?).map(|topic| topic.partition),
            Rows::Series(series) => self.books.series(*series.get(row as usize)?).map(|series| series.partition),
        }
    }
}

#[cfg(test)]
mod tests;
