//! How long a rule takes for a row, in buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A quarter octave each, from 1 ns to 16 s: a reading is at most 19 % above the truth.
const BUCKETS: usize = 137;

/// Counts of rows by the time their batch took for each.
#[derive(Debug)]
pub(super) struct RowTime([AtomicU64; BUCKETS]);

impl Default for RowTime {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl RowTime {
    /// A batch of `rows` took `nanos`.
    pub fn record(&self, nanos: u64, rows: u64) {
        let each = nanos as f64 / rows.max(1) as f64;
        let bucket = if each <= 1.0 { 0 } else { (each.log2() * 4.0).ceil() as usize };
        self.0[bucket.min(BUCKETS - 1)].fetch_add(rows, Relaxed);
    }

    /// Nanoseconds a row that the share `q` (0 to 1) of all rows stayed below; none before the first.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let counts: [u64; BUCKETS] = std::array::from_fn(|i| self.0[i].load(Relaxed));
        let all: u64 = counts.iter().sum();
        let rank = ((all as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some((bucket as f64 / 4.0).exp2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: rows count, not batches; a quantile is never below the truth and at most a fifth above it.
    #[test]
    fn rows_count() {
        let time = RowTime::default();
        assert_eq!(time.quantile(0.5), None);
        time.record(900_000, 900);
        for _ in 0..100 {
            time.record(3_000_000, 1);
        }
        let read = |q| time.quantile(q).unwrap_or(0.0);
        assert!((1_000.0..1_200.0).contains(&read(0.5)), "{}", read(0.5));
        assert!((3_000_000.0..3_600_000.0).contains(&read(0.99)), "{}", read(0.99));
    }
}
