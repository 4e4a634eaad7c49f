//! `tidegate dead-letters`: what could not be used, looked at, put back, or purged.
//!
//! It works on the file in the host's `data_dir`, whether the host runs or not; or, with --node or TIDEGATE_NODES, over the API of running hosts.

mod print;
mod remote;
mod select;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use tidegate_sinks::DeadLetters;
use tidegate_sinks::dead_letters::{
    Filter, MAX_LIMIT, Selection, cancel_replay, compact, count, get, list, newest, purge, request_replay,
};

use super::api::Remote;
use super::place::Place;
use print::{Form, Printer};
use select::{Filters, Which};

/// How many letters are read at a time for an export.
const EXPORT_PAGE: u32 = 500;

/// Look at dead letters, put them back among the messages, or purge them.
///
/// A dead letter is a message that could not be used: kept whole, with the reason. All of this works while the host runs.
///
/// Examples:
///   tidegate dead-letters list --rule json-reading --since 2h
///   tidegate dead-letters show 17
///   tidegate dead-letters replay --rule json-reading      after the rule was mended
///   tidegate dead-letters purge --topic 'test/#' --until 2025-01-01
///   tidegate dead-letters export --output letters.ndjson
///   tidegate dead-letters list --node https://edge-1:8081 --node https://edge-2:8081
///   tidegate dead-letters export --node https://edge-1:8081 > letters.ndjson
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
    /// List them, a line each, the newest last.
    List {
        #[command(flatten)]
        filters: Filters,
        /// How many: the newest, or with --after the first.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIMIT)))]
        limit: u32,
        /// Go on after this id, oldest first.
        #[arg(long, value_name = "ID")]
        after: Option<i64>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one, with its bytes, properties and backtrace.
    Show {
        /// Its number in the list.
        id: i64,
        /// As a JSON object.
        #[arg(long, conflicts_with = "payload")]
        json: bool,
        /// Only the original bytes, as they are.
        #[arg(long)]
        payload: bool,
    },
    /// Write all that match as JSON, one object a line, oldest first; bytes that are no text as base64.
    Export {
        #[command(flatten)]
        filters: Filters,
        /// The file to write; it must not be there yet. Standard output if not given.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Put them back: the host takes each in again as the message it was, on its topic, marked as replayed.
    ///
    /// It is done within seconds where the host runs, else when it is started. A letter goes when its message is stored; one that
    /// fails again becomes a new letter. Points of the message that were stored the first time are stored again, unless the
    /// database drops what it has already.
    Replay {
        #[command(flatten)]
        which: Which,
        /// Take the wish back, for those not replayed yet.
        #[arg(long)]
        cancel: bool,
        /// The result as a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Delete them for good.
    Purge {
        #[command(flatten)]
        which: Which,
        /// Only say how many it would be.
        #[arg(long)]
        dry_run: bool,
        /// Give the room back to the disk, too; the file is written anew, and the host's dead letters wait meanwhile.
        #[arg(long, conflicts_with = "dry_run")]
        compact: bool,
        /// The result as a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Exit code 0: done, also if there was nothing to do. 1: it could not be done, or there is no such letter.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(hosts) = args.remote.meant(&args.place) {
        return remote::run(&hosts, &args.action, now_us());
    }
    let path = DeadLetters::path(&args.place.data_dir()?);
    let stdout = io::stdout();
    let human = if stdout.is_terminal() { Form::Terminal } else { Form::Text };
    let mut out = BufWriter::new(stdout.lock());
    let done = act(&path, &args.action, human, now_us(), &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        // That its reader has seen enough is no error.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

fn act(path: &Path, action: &Action, human: Form, now_us: i64, out: &mut impl Write) -> anyhow::Result<()> {
    match action {
        Action::List { filters, limit, after, json } => {
            let filter = filters.filter(now_us)?;
            let form = if *json { Form::Json } else { human };
            list_them(path, &filter, *limit, *after, Printer { form, out })
        }
        Action::Show { id, json, payload } => {
            let Some(found) = get(path, *id)? else {
                bail!("there is no dead letter {id}; it may have been replayed")
            };
            match (payload, json) {
                (true, _) => out.write_all(&found.letter.payload)?,
                (_, true) => Printer { form: Form::Json, out }.line(&found)?,
                _ => Printer { form: human, out }.whole(&found)?,
            }
            Ok(())
        }
        Action::Export { filters, output } => {
            let filter = filters.filter(now_us)?;
            match output {
                None => export(path, &filter, out).map(drop),
                Some(file) => {
                    let opened = File::create_new(file);
                    let mut to = BufWriter::new(
                        opened.with_context(|| format!("{} cannot be made; name a new file", file.display()))?,
                    );
                    let letters = export(path, &filter, &mut to)?;
                    to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
                    Ok(writeln!(out, "{} written to {}", print::letters(letters), file.display())?)
                }
            }
        }
        Action::Replay { which, cancel, json } => {
            replay(path, &which.selection(now_us)?, *cancel, *json, now_us, out)
        }
        Action::Purge { which, dry_run, compact: make_room, json } => {
            let which = which.selection(now_us)?;
            let letters = if *dry_run { how_many(path, &which)? } else { purge(path, &which)? };
            if *make_room {
                compact(path)?;
            }
            match (*json, *dry_run) {
                (true, dry_run) => writeln!(out, "{}", serde_json::json!({ "purged": letters, "dry_run": dry_run }))?,
                (_, true) => writeln!(out, "{} would be purged", print::letters(letters))?,
                (_, false) => writeln!(out, "{} purged", print::letters(letters))?,
            }
            Ok(())
        }
    }
}

fn list_them<W: Write>(
    path: &Path,
    filter: &Filter,
    limit: u32,
    after: Option<i64>,
    mut printer: Printer<'_, W>,
) -> anyhow::Result<()> {
    let found = match after {
        Some(after) => list(path, limit, after, filter)?,
        None => newest(path, limit, filter)?.into_iter().rev().collect(),
    };
    printer.table(&found)?;
    if printer.form != Form::Json {
        let all = count(path, filter)?;
        printer.footer(found.len(), all, filter)?;
    }
    Ok(())
}

/// Writes all that match, page by page: none of them holds the host up.
fn export(path: &Path, filter: &Filter, out: &mut impl Write) -> anyhow::Result<u64> {
    let (mut after, mut letters) = (0, 0);
    let mut printer = Printer { form: Form::Json, out };
    loop {
        let page = list(path, EXPORT_PAGE, after, filter)?;
        let Some(last) = page.last() else { return Ok(letters) };
        after = last.id;
        letters += page.len() as u64;
        page.iter().try_for_each(|each| printer.line(each))?;
    }
}

fn replay(
    path: &Path,
    which: &Selection,
    cancel: bool,
    json: bool,
    now_us: i64,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if cancel {
        let letters = cancel_replay(path, which)?;
        let done = match json {
            true => writeln!(out, "{}", serde_json::json!({ "cancelled": letters })),
            false => writeln!(out, "{} will stay where they are", print::letters(letters)),
        };
        return Ok(done?);
    }
    let chosen = how_many(path, which)?;
    let letters = request_replay(path, which, now_us)?;
    let without = chosen.saturating_sub(letters);
    if json {
        let result = serde_json::json!({ "requested": letters, "without_message": without });
        return Ok(writeln!(out, "{result}")?);
    }
    writeln!(
        out,
        "{} to be replayed: within seconds if the host runs, else when it is started; \
         `tidegate dead-letters list --requested` shows what is left",
        print::letters(letters)
    )?;
    if without > 0 {
        writeln!(out, "{} left out: what a rule made of itself has no message to replay", print::letters(without))?;
    }
    Ok(())
}

fn how_many(path: &Path, which: &Selection) -> anyhow::Result<u64> {
    match which {
        Selection::Matching(filter) => Ok(count(path, filter)?),
        Selection::Ids(ids) => {
            let mut there = 0;
            for id in ids {
                there += u64::from(get(path, *id)?.is_some());
            }
            Ok(there)
        }
    }
}
