//! What can go wrong when a guest is called.

use std::fmt;

use crate::words::cut;

/// The most bytes kept of where a guest was, and of what is said of it: frames bear the names the module gives its functions.
const MAX_BACKTRACE_BYTES: usize = 8 << 10;
const MAX_MESSAGE_BYTES: usize = 1_000;

/// A call that did not return as it should. The instance it happened in is not to be used again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Fault {
    /// What sort.
    pub kind: FaultKind,
    /// For people.
    pub message: String,
    /// Where in the module, innermost frame first, if it was in the module.
    pub backtrace: Option<String>,
}

/// The sorts of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The guest trapped: a panic, an index out of range, an exhausted stack.
    Trap,
    /// It ran longer than its CPU time.
    Timeout,
    /// It asked for more memory than its limit and then trapped.
    Memory,
    /// What it returned breaks the contract.
    BadOutput,
}

impl FaultKind {
    /// The word used in metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            FaultKind::Trap => "trap",
            FaultKind::Timeout => "timeout",
            FaultKind::Memory => "memory",
            FaultKind::BadOutput => "bad_output",
        }
    }

    /// All of them, for tables.
    pub const ALL: [FaultKind; 4] = [FaultKind::Trap, FaultKind::Timeout, FaultKind::Memory, FaultKind::BadOutput];
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Trap => "the rule trapped",
            FaultKind::Timeout => "the rule used up its CPU time",
            FaultKind::Memory => "the rule ran out of its memory",
            FaultKind::BadOutput => "the rule returned what the contract forbids",
        })
    }
}

impl Fault {
    /// A breach of the contract.
    pub fn bad_output(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::BadOutput, message: message.into(), backtrace: None }
    }

    /// It gave what had changed of its state, but not as soon as it must: a batch may take `a_batch`.
    pub(crate) fn save_took_too_long(a_batch: std::time::Duration) -> Self {
        let message = format!(
            "`save` took longer than a batch may ({a_batch:?}, `cpu_ms` in the `[limits]` of its file) and what it gave takes"
        );
        Self { kind: FaultKind::Timeout, message, backtrace: None }
    }

    /// From what wasmtime says of a call that had `stack_bytes` of its thread's.
    pub(crate) fn from_wasmtime(error: &wasmtime::Error, kind: FaultKind, stack_bytes: usize) -> Self {
        let mut backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>().map(|frames| frames.to_string());
        if let Some(frames) = &mut backtrace {
            cut(frames, MAX_BACKTRACE_BYTES);
        }
        let mut message = match error.downcast_ref::<wasmtime::Trap>() {
            Some(trap @ wasmtime::Trap::StackOverflow) => {
                format!("{trap}: {} KiB (`stack_kib` in the `[limits]` of its file)", stack_bytes >> 10)
            }
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        cut(&mut message, MAX_MESSAGE_BYTES);
        Self { kind, message, backtrace }
    }
}
