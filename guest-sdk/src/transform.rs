//! Transforms: a reading at a time to a reading, changed or not.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use crate::about::About;
use crate::call::{Call, NewSeries};
use crate::columns::{Emitted, Outcome, PartitionId, Passage, Points, Produced, Rejects, Series, SeriesId};
use crate::quality::Quality;
use crate::reading::Reading;
use crate::rejects::Reason;
use crate::rule::Rule;
use crate::state::{BySeries, State, Tracked};

/// A rule that changes readings, one at a time.
pub trait Transform: Sized + 'static {
    /// The rule's configuration; keys it does not have are refused.
    type Config: DeserializeOwned + schemars::JsonSchema;
    /// What is kept for each series, over swaps and restarts. `()` for nothing.
    type State: Default + Serialize + DeserializeOwned + 'static;
    /// What the rule says of itself.
    const ABOUT: About;

    /// A transform from its configuration.
    ///
    /// # Errors
    /// A sentence that names the key and what it should be.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Called once for each series before its first reading, and again when unit or labels change.
    /// Gives the unit the series has behind this rule, where the rule changes it.
    fn declared(&mut self, series: &Series) -> Option<String> {
        let _ = series;
        None
    }

    /// What becomes of one reading. Changing `state` marks it to be saved.
    fn transform(&mut self, reading: &Reading<'_>, state: &mut Tracked<Self::State>) -> Change;
}

/// What becomes of a reading. A batch costs no more than its costliest change: all `Keep` is free,
/// `Drop` costs a list of rows, `Value` a column, `Point` the whole batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It goes on as it is.
    Keep,
    /// It ends here, and counts as filtered.
    Drop,
    /// It goes on with another value; a text goes, since it no longer says the same.
    Value(f64),
    /// It goes on at another time, with another value and quality, without text.
    Point { time_us: i64, value: f64, quality: Quality },
    /// It cannot be used, and goes to the dead letters.
    Reject(Reason),
}

/// A [`Transform`] as a [`Rule`].
pub struct EachPoint<T: Transform> {
    transform: T,
    states: BySeries<T::State>,
    /// Series whose unit this rule is to change, until their next reading tells the row.
    units: BTreeMap<SeriesId, NewSeries>,
}

/// How far a batch has been changed, from free to dear.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Unchanged,
    Rows,
    Values,
    Replaced,
}

impl<T: Transform> EachPoint<T> {
    /// Tells the host the units of series that have come up in this batch.
    #[cold]
    fn tell_units(&mut self, call: &mut Call<'_>, batch: &Points) {
        let mut told = Vec::new();
        for (row, series) in batch.series.iter().enumerate() {
            if let Some(new) = self.units.remove(series) {
                told.push(NewSeries { from_row: row as u32, ..new });
            }
        }
        if told.is_empty() {
            return;
        }
        let asked = told.len();
        let refused = call.host.resolve(told).into_iter().filter(Result::is_err).count();
        if refused > 0 {
            call.host.log(
                crate::call::Level::Warn,
                &format!("{refused} of {asked} series kept their unit: the host refused the new one"),
            );
        }
    }
}

impl<T: Transform> Rule for EachPoint<T> {
    type Config = T::Config;
    const ABOUT: About = T::ABOUT;

    fn new(config: Self::Config) -> Result<Self, String> {
        Ok(Self { transform: T::new(config)?, states: BySeries::default(), units: BTreeMap::new() })
    }

    fn declare_series(&mut self, new: Vec<Series>) {
        for series in new {
            let Some(unit) = self.transform.declared(&series) else {
                continue;
            };
            self.units.remove(&series.id);
            if series.unit.as_deref() != Some(unit.as_str()) {
                let new = NewSeries {
                    topic: series.topic,
                    unit: Some(unit),
                    labels: series.labels,
                    from_row: crate::columns::NO_ROW,
                };
                self.units.insert(series.id, new);
            }
        }
    }

    fn retire(&mut self, series: &[SeriesId], _partitions: &[PartitionId]) {
        for id in series {
            self.units.remove(id);
        }
    }

    fn process(&mut self, call: &mut Call<'_>, mut batch: Points) -> Outcome {
        if !self.units.is_empty() {
            self.tell_units(call, &batch);
        }
        let mut depth = Depth::Unchanged;
        let mut rejects = Rejects::default();
        let mut left: Vec<u32> = Vec::new();
        let mut untexted: Vec<u32> = Vec::new();
        let mut nothing = Tracked::default();
        let texted = !batch.texts.row.is_empty();
        let mut next_text = 0;
        for row in 0..batch.len() {
            let text = (texted && batch.texts.row.get(next_text) == Some(&(row as u32))).then(|| {
                next_text += 1;
                batch.texts.get(next_text - 1)
            });
            let reading = Reading {
                series: batch.series[row],
                time_us: batch.time_us[row],
                value: batch.value[row],
                quality: Quality::from_bits(batch.quality[row]),
                text,
                row,
            };
            let state = if size_of::<T::State>() == 0 { &mut nothing } else { self.states.of(reading.series) };
            let change = self.transform.transform(&reading, state);
            let has_text = text.is_some();
            match change {
                Change::Keep => {}
                Change::Value(value) => {
                    batch.value[row] = value;
                    depth = depth.max(if has_text { Depth::Replaced } else { Depth::Values });
                    if has_text {
                        untexted.push(row as u32);
                    }
                }
                Change::Point { time_us, value, quality } => {
                    batch.time_us[row] = time_us;
                    batch.value[row] = value;
                    batch.quality[row] = quality.bits();
                    depth = Depth::Replaced;
                    if has_text {
                        untexted.push(row as u32);
                    }
                }
                Change::Drop => {
                    depth = depth.max(Depth::Rows);
                    left.push(row as u32);
                }
                Change::Reject(reason) => {
                    depth = depth.max(Depth::Rows);
                    rejects.push(row as u32, &reason);
                    left.push(row as u32);
                }
            }
        }
        Outcome { passage: passage(batch, depth, &left, &untexted), rejects, ..Outcome::default() }
    }

    fn tick(&mut self, _call: &mut Call<'_>) -> Emitted {
        Emitted::default()
    }

    fn state(&mut self) -> State<'_> {
        if size_of::<T::State>() == 0 { State::none() } else { State::by_series(&mut self.states) }
    }
}

/// The cheapest passage that says what happened. `left` and `untexted` are ascending.
fn passage(batch: Points, depth: Depth, left: &[u32], untexted: &[u32]) -> Passage {
    match depth {
        Depth::Unchanged => Passage::Unchanged,
        Depth::Values if left.is_empty() => Passage::Values(batch.value),
        Depth::Rows => Passage::Keep(staying(batch.len(), left).collect()),
        Depth::Values | Depth::Replaced => {
            let mut made = Produced {
                points: Points::with_capacity(batch.len() - left.len()),
                from_row: staying(batch.len(), left).collect(),
            };
            let mut next_text = 0;
            for row in staying(batch.len(), left) {
                let at = row as usize;
                while batch.texts.row.get(next_text).is_some_and(|text| *text < row) {
                    next_text += 1;
                }
                if batch.texts.row.get(next_text) == Some(&row) && untexted.binary_search(&row).is_err() {
                    made.points.texts.push(made.points.len(), batch.texts.get(next_text));
                }
                made.points.push(batch.series[at], batch.time_us[at], batch.value[at], batch.quality[at]);
            }
            Passage::Replaced(made)
        }
    }
}

/// The rows that stay, where `left` (ascending) do not.
fn staying(rows: usize, left: &[u32]) -> impl Iterator<Item = u32> {
    let mut left = left.iter().copied().peekable();
    (0..rows as u32).filter(move |row| left.next_if_eq(row).is_none())
}

#[cfg(test)]
mod tests;
