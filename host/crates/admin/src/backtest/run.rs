//! The rule on the pages of a history: what a lane would have done with it, counted instead of done.
//!
//! The time is that of the rows: it goes on with the latest one read, and ticks come when they would have come. A row on which the rule
//! fails is set apart as a lane does it, by halving, and the rule goes on with the state it had before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidegate_engine::{Fault, Kind, LoadError, Passage, RawAlert, Rejects, Rule};
use tidegate_model::{Books, NO_ROW, Page, Points, Span, TopicFilter, Transition};
use tidegate_pipeline::{AlertBook, News};

use super::batch::Batch;
use super::findings::{FaultShape, Findings, MAX_ALERTS, MAX_TOLD};
use super::rehearsed::Rehearsed;
use super::upstream::Upstream;
use crate::shapes::SeenAlert;

/// The most rows of a call.
pub(super) const BATCH: usize = 1_000;
/// A call ends once it has so many bytes of payloads and texts, as in a lane: one row may exceed it.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// After so many faults it is given up.
pub(super) const MAX_FAULTS: u64 = 1_000;
/// The most ticks between two rows: a longer silence is gone through in longer steps.
const TICKS_A_SILENCE: i64 = 1_000;
/// A row may be so much later than now; what is later still does not move the time, or one wrong clock would.
const AHEAD_US: i64 = 3_600_000_000;

/// For how long it may go on.
pub(super) struct Leave {
    pub cancelled: Arc<AtomicBool>,
    pub until: Instant,
}

/// Why it does not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    Because(String),
}

impl Leave {
    pub fn check(&self) -> Result<(), Stop> {
        if self.cancelled.load(Relaxed) {
            return Err(Stop::Cancelled);
        }
        if Instant::now() >= self.until {
            let why = "it took longer than an hour; choose a shorter time or fewer topics";
            return Err(Stop::Because(why.to_owned()));
        }
        Ok(())
    }
}

/// What comes before the rule, where a history has messages and it takes points.
#[derive(Default)]
pub(crate) struct Before {
    /// The rules that serve and come before it, in the order they run in.
    pub rules: Vec<Arc<Rule>>,
    /// The topics of points that are asked for; all of the rule's if there is none.
    pub topics: Vec<TopicFilter>,
}

/// A rule on its way through a history.
pub(super) struct Run {
    tried: Rehearsed,
    /// The rules before it, for where the history has messages and it takes points.
    upstream: Upstream,
    /// What of it is asked for, by topic.
    span: Span,
    books: Arc<Books>,
    leave: Leave,
    alerts: AlertBook,
    findings: Findings,
    /// By id of topic or series, whether the rule gets it.
    wanted: Vec<Option<bool>>,
    /// The time of the rows, once there was one.
    now_us: Option<i64>,
    ceiling_us: i64,
    due_us: Option<i64>,
}

impl Run {
    /// `wall_us`: the time of day.
    pub fn new(
        rule: Arc<Rule>,
        before: &Before,
        books: Arc<Books>,
        wall_us: i64,
        leave: Leave,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            tried: Rehearsed::new(rule, books.clone())?,
            upstream: Upstream::new(&before.rules, &books)?,
            span: Span { topics: before.topics.clone(), ..Span::default() },
            books,
            leave,
            alerts: AlertBook::default(),
            findings: Findings::default(),
            wanted: Vec::new(),
            now_us: None,
            ceiling_us: wall_us.saturating_add(AHEAD_US),
            due_us: None,
        })
    }

    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Takes a page.
    pub fn page(&mut self, page: Page) -> Result<(), Stop> {
        self.leave.check()?;
        self.findings.rows.read += page.looked_at;
        self.findings.rows.nameless += page.nameless;
        page.unreadable.into_iter().for_each(|line| self.findings.bad_line(line));
        let rows = match self.tried.rule.kind() {
            Kind::Decoder => Batch::Messages(page.messages),
            Kind::Processor if page.messages.is_empty() => Batch::Points(page.points),
            Kind::Processor => {
                let (points, lost) = self.upstream.points(&page.messages, &self.leave)?;
                self.findings.rows.lost_before += lost;
                Batch::Points(points)
            }
        };
        let (mut begun, mut bytes): (Vec<u32>, usize) = (Vec::new(), 0);
        for row in 0..rows.len() as u32 {
            if !self.wants(&rows, row) {
                continue;
            }
            let at = rows.times().get(row as usize).copied().unwrap_or_default();
            let at = if at <= self.ceiling_us { Some(at).max(self.now_us) } else { self.now_us };
            let ticks = self.due_us.zip(at).is_some_and(|(due, at)| at >= due);
            if begun.len() >= BATCH || bytes >= BATCH_BYTES || ticks {
                bytes = 0;
                self.call(&rows.gather(&std::mem::take(&mut begun)))?;
            }
            if let Some(at) = at.filter(|_| ticks) {
                self.silence(at)?;
            }
            self.forward(at);
            begun.push(row);
            bytes += rows.bytes_of(row);
        }
        self.call(&rows.gather(&begun))
    }

    fn wants(&mut self, rows: &Batch, row: u32) -> bool {
        let (books, row) = (&self.books, row as usize);
        let (id, topic) = match rows {
            Batch::Points(points) => (points.series[row].index(), books.series_topic(points.series[row])),
            Batch::Messages(messages) => (messages.topic[row].index(), books.topic_name(messages.topic[row])),
        };
        if self.wanted.len() <= id {
            self.wanted.resize(id + 1, None);
        }
        *self.wanted[id].get_or_insert_with(|| self.tried.rule.wants(topic) && self.span.has_topic(topic))
    }

    /// The time is this now.
    fn forward(&mut self, now_us: Option<i64>) {
        if self.now_us.is_none() && self.tried.instance.can_tick() {
            self.due_us = self.every_us().zip(now_us).map(|(every, now)| now.saturating_add(every));
        }
        self.now_us = now_us;
    }

    fn every_us(&self) -> Option<i64> {
        let every = self.tried.rule.module.description().tick_ms?;
        Some(i64::try_from(every).unwrap_or(i64::MAX).saturating_mul(1_000).max(1_000))
    }

    /// Ticks until `until_us`.
    fn silence(&mut self, until_us: i64) -> Result<(), Stop> {
        let mut now = self.now_us.unwrap_or(until_us);
        let step = until_us.saturating_sub(now) / TICKS_A_SILENCE;
        while let Some(due) = self.due_us.filter(|&due| due <= until_us) {
            self.leave.check()?;
            now = due.max(now.saturating_add(step)).min(until_us);
            self.now_us = Some(now);
            let (cpu, ticked) = timed(|| self.tried.instance.tick(now));
            self.findings.ticks += 1;
            self.findings.tick_nanos += cpu;
            self.due_us = self.every_us().map(|every| now.saturating_add(every.max(step)));
            match ticked {
                Ok(emitted) => {
                    self.findings.rows.generated += emitted.points.len() as u64;
                    self.enter(emitted.alerts);
                    self.findings.commands += emitted.commands.len() as u64;
                    self.plan(emitted.wake_us.map(|wake| wake.max(now.saturating_add(step.max(1)))));
                    self.tried.keep()?;
                }
                Err(fault) => self.failed("", now, &fault)?,
            }
        }
        Ok(())
    }

    /// It asks to be ticked at this time.
    fn plan(&mut self, wake_us: Option<i64>) {
        if let Some(wake) = wake_us.filter(|_| self.tried.instance.can_tick()) {
            self.due_us = Some(self.due_us.map_or(wake, |due| due.min(wake)));
        }
    }

    /// Gives it rows. When it fails they are halved until what it fails on stands alone.
    fn call(&mut self, batch: &Batch) -> Result<(), Stop> {
        if batch.len() == 0 {
            return Ok(());
        }
        self.leave.check()?;
        let now_us = self.now_us.unwrap_or_default();
        let (cpu, outcome) = match batch {
            Batch::Points(points) => {
                let (cpu, processed) = timed(|| self.tried.instance.process(now_us, points));
                let taken = processed.map(|processed| {
                    let gone = self.refused_or_held(&processed.rejects, processed.held.len());
                    self.enter(processed.alerts);
                    self.findings.commands += processed.commands.len() as u64;
                    self.pass(points, processed.passage, gone);
                    processed.wake_us
                });
                (cpu, taken)
            }
            Batch::Messages(messages) => {
                let (cpu, decoded) = timed(|| self.tried.instance.decode(now_us, messages));
                let taken = decoded.map(|decoded| {
                    let gone = self.refused_or_held(&decoded.rejects, decoded.held.len());
                    let mut from = decoded.from_row;
                    from.dedup();
                    self.findings.rows.out += decoded.points.len() as u64;
                    self.findings.rows.filtered += messages.len().saturating_sub(gone + from.len()) as u64;
                    self.findings.commands += decoded.commands.len() as u64;
                    decoded.wake_us
                });
                (cpu, taken)
            }
        };
        self.findings.calls += 1;
        self.findings.nanos += cpu;
        match outcome {
            Ok(wake_us) => {
                self.given(batch);
                self.plan(wake_us);
                self.tried.keep()
            }
            Err(fault) if batch.len() == 1 => {
                self.given(batch);
                let topic = match batch {
                    Batch::Points(points) => points.series.first().map(|&series| self.books.series_topic(series)),
                    Batch::Messages(messages) => messages.topic.first().map(|&topic| self.books.topic_name(topic)),
                };
                let (topic, at) = (topic.unwrap_or_default().to_owned(), batch.times().first().copied());
                self.failed(&topic, at.unwrap_or_default(), &fault)
            }
            Err(_) => {
                self.tried.revive()?;
                let rows: Vec<u32> = (0..batch.len() as u32).collect();
                rows.chunks(batch.len().div_ceil(2)).try_for_each(|half| self.call(&batch.gather(half)))
            }
        }
    }

    fn given(&mut self, batch: &Batch) {
        let findings = &mut self.findings;
        findings.rows.given += batch.len() as u64;
        findings.ns_per_row = findings.nanos as f64 / findings.rows.given as f64;
        for &at in batch.times() {
            findings.first_us = Some(findings.first_us.map_or(at, |first| first.min(at)));
            findings.last_us = Some(findings.last_us.map_or(at, |last| last.max(at)));
        }
    }

    fn failed(&mut self, topic: &str, time_us: i64, fault: &Fault) -> Result<(), Stop> {
        self.findings.faults += 1;
        if self.findings.fault_list.len() < MAX_TOLD {
            let (topic, fault) = (topic.to_owned(), fault.to_string());
            self.findings.fault_list.push(FaultShape { topic, time_us, fault });
        }
        if self.findings.faults >= MAX_FAULTS {
            let why = format!("it failed on {MAX_FAULTS} rows; the first of them are listed");
            return Err(Stop::Because(why));
        }
        self.tried.revive()
    }

    fn refused_or_held(&mut self, rejects: &Rejects, held: usize) -> usize {
        rejects.iter().for_each(|(_, reason)| self.findings.refused(reason));
        self.findings.rows.held += held as u64;
        rejects.row.len() + held
    }

    /// Counts what went on of a batch of which `gone` rows were refused or held.
    fn pass(&mut self, batch: &Points, passage: Passage, gone: usize) {
        let (rows, stay) = (&mut self.findings.rows, batch.len().saturating_sub(gone) as u64);
        match passage {
            Passage::Unchanged => rows.out += stay,
            Passage::Keep(kept) => {
                rows.out += kept.len() as u64;
                rows.filtered += stay.saturating_sub(kept.len() as u64);
            }
            Passage::Values(values) => {
                rows.out += stay;
                let differ =
                    |(new, old): (&f64, &f64)| new.to_bits() != old.to_bits() && !(new.is_nan() && old.is_nan());
                rows.changed += values.iter().zip(&batch.value).filter(|&pair| differ(pair)).count() as u64;
            }
            Passage::Replaced(points, from) => {
                rows.out += points.len() as u64;
                let (mut sources, mut changed) = (0, 0);
                let mut last = None;
                for (i, &row) in from.iter().enumerate().filter(|&(_, &row)| row != NO_ROW) {
                    if last == Some(row) {
                        continue;
                    }
                    last = Some(row);
                    sources += 1;
                    changed += u64::from(!same(&points, i, batch, row as usize));
                }
                rows.changed += changed;
                rows.filtered += stay.saturating_sub(sources);
            }
            Passage::Added(points, _) => rows.out += stay + points.len() as u64,
        }
    }

    /// Enters alerts as a lane does: only what is news counts.
    fn enter(&mut self, alerts: Vec<RawAlert>) {
        for raw in alerts {
            let transition = raw.transition;
            let Some(alert) = raw.of(&self.tried.rule.name, &self.books) else { continue };
            if self.alerts.enter(&alert) != News::Publish {
                continue;
            }
            let counts = &mut self.findings.alerts;
            match transition {
                Transition::Raised => counts.raised += 1,
                Transition::Cleared => counts.cleared += 1,
                Transition::Event => counts.events += 1,
            }
            counts.standing = self.alerts.len() as u64;
            if self.findings.alert_list.len() < MAX_ALERTS {
                // All are of one rule, which the backtest names.
                self.findings.alert_list.push(SeenAlert { rule: None, ..SeenAlert::from(&alert) });
            }
        }
    }
}

/// Whether a point is the row it came from.
fn same(points: &Points, i: usize, batch: &Points, row: usize) -> bool {
    points.series.get(i) == batch.series.get(row)
        && points.time_us.get(i) == batch.time_us.get(row)
        && points.value.get(i).map(|value| value.to_bits()) == batch.value.get(row).map(|value| value.to_bits())
        && points.quality.get(i) == batch.quality.get(row)
        && points.texts.get(i as u32) == batch.texts.get(row as u32)
}

/// What a call gives, and the CPU time of this thread that it took: others may have had the CPU meanwhile.
fn timed<T>(call: impl FnOnce() -> T) -> (u64, T) {
    let cpu = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let began = cpu();
    let given = call();
    (cpu().saturating_sub(began).as_nanos() as u64, given)
}
