//! A quantity that several lanes have a share in: how much it is together, and the most it was.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The sum of all shares.
#[derive(Debug, Default)]
pub struct Level {
    now: AtomicU64,
    peak: AtomicU64,
}

/// One lane's share: what it has put into a [`Level`] last. To be taken back with 0.
#[derive(Debug, Default)]
pub struct Share(u64);

impl Level {
    /// `share` is `value` from now on.
    pub fn set(&self, share: &mut Share, value: u64) {
        let old = std::mem::replace(&mut share.0, value);
        if value > old {
            let now = self.now.fetch_add(value - old, Relaxed) + (value - old);
            self.peak.fetch_max(now, Relaxed);
        } else if value < old {
            self.now.fetch_sub(old - value, Relaxed);
        }
    }

    /// The sum.
    pub fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// The most the sum has been.
    pub fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the level is the sum of what each has set last, and the peak stays.
    #[test]
    fn the_sum_of_shares() {
        let (level, mut a, mut b) = (Level::default(), Share::default(), Share::default());
        level.set(&mut a, 10);
        level.set(&mut b, 5);
        level.set(&mut a, 2);
        assert_eq!((level.now(), level.peak()), (7, 15));
        level.set(&mut a, 0);
        level.set(&mut b, 0);
        assert_eq!((level.now(), level.peak()), (0, 15));
    }
}
