//! State a rule keeps by series or by partition: dense tables indexed by id, saved and restored
//! in parts through the contract's `state` interface. An entry is written only when it changed
//! since the last save, in postcard's compact binary form behind one byte that says which layout
//! it has. Names never appear here: the host maps ids to names when state moves.

use std::ops::{Deref, DerefMut};

use serde::{Serialize, de::DeserializeOwned};

use crate::columns::{Cells, PartitionId, Saved, SeriesId};

/// State by dense series id.
pub type BySeries<T> = Table<T>;
/// State by dense partition id.
pub type ByPartition<T> = Table<T>;

/// What each entry costs beside its bytes when a part's size is bounded: its id and its end.
const ENTRY_OVERHEAD: usize = 8;
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    #[default]
    Absent,
    Clean,
    Changed,
}

/// A value that remembers it was changed: reading goes through `Deref`, and the first `DerefMut`
/// marks it to be saved. Do not write what did not change.
#[derive(Clone, Debug, Default)]
pub struct Tracked<T> {
    value: T,
    mark: Mark,
    /// It stands in its table's list of what was lent.
    listed: bool,
}

impl<T> Tracked<T> {
    /// The value, to be changed without being saved for it. For what may be older, or lost, after a
    /// restart, a swap or a trap, such as a time that moves with every reading; the next marked
    /// change saves it too.
    #[inline]
    pub fn unmarked(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Tracked<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.mark = Mark::Changed;
        &mut self.value
    }
}

/// A dense table of state, indexed by id. Absent entries read as `T::default()`.
#[derive(Debug)]
pub struct Table<T> {
    entries: Vec<Tracked<T>>,
    /// Which of them were lent to be changed since they were last saved, each once. The host holds a lane still while it asks what changed,
    /// so a save must not look at a hundred thousand entries for the few that did.
    lent: Vec<u32>,
    /// How much of `lent` a save has been through that was bounded.
    seen: usize,
    /// Where a walk through all entries for those that changed goes on; none is due unless all were lent at once.
    walk: Option<usize>,
    /// Where a save of everything goes on that was bounded.
    everything: Option<usize>,
    removed: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), lent: Vec::new(), seen: 0, walk: None, everything: None, removed: Vec::new() }
    }
}

impl<T: Default> Table<T> {
    /// The entry of an id; made when it is not there.
    #[inline]
    pub fn of(&mut self, id: u32) -> &mut Tracked<T> {
        let index = id as usize;
        if index >= self.entries.len() {
            self.grow(index);
        }
        let entry = &mut self.entries[index];
        if !entry.listed {
            entry.listed = true;
            self.lent.push(id);
        }
        entry
    }

    /// Those entries that are lent already.
    pub(crate) fn lent(&mut self) -> Lent<'_, T> {
        Lent { entries: &mut self.entries }
    }

    #[cold]
    fn grow(&mut self, index: usize) {
        self.entries.resize_with(index + 1, Tracked::default);
    }

    /// The value of an id, where one was ever set or restored.
    pub fn get(&self, id: u32) -> Option<&T> {
        let entry = self.entries.get(id as usize)?;
        (entry.mark != Mark::Absent).then_some(&entry.value)
    }

    /// Every id that has a value, ascending, with the value.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Tracked<T>)> {
        self.walk = Some(0);
        self.entries
            .iter_mut()
            .enumerate()
            .filter(|(_, entry)| entry.mark != Mark::Absent)
            .map(|(id, entry)| (id as u32, entry))
    }

    /// Forgets the value of an id, here and in what is saved.
    pub fn remove(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(id as usize) {
            if entry.mark != Mark::Absent {
                self.removed.push(id);
            }
            entry.clear();
        }
    }
}

impl<T: Default> Tracked<T> {
    /// Back to what it was before it was ever set; where it is listed it stays so.
    fn clear(&mut self) {
        *self = Self { listed: self.listed, ..Self::default() };
    }
}

/// The entries that a table has lent: for a loop that must not be able to make it grow, nor its list.
pub(crate) struct Lent<'a, T> {
    entries: &'a mut [Tracked<T>],
}

impl<T> Lent<'_, T> {
    /// The entry of an id, if [`Table::of`] has lent it since it was last saved.
    #[inline]
    pub fn get(&mut self, id: u32) -> Option<&mut Tracked<T>> {
        self.entries.get_mut(id as usize).filter(|entry| entry.listed)
    }
}

/// What the SDK does with any table, whatever it holds.
pub trait Tabled {
    /// Whether a save of everything is under way here. If `everything` is not what is asked for, one that was left unfinished is given up.
    fn goes_on(&mut self, everything: bool) -> bool;
    /// Writes entries into `into` until `room` bytes are used; says whether there is more.
    fn save(
        &mut self,
        everything: bool,
        layout: u8,
        room: &mut usize,
        into: &mut Cells,
        removed: &mut Vec<u32>,
    ) -> bool;
    /// Takes over a saved part.
    ///
    /// # Errors
    /// When an entry has another layout or is damaged.
    fn restore(&mut self, layout: u8, part: &Cells, removed: &[u32]) -> Result<(), String>;
    /// Forgets ids that are gone.
    fn retire(&mut self, ids: &[u32]);
}

impl<T: Default + Serialize + DeserializeOwned> Tabled for Table<T> {
    fn goes_on(&mut self, everything: bool) -> bool {
        if !everything && self.everything.take().is_some() {
            // What it was to give is in no list any more.
            self.walk = Some(0);
        }
        self.everything.is_some()
    }

    fn save(
        &mut self,
        everything: bool,
        layout: u8,
        room: &mut usize,
        into: &mut Cells,
        removed: &mut Vec<u32>,
    ) -> bool {
        if everything {
            return self.save_everything(layout, room, into);
        }
        self.goes_on(everything);
        // One may have come back and gone again; the host takes each once.
        self.removed.sort_unstable();
        self.removed.dedup();
        // An id that was removed and set again since is saved as an entry, which replaces it.
        let entries = &self.entries;
        let absent = |id: &u32| entries.get(*id as usize).is_none_or(|entry| entry.mark == Mark::Absent);
        removed.extend(self.removed.drain(..).filter(absent));
        self.save_changes(layout, room, into)
    }

    fn restore(&mut self, layout: u8, part: &Cells, removed: &[u32]) -> Result<(), String> {
        for id in removed {
            if let Some(entry) = self.entries.get_mut(*id as usize) {
                entry.clear();
            }
        }
        let mut start = 0;
        for (id, end) in part.id.iter().zip(&part.ends) {
            let cell = part
                .bytes
                .get(start..*end as usize)
                .ok_or_else(|| format!("state of id {id} ends beyond the bytes given"))?;
            start = *end as usize;
            let (found, cell) = cell.split_first().ok_or_else(|| format!("state of id {id} is empty"))?;
            if *found != layout {
                return Err(format!(
                    "state of id {id} has layout {found} and this rule reads layout {layout}; start it without state or with the rule that saved it"
                ));
            }
            let value =
                postcard::from_bytes(cell).map_err(|fault| format!("state of id {id} cannot be read: {fault}"))?;
            let index = *id as usize;
            if index >= self.entries.len() {
                self.grow(index);
            }
            let entry = &mut self.entries[index];
            entry.value = value;
            entry.mark = Mark::Clean;
        }
        Ok(())
    }

    fn retire(&mut self, ids: &[u32]) {
        for id in ids {
            self.remove(*id);
        }
    }
}

impl<T: Default + Serialize> Table<T> {
    /// Writes what changed, from where it stopped; says whether there is more.
    fn save_changes(&mut self, layout: u8, room: &mut usize, into: &mut Cells) -> bool {
        let mut wrote = false;
        while let Some(index) = self.walk {
            let Some(entry) = self.entries.get_mut(index) else {
                self.walk = None;
                break;
            };
            if entry.mark == Mark::Changed && write(index, entry, layout, room, into, &mut wrote).is_err() {
                return true;
            }
            self.walk = Some(index + 1);
        }
        while let Some(&id) = self.lent.get(self.seen) {
            let index = id as usize;
            let entry = &mut self.entries[index];
            if entry.mark == Mark::Changed && write(index, entry, layout, room, into, &mut wrote).is_err() {
                return true;
            }
            // What is lent while this save is unfinished comes at the end of the list once more.
            entry.listed = false;
            self.seen += 1;
        }
        self.lent.clear();
        self.seen = 0;
        false
    }

    /// Writes all there are, from where it stopped; says whether there are more.
    fn save_everything(&mut self, layout: u8, room: &mut usize, into: &mut Cells) -> bool {
        if self.everything.is_none() {
            // All that changed until now is a part of it; what changes while it goes on is lent anew.
            self.removed.clear();
            self.lent.drain(..).for_each(|id| self.entries[id as usize].listed = false);
            (self.seen, self.walk) = (0, None);
        }
        let mut wrote = false;
        for index in self.everything.unwrap_or_default()..self.entries.len() {
            let entry = &mut self.entries[index];
            if entry.mark != Mark::Absent && write(index, entry, layout, room, into, &mut wrote).is_err() {
                self.everything = Some(index);
                return true;
            }
        }
        self.everything = None;
        false
    }
}

/// There is no room for an entry in the part at hand.
struct Full;

/// Writes an entry, and marks it as saved.
fn write<T: Serialize>(
    index: usize,
    entry: &mut Tracked<T>,
    layout: u8,
    room: &mut usize,
    into: &mut Cells,
    wrote: &mut bool,
) -> Result<(), Full> {
    let before = into.bytes.len();
    let mut bytes = std::mem::take(&mut into.bytes);
    bytes.push(layout);
    match postcard::to_extend(&entry.value, bytes) {
        Ok(bytes) => into.bytes = bytes,
        Err(fault) => {
            // Only types whose Serialize contradicts itself come here; a bug of the rule.
            debug_assert!(false, "state of id {index} cannot be written: {fault}");
            return Ok(());
        }
    }
    let cost = into.bytes.len() - before + ENTRY_OVERHEAD;
    if cost > *room && (*wrote || !into.id.is_empty()) {
        into.bytes.truncate(before);
        return Err(Full);
    }
    *room = room.saturating_sub(cost);
    *wrote = true;
    entry.mark = Mark::Clean;
    into.id.push(index as u32);
    into.ends.push(into.bytes.len() as u32);
    Ok(())
}

/// The tables a rule wants kept.
#[derive(Default)]
pub struct State<'a> {
    series: Option<&'a mut dyn Tabled>,
    partition: Option<&'a mut dyn Tabled>,
}

impl<'a> State<'a> {
    /// Nothing is kept.
    pub fn none() -> Self {
        Self::default()
    }

    /// Keeps a table by series.
    pub fn by_series(table: &'a mut dyn Tabled) -> Self {
        Self { series: Some(table), partition: None }
    }

    /// Keeps a table by partition too.
    #[must_use]
    pub fn and_by_partition(mut self, table: &'a mut dyn Tabled) -> Self {
        self.partition = Some(table);
        self
    }

    /// Keeps a table by partition.
    pub fn by_partition(table: &'a mut dyn Tabled) -> Self {
        Self::none().and_by_partition(table)
    }

    pub(crate) fn save(mut self, everything: bool, layout: u8, max_bytes: u32) -> Saved {
        let mut saved = Saved::default();
        let mut room = max_bytes as usize;
        // Then all series are saved already: they come first, and are not to come again with each part of the partitions.
        let series_done = self.partition.as_mut().is_some_and(|table| table.goes_on(everything));
        if let Some(table) = self.series.filter(|_| !series_done) {
            saved.more = table.save(everything, layout, &mut room, &mut saved.by_series, &mut saved.removed_series);
        }
        if let Some(table) = self.partition {
            if saved.more {
                return saved;
            }
            saved.more =
                table.save(everything, layout, &mut room, &mut saved.by_partition, &mut saved.removed_partitions);
        }
        saved
    }

    pub(crate) fn restore(self, layout: u8, part: &Saved) -> Result<(), String> {
        match self.series {
            Some(table) => table.restore(layout, &part.by_series, &part.removed_series)?,
            None if !part.by_series.id.is_empty() => {
                return Err("there is state by series, and this rule keeps none".to_owned());
            }
            None => {}
        }
        match self.partition {
            Some(table) => table.restore(layout, &part.by_partition, &part.removed_partitions),
            None if !part.by_partition.id.is_empty() => {
                Err("there is state by partition, and this rule keeps none".to_owned())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn retire(self, series: &[SeriesId], partitions: &[PartitionId]) {
        if let Some(table) = self.series {
            table.retire(series);
        }
        if let Some(table) = self.partition {
            table.retire(partitions);
        }
    }
}

#[cfg(test)]
mod tests;
