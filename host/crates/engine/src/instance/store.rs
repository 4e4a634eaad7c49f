//! A Store: what a guest lives in, and how it is called.

use std::sync::Arc;

use tidegate_model::Books;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::context::{Context, Deadline};
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
    /// All others: `describe`, `configure`, declarations, `save`, `restore`.
    Lifecycle,
}

/// Asks a module what it is, on an instance that is thrown away.
pub(crate) fn describe(module: &Module) -> Result<Description, LoadError> {
    let limits = Limits::default();
    let mut store = new_store(module, Arc::new(Books::new(0)), Arc::default(), &limits);
    let instance = instantiate(&mut store, &module.pre)?;
    let guest = load(module.exports.lifecycle.load(&mut store, &instance))?;
    let text = guarded(&mut store, Call::Lifecycle, |store| guest.call_describe(store))?;
    serde_json::from_str(&text).map_err(|error| LoadError::Description(error.to_string()))
}

/// An empty Store with these limits.
pub(crate) fn new_store(
    module: &Module,
    books: Arc<Books>,
    stats: Arc<RuleStats>,
    limits: &Limits,
) -> Store<Context> {
    let mut store = Store::new(&module.engine.wasmtime, Context::new(books, stats, limits));
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
    let context = store.data_mut();
    // A growth refused in an earlier call, which the guest took well, is not why this one may fail.
    context.memory.refused = false;
    context.deadline = match what {
        Call::Batch => Deadline::new(limits.batch_cpu, limits.batch_wall),
        Call::Lifecycle => Deadline::new(limits.lifecycle_cpu, limits.lifecycle_wall),
    };
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
