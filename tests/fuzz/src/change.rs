//! Inputs changed at random, the same way every time.

/// Numbers at which something changes; and where a guest's memory begins that the host hands it things in (see `tests/wat/guest.wat`).
const NUMBERS: [u32; 14] = [0, 1, 2, 3, 4, 7, 8, 255, 65_536, 65_544, 65_600, 131_064, 0x7fff_ffff, 0xffff_ffff];
/// Bytes that mean something to somebody.
const BYTES: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'/', b'+', b'#', b'$', b'\n', b'"', b'{'];

/// A source of inputs.
pub(crate) struct Changes<'a> {
    corpus: &'a [Vec<u8>],
    random: u64,
}

impl<'a> Changes<'a> {
    pub fn of(corpus: &'a [Vec<u8>]) -> Self {
        Self { corpus, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// One of the corpus, changed some times.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input
    }

    fn pick(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        self.corpus[at].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = at + self.below(input.len() - at + 1);
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = BYTES[self.below(BYTES.len())],
            2 => input.insert(at, BYTES[self.below(BYTES.len())]),
            3 => drop(input.drain(at..end)),
            4 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let number = NUMBERS[self.below(NUMBERS.len())].wrapping_add(self.below(16) as u32);
                // Aligned as most are.
                let at = at & !3;
                input.resize(input.len().max(at + 4), 0);
                input[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            _ => {
                let other = self.pick();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }

    /// Xorshift (Marsaglia, 2003).
    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % end.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: inputs are the same every time, and not all alike.
    #[test]
    fn the_same_every_time() {
        let corpus = [b"a/+/c\na/b/c".to_vec(), Vec::new()];
        let some = || {
            let mut changes = Changes::of(&corpus);
            (0..1_000).map(|_| changes.next()).collect::<Vec<_>>()
        };
        let mut inputs = some();
        assert_eq!(inputs, some());
        inputs.sort();
        inputs.dedup();
        assert!(inputs.len() > 500, "{}", inputs.len());
    }
}
