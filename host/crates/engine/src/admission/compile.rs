//! From a module's bytes to machine code.

use std::time::Duration;

use wasmparser::Parser;
use wit_component::ComponentEncoder;

use crate::admission::native::Precompiled;
use crate::engine::Engine;
use crate::load_error::LoadError;
use crate::terms::Wasi;

/// What compiling one module may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory of the compiler: bytes.
    pub memory_bytes: u64,
    /// How long it may take, by the wall; a tenth longer where the machine gives it less of processors than that.
    pub time: Duration,
}

impl CompileLimits {
    /// Unless somebody says otherwise: with all that is waited for, half a minute is enough to refuse what takes longer.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(20);

    /// A rule of 130 KB takes 60 ms and 40 MiB; Python, 18 MB with its WASI, some 14 s of processors and 400 MiB.
    pub(crate) const fn of(wasi: Wasi, time: Duration) -> Self {
        let memory_bytes = match wasi {
            Wasi::Refused => 1 << 30,
            Wasi::Empty => 4 << 30,
        };
        Self { memory_bytes, time }
    }

    /// Of what nobody has asked for yet, and whoever does has to wait for.
    pub(crate) fn ahead(time: Duration) -> Self {
        Self::of(Wasi::Refused, time.min(Duration::from_secs(2)))
    }
}

/// Who compiles.
pub trait Compile: Send + Sync {
    /// The machine code of a module, core or component, for `engine`. Slow: tens of milliseconds, and up to the limit.
    ///
    /// # Errors
    /// It is no module of ours, or takes more than `limits`.
    fn compile(&self, engine: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError>;
}

/// Compiles in this process, without limits: for tests and measurements, where modules are one's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

impl Compile for InProcess {
    fn compile(&self, engine: &Engine, module: &[u8], _limits: CompileLimits) -> Result<Precompiled, LoadError> {
        translate(&engine.base().wasmtime, module).map(Precompiled::vouched_for)
    }
}

/// Compiles `module`; a core module is made a component first, by what its bindings noted in it.
///
/// What runs is validated once, where it is compiled: there the functions are, on all processors. Before that only the shape of a core module is looked at.
pub(super) fn translate(engine: &wasmtime::Engine, module: &[u8]) -> Result<Vec<u8>, LoadError> {
    let wrapped;
    let component = if Parser::is_component(module) {
        module
    } else {
        let encoded = ComponentEncoder::default().module(module).and_then(|encoder| encoder.validate(false).encode());
        wrapped = encoded.map_err(|error| unsound(module).unwrap_or(LoadError::Contract(format!("{error:#}"))))?;
        &wrapped
    };
    let compiled = engine.precompile_component(component);
    compiled.map_err(|error| unsound(module).unwrap_or(LoadError::NotWasm(format!("{error:#}"))))
}

/// What is wrong with a module itself, and where in it, unless it is a component: of that the compiler says so.
fn unsound(module: &[u8]) -> Option<LoadError> {
    let fault = wasmparser::validate(module).err().filter(|_| !Parser::is_component(module))?;
    Some(LoadError::NotWasm(fault.to_string()))
}
