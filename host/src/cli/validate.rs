//! `tidegate validate`: the host's own child, which holds a rule's configuration against its module's schema, and ends. Not for people.

use std::process::ExitCode;

/// Evaluate the schema on standard input; called by the host itself.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// The memory it may take, in bytes.
    memory_bytes: u64,
    /// The seconds it may take.
    seconds: u64,
}

/// Exit code 0: standard output is what was found. 65: it says why the schema cannot be used.
pub fn run(args: &Args) -> ExitCode {
    tidegate_admin::validate_and_exit(args.memory_bytes, args.seconds)
}
