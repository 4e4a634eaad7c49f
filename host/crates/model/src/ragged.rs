//! A column of byte strings: all bytes in one buffer, one end offset an entry.

/// Entry `i` is `bytes[ends[i-1] .. ends[i]]`, as every variable-length column of the rule contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ragged {
    /// Ascending; one an entry; the last is `bytes.len()`.
    pub ends: Vec<u32>,
    /// All entries, one after the other.
    pub bytes: Vec<u8>,
}

impl Ragged {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Makes room for so many more entries, and bytes of all of them.
    pub fn reserve(&mut self, entries: usize, bytes: usize) {
        self.ends.reserve(entries);
        self.bytes.reserve(bytes);
    }

    /// Appends an entry. The caller bounds the sum of all entries below 4 GiB (batches are far smaller).
    #[inline]
    pub fn push(&mut self, entry: &[u8]) {
        self.bytes.extend_from_slice(entry);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Entry `i`; empty where there is no such entry.
    pub fn get(&self, i: usize) -> &[u8] {
        let Some(&end) = self.ends.get(i) else { return &[] };
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        self.bytes.get(start as usize..end as usize).unwrap_or(&[])
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Appends all entries of `other`.
    pub fn append(&mut self, other: &Ragged) {
        let base = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + base));
    }

    /// Empties the column, keeping its memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    /// Whether the ends ascend and close on the last byte: what a guest must be held to.
    pub fn is_well_formed(&self) -> bool {
        self.ends.is_sorted() && self.ends.last().copied().unwrap_or(0) as usize == self.bytes.len()
    }
}
