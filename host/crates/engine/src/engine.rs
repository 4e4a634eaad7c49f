//! The wasmtime engine of a process: one for each size of stack that rules have.

use std::sync::{Arc, OnceLock};

use tidegate_config::STACKS_KIB;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::host;
use crate::clock::Clock;
use crate::context::Context;
use crate::terms::{Stack, Wasi};
use crate::wasi;

/// Compiles and runs modules. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Engine {
    base: Arc<Variant>,
    others: Arc<[OnceLock<Variant>; STACKS_KIB.len()]>,
    pub(crate) clock: Arc<Clock>,
}

/// What runs guests that have a stack of one size: wasmtime has that by engine. The code is the same for all of them, so modules are compiled once, and
/// loaded by each that has rules with them.
pub(crate) struct Variant {
    pub wasmtime: wasmtime::Engine,
    linker: Linker<Context>,
    /// The same, and an empty WASI.
    wasi_linker: Linker<Context>,
}

/// Why there is no engine: this machine or build cannot run WebAssembly.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start on this machine: {0}")]
pub struct EngineError(String);

impl Engine {
    /// Starts it, and its [`Clock`].
    pub fn new() -> Result<Self, EngineError> {
        let base = Arc::new(Variant::new(Stack::default())?);
        let others: Arc<[OnceLock<Variant>; STACKS_KIB.len()]> = Arc::default();
        let (ticked, all) = (base.wasmtime.clone(), others.clone());
        let tick = move || {
            ticked.increment_epoch();
            all.iter().filter_map(OnceLock::get).for_each(|other| other.wasmtime.increment_epoch());
        };
        let clock = Clock::start(tick).map_err(|e| EngineError(e.to_string()))?;
        Ok(Self { base, others, clock: Arc::new(clock) })
    }

    /// The one of the default stack.
    pub(crate) fn base(&self) -> &Variant {
        &self.base
    }

    /// The one for that stack; made when it is asked for first.
    pub(crate) fn with(&self, stack: Stack) -> Result<&Variant, EngineError> {
        let Some(other) = self.others.get(stack.0).filter(|_| stack != Stack::default()) else {
            return Ok(&self.base);
        };
        if let Some(made) = other.get() {
            return Ok(made);
        }
        let made = Variant::new(stack)?;
        Ok(other.get_or_init(|| made))
    }
}

impl Variant {
    fn new(stack: Stack) -> Result<Self, EngineError> {
        let refuse = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let mut settings = settings();
        // No call is made on a stack of its own; yet wasmtime wants such to be larger than what a guest may have of them.
        settings.max_wasm_stack(stack.bytes()).async_stack_size(2 * stack.bytes());
        let wasmtime = wasmtime::Engine::new(&settings).map_err(refuse)?;
        let mut linker = Linker::new(&wasmtime);
        host::add_to_linker::<Context, HasSelf<Context>>(&mut linker, |context| context).map_err(refuse)?;
        let mut wasi_linker = linker.clone();
        wasi::add_to_linker(&mut wasi_linker).map_err(refuse)?;
        Ok(Self { wasmtime, linker, wasi_linker })
    }

    /// What a module is linked with.
    pub fn linker(&self, wasi: Wasi) -> &Linker<Context> {
        match wasi {
            Wasi::Refused => &self.linker,
            Wasi::Empty => &self.wasi_linker,
        }
    }
}

/// What code is compiled for, whatever stack it will have. The compiler's process has the same.
pub(crate) fn settings() -> wasmtime::Config {
    let mut settings = wasmtime::Config::new();
    settings
        .wasm_component_model(true)
        .concurrency_support(false) // a no-op call costs a third of what it costs with it
        .epoch_interruption(true) // +25 % on JSON decoding, where fuel is +35 %
        // A memory lies within its reservation of address space for good, so its base can be kept in a register.
        .memory_may_move(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false) // results must not differ between nodes
        .cranelift_nan_canonicalization(false);
    settings
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}
