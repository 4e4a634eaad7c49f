//! The wasmtime host: from a `.wasm` file to a rule that is called once a batch.
//!
//! [`Engine`] is one a process. [`Module`] is a compiled file that has been looked over. [`Rule`] is a named use of a module:
//! filters, order, configuration, limits. [`Instance`] is a rule's Store on one lane. [`Registry`] watches the
//! rules directory and turns files into rules. Nothing here knows a broker, a database or a queue; a guest can
//! ask the host for nothing but what `wit/rule.wit` names.

mod admission;
mod bindings;
mod calls;
mod clock;
mod confined;
mod context;
mod engine;
mod fault;
mod generations;
mod ids;
mod instance;
mod load_error;
mod module;
mod private_dir;
mod registry;
mod rule;
mod shadow;
mod signature;
mod stats;
mod terms;
mod wasi;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;
mod words;

pub use admission::{
    Admission, Cache, CacheTotals, ChildProcess, Compile, CompileLimits, Examination, InProcess, Precompiled,
    compile_and_exit,
};
pub use calls::{Decoded, Emitted, Passage, Processed, RawAlert, RawCommand, Rejects};
pub use confined::{Bounds, Confined, Ended, ShortOf, Stopped, serve_and_exit};
pub use context::thread_cpu;
pub use engine::{Engine, EngineError};
pub use fault::{Fault, FaultKind};
pub use generations::{Generation, Generations, Version};
pub use instance::{Cells, Instance, Voice};
pub use load_error::{LoadError, Told};
pub use module::{Description, Kind, MAX_MODULE_BYTES, MAX_WASI_MODULE_BYTES, Module, Scope};
pub use private_dir::DirectoryError;
pub use registry::{
    Asked, Candidate, Deploy, FirstLook, PromoteState, Registry, RegistryHandle, RescanError, RetryError, RuleState,
    RuleStatus, STILL_CALLED, ShadowOrder, ShadowStart, ShadowStatus, Touched, look_over,
};
pub use rule::{Limits, OnRefusedState, Rule, decoder_of};
pub use shadow::{
    AlertDifference, Believed, PointMade, RowDifference, RowMade, Shadow, ShadowReport, ShadowState, ShadowTotals,
};
pub use signature::{
    FloorsError, KeyError, MAX_MANIFEST_BYTES, Manifest, SUFFIX as SIGNATURE_SUFFIX, SignatureError, Signed,
    SigningKey, Trust, TrustError,
};
pub use stats::{Level, RuleStats, RuleTotals, Share};
pub use terms::{Stack, Terms, Wasi};
pub use tidegate_config::OnQuarantine;
