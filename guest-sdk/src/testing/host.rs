//! A host in memory: it knows series by name, and remembers what was asked of it.

use std::collections::BTreeMap;

use crate::call::{Host, Level, NewSeries, Refusal};
use crate::columns::{Series, SeriesId};

/// What stands in for the host in tests.
#[derive(Debug, Default)]
pub struct TestHost {
    series: Vec<Series>,
    by_topic: BTreeMap<String, SeriesId>,
    /// How many series there may be; no limit unless set.
    pub max_series: Option<usize>,
    /// How often `resolve` was called, and with how many names in all.
    pub resolves: (usize, usize),
    /// Log lines, in order.
    pub logs: Vec<(Level, String)>,
    /// Counters of the rule.
    pub counts: BTreeMap<String, u64>,
    /// Gauges of the rule.
    pub gauges: BTreeMap<String, f64>,
    /// Series made known or changed by the rule since this was last taken.
    pub(crate) changed: Vec<SeriesId>,
}

impl TestHost {
    /// The series of this id.
    pub fn series(&self, id: SeriesId) -> Option<&Series> {
        self.series.get(id as usize)
    }

    /// The id of this topic's series, if it is known.
    pub fn id_of(&self, topic: &str) -> Option<SeriesId> {
        self.by_topic.get(topic).copied()
    }

    /// Makes a series known, as a rule earlier in order would have; the partition is its own.
    pub fn know(&mut self, topic: &str, unit: Option<&str>) -> SeriesId {
        match self.by_topic.get(topic) {
            Some(id) => *id,
            None => self.add(topic.to_owned(), unit.map(str::to_owned), Vec::new()),
        }
    }

    pub(crate) fn set_unit(&mut self, id: SeriesId, unit: &str) {
        if let Some(series) = self.series.get_mut(id as usize) {
            series.unit = Some(unit.to_owned());
        }
    }

    fn add(&mut self, topic: String, unit: Option<String>, labels: Vec<(String, String)>) -> SeriesId {
        let id = self.series.len() as SeriesId;
        self.by_topic.insert(topic.clone(), id);
        self.series.push(Series { id, topic, unit, labels, partition: id });
        id
    }

    fn resolve_one(&mut self, new: NewSeries) -> Result<SeriesId, Refusal> {
        if new.topic.is_empty() || new.topic.contains(['\0', '#', '+']) {
            return Err(Refusal::BadTopic);
        }
        let id = match self.by_topic.get(&new.topic) {
            Some(id) => *id,
            None if self.max_series.is_some_and(|max| self.series.len() >= max) => {
                return Err(Refusal::Limit);
            }
            None => self.add(new.topic, None, Vec::new()),
        };
        let series = &mut self.series[id as usize];
        series.unit = new.unit;
        series.labels = new.labels;
        self.changed.push(id);
        Ok(id)
    }
}

impl Host for TestHost {
    fn resolve(&mut self, new: Vec<NewSeries>) -> Vec<Result<SeriesId, Refusal>> {
        self.resolves.0 += 1;
        self.resolves.1 += new.len();
        new.into_iter().map(|series| self.resolve_one(series)).collect()
    }

    fn log(&mut self, level: Level, message: &str) {
        self.logs.push((level, message.to_owned()));
    }

    fn count(&mut self, name: &str, by: u64) {
        *self.counts.entry(name.to_owned()).or_default() += by;
    }

    fn gauge(&mut self, name: &str, value: f64) {
        self.gauges.insert(name.to_owned(), value);
    }
}
