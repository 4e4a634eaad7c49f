//! The host's own children, which do one piece of work on what strangers have written, and end: `tidegate compile` makes machine code of a module,
//! `tidegate validate` holds a rule's configuration against its module's schema. Not for people.

use std::process::ExitCode;

/// What a child may take.
#[derive(Debug, clap::Args)]
pub struct Bounds {
    /// The memory it may take, in bytes.
    memory_bytes: u64,
    /// The seconds it may take.
    seconds: u64,
}

/// Exit code 0: standard output is machine code. 65: it says why there is none.
pub fn compile(bounds: &Bounds) -> ExitCode {
    tidegate_engine::compile_and_exit(bounds.memory_bytes, bounds.seconds)
}

/// Exit code 0: standard output is what was found. 65: it says why the schema cannot be used.
pub fn validate(bounds: &Bounds) -> ExitCode {
    tidegate_admin::validate_and_exit(bounds.memory_bytes, bounds.seconds)
}
