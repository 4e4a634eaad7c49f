//! A rule's Store on one lane, and the calls into it.
//!
//! Columns go in as they lie in memory, once their ids are translated; what comes back is checked before it goes
//! on. After a [`Fault`] an instance is spent: drop it, make another from its [`Rule`].

mod state;
pub(crate) mod store;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Instant;

use tidegate_model::{Books, Messages, PartitionId, Points, Redescribed, SeriesId, TopicId};
use wasmtime::Store;

use crate::bindings::host::Level;
use crate::bindings::telemetry;
use crate::bindings::{decoder, lifecycle, naming, processor, state as state_bindings, ticking};
use crate::calls::{Checker, Decoded, Emitted, Processed};
use crate::context::{Context, Descriptions, Rowless, Rows};
use crate::fault::Fault;
use crate::ids::IdMap;
use crate::instance::store::{Budget, Call, guarded, guarded_within, instantiate, load, new_store};
use crate::load_error::LoadError;
use crate::module::Scope;
use crate::rule::Rule;
use crate::stats::RuleStats;
use crate::words::cut;

pub use state::Cells;

/// A configured rule, ready to be called by the one lane that owns it.
pub struct Instance {
    rule: Arc<Rule>,
    store: Store<Context>,
    decoder: Option<decoder::Guest>,
    processor: Option<processor::Guest>,
    naming: Option<naming::Guest>,
    ticking: Option<ticking::Guest>,
    state: Option<state_bindings::Guest>,
    voice: Voice,
    /// The id column of the running call, and what is new in it; kept for their memory.
    ids: Vec<u32>,
    new: Vec<u32>,
    /// [`Books::descriptions`] when this instance was last told of changes.
    descriptions_seen: u64,
    /// Rows and cells that it was given since it was last saved.
    given: usize,
}

/// Whether what a call does beside its result is seen: log lines, counts, gauges, and that the rule was called at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// It is.
    Live,
    /// It is not: a trial.
    Silent,
    /// It is not, and what it says of series that the host knows is not taken either: it runs beside one that serves, or is given again what one was
    /// given that has failed since.
    Withheld,
}

impl Instance {
    /// Instantiates and configures `rule`.
    pub(crate) fn new(rule: Arc<Rule>, books: Arc<Books>, voice: Voice) -> Result<Self, LoadError> {
        let module = rule.module.clone();
        let exports = &module.exports;
        let descriptions_seen = books.descriptions();
        let mut store = new_store(&module, books, rule.stats.clone(), &rule.limits);
        if module.description().scope != Scope::Node {
            store.data_mut().rowless = Rowless::WithTheRest;
        }
        let instance = instantiate(&mut store, &module.pre)?;
        let lifecycle: lifecycle::Guest = load(exports.lifecycle.load(&mut store, &instance))?;
        macro_rules! guest {
            ($name:ident) => {
                match &exports.$name {
                    Some(indices) => Some(load(indices.load(&mut store, &instance))?),
                    None => None,
                }
            };
        }
        let (decoder, processor) = (guest!(decoder), guest!(processor));
        let (naming, ticking, state) = (guest!(naming), guest!(ticking), guest!(state));
        guarded(&mut store, Call::Lifecycle, |store| lifecycle.call_configure(store, &rule.config))?
            .map_err(|words| LoadError::Config(said(words)))?;
        let mut made = Self {
            rule,
            store,
            decoder,
            processor,
            naming,
            ticking,
            state,
            voice,
            ids: Vec::new(),
            new: Vec::new(),
            // It knows no series yet.
            descriptions_seen,
            given: 0,
        };
        made.commit(&Rows::None).map_err(LoadError::Fault)?;
        Ok(made)
    }

    /// The generation it belongs to.
    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Whether it has a `tick`.
    pub fn can_tick(&self) -> bool {
        self.ticking.is_some()
    }

    /// Bytes of linear memory it has now.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.now_bytes
    }

    /// Decodes a batch. `now_us`: microseconds since 1970-01-01 UTC.
    pub fn decode(&mut self, now_us: i64, batch: &Messages) -> Result<Decoded, Fault> {
        let began = Instant::now();
        let outcome = self.decoded(now_us, batch);
        if let Some(stats) = self.counted() {
            match &outcome {
                Ok(decoded) => {
                    stats.rows_out.fetch_add(decoded.points.len() as u64, Relaxed);
                    stats.batch(batch.len(), decoded.rejects.row.len(), decoded.held.len(), began.elapsed());
                }
                Err(_) => stats.beside(began.elapsed()),
            }
        }
        outcome
    }

    fn decoded(&mut self, now_us: i64, batch: &Messages) -> Result<Decoded, Fault> {
        let guest = self.decoder.clone().ok_or_else(|| Fault::bad_output("it is no decoder"))?;
        self.given = self.given.saturating_add(batch.len());
        self.declare_topics(&guest, &batch.topic)?;
        let properties = &batch.properties;
        let wanted = self.rule.module.description().wants_properties && !properties.row.is_empty();
        let keys: Vec<&str> = if wanted { properties.keys.iter().map(String::as_str).collect() } else { Vec::new() };
        let properties = if wanted {
            telemetry::Properties {
                row: &properties.row,
                key: &properties.key,
                value_ends: &properties.value.ends,
                value_bytes: &properties.value.bytes,
                keys: &keys,
            }
        } else {
            telemetry::Properties { row: &[], key: &[], value_ends: &[], value_bytes: &[], keys: &[] }
        };
        let columns = telemetry::Messages {
            topic: &self.ids,
            received_us: &batch.received_us,
            marks: &batch.marks,
            payload_ends: &batch.payload.ends,
            payload_bytes: &batch.payload.bytes,
            properties,
        };
        let raw = guarded(&mut self.store, Call::Batch, |store| guest.call_decode(store, now_us, columns))?;
        let mut decoded = self.checker(batch.len()).decoded(raw)?;
        self.commit(&Rows::Topics(&batch.topic))?;
        decoded.know(&self.store.data().series);
        Ok(decoded)
    }

    /// Processes a batch. `now_us`: microseconds since 1970-01-01 UTC.
    pub fn process(&mut self, now_us: i64, batch: &Points) -> Result<Processed, Fault> {
        let began = Instant::now();
        let outcome = self.processed(now_us, batch);
        if let Some(stats) = self.counted() {
            match &outcome {
                Ok(processed) => {
                    stats.alerts.fetch_add(processed.alerts.len() as u64, Relaxed);
                    stats.batch(batch.len(), processed.rejects.row.len(), processed.held.len(), began.elapsed());
                }
                Err(_) => stats.beside(began.elapsed()),
            }
        }
        outcome
    }

    fn processed(&mut self, now_us: i64, batch: &Points) -> Result<Processed, Fault> {
        let guest = self.processor.clone().ok_or_else(|| Fault::bad_output("it is no processor"))?;
        self.given = self.given.saturating_add(batch.len());
        self.declare_series(&batch.series)?;
        let columns = telemetry::PointsParam {
            series: &self.ids,
            time_us: &batch.time_us,
            value: &batch.value,
            quality: &batch.quality,
            texts: telemetry::TextsParam {
                row: &batch.texts.row,
                ends: &batch.texts.text.ends,
                bytes: &batch.texts.text.bytes,
            },
        };
        let raw = guarded(&mut self.store, Call::Batch, |store| guest.call_process(store, now_us, columns))?;
        let mut processed = self.checker(batch.len()).processed(raw)?;
        self.commit(&Rows::Series(&batch.series))?;
        processed.know(&self.store.data().series);
        Ok(processed)
    }

    /// Lets it act without a message; nothing if it cannot. `now_us`: microseconds since 1970-01-01 UTC.
    pub fn tick(&mut self, now_us: i64) -> Result<Emitted, Fault> {
        let Some(guest) = self.ticking.clone() else { return Ok(Emitted::default()) };
        let raw = guarded(&mut self.store, Call::Batch, |store| guest.call_tick(store, now_us))?;
        let mut emitted = self.checker(0).emitted(raw)?;
        self.commit(&Rows::None)?;
        emitted.know(&self.store.data().series);
        if let Some(stats) = self.counted() {
            stats.alerts.fetch_add(emitted.alerts.len() as u64, Relaxed);
            stats.rows_out.fetch_add(emitted.points.len() as u64, Relaxed);
        }
        Ok(emitted)
    }

    /// Whether what its calls do beside their results is seen from now on.
    pub fn set_voice(&mut self, voice: Voice) {
        self.voice = voice;
    }

    /// A shadow serves from now on, as a generation of its rule, with what it has.
    pub(crate) fn serve_as(&mut self, rule: Arc<Rule>) {
        self.store.data_mut().count_for(&rule.stats, &rule.limits);
        self.rule = rule;
        self.voice = Voice::Live;
    }

    /// Where its calls are counted, if they are.
    fn counted(&self) -> Option<&RuleStats> {
        (self.voice == Voice::Live).then_some(&*self.rule.stats)
    }

    /// For what a call has returned, before what it asked for takes effect: a bad result has none.
    fn checker(&self, rows: usize) -> Checker {
        let context = self.store.data();
        let series = context.series.len() + context.effects.series.len();
        Checker { series, rows, most_rows_out: self.rule.limits.rows_out(rows) }
    }

    /// Translates a column of topics into `self.ids`, after telling the guest the names it does not know.
    fn declare_topics(&mut self, guest: &decoder::Guest, topics: &[TopicId]) -> Result<(), Fault> {
        self.new.clear();
        let context = self.store.data_mut();
        context.topics.translate(topics.iter().map(|topic| topic.0), &mut self.ids, &mut self.new);
        if self.new.is_empty() {
            return Ok(());
        }
        context.pay_for_names();
        let books = context.books.clone();
        let mut id = context.topics.len() - self.new.len();
        let mut left = Budget::lifecycle(&self.rule.limits);
        for new in self.new.chunks(NAMES_A_CALL) {
            let partitions = &mut self.store.data_mut().partitions;
            let mut named = Vec::with_capacity(new.len());
            for &global in new {
                let topic = books.topic(TopicId(global));
                named.push(telemetry::Topic {
                    id: id as u32,
                    name: topic.map_or("", |topic| &topic.name),
                    partition: local_partition(partitions, topic.map(|topic| topic.partition)),
                });
                id += 1;
            }
            guarded_within(&mut self.store, &mut left, |store| guest.call_declare_topics(store, &named))?;
        }
        Ok(())
    }

    /// Translates a column of series into `self.ids`, after telling the guest the names it does not know and the units and labels
    /// that have changed, if it wants names.
    fn declare_series(&mut self, series: &[SeriesId]) -> Result<(), Fault> {
        let mut left = Budget::lifecycle(&self.rule.limits);
        self.declare_series_within(series, &mut left)
    }

    /// [`Self::declare_series`], as a part of an operation that has so much time left.
    fn declare_series_within(&mut self, series: &[SeriesId], left: &mut Budget) -> Result<(), Fault> {
        self.new.clear();
        let context = self.store.data_mut();
        if self.naming.is_some() && context.books.descriptions() != self.descriptions_seen {
            let seen = self.descriptions_seen;
            let (now, redescribed) = context.books.described_since(seen);
            self.descriptions_seen = now;
            let later = |id: &u32| {
                let series = context.books.series(SeriesId(*id));
                series.is_some_and(|series| series.described_at.load(Acquire) > seen)
            };
            match redescribed {
                Redescribed::Series(ids) => {
                    let known = ids.into_iter().map(|id| id.0).filter(|&id| context.series.local(id).is_some());
                    self.new.extend(known);
                }
                Redescribed::Any => self.new.extend(context.series.globals().iter().copied().filter(later)),
            }
        }
        context.series.translate(series.iter().map(|series| series.0), &mut self.ids, &mut self.new);
        if self.new.is_empty() {
            return Ok(());
        }
        context.pay_for_names();
        let Some(guest) = self.naming.clone() else { return Ok(()) };
        let books = context.books.clone();
        let described =
            |&id: &u32| books.series(SeriesId(id)).map(|series| (id, series, series.description.load_full()));
        for new in self.new.chunks(NAMES_A_CALL) {
            let context = self.store.data_mut();
            let known: Vec<_> = new.iter().filter_map(described).collect();
            let labels: Vec<Vec<(&str, &str)>> = known
                .iter()
                .map(|(_, _, description)| {
                    description.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
                })
                .collect();
            let mut named = Vec::with_capacity(known.len());
            for ((id, series, description), labels) in known.iter().zip(&labels) {
                named.push(telemetry::Series {
                    id: context.series.local(*id).unwrap_or_default(),
                    topic: &series.topic,
                    unit: description.unit.as_deref(),
                    labels,
                    partition: local_partition(&mut context.partitions, Some(series.partition)),
                });
            }
            guarded_within(&mut self.store, left, |store| guest.call_declare_series(store, &named))?;
        }
        Ok(())
    }

    /// The call has returned what it should: what it asked for takes effect.
    fn commit(&mut self, rows: &Rows<'_>) -> Result<(), Fault> {
        let context = self.store.data_mut();
        let told = if self.voice == Voice::Withheld { Descriptions::Withheld } else { Descriptions::Told };
        context
            .commit_series(rows, told)
            .map_err(|full| Fault::bad_output(format!("it made too many series: {full}")))?;
        let (limits, stats) = (&self.rule.limits, &self.rule.stats);
        let effects = &mut context.effects;
        let left_out = std::mem::take(&mut effects.labels_left_out);
        if left_out > 0 && stats.labels_refused.fetch_add(left_out, Relaxed) == 0 {
            tracing::warn!(
                rule = &*self.rule.name,
                "the labels that the rule gives to series take up as much as they may: those it names beside have none (said once, counted always)"
            );
        }
        if effects.said_nothing() {
            return Ok(());
        }
        let (counts, gauges) = (std::mem::take(&mut effects.counts), std::mem::take(&mut effects.gauges));
        let (lines, more) = (std::mem::take(&mut effects.log), std::mem::take(&mut effects.log_suppressed));
        if self.voice != Voice::Live {
            return Ok(());
        }
        stats.take_counts(counts, gauges, limits.metric_names);
        let allowed = stats.log_lines(lines.len() as u64 + more, limits.log_lines_per_s);
        let rule = &*self.rule.name;
        for (level, message) in lines.into_iter().take(allowed.lines) {
            match level {
                Level::Trace => tracing::trace!(target: "rule", rule, "{message}"),
                Level::Debug => tracing::debug!(target: "rule", rule, "{message}"),
                Level::Info => tracing::info!(target: "rule", rule, "{message}"),
                Level::Warn => tracing::warn!(target: "rule", rule, "{message}"),
                Level::Error => tracing::error!(target: "rule", rule, "{message}"),
            }
        }
        if allowed.say_so {
            let most = limits.log_lines_per_s;
            tracing::warn!(target: "rule", rule, "the rule logs more than {most} lines a second: the rest is left out and counted");
        }
        Ok(())
    }
}

/// The most names told in one call: while a guest takes them in they lie in its memory twice.
const NAMES_A_CALL: usize = 4_096;
/// The most bytes kept of why a guest refuses its configuration or a state.
const MAX_REFUSAL_BYTES: usize = 4 << 10;

fn said(mut words: String) -> String {
    cut(&mut words, MAX_REFUSAL_BYTES);
    words
}

fn local_partition(partitions: &mut IdMap, partition: Option<PartitionId>) -> u32 {
    partitions.local_or_add(partition.unwrap_or_default().0)
}

#[cfg(test)]
mod tests;
