//! Names and their dense ids: topics, series and partitions of this process.
//!
//! A name costs a lock and a hash once, when it is first seen; from then on rows carry the id, and reading an entry
//! takes no lock. Books only grow, up to their limits: a fleet that invents names is refused, not obeyed.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use hashbrown::HashMap;

use crate::redescribed::Changes;
use crate::{PartitionId, Place, Redescribed, SeriesId, Telling, TopicId};

/// Names to dense ids from 0, and what is known of each.
#[derive(Debug)]
pub struct Book<T> {
    by_name: Mutex<HashMap<Arc<str>, u32>>,
    entries: boxcar::Vec<T>,
    limit: usize,
    reserve: usize,
}

/// The book has as many names as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {limit} names is reached")]
pub struct Full {
    /// How many it may have.
    pub limit: usize,
}

impl<T> Book<T> {
    /// An empty book that takes `limit` names.
    pub fn new(limit: usize) -> Self {
        Self::with_reserve(limit, 0)
    }

    /// The same, with room for `reserve` names beyond, which [`Self::intern`] does not give away.
    pub fn with_reserve(limit: usize, reserve: usize) -> Self {
        Self { by_name: Mutex::default(), entries: boxcar::Vec::new(), limit, reserve }
    }

    /// The id of `name`, made known with `make` if it is new.
    pub fn intern(&self, name: &str, make: impl FnOnce(Arc<str>) -> T) -> Result<u32, Full> {
        self.intern_within(self.limit, name, make)
    }

    fn intern_within(&self, limit: usize, name: &str, make: impl FnOnce(Arc<str>) -> T) -> Result<u32, Full> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = by_name.get(name) {
            return Ok(id);
        }
        if by_name.len() >= limit {
            return Err(Full { limit });
        }
        let name: Arc<str> = name.into();
        let id = self.entries.push(make(name.clone())) as u32;
        by_name.insert(name, id);
        Ok(id)
    }

    /// The id of `name`, if it is known.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// What is known of `id`.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.entries.get(id as usize)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.entries.count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many there may be beyond.
    pub fn reserve(&self) -> usize {
        self.reserve
    }

    /// How many there may be in all: ids are less than this.
    pub fn most(&self) -> usize {
        self.limit.saturating_add(self.reserve)
    }
}

/// A topic messages come on.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// What it stays together with.
    pub partition: PartitionId,
}

/// A series: its topic is its identity, the rest describes it and may change.
#[derive(Debug)]
pub struct Series {
    /// Its topic.
    pub topic: Arc<str>,
    /// The partition it was first met in.
    pub partition: PartitionId,
    /// Unit and labels as last told.
    pub description: ArcSwap<Description>,
    /// The value of [`Books::descriptions`] since they were told; 0 if they never changed.
    pub described_at: AtomicU64,
    /// Where its labels have their place, if a rule has told them.
    place: ArcSwapOption<Place>,
    /// What the unit was before, with the value that was its; the oldest first, the last few only. No labels: nobody asks for those of a time, and they may
    /// be a hundred times as long.
    earlier: ArcSwapOption<Vec<Told>>,
}

/// A description without its labels, and the value of [`Books::descriptions`] since its unit was told.
type Told = (u64, Arc<Description>);

/// So many earlier units of a series are remembered.
const EARLIER: usize = 4;

impl Series {
    /// Whether unit or labels were told anew after [`Books::descriptions`] was `seen`.
    pub fn has_changed_since(&self, seen: u64) -> bool {
        self.described_at.load(Acquire) > seen
    }

    /// What it was described as when [`Books::descriptions`] was `seen`; of a time that is not remembered, the first that is. Where that is not what it is
    /// now, without labels.
    pub fn described_by(&self, seen: u64) -> Arc<Description> {
        // In the opposite order of that in which they are written: what is not the latest is found among the earlier ones.
        let latest = self.description.load_full();
        if !self.has_changed_since(seen) {
            return latest;
        }
        let earlier = self.earlier.load();
        let Some(earlier) = &*earlier else { return latest };
        let after = earlier.partition_point(|(told, _)| *told <= seen);
        earlier.get(after.saturating_sub(1)).map_or(latest, |(_, description)| description.clone())
    }

    /// Where its labels have their place, if a rule has told them.
    pub fn labels_place(&self) -> Option<Arc<Place>> {
        self.place.load_full()
    }

    fn describe(&self, number: u64, Telling { description, place }: Telling) {
        let (told, last) = (self.described_at.load(Acquire), self.description.load());
        let mut earlier = self.earlier.load().as_deref().cloned().unwrap_or_default();
        // One that stood through other labels has stood since it was told first.
        if earlier.last().is_none_or(|(_, before)| before.unit != last.unit) {
            if earlier.len() == EARLIER {
                earlier.remove(0);
            }
            earlier.push((told, Arc::new(Description { unit: last.unit.clone(), labels: Vec::new() })));
            self.earlier.store(Some(Arc::new(earlier)));
        }
        self.described_at.store(number, Release);
        self.description.store(Arc::new(description));
        self.place.store(place);
    }
}

/// What may change about a series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The unit, as the payload or a rule named it.
    pub unit: Option<Arc<str>>,
    /// Labels, in the order they were given.
    pub labels: Vec<(String, String)>,
}

/// All books of a process.
#[derive(Debug)]
pub struct Books {
    topics: Book<Topic>,
    series: Book<Series>,
    partitions: Book<Arc<str>>,
    descriptions: Changes,
}

impl Books {
    /// Books that take `max_series` series, and as many topics; an eighth more series for rules, which share that among them
    /// ([`Self::intern_series_for_rule`]); and a partition for each topic and series, so that partitions are never what there is too little of.
    pub fn new(max_series: usize) -> Self {
        let series = Book::with_reserve(max_series, max_series / 8);
        Self {
            topics: Book::new(max_series),
            partitions: Book::new(max_series.saturating_add(series.most())),
            series,
            descriptions: Changes::new(),
        }
    }

    /// The id of a topic that belongs to `partition`; what partition it belongs to is decided when it is first seen.
    pub fn intern_topic(&self, name: &str, partition: &str) -> Result<TopicId, Full> {
        if let Some(known) = self.topics.find(name) {
            return Ok(TopicId(known));
        }
        // Topics that find no room must not use up the partitions.
        if self.topics.len() >= self.topics.limit() {
            return Err(Full { limit: self.topics.limit() });
        }
        let partition = self.intern_partition(partition)?;
        self.topics.intern(name, |name| Topic { name, partition }).map(TopicId)
    }

    /// The id of a series; a known one takes the new description and keeps its partition.
    pub fn intern_series(
        &self,
        topic: &str,
        partition: PartitionId,
        told: impl Into<Telling>,
    ) -> Result<SeriesId, Full> {
        self.intern_series_within(self.series.limit(), topic, partition, told.into())
    }

    /// The same for a rule, beyond the limit too: whoever calls this sees to it that each rule takes its share of that only.
    pub fn intern_series_for_rule(
        &self,
        topic: &str,
        partition: PartitionId,
        told: impl Into<Telling>,
    ) -> Result<SeriesId, Full> {
        self.intern_series_within(self.series.most(), topic, partition, told.into())
    }

    fn intern_series_within(
        &self,
        limit: usize,
        topic: &str,
        partition: PartitionId,
        told: Telling,
    ) -> Result<SeriesId, Full> {
        let mut given = Some(told);
        let id = self.series.intern_within(limit, topic, |topic| {
            let Telling { description, place } = given.take().unwrap_or_default();
            Series {
                topic,
                partition,
                description: ArcSwap::from_pointee(description),
                described_at: AtomicU64::new(0),
                place: place.into(),
                earlier: ArcSwapOption::empty(),
            }
        })?;
        if let Some(told) = given {
            self.describe(SeriesId(id), told);
        }
        Ok(SeriesId(id))
    }

    /// Tells the unit and labels of a known series anew; nothing if they are as they were.
    pub fn describe(&self, id: SeriesId, told: impl Into<Telling>) {
        let told = told.into();
        let Some(series) = self.series(id).filter(|series| **series.description.load() != told.description) else {
            return;
        };
        self.descriptions.note(id, |number| {
            // Somebody else may have said the same meanwhile.
            let news = **series.description.load() != told.description;
            if news {
                series.describe(number, told);
            }
            news
        });
    }

    /// Counts up whenever a known series is described anew: who has seen this value has seen all descriptions up to it.
    pub fn descriptions(&self) -> u64 {
        self.descriptions.count()
    }

    /// The same, but as soon as anything of the last one can be read: a description that was read before this may be of this value.
    pub(crate) fn announced(&self) -> u64 {
        self.descriptions.announced()
    }

    /// Which series were described anew since [`Self::descriptions`] was `seen`, and what it is now.
    pub fn described_since(&self, seen: u64) -> (u64, Redescribed) {
        self.descriptions.since(seen)
    }

    /// The id of a partition.
    pub fn intern_partition(&self, name: &str) -> Result<PartitionId, Full> {
        self.partitions.intern(name, |name| name).map(PartitionId)
    }

    /// The id of a partition, if it is known.
    pub fn find_partition(&self, name: &str) -> Option<PartitionId> {
        self.partitions.find(name).map(PartitionId)
    }

    /// What is known of a topic.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(id.0)
    }

    /// What is known of a series.
    pub fn series(&self, id: SeriesId) -> Option<&Series> {
        self.series.get(id.0)
    }

    /// The name of a partition.
    pub fn partition(&self, id: PartitionId) -> Option<&Arc<str>> {
        self.partitions.get(id.0)
    }

    /// The name of a topic; empty for an id that was never given.
    pub fn topic_name(&self, id: TopicId) -> &str {
        self.topic(id).map_or("", |topic| &topic.name)
    }

    /// The topic of a series; empty for an id that was never given.
    pub fn series_topic(&self, id: SeriesId) -> &str {
        self.series(id).map_or("", |series| &series.topic)
    }

    /// The series book itself, to find and to count.
    pub fn all_series(&self) -> &Book<Series> {
        &self.series
    }

    /// The topic book itself, to find and to count.
    pub fn all_topics(&self) -> &Book<Topic> {
        &self.topics
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: ids are dense, stable, and bounded.
    #[test]
    fn ids_are_dense_and_bounded() {
        let books = Books::new(2);
        let a = books.intern_topic("a", "a").unwrap();
        let b = books.intern_topic("b", "b").unwrap();
        assert_eq!((a, b), (TopicId(0), TopicId(1)));
        assert_eq!(books.intern_topic("a", "ignored").unwrap(), a);
        assert_eq!(books.intern_topic("c", "c"), Err(Full { limit: 2 }));
        assert_eq!(books.topic_name(b), "b");
    }

    /// Guarantees: a series keeps its id when its unit changes, and readers see the new unit.
    #[test]
    fn description_may_change() {
        let books = Books::new(9);
        let unit = |u: &str| Description { unit: Some(u.into()), labels: vec![] };
        let s = books.intern_series("t", PartitionId(0), unit("C")).unwrap();
        assert_eq!(books.intern_series("t", PartitionId(5), unit("K")).unwrap(), s);
        assert_eq!(books.described_since(0), (1, Redescribed::Series(vec![s])));
        books.describe(s, unit("K"));
        assert_eq!(books.described_since(0).0, 1, "no news");
        let series = books.series(s).unwrap();
        assert_eq!(series.description.load().unit.as_deref(), Some("K"));
        assert_eq!(series.partition, PartitionId(0));
    }

    /// Guarantees: of what a series was described as before, labels are not kept, which a rule may tell anew without end; the unit of any time is found
    /// through them.
    #[test]
    fn labels_are_kept_once() {
        let books = Books::new(9);
        let told = |unit: &str, label: u32| Description {
            unit: Some(unit.into()),
            labels: vec![("label".into(), label.to_string())],
        };
        let s = books.intern_series("t", PartitionId(0), told("C", 0)).unwrap();
        let series = books.series(s).unwrap();
        let mut before = Vec::new();
        for n in 1..=20 {
            before.push(Arc::downgrade(&series.description.load_full()));
            books.describe(s, told(if n < 10 { "C" } else { "K" }, n));
        }
        assert!(before.iter().all(|before| before.upgrade().is_none()));
        let unit = |seen| series.described_by(seen).unit.as_deref().map(str::to_owned).unwrap();
        assert_eq!([0, 9, 10, 19, 20].map(unit), ["C", "C", "K", "K", "K"]);
    }
}
