//! The chain: every processor in order, on the rows whose series it matches.

use tidegate_engine::{Kind, Passage, Processed};
use tidegate_model::{NO_ROW, Points, Stage};

use crate::dead_letter::Cause;
use crate::lane::flow::{Flow, Insert};
use crate::lane::route::{Routes, Share};
use crate::lane::slot::{Patience, Slot};
use crate::lane::work::Work;

/// Runs `flow` through the processors from `first` on; slots stand in the order they run in.
pub(crate) fn process(work: &mut Work<'_>, slots: &mut [Slot], first: usize, routes: &mut Routes, flow: &mut Flow) {
    let mut looked = false;
    for at in first..slots.len() {
        if flow.points.is_empty() {
            return;
        }
        if slots[at].rule().kind() != Kind::Processor {
            continue;
        }
        if !looked {
            routes.look(&flow.points, slots, work.books);
            looked = true;
        }
        let change = match routes.share(at, &flow.points) {
            Share::None => continue,
            Share::All => {
                let points = std::mem::take(&mut flow.points);
                let mut change = Change::default();
                call(work, &mut slots[at], &points, None, &flow.from_row, &mut change, &mut Patience::default());
                flow.points = points;
                change
            }
            Share::Some(rows) => {
                let part = flow.points.gather(&rows);
                let mut change = Change::default();
                call(work, &mut slots[at], &part, Some(&rows), &flow.from_row, &mut change, &mut Patience::default());
                change
            }
        };
        looked &= change.insert.points.is_empty() && change.gone.is_empty();
        change.apply(flow);
    }
}

/// What a processor's outcomes change of the flow, in rows of the flow.
#[derive(Default)]
struct Change {
    gone: Vec<u32>,
    values: Vec<(u32, f64)>,
    insert: Insert,
}

impl Change {
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

/// Calls the processor; `rows` are the part's rows in the flow, if it is not the whole, and `origin` the flow's messages. When the
/// call fails the part is halved until the poison stands alone; the rest goes on.
fn call(
    work: &mut Work<'_>,
    slot: &mut Slot,
    part: &Points,
    rows: Option<&[u32]>,
    origin: &[u32],
    change: &mut Change,
    patience: &mut Patience,
) {
    let row_in_flow = |row: u32| rows.map_or(row, |rows| rows[row as usize]);
    // A quarantined processor is passed by: its rows are sound, it is not.
    let Some(instance) = slot.instance() else { return };
    let fault = match instance.process(work.now_us, part) {
        Ok(processed) => return take(work, slot, processed, part.len(), row_in_flow, origin, change),
        Err(fault) => fault,
    };
    let spent = patience.spent();
    slot.replace(&fault);
    if part.len() == 1 || spent {
        if part.len() > 1 {
            slot.gave_up(&fault);
        }
        let cause = Cause::fault(Stage::Process, slot.rule(), &fault, part.len());
        for row in (0..part.len() as u32).map(row_in_flow) {
            change.gone.push(row);
            work.dead_letter_point(origin[row as usize], cause.clone());
        }
        return;
    }
    let whole: Vec<u32> = (0..part.len() as u32).collect();
    for half in whole.chunks(part.len().div_ceil(2)) {
        let rows: Vec<u32> = half.iter().map(|&row| row_in_flow(row)).collect();
        call(work, slot, &part.gather(half), Some(&rows), origin, change, patience);
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
        work.dead_letter_point(origin[row as usize], Cause::reject(Stage::Process, &rule, reason));
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
    rule.stats.rows_out.fetch_add(out as u64, std::sync::atomic::Ordering::Relaxed);
    work.alerts(&rule, alerts);
    work.commands(&rule, commands);
    slot.plan(work.now_us, false, wake_us);
}

fn moved(points: Points, from_row: Vec<u32>, row_in_flow: impl Fn(u32) -> u32) -> Insert {
    let to_flow = |row: u32| if row == NO_ROW { NO_ROW } else { row_in_flow(row) };
    Insert { points, from_row: from_row.into_iter().map(to_flow).collect() }
}
