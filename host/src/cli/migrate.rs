//! `tidegate migrate`: makes in the databases what `deploy/sql` has and they have not.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use tidegate_config::{Config, Name, ProcessEnv, SinkSettings, TimescaleSink};
use tidegate_sinks::{Migrated, MigrationStep, migrate, migration};

/// Make tables, hypertable, policies and aggregates in the databases of a configuration.
///
/// Runs the files of deploy/sql that the settings ask for, with their names and times, each database
/// in one transaction. What is there stays as it is, so it can be run as often as one likes, also
/// while hosts are running. It takes as long as it takes, and prints each file before it runs it. An
/// index of a large table, or a hypertable made of one, takes hours, and hosts cannot write to that
/// table meanwhile: what comes goes to their spools, which need room for it (`max_mib`). What a
/// database cannot do is listed.
///
/// Exit code 0: done, as far as the database can. 1: a database was not reached, or did not permit it.
///
/// Examples:
///   tidegate migrate --config /etc/tidegate/tidegate.toml
///   tidegate migrate --sink db --print | psql plant      as another user than the host's
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "tidegate.toml")]
    config: PathBuf,
    /// Only this sink.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Print the SQL and connect to nothing.
    #[arg(long)]
    print: bool,
}

/// Exit codes as in the help.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config, &ProcessEnv)?;
    let wanted = |name: &Name| args.sink.as_ref().is_none_or(|only| only == name.as_str());
    let databases = config.sinks.iter().filter_map(|(name, sink)| match sink {
        SinkSettings::Timescale(settings) if wanted(name) => Some((name, settings)),
        _ => None,
    });
    let databases: Vec<(&Name, &TimescaleSink)> = databases.collect();
    if let Some(only) = args.sink.as_ref().filter(|_| databases.is_empty()) {
        bail!("there is no [sinks.timescale.{only}] in {}", args.config.display());
    }
    ensure!(!databases.is_empty(), "there is no [sinks.timescale.…] in {}", args.config.display());
    if args.print {
        let sql: String = databases
            .iter()
            .map(|(name, sink)| format!("-- [sinks.timescale.{name}]\n{}", migration(sink)))
            .collect();
        io::stdout().write_all(sql.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for (name, settings) in databases {
        // That nobody reads what it does is no reason to stop in the middle.
        let mut progress = |step: MigrationStep<'_>| drop(writeln!(io::stdout(), "{}", line(name, step)));
        match migrate(settings, &mut progress).await {
            Ok(migrated) => io::stdout().write_all(without(&migrated).as_bytes())?,
            Err(error) => {
                eprintln!("error: {name}: nothing was made, since all of it is one transaction: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn line(name: &Name, step: MigrationStep<'_>) -> String {
    match step {
        MigrationStep::Reached(database) => format!("{name}: {database}"),
        MigrationStep::Runs { file, makes } => format!("  {file:<28} {makes}"),
    }
}

/// What the database cannot do, if there is anything.
fn without(Migrated { missing, because }: &Migrated) -> String {
    if missing.is_empty() {
        String::new()
    } else {
        format!("warning: {because}: done without {}\n", missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what is done stands a line each, and what cannot be done is listed with the reason.
    #[test]
    fn reports_are_for_people() {
        let name: Result<Name, _> = "db".parse();
        let Ok(name) = name else { return };
        let reached = MigrationStep::Reached("database plant at db:5432");
        assert_eq!(line(&name, reached), "db: database plant at db:5432");
        let runs = MigrationStep::Runs { file: "001_metrics.sql", makes: "the table of the points" };
        assert_eq!(line(&name, runs), "  001_metrics.sql              the table of the points");
        let mut migrated = Migrated { missing: Vec::new(), because: "" };
        assert_eq!(without(&migrated), "");
        (migrated.missing, migrated.because) =
            (vec!["compression", "retention"], "this PostgreSQL has no TimescaleDB");
        let warning = "warning: this PostgreSQL has no TimescaleDB: done without compression, retention\n";
        assert_eq!(without(&migrated), warning);
    }
}
