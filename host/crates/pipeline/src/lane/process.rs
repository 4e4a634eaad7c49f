//! The chain: every processor in order, on the rows whose series it matches.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_engine::{Kind, OnQuarantine, Passage, Processed, thread_cpu};
use tidegate_model::{Books, NO_ROW, PartitionId, Points, SeriesId, Stage};

use crate::dead_letter::Cause;
use crate::lane::flow::{Flow, Insert};
use crate::lane::patience::Patience;
use crate::lane::route::{Routes, Share};
use crate::lane::slot::{Poison, Slot, Tried};
use crate::lane::work::Work;

/// Runs `flow` through the processors from `first` on; slots stand in the order they run in.
pub(crate) fn process(work: &mut Work<'_>, slots: &mut [Slot], first: usize, routes: &mut Routes, flow: &mut Flow) {
    let mut looked = false;
    // For the journals of rules that keep state: one copy serves them all until the points change.
    let mut copy = None;
    for (at, slot) in slots.iter_mut().enumerate().skip(first) {
        if flow.points.is_empty() {
            return;
        }
        if slot.rule().kind() != Kind::Processor {
            continue;
        }
        if !looked {
            routes.look(&flow.points, work.books);
            looked = true;
        }
        let mut change = Change::default();
        let mut share = routes.share(at, &flow.points);
        if slot.shuns_any() {
            share = shun(work, slot, share, flow, &mut change);
        }
        match share {
            Share::None => {}
            Share::All => {
                let points = std::mem::take(&mut flow.points);
                call(work, slot, Part { points: &points, rows: None }, &flow.from_row, &mut change, &mut copy);
                flow.points = points;
            }
            Share::Some(rows) => {
                let points = Arc::new(flow.points.gather(&rows));
                let part = Part { points: &points, rows: Some(&rows) };
                call(work, slot, part, &flow.from_row, &mut change, &mut Some(points.clone()));
            }
        }
        looked &= change.insert.points.is_empty() && change.gone.is_empty();
        if !change.is_nothing() {
            copy = None;
        }
        change.apply(flow);
    }
}

/// What is left of `share` without the partitions that the rule in `slot` is not called for; their rows pass it by, or are parked.
fn shun(work: &mut Work<'_>, slot: &Slot, share: Share, flow: &Flow, change: &mut Change) -> Share {
    let rows = match share {
        Share::None => return Share::None,
        Share::All => (0..flow.points.len() as u32).collect(),
        Share::Some(rows) => rows,
    };
    let shunned = |row: &u32| slot.shuns(partition_of(work.books, flow.points.series[*row as usize]));
    let (shunned, rest): (Vec<u32>, Vec<u32>) = rows.into_iter().partition(shunned);
    pass_by(work, slot, shunned, &flow.from_row, change);
    if rest.is_empty() { Share::None } else { Share::Some(rest) }
}

/// The rule in `slot` is not called for these rows of the flow, whose messages `origin` has: they pass it by, or are parked.
fn pass_by(work: &mut Work<'_>, slot: &Slot, shunned: Vec<u32>, origin: &[u32], change: &mut Change) {
    let rule = slot.rule();
    match rule.on_quarantine {
        OnQuarantine::Bypass => drop(rule.stats.bypassed.fetch_add(shunned.len() as u64, Relaxed)),
        OnQuarantine::Park => {
            rule.stats.parked.fetch_add(shunned.len() as u64, Relaxed);
            let cause = Cause::parked(rule);
            for &row in &shunned {
                work.dead_letter_point(origin[row as usize], &cause);
            }
            change.gone.extend(shunned);
        }
    }
}

fn partition_of(books: &Books, series: SeriesId) -> PartitionId {
    books.series(series).map(|series| series.partition).unwrap_or_default()
}

/// What a processor's outcomes change of the flow, in rows of the flow.
#[derive(Default)]
struct Change {
    gone: Vec<u32>,
    values: Vec<(u32, f64)>,
    insert: Insert,
}

impl Change {
    fn is_nothing(&self) -> bool {
        self.gone.is_empty() && self.values.is_empty() && self.insert.points.is_empty()
    }

    fn apply(self, flow: &mut Flow) {
        for (row, value) in self.values {
            flow.points.value[row as usize] = value;
        }
        if !self.gone.is_empty() || !self.insert.points.is_empty() {
            let mut gone = vec![false; flow.points.len()];
            for row in self.gone {
                gone[row as usize] = true;
            }
            flow.change(&gone, self.insert);
        }
    }
}

/// What of the flow a processor gets.
#[derive(Clone, Copy)]
struct Part<'a> {
    points: &'a Points,
    /// Its rows in the flow, if it is not the whole.
    rows: Option<&'a [u32]>,
}

impl Part<'_> {
    fn row_in_flow(&self, row: u32) -> u32 {
        self.rows.map_or(row, |rows| rows[row as usize])
    }
}

/// Calls the processor; `origin` are the flow's messages, `copy` one of the part if there is one already. When the call fails the part is
/// taken apart until the poison stands alone; the rest goes on.
fn call(
    work: &mut Work<'_>,
    slot: &mut Slot,
    part: Part<'_>,
    origin: &[u32],
    change: &mut Change,
    copy: &mut Option<Arc<Points>>,
) {
    let mut patience = Patience::default();
    attempt(work, slot, part, origin, change, copy, &mut patience);
    slot.done_with(&patience);
}

/// One call of [`call`], and those that become necessary by it.
fn attempt(
    work: &mut Work<'_>,
    slot: &mut Slot,
    part: Part<'_>,
    origin: &[u32],
    change: &mut Change,
    copy: &mut Option<Arc<Points>>,
    patience: &mut Patience,
) {
    let Part { points, .. } = part;
    let row_in_flow = |row: u32| part.row_in_flow(row);
    let began = patience.clock();
    let fault = match slot.process(work.now_us, points, copy) {
        // A quarantined processor is passed by: its rows are sound, it is not.
        None => {
            slot.rule().stats.bypassed.fetch_add(points.len() as u64, Relaxed);
            return;
        }
        Some(Ok(processed)) => return take(work, slot, processed, points.len(), row_in_flow, origin, change),
        Some(Err(fault)) => fault,
    };
    if slot.failed_on(Tried::Points(points), &fault, began, patience) == Poison::Found {
        let cause = Cause::fault(Stage::Process, slot.rule(), &fault, points.len());
        for row in (0..points.len() as u32).map(row_in_flow) {
            change.gone.push(row);
            work.dead_letter_point(origin[row as usize], &cause);
        }
        return;
    }
    let whole: Vec<u32> = (0..points.len() as u32).collect();
    let (mut left, limits) = (&whole[..], slot.rule().limits);
    while let Some(few) = patience.next_part(&mut left, whole.len(), &limits, thread_cpu()) {
        // Whose poison has been found often enough is not tried any more.
        let shunned = |row: &&u32| slot.shuns(partition_of(work.books, points.series[**row as usize]));
        let (shunned, few): (Vec<u32>, Vec<u32>) = few.iter().partition(shunned);
        pass_by(work, slot, shunned.into_iter().map(row_in_flow).collect(), origin, change);
        if few.is_empty() {
            continue;
        }
        let rows: Vec<u32> = few.iter().map(|&row| row_in_flow(row)).collect();
        let points = Arc::new(points.gather(&few));
        let part = Part { points: &points, rows: Some(&rows) };
        attempt(work, slot, part, origin, change, &mut Some(points.clone()), patience);
    }
}

fn take(
    work: &mut Work<'_>,
    slot: &mut Slot,
    processed: Processed,
    rows: usize,
    row_in_flow: impl Fn(u32) -> u32,
    origin: &[u32],
    change: &mut Change,
) {
    let Processed { passage, alerts, rejects, held, commands, wake_us } = processed;
    let rule = slot.rule().clone();
    let refused_or_held = rejects.row.len() + held.len();
    for (row, reason) in rejects.iter() {
        let row = row_in_flow(row);
        change.gone.push(row);
        work.dead_letter_point(origin[row as usize], &Cause::reject(Stage::Process, &rule, reason));
    }
    work.account.held += held.len() as u64;
    change.gone.extend(held.iter().map(|&row| row_in_flow(row)));
    let mut out = rows - refused_or_held.min(rows);
    match passage {
        Passage::Unchanged => {}
        Passage::Values(values) => {
            change.values.extend(values.into_iter().enumerate().map(|(i, v)| (row_in_flow(i as u32), v)));
        }
        Passage::Keep(kept) => {
            out = kept.len();
            let mut stays = vec![false; rows];
            for row in kept.iter().chain(&rejects.row).chain(&held) {
                stays[*row as usize] = true;
            }
            let fell = (0..rows as u32).filter(|&row| !stays[row as usize]);
            let before = change.gone.len();
            change.gone.extend(fell.map(&row_in_flow));
            work.filtered(&rule, (change.gone.len() - before) as u64);
        }
        Passage::Replaced(points, from_row) => {
            out = points.len();
            let mut used = vec![false; rows];
            for row in rejects.row.iter().chain(&held) {
                used[*row as usize] = true;
            }
            let settled = used.iter().filter(|&&used| used).count();
            change.gone.extend((0..rows as u32).filter(|&row| !used[row as usize]).map(&row_in_flow));
            let mut origins = 0;
            for &row in from_row.iter().filter(|&&row| row != NO_ROW) {
                origins += usize::from(!std::mem::replace(&mut used[row as usize], true));
            }
            work.filtered(&rule, (rows - settled - origins) as u64);
            work.account.produced += (points.len() - origins.min(points.len())) as u64;
            change.insert.append(moved(points, from_row, row_in_flow));
        }
        Passage::Added(points, from_row) => {
            out += points.len();
            work.account.produced += points.len() as u64;
            change.insert.append(moved(points, from_row, row_in_flow));
        }
    }
    rule.stats.rows_out.fetch_add(out as u64, Relaxed);
    work.alerts(&rule, alerts);
    work.commands(&rule, commands);
    slot.plan(work.now_us, false, wake_us);
}

fn moved(points: Points, from_row: Vec<u32>, row_in_flow: impl Fn(u32) -> u32) -> Insert {
    let to_flow = |row: u32| if row == NO_ROW { NO_ROW } else { row_in_flow(row) };
    Insert { points, from_row: from_row.into_iter().map(to_flow).collect() }
}
