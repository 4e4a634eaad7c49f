//! The one wasmtime engine of a process, and its clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::host;
use crate::context::Context;
use crate::module::Wasi;
use crate::wasi;

/// How often running guests are looked at. Their limits are counted in it.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// How much of its thread's stack a guest may use: bytes. A thread must have that and as much again for the host's own frames; those of
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
    _ticker: Arc<Ticker>,
}

/// Why there is no engine: this machine or build cannot run WebAssembly.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start on this machine: {0}")]
pub struct EngineError(String);

impl Engine {
    /// Starts it, and the thread that is its clock.
    pub fn new() -> Result<Self, EngineError> {
        let refuse = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let wasmtime = wasmtime::Engine::new(&Self::settings()).map_err(refuse)?;
        let mut linker = Linker::new(&wasmtime);
        host::add_to_linker::<Context, HasSelf<Context>>(&mut linker, |context| context).map_err(refuse)?;
        let mut wasi_linker = linker.clone();
        wasi::add_to_linker(&mut wasi_linker).map_err(refuse)?;
        let ticker = Ticker::start(wasmtime.clone()).map_err(|e| EngineError(e.to_string()))?;
        Ok(Self { wasmtime, linker: Arc::new(linker), wasi_linker: Arc::new(wasi_linker), _ticker: Arc::new(ticker) })
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

/// A thread of its own that raises the epoch: a busy runtime must not make guests immortal.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = tidegate_telemetry::thread("epoch", move || {
            while !stopped.load(Relaxed) {
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within a tick; that it panicked is of no interest any more.
            let _ = thread.join();
        }
    }
}
