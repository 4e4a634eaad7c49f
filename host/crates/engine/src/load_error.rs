//! Why a module or a rule cannot serve: one reason each, with a code for programs and a sentence for people.

use std::time::Duration;

use tidegate_cases::CasesError;

use crate::admission::CompileLimits;
use crate::fault::Fault;
use crate::module::{MAX_MODULE_BYTES, MAX_WASI_MODULE_BYTES};
use crate::signature::SignatureError;

/// Why a module or a rule cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Past [`MAX_MODULE_BYTES`], or [`MAX_WASI_MODULE_BYTES`] where its rule allows WASI.
    #[error(
        "the module has more than {most} bytes, which is the most{}: build it with `--release` and strip debug information{}",
        if *.most == MAX_WASI_MODULE_BYTES { " even with `wasi = true`" } else { "" },
        if *.most == MAX_WASI_MODULE_BYTES { "" } else { "; a component made of Python or JavaScript may have more, where its rule's file says `wasi = true`" }
    )]
    TooLarge {
        /// What it may have.
        most: usize,
    },
    /// Signatures are required, and it has no good one.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Half written, or no module at all.
    #[error("this is no WebAssembly module: {0}")]
    NotWasm(String),
    /// It was not built against the rule contract.
    #[error(
        "the module does not follow the rule contract tidegate:rule@0.1.0: {0}; build it with the `tidegate-rule` crate"
    )]
    Contract(String),
    /// It wants what no rule gets.
    #[error(
        "the module imports `{0}`, which is not in the rule contract: a rule may import nothing but \
         `tidegate:rule/host@0.1.0`; build it for wasm32-unknown-unknown"
    )]
    Import(String),
    /// It wants WASI, and its rule does not say that it may have it.
    #[error(
        "the module imports `{0}`: to let it have an empty WASI (clocks and random numbers; no files, no environment, no \
         network), write `wasi = true` in its rule's file; or build it for wasm32-unknown-unknown"
    )]
    Wasi(String),
    /// Its compiler took more memory than it may.
    #[error("to compile the module took more than {} MiB of memory{}{}", .limit_bytes >> 20, instead(*.container_bytes), .told.words())]
    CompileMemory {
        /// What it may take.
        limit_bytes: u64,
        /// What the container may have in all, if that is why it may not take more.
        container_bytes: Option<u64>,
        /// How that is known.
        told: Told,
    },
    /// Its compiler took longer than it may.
    #[error(
        "to compile the module took longer than {} s: split its largest functions, build it with `--release`, or raise `compile_timeout_s` under [rules] in tidegate.toml{}", .limit.as_secs(), .told.words()
    )]
    CompileTime {
        /// What it may take.
        limit: Duration,
        /// How that is known.
        told: Told,
    },
    /// Each of its instances would take up more beside its memory than it may.
    #[error(
        "an instance of the module would take up {} KiB for its globals, imports, tables and functions, where {} KiB are the most: declare fewer of them", .bytes >> 10, .most >> 10
    )]
    InstanceSize {
        /// What it would take up.
        bytes: u64,
        /// What it may.
        most: u64,
    },
    /// Its compiler ended without a result, or could not be started.
    #[error("the compiler ended without a result: {0}")]
    Compiler(String),
    /// Its own code failed while it was made ready.
    #[error("while the module was made ready, {0}")]
    Fault(#[from] Fault),
    /// It failed on a scratch instance.
    #[error("on trial in `{call}`, {fault}")]
    Trial {
        /// The call it failed in.
        call: &'static str,
        /// How.
        fault: Fault,
    },
    /// The test cases that it ships cannot be read.
    #[error("its test cases cannot be used: {0}")]
    TestCases(#[from] CasesError),
    /// One of them ends otherwise than it says.
    #[error(
        "its test case `{case}` fails{}: expected {expected}, and {got} came out; `tidegate rule test` runs them",
        .line.map(|line| format!(" at line {line} of expected.ndjson")).unwrap_or_default()
    )]
    TestCaseFailed {
        /// The case's name.
        case: String,
        /// Which line of its `expected.ndjson`, if it came that far.
        line: Option<usize>,
        /// What the case says.
        expected: String,
        /// What came out.
        got: String,
    },
    /// All of them together took longer than they may.
    #[error(
        "its test cases took longer than {} s of CPU time, or {} s, together: ship fewer or shorter ones", .cpu.as_secs(), .wall.as_secs()
    )]
    TestCasesTime {
        /// CPU time that they may take.
        cpu: Duration,
        /// And how long by the wall.
        wall: Duration,
    },
    /// Its `describe` returned something else than the contract says.
    #[error("`describe` returned no valid description: {0}")]
    Description(String),
    /// Its configuration was refused, by its schema or by itself.
    #[error("its configuration was refused: {0}")]
    Config(String),
    /// It took the state of its predecessor for wrong, or failed on it.
    #[error("it refused the state of the generation before it: {0}")]
    State(String),
    /// It asks for something this version does not do.
    #[error("{0}")]
    Unsupported(String),
    /// Something else has to be waited for: it is tried again.
    #[error("{0}")]
    Busy(String),
    /// The file cannot be read or is no rule file.
    #[error("{0}")]
    File(String),
}

/// How it is known that a module takes more to be compiled than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It ran into its own limit, and would again.
    ByItsLimit,
    /// The machine had too little for it just then.
    ByTheMachine,
    /// It did so before, and has not been tried again.
    ByANote,
}

impl Told {
    const fn words(self) -> &'static str {
        match self {
            Told::ByItsLimit => "",
            Told::ByTheMachine => " (the machine had too little for its compiler just then)",
            Told::ByANote => {
                " (so it was when it was tried; `retry` of its rule, or another file, has it tried again)"
            }
        }
    }
}

/// What to do about a compiler that is short of memory.
fn instead(container_bytes: Option<u64>) -> String {
    match container_bytes {
        None => ": split its largest functions, or build it with `--release`".to_owned(),
        Some(bytes) => format!(
            ", the most that this container has left for it of its {} MiB: raise that limit, or build the module with `--release`",
            bytes >> 20
        ),
    }
}

impl LoadError {
    /// The word for it in the API, the log and the metrics; it does not change.
    pub const fn code(&self) -> &'static str {
        match self {
            LoadError::TooLarge { .. } => "too_large",
            LoadError::Signature(error) => error.code(),
            LoadError::NotWasm(_) => "not_wasm",
            LoadError::Contract(_) => "contract",
            LoadError::Import(_) => "import",
            LoadError::Wasi(_) => "wasi",
            LoadError::CompileMemory { .. } => "compile_memory",
            LoadError::CompileTime { .. } => "compile_time",
            LoadError::InstanceSize { .. } => "instance_size",
            LoadError::Compiler(_) => "compiler",
            LoadError::Fault(_) => "fault",
            LoadError::Trial { .. } => "trial",
            LoadError::TestCases(_) => "test_cases",
            LoadError::TestCaseFailed { .. } => "test_case_failed",
            LoadError::TestCasesTime { .. } => "test_cases_time",
            LoadError::Description(_) => "description",
            LoadError::Config(_) => "config",
            LoadError::State(_) => "state",
            LoadError::Unsupported(_) => "unsupported",
            LoadError::Busy(_) => "busy",
            LoadError::File(_) => "file",
        }
    }

    /// How long the machine has been short of what was needed, if that is all that is wrong, and may be over by itself.
    pub(crate) const fn machine_was_short(&self) -> Option<Duration> {
        match self {
            LoadError::CompileTime { limit, told: Told::ByTheMachine } => Some(*limit),
            LoadError::CompileMemory { told: Told::ByTheMachine, .. } => Some(CompileLimits::DEFAULT_TIME),
            _ => None,
        }
    }

    /// The same of an instance that was given the state of the generation before it: what it fails on is that state.
    #[must_use]
    pub fn of_old_state(self) -> Self {
        let why = match self {
            LoadError::Fault(fault) => fault.to_string(),
            LoadError::State(why) => why,
            other => return other,
        };
        LoadError::State(format!("{why}; to let it begin without state, write `discard_state = true` in its file"))
    }

    /// The most bytes of a module.
    pub(crate) fn too_large(most: usize) -> Self {
        debug_assert!(most >= MAX_MODULE_BYTES);
        LoadError::TooLarge { most }
    }
}
