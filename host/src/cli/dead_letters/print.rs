//! Dead letters for people and for scripts.

use std::io::{self, Write};

use serde::Serialize;
use tidegate_model::Marks;
use tidegate_sinks::Rfc3339;
use tidegate_sinks::dead_letters::{Filter, Stored};
use tidegate_sinks::json::DeadLetterJson;

/// How much of a reason or topic a line of the table has room for.
const REASON_CHARS: usize = 72;
const TOPIC_CHARS: usize = 40;
/// How many bytes of a payload that is no text are shown.
const DUMP_BYTES: usize = 1_024;

/// How letters are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people at a terminal.
    Terminal,
    /// For people, into a file or pipe: nothing is cut short.
    Text,
    /// One JSON object a line.
    Json,
}

/// A letter as JSON: its form in the MQTT and NDJSON sinks, with what the file adds.
#[derive(Serialize)]
struct StoredJson<'a> {
    id: i64,
    died: Rfc3339,
    died_us: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replay_requested: bool,
    #[serde(flatten)]
    letter: DeadLetterJson<'a>,
}

/// Writes letters.
pub(super) struct Printer<'a, W> {
    pub(super) form: Form,
    pub(super) out: &'a mut W,
}

impl<W: Write> Printer<'_, W> {
    /// All of these, a line each.
    pub(super) fn table(&mut self, letters: &[Stored]) -> io::Result<()> {
        if self.form == Form::Json {
            return letters.iter().try_for_each(|each| self.line(each));
        }
        if letters.is_empty() {
            return Ok(());
        }
        let topic_width = letters.iter().map(|each| self.short(&each.letter.topic, TOPIC_CHARS).chars().count());
        let topic_width = topic_width.max().unwrap_or(0).max(5);
        let by_width = letters.iter().map(|each| by(each).chars().count()).max().unwrap_or(0).max(2);
        writeln!(
            self.out,
            "{:>8}  {:<19}  {:<topic_width$}  {:<7}  {:<by_width$}  {:>7}  REASON",
            "ID", "DIED (UTC)", "TOPIC", "STAGE", "BY", "BYTES"
        )?;
        for each in letters {
            let died = Rfc3339(each.died_us).to_string().replace('T', " ");
            let letter = &each.letter;
            let wish = if each.requested { "(to be replayed) " } else { "" };
            writeln!(
                self.out,
                "{:>8}  {:<19}  {:<topic_width$}  {:<7}  {:<by_width$}  {:>7}  {wish}{}",
                each.id,
                died.get(..19).unwrap_or(&died),
                self.short(&letter.topic, TOPIC_CHARS),
                letter.stage.as_str(),
                by(each),
                letter.payload.len(),
                self.short(&letter.reason, REASON_CHARS),
            )?;
        }
        Ok(())
    }

    /// What the table shows of all there is.
    pub(super) fn footer(&mut self, shown: usize, all: u64, filter: &Filter) -> io::Result<()> {
        let matching = if *filter == Filter::default() { "" } else { " that match" };
        match (shown, all) {
            (0, 0) => writeln!(self.out, "no dead letters{matching}"),
            (shown, all) if shown as u64 >= all => writeln!(self.out, "{}{matching}", letters(all)),
            (shown, all) => {
                writeln!(self.out, "{shown} of {}{matching}; --limit and --after show more", letters(all))
            }
        }
    }

    /// One letter as a line of JSON.
    pub(super) fn line(&mut self, stored: &Stored) -> io::Result<()> {
        let form = StoredJson {
            id: stored.id,
            died: Rfc3339(stored.died_us),
            died_us: stored.died_us,
            replay_requested: stored.requested,
            letter: DeadLetterJson::from(&stored.letter),
        };
        serde_json::to_writer(&mut *self.out, &form)?;
        self.out.write_all(b"\n")
    }

    /// One letter, whole.
    pub(super) fn whole(&mut self, stored: &Stored) -> io::Result<()> {
        let letter = &stored.letter;
        let mut field = |name: &str, value: &str| {
            // What is sent to us must not steer a terminal.
            let mut lines = value.lines().map(visible);
            writeln!(self.out, "{name:<10} {}", lines.next().unwrap_or_default())?;
            lines.try_for_each(|line| writeln!(self.out, "{:<10} {line}", ""))
        };
        field("id", &stored.id.to_string())?;
        field("topic", &letter.topic)?;
        field("source", &letter.source)?;
        field("received", &Rfc3339(letter.received_us).to_string())?;
        field("died", &Rfc3339(stored.died_us).to_string())?;
        field("stage", letter.stage.as_str())?;
        for (name, value) in [("by", &letter.rule), ("module", &letter.module)] {
            if let Some(value) = value {
                field(name, value)?;
            }
        }
        field("reason", &letter.reason)?;
        let marks = Marks(letter.marks);
        for (mark, word) in [
            (Marks::RETAINED, "retained: the broker had kept it"),
            (Marks::REDELIVERED, "redelivered: the broker had sent it before"),
            (Marks::REPLAYED, "replayed: it has died before"),
            (Marks::AT_MOST_ONCE, "at most once: it came with QoS 0"),
            (
                Marks::HANDED_ON,
                "handed on: sinks that take messages as they came have it, and do not get it again by a replay",
            ),
        ] {
            if marks.has(mark) {
                field("mark", word)?;
            }
        }
        if stored.requested {
            field("replay", "asked for")?;
        }
        for (key, value) in &letter.properties {
            field("property", &format!("{key} = {}", String::from_utf8_lossy(value)))?;
        }
        if let Some(backtrace) = &letter.backtrace {
            field("backtrace", backtrace)?;
        }
        match std::str::from_utf8(&letter.payload) {
            Ok(text) => field("payload", text),
            Err(_) => {
                field(
                    "payload",
                    &format!("{} bytes that are no text; --payload gives them all", letter.payload.len()),
                )?;
                dump(&letter.payload, self.out)
            }
        }
    }

    fn short(&self, text: &str, chars: usize) -> String {
        let line = visible(text);
        if self.form == Form::Terminal && line.chars().count() > chars {
            line.chars().take(chars - 1).chain(['…']).collect()
        } else {
            line
        }
    }
}

/// `1 letter`, `2 letters`.
pub(super) fn letters(n: u64) -> String {
    format!("{n} letter{}", if n == 1 { "" } else { "s" })
}

/// Who refused it, if anybody did.
fn by(stored: &Stored) -> String {
    visible(stored.letter.rule.as_deref().unwrap_or("-"))
}

/// On one line, without what would steer a terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn dump(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    for (at, row) in bytes.chunks(16).take(DUMP_BYTES / 16).enumerate() {
        write!(out, "{:>8x} ", at * 16)?;
        row.iter().try_for_each(|byte| write!(out, " {byte:02x}"))?;
        let text: String =
            row.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' }).collect();
        writeln!(out, "{:pad$}  {text}", "", pad = (16 - row.len()) * 3)?;
    }
    if bytes.len() > DUMP_BYTES {
        writeln!(out, "         … {} more", bytes.len() - DUMP_BYTES)?;
    }
    Ok(())
}
