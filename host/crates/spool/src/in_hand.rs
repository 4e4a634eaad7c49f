//! What the sink was given and has not confirmed yet. Where room is made of it meanwhile it is not lost: the sink still has it in memory, and the
//! account says what became of it when the sink has.

/// The records that were given last, and what of them is not in the file any more.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    through: u64,
    dropped_rows: u64,
}

impl InHand {
    /// Up to which of these records the sink has them.
    pub fn of(&self, through: u64) -> u64 {
        through.min(self.through)
    }

    /// So many rows of them were dropped.
    pub fn dropped(&mut self, rows: u64) {
        self.dropped_rows += rows;
    }

    /// Records are given anew, up to this one; gives how many rows were lost since the sink has not confirmed them before.
    pub fn given(&mut self, through: u64) -> u64 {
        self.through = through;
        std::mem::take(&mut self.dropped_rows)
    }

    /// The sink has confirmed what it was given; gives how many rows of that were dropped meanwhile.
    pub fn confirmed(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_rows)
    }
}
