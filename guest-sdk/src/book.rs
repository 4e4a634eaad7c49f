//! The book of series a decoder writes to. A name crosses to the host once; after that a series is
//! a handle, and its id one index away. All that is new in a call is asked for in one
//! `host.resolve` at the end of it.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::call::{Call, NewSeries, Refusal};
use crate::columns::{SeriesId, TopicId};
use crate::json::Key;
use crate::topics::{PerTopic, Topics};

/// How long a series refused for a limit is not asked for again: asking sends its name across.
const ASK_AGAIN_S: u32 = 10;
/// How many names without an id are kept before all handles are forgotten and met anew.
const MAX_IDLE: usize = 16_384;

/// A series a rule writes to, good for as long as the cache it stands in: [`PerTopic`], or the
/// current call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesHandle(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    Known(SeriesId),
    /// Refused for a limit, until this second since 1970.
    Refused(u32),
    /// The topic can never be a series.
    Impossible,
}

#[derive(Debug)]
enum Name {
    Topic(TopicId),
    Own(Box<str>),
}

type Labels = Option<Box<[(String, String)]>>;

#[derive(Debug)]
struct Entry {
    name: Name,
    labels: Labels,
    /// Index into `units`; 0 for none.
    unit: u32,
    standing: Standing,
    /// In `asking` already.
    asked: bool,
}

/// Series by handle.
#[derive(Debug)]
pub struct SeriesBook {
    entries: Vec<Entry>,
    by_name: HashTable<u32>,
    by_topic: PerTopic<Option<SeriesHandle>>,
    units: Vec<Key>,
    /// Handle and row of what the end of this call asks for.
    asking: Vec<(u32, u32)>,
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
        let handle = self.add(Name::Topic(topic), None, None);
        *self.by_topic.at(topic, version) = Some(handle);
        handle
    }

    /// The series of this topic; unit and labels describe it when it is new.
    pub fn named(&mut self, topic: &str, unit: Option<&str>, labels: &[(&str, &str)]) -> SeriesHandle {
        let hash = hash(topic);
        let found = self
            .by_name
            .find(hash, |handle| matches!(&self.entries[*handle as usize].name, Name::Own(name) if **name == *topic));
        if let Some(handle) = found {
            return SeriesHandle(*handle);
        }
        let labels = (!labels.is_empty())
            .then(|| labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        let handle = self.add(Name::Own(topic.into()), unit, labels);
        let entries = &self.entries;
        self.by_name.insert_unique(hash, handle.0, |handle| match &entries[*handle as usize].name {
            Name::Own(name) => self::hash(name),
            Name::Topic(_) => 0,
        });
        handle
    }

    fn add(&mut self, name: Name, unit: Option<&str>, labels: Labels) -> SeriesHandle {
        let unit = unit.map_or(0, |unit| self.intern_unit(unit));
        let handle = SeriesHandle(self.entries.len() as u32);
        self.entries.push(Entry { name, labels, unit, standing: Standing::Unknown, asked: false });
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
        &self.units[self.entries[series.0 as usize].unit as usize]
    }

    #[cold]
    fn change_unit(&mut self, series: SeriesHandle, unit: &str, row: u32) {
        self.entries[series.0 as usize].unit = self.intern_unit(unit);
        if matches!(self.entries[series.0 as usize].standing, Standing::Known(_)) {
            self.ask(series, row);
        }
    }

    fn intern_unit(&mut self, unit: &str) -> u32 {
        // Units are few; beyond the bound the last place is shared, and asked for each time.
        const MAX_UNITS: usize = 4_096;
        if let Some(index) = self.units.iter().position(|known| known.as_str() == unit) {
            return index as u32;
        }
        if self.units.len() < MAX_UNITS {
            self.units.push(Key::new(unit));
        } else if let Some(last) = self.units.last_mut() {
            *last = Key::new(unit);
        }
        (self.units.len() - 1) as u32
    }

    /// The id of a series, if the host has given one.
    #[inline(always)]
    pub fn id(&self, series: SeriesHandle) -> Option<SeriesId> {
        match self.entries[series.0 as usize].standing {
            Standing::Known(id) => Some(id),
            _ => None,
        }
    }

    /// Puts a series on the list of those the end of the call asks for.
    pub fn ask(&mut self, series: SeriesHandle, row: u32) {
        let entry = &mut self.entries[series.0 as usize];
        let refused = match entry.standing {
            Standing::Refused(until) => self.now_s < until,
            Standing::Impossible => true,
            Standing::Unknown | Standing::Known(_) => false,
        };
        if !entry.asked && !refused {
            entry.asked = true;
            self.asking.push((series.0, row));
        }
    }

    /// Why a series has no id, once the call's questions are answered.
    pub fn refusal(&self, series: SeriesHandle) -> Refusal {
        match self.entries[series.0 as usize].standing {
            Standing::Impossible => Refusal::BadTopic,
            _ => Refusal::Limit,
        }
    }

    /// Asks the host for all that this call met first.
    pub fn resolve(&mut self, call: &mut Call<'_>, topics: &Topics) {
        if self.asking.is_empty() {
            return;
        }
        let new = self
            .asking
            .iter()
            .map(|(handle, row)| {
                let entry = &self.entries[*handle as usize];
                let unit = self.units[entry.unit as usize].as_str();
                NewSeries {
                    topic: match &entry.name {
                        Name::Topic(id) => topics.name(*id).to_owned(),
                        Name::Own(name) => name.to_string(),
                    },
                    unit: (!unit.is_empty()).then(|| unit.to_string()),
                    labels: entry.labels.as_deref().unwrap_or_default().to_vec(),
                    from_row: *row,
                }
            })
            .collect();
        let answers = call.host.resolve(new);
        for ((handle, _), answer) in self.asking.drain(..).zip(answers) {
            let entry = &mut self.entries[handle as usize];
            entry.asked = false;
            let first = entry.standing == Standing::Unknown;
            match answer {
                Ok(id) => {
                    if !first && !matches!(entry.standing, Standing::Known(_)) {
                        self.idle = self.idle.saturating_sub(1);
                    }
                    entry.standing = Standing::Known(id);
                }
                // A change of unit that is refused leaves the series as it was.
                Err(_) if matches!(entry.standing, Standing::Known(_)) => {}
                Err(refusal) => {
                    self.idle += usize::from(first);
                    entry.standing = match refusal {
                        Refusal::Limit => Standing::Refused(self.now_s.saturating_add(ASK_AGAIN_S)),
                        Refusal::BadTopic => Standing::Impossible,
                    };
                }
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
            if let Standing::Known(id) = entry.standing
                && gone.binary_search(&id).is_ok()
            {
                // As if refused until now: unknown, and counted among the idle.
                entry.standing = Standing::Refused(0);
                self.idle += 1;
            }
        }
    }
}
