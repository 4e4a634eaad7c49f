//! `tidegate compile`: the host's own child, which compiles one module and ends. Not for people.

use std::process::ExitCode;

/// Compile the module on standard input, and write machine code to standard output; called by the host itself.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// The memory it may take, in bytes.
    memory_bytes: u64,
    /// The seconds it may take.
    seconds: u64,
}

/// Exit code 0: standard output is machine code. 65: it says why there is none.
pub fn run(args: &Args) -> ExitCode {
    tidegate_engine::compile_and_exit(args.memory_bytes, args.seconds)
}
