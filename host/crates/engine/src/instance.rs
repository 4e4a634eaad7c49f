//! A rule's Store on one lane, and the calls into it.
//!
//! Columns go in as they lie in memory, once their ids are translated; what comes back is checked before it goes
//! on. After a [`Fault`] an instance is spent: drop it, make another from its [`Rule`].

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use tidegate_model::{Books, Messages, PartitionId, Points, SeriesId, TopicId};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::bindings::host::Level;
use crate::bindings::telemetry;
use crate::bindings::{decoder, lifecycle, naming, processor, state, ticking};
use crate::calls::{Checker, Decoded, Emitted, Processed};
use crate::context::{Context, Deadline, Effects, MemoryLimit, Rows};
use crate::fault::{Fault, FaultKind};
use crate::ids::IdMap;
use crate::module::{Description, LoadError, Module};
use crate::rule::{Limits, Rule};

/// The most bytes of state asked for in one call of `save`.
const SAVE_PART_BYTES: u32 = 1 << 20;
/// Bytes a guest may hand over in one call: far above what a full batch needs.
const CALL_BYTES: usize = 64 << 20;

/// A configured rule, ready to be called by the one lane that owns it.
pub struct Instance {
    rule: Arc<Rule>,
    store: Store<Context>,
    decoder: Option<decoder::Guest>,
    processor: Option<processor::Guest>,
    naming: Option<naming::Guest>,
    ticking: Option<ticking::Guest>,
    state: Option<state::Guest>,
    /// The id column of the running call, and what is new in it; kept for their memory.
    ids: Vec<u32>,
    new: Vec<u32>,
    /// [`Books::descriptions`] when this instance was last told of changes.
    descriptions_seen: u64,
}

/// State of a rule, by this process's ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedState {
    /// Of series.
    pub series: Vec<(SeriesId, Box<[u8]>)>,
    /// Of partitions.
    pub partitions: Vec<(PartitionId, Box<[u8]>)>,
    /// Series whose state is gone.
    pub removed_series: Vec<SeriesId>,
    /// Partitions whose state is gone.
    pub removed_partitions: Vec<PartitionId>,
}

/// Which cells `save` is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// All there are.
    All,
    /// Those that changed since the last save.
    Changed,
}

/// State of one series or partition: the instance's id, and the bytes.
type Cell = (u32, Box<[u8]>);

/// Asks a module what it is, on an instance that is thrown away.
pub(crate) fn describe(module: &Module) -> Result<Description, LoadError> {
    let books = Arc::new(Books::new(0));
    let mut store = new_store(module, books, &Limits::default());
    let instance = instantiate(&mut store, &module.pre)?;
    let guest = load(module.exports.lifecycle.load(&mut store, &instance))?;
    let text = guarded(&mut store, Limits::default().lifecycle_cpu, |store| guest.call_describe(store))?;
    serde_json::from_str(&text).map_err(|error| LoadError::Description(error.to_string()))
}

fn new_store(module: &Module, books: Arc<Books>, limits: &Limits) -> Store<Context> {
    let context = Context {
        memory: MemoryLimit { limit_bytes: limits.memory_bytes, now_bytes: 0, refused: false },
        deadline: Deadline::new(limits.lifecycle_cpu),
        books,
        topics: IdMap::default(),
        series: IdMap::default(),
        partitions: IdMap::default(),
        effects: Effects::default(),
    };
    let mut store = Store::new(&module.engine.wasmtime, context);
    store.limiter(|context| &mut context.memory);
    store.set_hostcall_fuel(CALL_BYTES);
    store.epoch_deadline_callback(|mut store| Ok(store.data_mut().deadline.look()));
    store
}

fn instantiate(
    store: &mut Store<Context>,
    pre: &InstancePre<Context>,
) -> Result<wasmtime::component::Instance, LoadError> {
    let cpu = store.data().deadline.cpu;
    Ok(guarded(store, cpu, |store| pre.instantiate(store))?)
}

/// What `GuestIndices::load` says, as a [`LoadError`].
fn load<T>(guest: wasmtime::Result<T>) -> Result<T, LoadError> {
    guest.map_err(|error| LoadError::Contract(format!("{error:#}")))
}

/// Calls into the guest with a limit of CPU time.
fn guarded<T>(
    store: &mut Store<Context>,
    cpu: Duration,
    call: impl FnOnce(&mut Store<Context>) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    store.data_mut().deadline.restart(cpu);
    store.set_epoch_deadline(1);
    call(store).map_err(|error| {
        let context = store.data();
        let kind = if context.deadline.overrun {
            FaultKind::Timeout
        } else if context.memory.refused {
            FaultKind::Memory
        } else {
            FaultKind::Trap
        };
        Fault::from_wasmtime(&error, kind)
    })
}

impl Instance {
    /// Instantiates and configures `rule`.
    pub(crate) fn new(rule: Arc<Rule>, books: Arc<Books>) -> Result<Self, LoadError> {
        let module = rule.module.clone();
        let exports = &module.exports;
        let mut store = new_store(&module, books, &rule.limits);
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
        guarded(&mut store, rule.limits.lifecycle_cpu, |store| lifecycle.call_configure(store, &rule.config))?
            .map_err(LoadError::Config)?;
        let mut made = Self {
            rule,
            store,
            decoder,
            processor,
            naming,
            ticking,
            state,
            ids: Vec::new(),
            new: Vec::new(),
            descriptions_seen: 0,
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
        let guest = self.decoder.clone().ok_or_else(|| Fault::bad_output("it is no decoder"))?;
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
        let cpu = self.rule.limits.batch_cpu;
        let raw = guarded(&mut self.store, cpu, |store| guest.call_decode(store, now_us, columns))?;
        self.commit(&Rows::Topics(&batch.topic))?;
        let checker = Checker { series: &self.store.data().series, rows: batch.len() };
        let decoded = checker.decoded(raw)?;
        let stats = &self.rule.stats;
        stats.batches.fetch_add(1, Relaxed);
        stats.rows_in.fetch_add(batch.len() as u64, Relaxed);
        stats.rows_out.fetch_add(decoded.points.len() as u64, Relaxed);
        stats.rejected.fetch_add(decoded.rejects.row.len() as u64, Relaxed);
        stats.held.fetch_add(decoded.held.len() as u64, Relaxed);
        stats.nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
        Ok(decoded)
    }

    /// Processes a batch. `now_us`: microseconds since 1970-01-01 UTC.
    pub fn process(&mut self, now_us: i64, batch: &Points) -> Result<Processed, Fault> {
        let began = Instant::now();
        let guest = self.processor.clone().ok_or_else(|| Fault::bad_output("it is no processor"))?;
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
        let cpu = self.rule.limits.batch_cpu;
        let raw = guarded(&mut self.store, cpu, |store| guest.call_process(store, now_us, columns))?;
        self.commit(&Rows::Series(&batch.series))?;
        let checker = Checker { series: &self.store.data().series, rows: batch.len() };
        let processed = checker.processed(raw)?;
        let stats = &self.rule.stats;
        stats.batches.fetch_add(1, Relaxed);
        stats.rows_in.fetch_add(batch.len() as u64, Relaxed);
        stats.rejected.fetch_add(processed.rejects.row.len() as u64, Relaxed);
        stats.held.fetch_add(processed.held.len() as u64, Relaxed);
        stats.alerts.fetch_add(processed.alerts.len() as u64, Relaxed);
        stats.nanos.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
        Ok(processed)
    }

    /// Lets it act without a message; nothing if it cannot. `now_us`: microseconds since 1970-01-01 UTC.
    pub fn tick(&mut self, now_us: i64) -> Result<Emitted, Fault> {
        let Some(guest) = self.ticking.clone() else { return Ok(Emitted::default()) };
        let cpu = self.rule.limits.batch_cpu;
        let raw = guarded(&mut self.store, cpu, |store| guest.call_tick(store, now_us))?;
        self.commit(&Rows::None)?;
        let emitted = Checker { series: &self.store.data().series, rows: 0 }.emitted(raw)?;
        self.rule.stats.alerts.fetch_add(emitted.alerts.len() as u64, Relaxed);
        self.rule.stats.rows_out.fetch_add(emitted.points.len() as u64, Relaxed);
        Ok(emitted)
    }

    /// Its state, or what changed of it since the last save; empty if it keeps none.
    pub fn save(&mut self, cells: Cells) -> Result<SavedState, Fault> {
        let mut all = SavedState::default();
        let Some(guest) = self.state.clone() else { return Ok(all) };
        let everything = cells == Cells::All;
        let most_parts = 2 + self.rule.limits.memory_bytes / SAVE_PART_BYTES as usize * 2;
        for _ in 0..most_parts {
            let part = guarded(&mut self.store, self.rule.limits.lifecycle_cpu, |store| {
                guest.call_save(store, everything, SAVE_PART_BYTES)
            })?;
            let more = part.more;
            self.take_part(part, &mut all)?;
            if !more {
                self.commit(&Rows::None)?;
                return Ok(all);
            }
        }
        Err(Fault::bad_output("`save` goes on for more parts than its memory can hold"))
    }

    fn take_part(&self, part: state::SavedResult, all: &mut SavedState) -> Result<(), Fault> {
        let context = self.store.data();
        let series = |local: u32| {
            let unknown = || Fault::bad_output(format!("`save` named series {local}, which it was never given"));
            context.series.global(local).map(SeriesId).ok_or_else(unknown)
        };
        let partition = |local: u32| {
            let unknown = || Fault::bad_output(format!("`save` named partition {local}, which it was never given"));
            context.partitions.global(local).map(PartitionId).ok_or_else(unknown)
        };
        for (local, bytes) in cells_of(&part.by_series)? {
            all.series.push((series(local)?, bytes));
        }
        for (local, bytes) in cells_of(&part.by_partition)? {
            all.partitions.push((partition(local)?, bytes));
        }
        for &local in &part.removed_series {
            all.removed_series.push(series(local)?);
        }
        for &local in &part.removed_partitions {
            all.removed_partitions.push(partition(local)?);
        }
        Ok(())
    }

    /// Gives it the state that an instance of `version` saved.
    pub fn restore(&mut self, version: &str, saved: &SavedState) -> Result<(), LoadError> {
        let Some(guest) = self.state.clone() else { return Ok(()) };
        if saved.series.is_empty() && saved.partitions.is_empty() {
            return Ok(());
        }
        let series: Vec<SeriesId> = saved.series.iter().map(|(id, _)| *id).collect();
        self.declare_series(&series)?;
        let series_ids = std::mem::take(&mut self.ids);
        let partitions: Vec<u32> = saved.partitions.iter().map(|(id, _)| id.0).collect();
        let mut partition_ids = Vec::new();
        let mut new = Vec::new();
        self.store.data_mut().partitions.translate(partitions.into_iter(), &mut partition_ids, &mut new);
        let (series_ends, series_bytes) = packed(saved.series.iter().map(|(_, bytes)| &**bytes));
        let (partition_ends, partition_bytes) = packed(saved.partitions.iter().map(|(_, bytes)| &**bytes));
        let part = state::SavedParam {
            by_series: state::CellsParam { id: &series_ids, ends: &series_ends, bytes: &series_bytes },
            by_partition: state::CellsParam { id: &partition_ids, ends: &partition_ends, bytes: &partition_bytes },
            removed_series: &[],
            removed_partitions: &[],
            more: false,
        };
        let cpu = self.rule.limits.lifecycle_cpu;
        guarded(&mut self.store, cpu, |store| guest.call_restore(store, version, part))?.map_err(LoadError::State)?;
        self.ids = series_ids;
        Ok(self.commit(&Rows::None)?)
    }

    /// Translates a column of topics into `self.ids`, after telling the guest the names it does not know.
    fn declare_topics(&mut self, guest: &decoder::Guest, topics: &[TopicId]) -> Result<(), Fault> {
        self.new.clear();
        let context = self.store.data_mut();
        context.topics.translate(topics.iter().map(|topic| topic.0), &mut self.ids, &mut self.new);
        if self.new.is_empty() {
            return Ok(());
        }
        let books = context.books.clone();
        let first = context.topics.len() - self.new.len();
        let mut named = Vec::with_capacity(self.new.len());
        for (i, &global) in self.new.iter().enumerate() {
            let topic = books.topic(TopicId(global));
            named.push(telemetry::Topic {
                id: (first + i) as u32,
                name: topic.map_or("", |topic| &topic.name),
                partition: local_partition(&mut context.partitions, topic.map(|topic| topic.partition)),
            });
        }
        let cpu = self.rule.limits.lifecycle_cpu;
        guarded(&mut self.store, cpu, |store| guest.call_declare_topics(store, &named))
    }

    /// Translates a column of series into `self.ids`, after telling the guest the names it does not know and the units and labels
    /// that have changed, if it wants names.
    fn declare_series(&mut self, series: &[SeriesId]) -> Result<(), Fault> {
        self.new.clear();
        let context = self.store.data_mut();
        let descriptions = context.books.descriptions();
        if self.naming.is_some() && descriptions != self.descriptions_seen {
            let seen = std::mem::replace(&mut self.descriptions_seen, descriptions);
            let changed = |id: &u32| {
                let series = context.books.series(SeriesId(*id));
                series.is_some_and(|series| series.described_at.load(Acquire) > seen)
            };
            self.new.extend(context.series.globals().iter().copied().filter(changed));
        }
        context.series.translate(series.iter().map(|series| series.0), &mut self.ids, &mut self.new);
        let Some(guest) = self.naming.clone().filter(|_| !self.new.is_empty()) else { return Ok(()) };
        let books = context.books.clone();
        let described =
            |&id: &u32| books.series(SeriesId(id)).map(|series| (id, series, series.description.load_full()));
        let known: Vec<_> = self.new.iter().filter_map(described).collect();
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
        let cpu = self.rule.limits.lifecycle_cpu;
        guarded(&mut self.store, cpu, |store| guest.call_declare_series(store, &named))
    }

    /// The call has returned: what it asked for takes effect.
    fn commit(&mut self, rows: &Rows<'_>) -> Result<(), Fault> {
        let context = self.store.data_mut();
        context.commit_series(rows).map_err(|full| Fault::bad_output(format!("it made too many series: {full}")))?;
        let effects = &mut context.effects;
        if !effects.counts.is_empty() || !effects.gauges.is_empty() {
            let (counts, gauges) = (std::mem::take(&mut effects.counts), std::mem::take(&mut effects.gauges));
            self.rule.stats.take_counts(counts, gauges);
        }
        for (level, message) in effects.log.drain(..) {
            let rule = &*self.rule.name;
            match level {
                Level::Trace => tracing::trace!(target: "rule", rule, "{message}"),
                Level::Debug => tracing::debug!(target: "rule", rule, "{message}"),
                Level::Info => tracing::info!(target: "rule", rule, "{message}"),
                Level::Warn => tracing::warn!(target: "rule", rule, "{message}"),
                Level::Error => tracing::error!(target: "rule", rule, "{message}"),
            }
        }
        if effects.log_suppressed > 0 {
            let (rule, lines) = (&*self.rule.name, std::mem::take(&mut effects.log_suppressed));
            tracing::warn!(target: "rule", rule, lines, "the rule logs too much: lines of one call were left out");
        }
        Ok(())
    }
}

fn local_partition(partitions: &mut IdMap, partition: Option<PartitionId>) -> u32 {
    let global = partition.unwrap_or_default().0;
    partitions.local(global).unwrap_or_else(|| partitions.add(global))
}

fn cells_of(cells: &state::CellsResult) -> Result<Vec<Cell>, Fault> {
    let sound = cells.ends.len() == cells.id.len()
        && cells.ends.is_sorted()
        && cells.ends.last().copied().unwrap_or(0) as usize == cells.bytes.len();
    if !sound {
        return Err(Fault::bad_output("the columns of saved state disagree"));
    }
    let starts = std::iter::once(0).chain(cells.ends.iter().copied());
    let spans = starts.zip(&cells.ends).map(|(start, &end)| cells.bytes[start as usize..end as usize].into());
    Ok(cells.id.iter().copied().zip(spans).collect())
}

fn packed<'a>(cells: impl Iterator<Item = &'a [u8]>) -> (Vec<u32>, Vec<u8>) {
    let (mut ends, mut bytes) = (Vec::new(), Vec::new());
    for cell in cells {
        bytes.extend_from_slice(cell);
        ends.push(bytes.len() as u32);
    }
    (ends, bytes)
}
