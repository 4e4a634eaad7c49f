//! State out of a guest and into it, in parts, in this process's ids.

use tidegate_model::{Cell, PartitionId, SavedState, SeriesId, StateBook};

use crate::bindings::state;
use crate::context::{Context, Rows};
use crate::fault::Fault;
use crate::instance::store::{Budget, guarded_within};
use crate::instance::{Instance, said};
use crate::load_error::LoadError;
use crate::module::Scope;

/// The most bytes of state asked for, and given, in one call.
const PART_BYTES: usize = 1 << 20;

/// Of so many cells more than it was given rows it may say that they have changed: a tick has no rows, and may look at many.
const CELLS_BESIDE_ROWS: usize = 1_000;

/// Which cells `save` is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// All there are.
    All,
    /// Those that changed since the last save.
    Changed,
}

/// Cells on their way into a guest, as columns.
#[derive(Default)]
struct Columns {
    id: Vec<u32>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Columns {
    fn push(&mut self, id: u32, cell: &[u8]) {
        self.id.push(id);
        self.bytes.extend_from_slice(cell);
        self.ends.push(self.bytes.len() as u32);
    }

    fn as_param(&self) -> state::CellsParam<'_> {
        state::CellsParam { id: &self.id, ends: &self.ends, bytes: &self.bytes }
    }
}

/// What one `save` may still hand over, in all its parts.
struct Room {
    bytes: usize,
    series: usize,
    partitions: usize,
    removed_series: usize,
    removed_partitions: usize,
}

impl Room {
    /// As many bytes as it may have memory, and a cell for each name that it was told.
    fn of(context: &Context) -> Self {
        let (series, partitions) = (context.series.len(), context.partitions.len());
        let bytes = context.memory.limit_bytes;
        Self { bytes, series, partitions, removed_series: series, removed_partitions: partitions }
    }

    /// Cells that may come, and as many of which it may say that they are no more.
    fn cells(&self) -> usize {
        self.series + self.partitions + self.removed_series + self.removed_partitions
    }

    fn take(&mut self, part: &state::SavedResult) -> Result<(), Fault> {
        let within = |room: &mut usize, asked: usize| {
            *room = room.checked_sub(asked).ok_or_else(|| {
                Fault::bad_output(
                    "`save` gives more bytes than its memory can hold, or more cells than it knows names",
                )
            })?;
            Ok(())
        };
        within(&mut self.bytes, part.by_series.bytes.len() + part.by_partition.bytes.len())?;
        within(&mut self.series, part.by_series.id.len())?;
        within(&mut self.partitions, part.by_partition.id.len())?;
        within(&mut self.removed_series, part.removed_series.len())?;
        within(&mut self.removed_partitions, part.removed_partitions.len())
    }
}

impl Instance {
    /// Whether it has state that outlives a call: it says so, and can save it.
    pub fn keeps_state(&self) -> bool {
        self.state.is_some() && self.rule.module.description().scope != Scope::None
    }

    /// Its state, or what changed of it since the last save; empty if it keeps none.
    ///
    /// # Errors
    /// It failed, took longer for all parts than one call may and that many cells, or would go on for ever. Of those that changed no more count than can
    /// have: one for each row and cell that it was given since it saved last, and a thousand.
    pub fn save(&mut self, cells: Cells) -> Result<SavedState, Fault> {
        let mut all = SavedState::default();
        let Some(guest) = self.state.clone() else { return Ok(all) };
        let everything = cells == Cells::All;
        let context = self.store.data();
        let mut room = Room::of(context);
        let all_cells = room.cells();
        let most_changed = all_cells.min(std::mem::take(&mut self.given).saturating_add(CELLS_BESIDE_ROWS));
        let mut left = match cells {
            Cells::All => Budget::lifecycle(&self.rule.limits).and_for_cells(all_cells),
            Cells::Changed => Budget::save(&self.rule.limits, most_changed, room.bytes),
        };
        // Each part but the last has a cell at least: what does not come to an end is stopped by what it has handed over.
        let most_parts = 2 + room.bytes / PART_BYTES * 2;
        for _ in 0..most_parts {
            let part = guarded_within(&mut self.store, &mut left, |store| {
                guest.call_save(store, everything, PART_BYTES as u32)
            })?;
            // Before anything is made of it: the same zeros of its memory can be millions of cells.
            room.take(&part)?;
            let more = part.more;
            if more && gives_nothing(&part) {
                return Err(Fault::bad_output("a part of `save` gave nothing and said that there is more"));
            }
            self.take_part(part, &mut all)?;
            if !more {
                let not_given = most_changed.saturating_sub(all_cells - room.cells());
                if cells == Cells::Changed && left.took_too_long(not_given, room.bytes) {
                    return Err(Fault::save_took_too_long(self.rule.limits.batch_cpu));
                }
                self.commit(&Rows::None)?;
                return Ok(all);
            }
        }
        Err(Fault::bad_output("`save` goes on for more parts than its memory can hold"))
    }

    /// The most bytes its state may have, as saved: as many as its memory.
    pub fn most_state_bytes(&self) -> usize {
        self.store.data().memory.limit_bytes
    }

    fn take_part(&self, part: state::SavedResult, all: &mut SavedState) -> Result<(), Fault> {
        let context = self.store.data();
        let series = |local: u32| {
            let unknown = || Fault::bad_output(format!("`save` named series {local}, which it was never given"));
            context.series.global(local).map(SeriesId).ok_or_else(unknown)
        };
        let partition = |local: u32| {
            let unknown = || Fault::bad_output(format!("`save` named partition {local}, which it was never given"));
            context.partitions.global(local).map(PartitionId).ok_or_else(unknown)
        };
        for (local, bytes) in cells_of(&part.by_series)? {
            all.series.push((series(local)?, bytes));
        }
        for (local, bytes) in cells_of(&part.by_partition)? {
            all.partitions.push((partition(local)?, bytes));
        }
        for &local in &part.removed_series {
            all.removed_series.push(series(local)?);
        }
        for &local in &part.removed_partitions {
            all.removed_partitions.push(partition(local)?);
        }
        Ok(())
    }

    /// Gives it the state that an instance of `version` saved, in parts.
    ///
    /// # Errors
    /// It refuses the state, fails, or takes longer for all parts than one call and that many cells may.
    pub fn restore(&mut self, version: &str, saved: &StateBook) -> Result<(), LoadError> {
        let Some(guest) = self.state.clone().filter(|_| !saved.is_empty()) else { return Ok(()) };
        let context = self.store.data();
        // What it was never told of it cannot have state of.
        let mut removed_series: Vec<u32> = saved.gone_series().filter_map(|id| context.series.local(id.0)).collect();
        let mut removed_partitions: Vec<u32> =
            saved.gone_partitions().filter_map(|id| context.partitions.local(id.0)).collect();
        let mut series = saved.series().peekable();
        let mut partitions = saved.partitions().peekable();
        let cells = saved.series().len() + saved.partitions().len();
        self.given = self.given.saturating_add(cells);
        let mut left = Budget::lifecycle(&self.rule.limits).and_for_cells(cells);
        let mut more = true;
        while more {
            let (mut by_series, mut by_partition) = (Columns::default(), Columns::default());
            let mut globals = Vec::new();
            while by_series.bytes.len() < PART_BYTES
                && let Some((id, cell)) = series.next()
            {
                globals.push(id);
                by_series.push(0, cell);
            }
            self.declare_series_within(&globals, &mut left)?;
            std::mem::swap(&mut by_series.id, &mut self.ids);
            while by_series.bytes.len() + by_partition.bytes.len() < PART_BYTES
                && let Some((id, cell)) = partitions.next()
            {
                let map = &mut self.store.data_mut().partitions;
                by_partition.push(map.local_or_add(id.0), cell);
            }
            more = series.peek().is_some() || partitions.peek().is_some();
            let part = state::SavedParam {
                by_series: by_series.as_param(),
                by_partition: by_partition.as_param(),
                removed_series: &removed_series,
                removed_partitions: &removed_partitions,
                more,
            };
            guarded_within(&mut self.store, &mut left, |store| guest.call_restore(store, version, part))?
                .map_err(|words| LoadError::State(said(words)))?;
            self.commit(&Rows::None)?;
            removed_series.clear();
            removed_partitions.clear();
        }
        Ok(())
    }
}

fn gives_nothing(part: &state::SavedResult) -> bool {
    part.by_series.id.is_empty()
        && part.by_partition.id.is_empty()
        && part.removed_series.is_empty()
        && part.removed_partitions.is_empty()
}

/// The instance's ids, and the bytes.
fn cells_of(cells: &state::CellsResult) -> Result<Vec<(u32, Cell)>, Fault> {
    let sound = cells.ends.len() == cells.id.len()
        && cells.ends.is_sorted()
        && cells.ends.last().copied().unwrap_or(0) as usize == cells.bytes.len();
    if !sound {
        return Err(Fault::bad_output("the columns of saved state disagree"));
    }
    let starts = std::iter::once(0).chain(cells.ends.iter().copied());
    let spans = starts.zip(&cells.ends).map(|(start, &end)| cells.bytes[start as usize..end as usize].into());
    Ok(cells.id.iter().copied().zip(spans).collect())
}
