//! The one wasmtime engine of a process.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::host;
use crate::clock::Clock;
use crate::context::Context;
use crate::module::Wasi;
use crate::wasi;

/// How much of its thread's stack a guest may use: bytes. The same for all, since wasmtime has it by engine and not by Store. A thread must have that and as much again for the host's own frames; those of
/// [`tidegate_telemetry::thread`] have [`tidegate_telemetry::THREAD_STACK`].
pub(crate) const GUEST_STACK: usize = 512 << 10;
const _: () = assert!(tidegate_telemetry::THREAD_STACK >= 4 * GUEST_STACK);

/// Compiles and runs modules. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    linker: Arc<Linker<Context>>,
    /// The same, and an empty WASI.
    wasi_linker: Arc<Linker<Context>>,
    pub(crate) clock: Arc<Clock>,
}

/// Why there is no engine: this machine or build cannot run WebAssembly.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start on this machine: {0}")]
pub struct EngineError(String);

impl Engine {
    /// Starts it, and its [`Clock`].
    pub fn new() -> Result<Self, EngineError> {
        let refuse = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let wasmtime = wasmtime::Engine::new(&Self::settings()).map_err(refuse)?;
        let mut linker = Linker::new(&wasmtime);
        host::add_to_linker::<Context, HasSelf<Context>>(&mut linker, |context| context).map_err(refuse)?;
        let mut wasi_linker = linker.clone();
        wasi::add_to_linker(&mut wasi_linker).map_err(refuse)?;
        let ticked = wasmtime.clone();
        let clock = Clock::start(move || ticked.increment_epoch()).map_err(|e| EngineError(e.to_string()))?;
        Ok(Self { wasmtime, linker: Arc::new(linker), wasi_linker: Arc::new(wasi_linker), clock: Arc::new(clock) })
    }

    /// What code is compiled for. The compiler's process has the same.
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
            .cranelift_nan_canonicalization(false)
            .max_wasm_stack(GUEST_STACK);
        settings
    }

    /// What a module is linked with.
    pub(crate) fn linker(&self, wasi: Wasi) -> &Linker<Context> {
        match wasi {
            Wasi::Refused => &self.linker,
            Wasi::Empty => &self.wasi_linker,
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}
