//! What is said while a replay runs, and its account at the end.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tidegate_model::{MessageTotals, PointTotals};
use tidegate_pipeline::PipelineStatus;
use tidegate_sources::{RangeProgress, Stretch};

/// How a replay ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// All of the range is settled.
    Complete,
    /// Somebody wanted it to stop.
    Stopped,
    /// The rest cannot be read, and why.
    Failed(String),
}

/// The account.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    topic: &'a str,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// What `--resume` takes, where something is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<String>,
    partitions: Vec<Partition>,
    messages: MessageTotals,
    points: PointTotals,
    seconds: f64,
    messages_per_s: f64,
    #[serde(skip)]
    stopped: bool,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    from: i64,
    to: i64,
    /// Everything before it is settled.
    next: i64,
    /// Offsets of the range that are not there any more.
    deleted: Option<u64>,
}

/// What is said before a partition is read of which a part is not there any more.
pub fn warning_of_deleted(stretch: &Stretch) -> Option<String> {
    let Stretch { partition, from, .. } = stretch;
    match stretch.deleted {
        Some(0) => None,
        Some(deleted) => Some(format!(
            "partition {partition}: {deleted} records or fewer of the range are deleted; it is read from offset {from} on"
        )),
        None => Some(format!(
            "partition {partition}: the range begins with the oldest record there is, offset {from}; what was before it is deleted"
        )),
    }
}

/// A line on the way.
pub fn progress_line(progress: &RangeProgress, status: &PipelineStatus, rate: f64) -> String {
    let (settled, total) = (progress.settled(), progress.total());
    let percent = if total == 0 { 100.0 } else { settled as f64 * 100.0 / total as f64 };
    let letters: u64 = status.sources.iter().map(|source| source.messages.dead_lettered).sum();
    let down =
        status.sinks.iter().find_map(|sink| Some(format!("; {} does not write: {}", sink.name, sink.down.as_ref()?)));
    let source = status.sources.iter().find_map(|source| Some(format!("; {}", source.down.as_ref()?)));
    format!(
        "{percent:>5.1} %  {settled} of {total}  {rate:.0}/s  {letters} dead letters{}{}",
        down.unwrap_or_default(),
        source.unwrap_or_default()
    )
}

impl<'a> Report<'a> {
    /// Of a replay that is over.
    pub fn new(topic: &'a str, progress: &RangeProgress, status: &PipelineStatus, took: Duration, end: End) -> Self {
        let partition = |s: &Stretch| Partition {
            partition: s.partition,
            from: s.from,
            to: s.to,
            next: s.next(),
            deleted: s.deleted,
        };
        let partitions: Vec<Partition> = progress.stretches().iter().map(partition).collect();
        let complete = partitions.iter().all(|partition| partition.next >= partition.to);
        let left = partitions.iter().map(|partition| format!("{}:{}", partition.partition, partition.next));
        let messages: MessageTotals = status.sources.iter().map(|source| source.messages).sum();
        let seconds = took.as_secs_f64();
        Self {
            topic,
            complete,
            resume: (!complete).then(|| left.collect::<Vec<_>>().join(",")),
            problem: match &end {
                End::Failed(why) => Some(why.clone()),
                End::Complete | End::Stopped => None,
            },
            partitions,
            messages,
            points: status.points,
            seconds,
            messages_per_s: (messages.received as f64 / seconds.max(1e-9)).round(),
            stopped: end == End::Stopped,
        }
    }

    /// To standard output: for programs, or for people.
    pub fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            return writeln!(out);
        }
        let (m, p) = (&self.messages, &self.points);
        writeln!(
            out,
            "{}: {} messages in {:.1} s, {:.0}/s",
            self.topic, m.received, self.seconds, self.messages_per_s
        )?;
        writeln!(out, "  decoded      {:>10}   {} points stored", m.decoded, p.stored)?;
        writeln!(out, "  filtered     {:>10}", m.filtered)?;
        writeln!(out, "  dead letters {:>10}", m.dead_lettered)?;
        let deleted: u64 = self.partitions.iter().filter_map(|partition| partition.deleted).sum();
        if deleted > 0 {
            writeln!(out, "  deleted      {deleted:>10}   or fewer, before they could be read")?;
        }
        if let Some(problem) = &self.problem {
            writeln!(out, "it could not be read on: {problem}")?;
        }
        if let Some(resume) = &self.resume {
            writeln!(out, "not all of it is stored; to go on, add to the same command: --resume {resume}")?;
        }
        Ok(())
    }

    /// 0: complete. 3: stopped. 1: it could not be read on.
    pub fn exit_code(&self) -> ExitCode {
        match (self.complete, self.stopped) {
            (true, _) => ExitCode::SUCCESS,
            (false, true) => ExitCode::from(3),
            (false, false) => ExitCode::FAILURE,
        }
    }
}
