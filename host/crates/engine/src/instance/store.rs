//! A Store: what a guest lives in, and how it is called.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_model::Books;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::context::{Context, Deadline, thread_cpu};
use crate::fault::{Fault, FaultKind};
use crate::load_error::LoadError;
use crate::module::{Description, Module};
use crate::rule::Limits;
use crate::stats::RuleStats;

/// What one call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `decode`, `process`, `tick`.
    Batch,
    /// All others: `describe`, `configure`, declarations.
    Lifecycle,
}

/// To declare a series and restore its cell takes an honest guest one or two microseconds, and to save it less; one in another language some more.
const CPU_A_CELL: Duration = Duration::from_micros(10);
/// And for each byte that it hands over, in memory that it and the host may have to touch first.
const NANOS_A_BYTE: u64 = 20;

/// What an operation of many calls may take, all in all.
pub(crate) struct Budget {
    cpu: Duration,
    wall: Duration,
    /// And each of the calls, whatever is left.
    a_call: Duration,
}

impl Budget {
    /// As much as one lifecycle call may.
    pub fn lifecycle(limits: &Limits) -> Self {
        Self { cpu: limits.lifecycle_cpu, wall: limits.lifecycle_wall, a_call: Duration::MAX }
    }

    /// What saving what changed may take at the very most: as long as a batch, since it is asked for after batches, and for each cell that can have
    /// changed and each byte that there can be. What of that was due is said afterwards, by [`Self::took_too_long`].
    pub fn save(limits: &Limits, cells: usize, bytes: usize) -> Self {
        let a_call = limits.batch_cpu + limits.lifecycle_cpu;
        Self { cpu: limits.batch_cpu + to_save(cells, bytes), wall: limits.lifecycle_wall, a_call }
    }

    fn of_a_call(&self) -> Duration {
        self.cpu.min(self.a_call)
    }

    /// Whether of a budget of [`Self::save`] more was used than is due to one that left so many cells and bytes of it.
    pub fn took_too_long(&self, cells: usize, bytes: usize) -> bool {
        self.cpu < to_save(cells, bytes)
    }

    /// And for so many cells that the host gives it, which no guest can make more of than it has series and partitions.
    pub fn and_for_cells(self, cells: usize) -> Self {
        Self { cpu: self.cpu + a_cell_each(cells), ..self }
    }
}

fn to_save(cells: usize, bytes: usize) -> Duration {
    a_cell_each(cells) + Duration::from_nanos(bytes as u64 * NANOS_A_BYTE)
}

fn a_cell_each(cells: usize) -> Duration {
    CPU_A_CELL * u32::try_from(cells).unwrap_or(u32::MAX)
}

/// The most bytes of a description, and of the schema in it.
const MAX_DESCRIPTION_BYTES: usize = 256 << 10;
const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// The most topic filters a module may name.
const MAX_DEFAULT_TOPICS: usize = 1_000;

/// Asks a module what it is, on an instance that is thrown away.
pub(crate) fn describe(module: &Module) -> Result<Description, LoadError> {
    let limits = Limits::default();
    let mut store = new_store(module, Arc::new(Books::new(0)), Arc::default(), &limits);
    let instance = instantiate(&mut store, &module.pre)?;
    let guest = load(module.exports.lifecycle.load(&mut store, &instance))?;
    let text = guarded(&mut store, Call::Lifecycle, |store| guest.call_describe(store))?;
    description(&text)
}

/// Reads what `describe` returned.
fn description(text: &str) -> Result<Description, LoadError> {
    let at_most = |what: &str, has: usize, most: usize, unit: &str| match has {
        has if has > most => {
            Err(LoadError::Description(format!("{what} has {has} {unit}, where {most} are the most")))
        }
        _ => Ok(()),
    };
    at_most("it", text.len(), MAX_DESCRIPTION_BYTES, "bytes")?;
    let description: Description =
        serde_json::from_str(text).map_err(|error| LoadError::Description(error.to_string()))?;
    at_most("`default-topics`", description.default_topics.len(), MAX_DEFAULT_TOPICS, "filters")?;
    at_most("`config-schema`", description.config_schema.to_string().len(), MAX_SCHEMA_BYTES, "bytes")?;
    Ok(description)
}

/// An empty Store with these limits.
pub(crate) fn new_store(
    module: &Module,
    books: Arc<Books>,
    stats: Arc<RuleStats>,
    limits: &Limits,
) -> Store<Context> {
    let mut context = Context::new(books, stats, limits);
    context.running = module.clock.watch();
    let mut store = Store::new(module.pre.engine(), context);
    store.limiter(|context| &mut context.memory);
    store.set_hostcall_fuel(limits.call_bytes);
    store.epoch_deadline_callback(|mut store| Ok(store.data_mut().deadline.look()));
    store
}

/// Instantiates, which runs the module's start function.
pub(crate) fn instantiate(
    store: &mut Store<Context>,
    pre: &InstancePre<Context>,
) -> Result<wasmtime::component::Instance, LoadError> {
    Ok(guarded(store, Call::Lifecycle, |store| pre.instantiate(store))?)
}

/// What `GuestIndices::load` says, as a [`LoadError`].
pub(crate) fn load<T>(guest: wasmtime::Result<T>) -> Result<T, LoadError> {
    guest.map_err(|error| LoadError::Contract(format!("{error:#}")))
}

/// Calls into the guest, within its limits.
pub(crate) fn guarded<T>(
    store: &mut Store<Context>,
    what: Call,
    call: impl FnOnce(&mut Store<Context>) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    let limits = store.data().limits;
    let deadline = match what {
        Call::Batch => Deadline::new(limits.batch_cpu, limits.batch_wall),
        Call::Lifecycle => Deadline::new(limits.lifecycle_cpu, limits.lifecycle_wall),
    };
    run(store, deadline, call)
}

/// Calls into the guest, within what is `left` of the time of an operation that takes several calls.
pub(crate) fn guarded_within<T>(
    store: &mut Store<Context>,
    left: &mut Budget,
    call: impl FnOnce(&mut Store<Context>) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    // Each call may be too short for its deadline to be looked at: the sum is not.
    if left.cpu.is_zero() || left.wall.is_zero() {
        return Err(Fault {
            kind: FaultKind::Timeout,
            message: "calls that share one limit took longer than it together".to_owned(),
            backtrace: None,
        });
    }
    let (cpu_began, wall_began) = (thread_cpu(), Instant::now());
    let returned = run(store, Deadline::new(left.of_a_call(), left.wall), call);
    left.cpu = left.cpu.saturating_sub(thread_cpu().saturating_sub(cpu_began));
    left.wall = left.wall.saturating_sub(wall_began.elapsed());
    returned
}

fn run<T>(
    store: &mut Store<Context>,
    deadline: Deadline,
    call: impl FnOnce(&mut Store<Context>) -> wasmtime::Result<T>,
) -> Result<T, Fault> {
    let context = store.data_mut();
    // A growth refused in an earlier call, which the guest took well, is not why this one may fail.
    context.memory.refused = false;
    context.deadline = deadline;
    context.running.begin();
    store.set_epoch_deadline(1);
    let returned = call(store);
    store.data().running.end();
    returned.map_err(|error| {
        let context = store.data();
        let kind = if context.deadline.overrun {
            FaultKind::Timeout
        } else if context.memory.refused {
            FaultKind::Memory
        } else {
            FaultKind::Trap
        };
        Fault::from_wasmtime(&error, kind, store.engine().get_max_wasm_stack())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: who saves may take as long as for a batch, and for each cell and byte given a little; not for those that might have been.
    #[test]
    fn a_save_may_take_a_batch_and_its_cells() {
        let limits = Limits::default();
        for (cells, bytes, due_us) in [(0, 0, 0), (1_000, 0, 10_000), (1, 1_000_000, 20_010)] {
            for late_us in [0, 1] {
                let mut left = Budget::save(&limits, 50_000, 16_000_000);
                left.cpu -= limits.batch_cpu + Duration::from_micros(due_us + late_us);
                let too_long = left.took_too_long(50_000 - cells, 16_000_000 - bytes);
                assert_eq!(too_long, late_us > 0, "{cells} cells of {bytes} bytes, {late_us} us late");
            }
        }
    }

    /// Guarantees: however much state there is, a call that saves is stopped when it has taken as long as a batch and a lifecycle call may, and when there is
    /// less left, then.
    #[test]
    fn each_call_that_saves_is_bounded() {
        let limits = Limits::default();
        let most = limits.batch_cpu + limits.lifecycle_cpu;
        let mut left = Budget::save(&limits, 100_000, 16 << 20);
        assert!(left.cpu > most * 2 && left.of_a_call() == most);
        left.cpu = most / 2;
        assert_eq!(left.of_a_call(), most / 2);
        assert_eq!(Budget::lifecycle(&limits).of_a_call(), limits.lifecycle_cpu);
    }

    /// Guarantees: what a module says of itself is bounded, as a whole and in its parts.
    #[test]
    fn descriptions_are_bounded() {
        let told = |topics: usize, schema: usize| {
            let topics = vec!["a/#"; topics];
            let schema = serde_json::json!({ "title": "x".repeat(schema) });
            serde_json::json!({ "name": "n", "default-topics": topics, "config-schema": schema }).to_string()
        };
        assert!(description(&told(MAX_DEFAULT_TOPICS, 1_000)).is_ok());
        for (text, part) in [
            (told(MAX_DEFAULT_TOPICS + 1, 0), "`default-topics` has 1001 filters"),
            (told(0, MAX_SCHEMA_BYTES), "`config-schema` has"),
            (" ".repeat(MAX_DESCRIPTION_BYTES + 1), "it has 262145 bytes"),
        ] {
            let refused = description(&text).unwrap_err();
            assert_eq!(refused.code(), "description");
            assert!(refused.to_string().contains(part), "{refused}");
        }
    }
}
