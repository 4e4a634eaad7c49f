//! Between this process's ids and those of one instance.
//!
//! An instance sees dense ids of its own, from 0, in the order it met the names: its tables stay small however
//! many series the host has, and it can name nothing it was not told of.

/// A two-way table of ids. Both directions are an index.
#[derive(Debug, Default)]
pub(crate) struct IdMap {
    /// By global id; [`NONE`] where this instance does not know it.
    local: Vec<u32>,
    /// By local id.
    global: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl IdMap {
    /// How many ids the instance knows.
    pub fn len(&self) -> usize {
        self.global.len()
    }

    /// The instance's id for `global`, if it knows it.
    pub fn local(&self, global: u32) -> Option<u32> {
        self.local.get(global as usize).copied().filter(|&local| local != NONE)
    }

    /// The host's id for `local`.
    pub fn global(&self, local: u32) -> Option<u32> {
        self.global.get(local as usize).copied()
    }

    /// The host's ids, by local id.
    pub fn globals(&self) -> &[u32] {
        &self.global
    }

    /// Gives `global` the next local id.
    pub fn add(&mut self, global: u32) -> u32 {
        let local = self.global.len() as u32;
        self.global.push(global);
        if self.local.len() <= global as usize {
            self.local.resize(global as usize + 1, NONE);
        }
        self.local[global as usize] = local;
        local
    }

    /// The instance's id for `global`, which it is given if it does not know it.
    pub fn local_or_add(&mut self, global: u32) -> u32 {
        self.local(global).unwrap_or_else(|| self.add(global))
    }

    /// Gives the next local id to `global`, which may have one already: that one stays the answer of [`Self::local`].
    pub fn alias(&mut self, global: u32) {
        if self.local(global).is_some() {
            self.global.push(global);
        } else {
            self.add(global);
        }
    }

    /// Translates a whole column into `out`; ids met for the first time get one, and are listed in `new`.
    pub fn translate(
        &mut self,
        column: impl ExactSizeIterator<Item = u32> + Clone,
        out: &mut Vec<u32>,
        new: &mut Vec<u32>,
    ) {
        out.clear();
        // Most batches name nothing new: one pass that only looks up, and one, of vector instructions, that asks whether that was all.
        let local = self.local.as_slice();
        out.extend(column.clone().map(|global| local.get(global as usize).copied().unwrap_or(NONE)));
        if !out.contains(&NONE) {
            return;
        }
        for (local, global) in out.iter_mut().zip(column) {
            if *local == NONE {
                // One that is there twice has its id from the second time on.
                *local = self.local(global).unwrap_or_else(|| {
                    new.push(global);
                    self.add(global)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: ids are dense in the order of meeting, and each is new once.
    #[test]
    fn dense_and_new_once() {
        let mut map = IdMap::default();
        let (mut out, mut new) = (Vec::new(), Vec::new());
        map.translate([7, 3, 7, 9].into_iter(), &mut out, &mut new);
        assert_eq!((out.as_slice(), new.as_slice()), (&[0, 1, 0, 2][..], &[7, 3, 9][..]));
        assert_eq!((map.global(2), map.global(3), map.local(3), map.local(4)), (Some(9), None, Some(1), None));
    }
}
