//! The wasmtime host: from a `.wasm` file to a rule that is called once a batch.
//!
//! [`Engine`] is one a process. [`Module`] is a compiled file that has been looked over. [`Rule`] is a named use of a module:
//! filters, order, configuration, limits. [`Instance`] is a rule's Store on one lane. [`Registry`] watches the
//! rules directory and turns files into rules. Nothing here knows a broker, a database or a queue; a guest can
//! ask the host for nothing but what `wit/rule.wit` names.

mod bindings;
mod calls;
mod context;
mod engine;
mod fault;
mod ids;
mod instance;
mod module;
mod registry;
mod rule;
mod stats;

pub use calls::{Decoded, Emitted, Passage, Processed, RawAlert, RawCommand, Rejects};
pub use engine::{Engine, EngineError};
pub use fault::{Fault, FaultKind};
pub use instance::{Cells, Instance, SavedState};
pub use module::{Description, Kind, LoadError, MAX_MODULE_BYTES, Module, Scope};
pub use registry::{Deploy, Registry, RegistryHandle, RuleState, RuleStatus};
pub use rule::{Limits, Rule};
pub use stats::{RuleStats, RuleTotals};
