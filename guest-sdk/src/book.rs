//! The book of series a decoder writes to. A name crosses to the host once; after that a series is
//! a handle, and its id one index away. All that is new in a call is asked for at the end
//! of it, a thousand names in each `host.resolve`.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use crate::call::{Call, NewSeries, Refusal};
use crate::columns::{SeriesId, TopicId};
use crate::json::Key;
use crate::topics::{PerTopic, Topics};

/// How long a series refused for a limit is not asked for again: asking sends its name across.
const ASK_AGAIN_S: u32 = 10;
/// How many names without an id are kept before all handles are forgotten and met anew.
const MAX_IDLE: usize = 16_384;
/// How many series the host is asked for in one call: more would take room twice over in a fleet's first batch, and a call is cheap
/// for so many.
const ASKED_AT_ONCE: usize = 1_024;

/// A series a rule writes to, good for as long as the cache it stands in: [`PerTopic`], or the
/// current call.
///
/// Counted from 1, so that a cache of "perhaps one" for each topic of a fleet takes no more room than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesHandle(NonZeroU32);

/// How it stands with a series; [`Entry::number`] goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    /// The host's id for it.
    Known,
    /// Refused for a limit, until this second since 1970.
    Refused,
    /// The topic can never be a series.
    Impossible,
}

#[derive(Debug)]
enum Name {
    Topic(TopicId),
    Own(Box<Own>),
}

/// A name of a rule's own making.
#[derive(Debug)]
struct Own {
    topic: Box<str>,
    /// Each key and each value behind its length: few bytes a series, where there may be a hundred thousand.
    labels: Box<[u8]>,
}

/// Kept for each series there is, so every byte of it counts.
#[derive(Debug)]
struct Entry {
    name: Name,
    number: u32,
    /// Index into `units`; 0 for none.
    unit: u16,
    standing: Standing,
    /// In `asking` already.
    asked: bool,
}

/// Series by handle.
#[derive(Debug)]
pub struct SeriesBook {
    entries: Vec<Entry>,
    by_name: HashTable<SeriesHandle>,
    by_topic: PerTopic<Option<SeriesHandle>>,
    units: Vec<Key>,
    /// Series and row of what the end of this call asks for.
    asking: Vec<(SeriesHandle, u32)>,
    /// Entries without an id since some call: refused, or retired.
    idle: usize,
    now_s: u32,
}

impl Default for SeriesBook {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            by_name: HashTable::new(),
            by_topic: PerTopic::default(),
            units: vec![Key::new("")],
            asking: Vec::new(),
            idle: 0,
            now_s: 0,
        }
    }
}

impl SeriesHandle {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Own {
    fn new(topic: &str, labels: &[(&str, &str)]) -> Self {
        Self { topic: topic.into(), labels: packed(labels) }
    }

    fn labels(&self) -> Vec<(String, String)> {
        let mut rest = &*self.labels;
        let mut word = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (word, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            Some(String::from_utf8_lossy(word).into_owned())
        };
        std::iter::from_fn(|| Some((word()?, word()?))).collect()
    }
}

/// Each key and each value behind its length.
fn packed(labels: &[(&str, &str)]) -> Box<[u8]> {
    let mut packed = Vec::new();
    for word in labels.iter().flat_map(|(key, value)| [*key, *value]) {
        packed.extend_from_slice(&(word.len() as u32).to_le_bytes());
        packed.extend_from_slice(word.as_bytes());
    }
    packed.into()
}

fn hash(name: &str) -> u64 {
    FixedState::with_seed(0x7469_6465).hash_one(name)
}

impl SeriesBook {
    /// Begins a call. Handles are forgotten here, and only here, when too many stand idle; the
    /// caches by topic start afresh then.
    pub fn begin(&mut self, now_us: i64, topics: &mut Topics) {
        self.now_s = u32::try_from(now_us / 1_000_000).unwrap_or(0);
        if self.idle > MAX_IDLE {
            *self = Self { now_s: self.now_s, ..Self::default() };
            topics.invalidate();
        }
    }

    /// The series whose topic is a message's own.
    #[inline(always)]
    pub(crate) fn of_topic(&mut self, topic: TopicId, version: u32) -> SeriesHandle {
        if let Some(handle) = self.by_topic.at(topic, version) {
            return *handle;
        }
        self.meet_topic(topic, version)
    }

    #[cold]
    fn meet_topic(&mut self, topic: TopicId, version: u32) -> SeriesHandle {
        let handle = self.add(Name::Topic(topic), None);
        *self.by_topic.at(topic, version) = Some(handle);
        handle
    }

    /// The series of this topic; unit and labels describe it when it is new.
    pub fn named(&mut self, topic: &str, unit: Option<&str>, labels: &[(&str, &str)]) -> SeriesHandle {
        let hash = hash(topic);
        let found = self
            .by_name
            .find(hash, |it| matches!(&self.entries[it.index()].name, Name::Own(own) if *own.topic == *topic));
        if let Some(handle) = found {
            return *handle;
        }
        let handle = self.add(Name::Own(Box::new(Own::new(topic, labels))), unit);
        let entries = &self.entries;
        self.by_name.insert_unique(hash, handle, |handle| match &entries[handle.index()].name {
            Name::Own(own) => self::hash(&own.topic),
            Name::Topic(_) => 0,
        });
        handle
    }

    fn add(&mut self, name: Name, unit: Option<&str>) -> SeriesHandle {
        let unit = unit.map_or(0, |unit| self.intern_unit(unit));
        let handle = SeriesHandle(NonZeroU32::MIN.saturating_add(self.entries.len() as u32));
        self.entries.push(Entry { name, number: 0, unit, standing: Standing::Unknown, asked: false });
        handle
    }

    /// Says what unit a series has from this row on. Costs a comparison when it has it already.
    #[inline]
    pub fn set_unit(&mut self, series: SeriesHandle, unit: &str, row: u32) {
        if self.unit(series).as_str() != unit {
            self.change_unit(series, unit, row);
        }
    }

    /// The unit a series has; empty for none.
    #[inline(always)]
    pub fn unit(&self, series: SeriesHandle) -> &Key {
        &self.units[usize::from(self.entries[series.index()].unit)]
    }

    /// Says what labels a series has from this row on that was named; nothing for that of a topic.
    pub fn set_labels(&mut self, series: SeriesHandle, labels: &[(&str, &str)], row: u32) {
        let entry = &mut self.entries[series.index()];
        let Name::Own(own) = &mut entry.name else { return };
        let labels = packed(labels);
        if own.labels == labels {
            return;
        }
        own.labels = labels;
        if entry.standing == Standing::Known {
            self.ask(series, row);
        }
    }

    #[cold]
    fn change_unit(&mut self, series: SeriesHandle, unit: &str, row: u32) {
        self.entries[series.index()].unit = self.intern_unit(unit);
        if self.entries[series.index()].standing == Standing::Known {
            self.ask(series, row);
        }
    }

    fn intern_unit(&mut self, unit: &str) -> u16 {
        // Units are few; beyond the bound the last place is shared, and asked for each time.
        const MAX_UNITS: usize = 4_096;
        if let Some(index) = self.units.iter().position(|known| known.as_str() == unit) {
            return index as u16;
        }
        if self.units.len() < MAX_UNITS {
            self.units.push(Key::new(unit));
        } else if let Some(last) = self.units.last_mut() {
            *last = Key::new(unit);
        }
        (self.units.len() - 1) as u16
    }

    /// The id of a series, if the host has given one.
    #[inline(always)]
    pub fn id(&self, series: SeriesHandle) -> Option<SeriesId> {
        let entry = &self.entries[series.index()];
        (entry.standing == Standing::Known).then_some(entry.number)
    }

    /// Puts a series on the list of those the end of the call asks for.
    pub fn ask(&mut self, series: SeriesHandle, row: u32) {
        let entry = &mut self.entries[series.index()];
        let refused = match entry.standing {
            Standing::Refused => self.now_s < entry.number,
            Standing::Impossible => true,
            Standing::Unknown | Standing::Known => false,
        };
        if !entry.asked && !refused {
            entry.asked = true;
            self.asking.push((series, row));
        }
    }

    /// Why a series has no id, once the call's questions are answered.
    pub fn refusal(&self, series: SeriesHandle) -> Refusal {
        match self.entries[series.index()].standing {
            Standing::Impossible => Refusal::BadTopic,
            _ => Refusal::Limit,
        }
    }

    /// Asks the host for all that this call met first.
    pub fn resolve(&mut self, call: &mut Call<'_>, topics: &Topics) {
        if self.asking.is_empty() {
            return;
        }
        let asking = std::mem::take(&mut self.asking);
        for part in asking.chunks(ASKED_AT_ONCE) {
            let new = part.iter().map(|(series, row)| self.question(*series, *row, topics)).collect();
            for ((series, _), answer) in part.iter().zip(call.host.resolve(new)) {
                self.answered(*series, answer);
            }
        }
    }

    fn question(&self, series: SeriesHandle, row: u32, topics: &Topics) -> NewSeries {
        let entry = &self.entries[series.index()];
        let unit = self.unit(series).as_str();
        let (topic, labels) = match &entry.name {
            Name::Topic(id) => (topics.name(*id).to_owned(), Vec::new()),
            Name::Own(own) => (own.topic.to_string(), own.labels()),
        };
        NewSeries { topic, unit: (!unit.is_empty()).then(|| unit.to_owned()), labels, from_row: row }
    }

    fn answered(&mut self, series: SeriesHandle, answer: Result<SeriesId, Refusal>) {
        let entry = &mut self.entries[series.index()];
        entry.asked = false;
        let first = entry.standing == Standing::Unknown;
        match answer {
            Ok(id) => {
                if !first && entry.standing != Standing::Known {
                    self.idle = self.idle.saturating_sub(1);
                }
                (entry.standing, entry.number) = (Standing::Known, id);
            }
            // A change of unit that is refused leaves the series as it was.
            Err(_) if entry.standing == Standing::Known => {}
            Err(refusal) => {
                self.idle += usize::from(first);
                (entry.standing, entry.number) = match refusal {
                    Refusal::Limit => (Standing::Refused, self.now_s.saturating_add(ASK_AGAIN_S)),
                    Refusal::BadTopic => (Standing::Impossible, 0),
                };
            }
        }
    }

    /// Takes leave of series; one that comes back is asked for anew.
    pub fn retire(&mut self, series: &[SeriesId]) {
        if series.is_empty() {
            return;
        }
        let mut gone = series.to_vec();
        gone.sort_unstable();
        for entry in &mut self.entries {
            if entry.standing == Standing::Known && gone.binary_search(&entry.number).is_ok() {
                // As if refused until now: unknown, and counted among the idle.
                (entry.standing, entry.number) = (Standing::Refused, 0);
                self.idle += 1;
            }
        }
    }
}
