//! `tidegate spool`: what waits on disk for a sink, looked at, checked, and taken out as JSON.
//!
//! It reads the files in the host's `data_dir`, whether the host runs or not, and changes nothing; or, with --node or TIDEGATE_NODES, asks running hosts.

mod print;
mod remote;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use tidegate_model::Books;
use tidegate_spool::{Inspection, inspect, list, verify};

use super::api::Remote;
use super::place::Place;
use print::Printer;

/// Look into the spools: what waits on disk for a database or a broker.
///
/// While a sink cannot write, what comes for it is appended to data_dir/spool/<sink>.db and
/// acknowledged; when it works again, the oldest goes first. All of this works while the host
/// runs, and changes nothing: a spool is emptied by its sink alone.
///
/// Examples:
///   tidegate spool list                       is anything waiting, for how long?
///   tidegate spool inspect db                 all about one
///   tidegate spool verify                     every checksum of every record
///   tidegate spool export db --output db.ndjson
///   tidegate spool list --node https://edge-1:8081 --node https://edge-2:8081
///
/// A damaged record is set aside by the host when it comes to it, and the rest goes on; a file
/// that cannot be read as it is is kept as <sink>.db.damaged-<when>, and what is whole in it
/// is taken over.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All spools, a line each.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// What stands in one, since when, and what was found damaged in it.
    Inspect {
        /// The name of its sink.
        sink: String,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Check every page and every record. Exit code 0: all sound; 1: not.
    Verify {
        /// The name of its sink; all, if not given.
        sink: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Write what stands in one as JSON, a line a message, point, alert, command or dead letter, oldest first.
    ///
    /// Each line is an object of one key that says what it is, as in the NDJSON sink, and `record`, the number of the record it
    /// is in. What is exported stays in the spool, and goes to its sink all the same.
    Export {
        /// The name of its sink.
        sink: String,
        /// Go on after this record.
        #[arg(long, value_name = "RECORD", default_value_t = 0)]
        after: u64,
        /// The file to write; it must not be there yet. Standard output if not given.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Exit code 0: done. 1: it could not be done, or something was found damaged.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let hosts = match args.action {
        Action::List { .. } | Action::Inspect { .. } => args.remote.meant(&args.place),
        // What the environment says is for what hosts can do.
        Action::Verify { .. } | Action::Export { .. } => args.remote.given(),
    };
    if let Some(hosts) = hosts {
        return remote::run(&hosts, &args.action);
    }
    let data_dir = args.place.data_dir()?;
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let mut out = BufWriter::new(io::stdout().lock());
    let done = act(&data_dir, &args.action, now_us, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match done {
        // That its reader has seen enough is no error.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        done => done,
    }
}

fn act(data_dir: &Path, action: &Action, now_us: i64, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut printer = Printer { now_us, out };
    match action {
        Action::List { json } => {
            let mut found: Vec<(String, Inspection)> = Vec::new();
            for (sink, path) in spools(data_dir)? {
                found.push((sink, inspect(&path)?));
            }
            printer.list(&found, *json)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Inspect { sink, json } => {
            printer.inspection(sink, &inspect(&path(data_dir, sink)?)?, *json)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Verify { sink, json } => {
            let chosen = match sink {
                Some(sink) => vec![(sink.clone(), path(data_dir, sink)?)],
                None => spools(data_dir)?,
            };
            let mut sound = true;
            for (sink, path) in chosen {
                let verified = verify(&path)?;
                sound &= verified.findings.is_empty();
                printer.verification(&sink, &verified, *json)?;
            }
            Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::Export { sink, after, output } => {
            let path = path(data_dir, sink)?;
            let Some(file) = output else {
                let (_, findings) = export(&path, *after, printer.out)?;
                return Ok(report(&findings));
            };
            let opened = File::create_new(file);
            let mut to = BufWriter::new(
                opened.with_context(|| format!("{} cannot be made; name a new file", file.display()))?,
            );
            let (rows, findings) = export(&path, *after, &mut to)?;
            to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            writeln!(printer.out, "{} written to {}", print::rows(rows), file.display())?;
            Ok(report(&findings))
        }
    }
}

/// Says on standard error what could not be exported: standard output is for what could.
fn report(findings: &[String]) -> ExitCode {
    for finding in findings {
        eprintln!("tidegate: left out: {finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn export(path: &Path, after: u64, out: &mut impl Write) -> anyhow::Result<(u64, Vec<String>)> {
    let books = Books::new(usize::MAX);
    let (mut rows, mut written) = (0, Ok(()));
    let findings = tidegate_spool::export(path, &books, after, |record| {
        written = print::record(&books, &record, out).map(|count| rows += count);
        written.is_ok()
    })?;
    written?;
    Ok((rows, findings))
}

fn spools(data_dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    list(data_dir).with_context(|| format!("{} cannot be read", data_dir.join("spool").display()))
}

fn path(data_dir: &Path, sink: &str) -> anyhow::Result<PathBuf> {
    let known = spools(data_dir)?;
    if let Some((_, path)) = known.iter().find(|(name, _)| name == sink) {
        return Ok(path.clone());
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    bail!("there is no spool of a sink {sink:?} in {}; there: {there}", data_dir.display())
}
