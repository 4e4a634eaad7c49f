//! Tidegate: telemetry in from MQTT and Kafka, through WebAssembly rules, out to a database and as alerts.
//!
//! This file tells the whole story; `wiring.rs` puts the parts together. `ARCHITECTURE.md` beside this folder is the map.

mod cli;
mod demo;
mod descriptors;
mod letters;
mod sharing;
mod simulator;
mod unpark;
mod wiring;

use std::panic::resume_unwind;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tidegate_telemetry::LogFormat;
use tokio::runtime::Runtime;

/// What `--version` says: also whether the sites are open at which tests make this process end (crate `fail`).
const VERSION: &str = if fail::has_failpoints() {
    concat!(env!("CARGO_PKG_VERSION"), " with failpoints: for tests only")
} else {
    env!("CARGO_PKG_VERSION")
};

/// WebAssembly rules for telemetry at the edge.
///
/// MQTT and Kafka in; rules dropped into a directory decode, transform and watch; points go to SQLite or TimescaleDB, alerts
/// back to MQTT. No message is lost silently, and a bad rule hurts nobody.
///
/// First time here: tidegate demo
///
/// Exit code 0: done. 1: refused, failed, or a host could not be reached. 2: the command line has mistakes. Commands with others say so.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version = VERSION, propagate_version = true)]
struct Tidegate {
    #[command(subcommand)]
    command: Command,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = Log::Text)]
    log: Log,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(cli::run::Args),
    Check(cli::check::Args),
    Demo(cli::demo::Args),
    Load(cli::load::Args),
    Replay(cli::replay::Args),
    DeadLetters(cli::dead_letters::Args),
    Spool(cli::spool::Args),
    Migrate(cli::migrate::Args),
    /// Compile the module on standard input, and write machine code to standard output; called by the host itself.
    #[command(hide = true)]
    Compile(cli::child::Bounds),
    /// Evaluate the schema on standard input; called by the host itself.
    #[command(hide = true)]
    Validate(cli::child::Bounds),
    Status(cli::status::Args),
    Rule(cli::rule::Args),
    Rules(cli::rules::Args),
    Shadow(cli::rules::ShadowArgs),
    Modules(cli::modules::Args),
    Alerts(cli::alerts::Args),
    Series(cli::series::Args),
    Audit(cli::audit::Args),
    Backtest(cli::backtest::Args),
    Export(cli::desired::ExportArgs),
    Import(cli::desired::ImportArgs),
    Desired(cli::desired::DesiredArgs),
    Tail(cli::tail::Args),
    Trace(cli::trace::Args),
    Token(cli::token::Args),
    Completions(cli::completions::CompletionsArgs),
    Manual(cli::completions::ManualArgs),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Log {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn main() -> ExitCode {
    // As FAILPOINTS in the environment says, for as long as the process lives.
    let _failpoints = fail::has_failpoints().then(fail::FailScenario::setup);
    let arguments = Tidegate::parse();
    // Before there is any thread, log or runtime: it is to have nothing that it does not need.
    match &arguments.command {
        Command::Compile(arguments) => return cli::child::compile(arguments),
        Command::Validate(arguments) => return cli::child::validate(arguments),
        _ => {}
    }
    let format = match arguments.log {
        Log::Text => LogFormat::Text,
        Log::Json => LogFormat::Json,
    };
    let filter = match arguments.command {
        Command::Run(_) => "info",
        // The demo shows what happens itself; and its broker takes every client that hangs up for an error.
        _ => "warn,rumqttd=off",
    };
    let done = tidegate_telemetry::init(format, filter)
        .map_err(Into::into)
        .and_then(|()| on_a_known_stack(|| execute(arguments.command)));
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A command may call guests itself, which must find the stack that they may use up, whatever the one is that this process was started with.
fn on_a_known_stack(work: impl FnOnce() -> anyhow::Result<ExitCode> + Send) -> anyhow::Result<ExitCode> {
    let thread = std::thread::Builder::new().name("tidegate".to_owned()).stack_size(tidegate_telemetry::THREAD_STACK);
    std::thread::scope(|scope| thread.spawn_scoped(scope, work)?.join().unwrap_or_else(|panic| resume_unwind(panic)))
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    // The one TLS implementation of this process; a second call would be a bug of ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().thread_stack_size(tidegate_telemetry::THREAD_STACK).build()?;
    let done = carry_out(command, &runtime);
    // All that matters has been seen to its end. What may still be under way, such as a name that is looked up, is not waited for.
    runtime.shutdown_background();
    done
}

fn carry_out(command: Command, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => cli::run::run(&arguments, runtime),
        Command::Check(arguments) => runtime.block_on(cli::check::run(arguments, &wiring::look_over)),
        Command::Demo(arguments) => cli::demo::run(&arguments, runtime),
        Command::Replay(arguments) => cli::replay::run(&arguments, runtime),
        Command::DeadLetters(arguments) => cli::dead_letters::run(&arguments),
        Command::Spool(arguments) => cli::spool::run(&arguments),
        Command::Validate(arguments) => Ok(cli::child::validate(&arguments)),
        Command::Compile(arguments) => Ok(cli::child::compile(&arguments)),
        Command::Status(arguments) => cli::status::run(&arguments),
        Command::Rule(arguments) => cli::rule::run(&arguments),
        Command::Rules(arguments) => cli::rules::run(&arguments),
        Command::Shadow(arguments) => cli::rules::shadow(&arguments),
        Command::Modules(arguments) => cli::modules::run(&arguments),
        Command::Alerts(arguments) => cli::alerts::run(&arguments),
        Command::Series(arguments) => cli::series::run(&arguments),
        Command::Audit(arguments) => cli::audit::run(&arguments),
        Command::Backtest(arguments) => cli::backtest::run(&arguments),
        Command::Export(arguments) => cli::desired::export(&arguments),
        Command::Import(arguments) => cli::desired::import(&arguments),
        Command::Desired(arguments) => cli::desired::desired(&arguments),
        Command::Tail(arguments) => cli::tail::run(&arguments),
        Command::Trace(arguments) => cli::trace::run(&arguments),
        Command::Token(arguments) => cli::token::run(&arguments),
        Command::Completions(arguments) => cli::completions::completions(&arguments, Tidegate::command()),
        Command::Manual(_) => cli::completions::manual(Tidegate::command()),
        Command::Load(arguments) => runtime.block_on(cli::load::run(arguments)),
        Command::Migrate(arguments) => runtime.block_on(cli::migrate::run(&arguments)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that ask no running host, and why.
    const LOCAL: &[(&str, &str)] = &[
        ("run", "it is the host"),
        ("demo", "it is the host"),
        ("check", "it reads a file"),
        ("migrate", "it asks a database"),
        ("load", "it asks a broker"),
        ("replay", "it reads a topic beside the host"),
        ("rule new", "it writes files"),
        ("rule build", "it writes files"),
        ("rule test", "it reads files"),
        ("rule inspect", "it reads files"),
        ("rule keygen", "it writes files"),
        ("rule sign", "it writes files"),
        ("rule verify", "it reads files"),
        ("token new", "it prints what a person writes into a file"),
        ("completions", "it tells of itself"),
        ("manual", "it tells of itself"),
    ];

    /// Of those that ask one, the ones that print nothing but JSON.
    const IN_JSON: &[&str] = &["dead-letters export", "spool export"];

    /// Those that are typed whole, by their path, with their options and those from above.
    fn typed(above: &clap::Command, path: &str, all: &mut Vec<(String, Vec<String>)>) {
        for command in above.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help") {
            let path = format!("{path} {}", command.get_name()).trim().to_owned();
            if command.has_subcommands() {
                typed(command, &path, all);
            } else {
                let options = command.get_arguments().filter_map(clap::Arg::get_long).map(str::to_owned);
                all.push((path, options.collect()));
            }
        }
    }

    /// Guarantees: every command either asks running hosts, and then takes several, as whom and whom to trust like all others do, and answers scripts too; or is
    /// known to ask none.
    #[test]
    fn every_command_knows_its_hosts() {
        let mut commands = Tidegate::command();
        commands.build();
        let mut all = Vec::new();
        typed(&commands, "", &mut all);
        for (path, options) in &all {
            let has = |option: &str| options.iter().any(|it| it == option);
            if LOCAL.iter().any(|(local, _)| local == path) {
                assert!(!has("node"), "{path} is said to ask no host");
                continue;
            }
            assert_ne!(
                has("json"),
                IN_JSON.contains(&path.as_str()),
                "{path} has --json, unless it prints nothing else"
            );
            for option in ["node", "token-file", "ca-file", "cert-file", "key-file", "insecure"] {
                assert!(
                    has(option),
                    "{path} has no --{option}: it asks hosts as others do, or stands among the local ones"
                );
            }
        }
        for (local, _) in LOCAL {
            assert!(all.iter().any(|(path, _)| path == local), "there is no `{local}` any more");
        }
        let one = ["tidegate", "audit", "--node", "http://a:1", "--node", "http://b:1,http://c:1"];
        assert!(Tidegate::try_parse_from(one).is_ok());
    }
}
