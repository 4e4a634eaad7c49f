//! `tidegate check`: what is wrong with a configuration, or what it would run. Connects to nothing and writes nothing.

mod describe;
mod rules;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tidegate_config::{
    Config, ConfigError, EXAMPLE, Journal, Offsets, ProcessEnv, RuleFile, SinkSettings, SourceSettings,
};

use self::describe::describe;
pub use self::rules::{Found, Inspected};
use self::rules::{LookOver, Rules, Stateful};
use crate::descriptors;
use crate::sharing::{Scattered, StateOf, scattered};

/// Check a configuration and its rules without connecting to anything.
///
/// Prints what would run. Every mistake is named with file, line and column, and what to do about it. Rules are
/// compiled, given their configuration and tried with their test cases, as the host does before they serve.
///
/// Exit code 0: valid, warnings or not. 1: there are mistakes. 2: the file cannot be read.
///
/// Examples:
///   tidegate check --config /etc/tidegate/tidegate.toml
///   tidegate check --print-example > tidegate.toml
///   tidegate check --schema > tidegate.schema.json    for completion in an editor
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "tidegate.toml")]
    config: PathBuf,
    /// Print the JSON Schema of the configuration file.
    #[arg(long, conflicts_with_all = ["rule_schema", "print_example"])]
    schema: bool,
    /// Print the JSON Schema of rule files, `<rule>.toml`.
    #[arg(long, conflicts_with = "print_example")]
    rule_schema: bool,
    /// Print a commented configuration file with every key.
    #[arg(long)]
    print_example: bool,
}

/// Exit codes as in the help. `look_over` compiles modules: this file knows no engine.
pub async fn run(args: Args, look_over: &LookOver) -> anyhow::Result<ExitCode> {
    if args.print_example {
        print(EXAMPLE)?;
    } else if args.schema || args.rule_schema {
        let schema = if args.schema { Config::json_schema() } else { RuleFile::json_schema() };
        print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    } else {
        let report = check(&args.config, look_over);
        for line in &report.warnings {
            eprintln!("warning: {line}");
        }
        for line in &report.errors {
            eprintln!("error: {line}");
        }
        print(&report.summary)?;
        return Ok(report.code);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output; that its reader has seen enough is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

struct Report {
    warnings: Vec<String>,
    errors: Vec<String>,
    summary: String,
    code: ExitCode,
}

fn check(path: &Path, look_over: &LookOver) -> Report {
    let mut summary = String::new();
    let config = match Config::load(path, &ProcessEnv) {
        Ok(config) => config,
        Err(errors) => {
            let unreadable = errors.iter().all(|error| error.position.is_none());
            if !unreadable {
                summary = format!("{}: {}\n", path.display(), count(errors.count(), "mistake"));
            }
            let code = if unreadable { ExitCode::from(2) } else { ExitCode::FAILURE };
            let errors = errors.iter().map(ConfigError::to_string).collect();
            return Report { warnings: Vec::new(), errors, summary, code };
        }
    };
    let mut warnings = config.warnings.clone();
    let rules = Rules::of(&config, look_over);
    warnings.extend(rules.warnings);
    let of_node = rules.stateful.iter().filter(|rule| rule.state == StateOf::Node);
    warnings.extend(warnings_of_node(&config, of_node.map(|rule| rule.name.as_str())));
    warnings.extend(descriptors::warning(&config.admin, descriptors::allowed()));
    let mut errors = rules.errors;
    for Stateful { name, state, topics } in &rules.stateful {
        match scattered(&config.sources, name, *state, topics) {
            None => {}
            Some(Scattered::Wrong(why)) => errors.push(why),
            Some(Scattered::Partial(why)) => warnings.push(why),
        }
    }
    // Writing to a String cannot fail.
    let _ = describe(&config, &rules.lines, &mut summary);
    let verdict = match (errors.len(), warnings.len()) {
        (0, 0) => "valid".to_owned(),
        (0, n) => format!("valid, {}", count(n, "warning")),
        (n, _) => count(n, "mistake"),
    };
    let _ = writeln!(summary, "\n{}: {verdict}", path.display());
    let code = if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Report { warnings, errors, summary, code }
}

/// What rules that run once for the whole node cannot do here.
fn warnings_of_node<'a>(config: &Config, rules: impl Iterator<Item = &'a str>) -> Vec<String> {
    let once = config
        .sinks
        .values()
        .any(|sink| matches!(sink, SinkSettings::Timescale(sink) if sink.offsets == Offsets::WithPoints));
    let journal = config.sources.iter().find(|(_, source)| match source {
        SourceSettings::Mqtt(source) => source.journal == Journal::On,
        SourceSettings::Kafka(source) => source.journal == Journal::On,
    });
    let mut warnings = Vec::new();
    for rule in rules {
        if let Some((name, _)) = journal {
            warnings.push(format!(
                "{rule}: the state of a rule of the whole node may have a message twice after a crash, though not miss one: the `journal` of `{}` is exact for the rules of lanes; let it keep what may be counted twice",
                name.as_str()
            ));
        }
        if once {
            warnings.push(format!(
                "{rule}: a rule of the whole node sees rows of many partitions, so what it lets through is stored at least once, and not `exactly_once`; narrow its topics to what may be double"
            ));
        }
    }
    warnings
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
