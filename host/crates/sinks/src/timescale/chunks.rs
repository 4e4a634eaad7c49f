//! The chunks of a hypertable, and which rows go into one transaction because of them.
//!
//! Each chunk that a transaction writes to is a table of its own, to be opened, locked and perhaps made; and a row for a chunk that is compressed
//! has to be put beside what is compressed there, which with `dedupe` means that much of it is unpacked. So rows that are spread
//! over many chunks are written in several transactions, few chunks each. Late rows are handed to a task and connections of their own before a write, so
//! that nothing waits for them ([`Sink::late_before_us`](tidegate_model::Sink::late_before_us)). Those that stay in it, for want of room there, are
//! written after all others, over all connections.
//!
//! What a sender says of the time is believed within bounds (`believed`): a clock that is wrong makes a chunk for each day that it names.

use std::collections::BTreeMap;

use super::fault::Fault;
use super::schema::{Tables, literal};
use super::session::Session;

/// The most chunks of one transaction.
const MOST: i64 = 8;

/// How a hypertable is cut in time. Looked up when a connection is the first; what is changed later is seen with the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// How much time one holds.
    width_us: i64,
    /// How long after its end it is compressed, if ever.
    compressed_after_us: Option<i64>,
}

/// Whether TimescaleDB limits how many compressed rows a statement unpacks. To look for repeats in a compressed chunk, some versions unpack what
/// is there of the same series, and give up beyond a number of rows; such rows would come again and again then. Few chunks and the statement's
/// timeout are bound enough. Only versions that have the limit know its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpacking {
    Free,
    Limited,
}

impl Unpacking {
    /// Asked after [`Chunks::find`], which has the library loaded.
    pub(super) async fn find(session: &Session) -> Result<Self, Fault> {
        const LIMIT: &str = "SELECT current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction', true)";
        let limit = session.rows(LIMIT).await?;
        let has_one = limit.iter().flatten().any(|limit| !limit.is_empty());
        Ok(if has_one { Self::Limited } else { Self::Free })
    }

    /// What a transaction says for its statements to be free of it. Compressed chunks may have got so by hand, at any age.
    pub(super) fn freed(self) -> &'static str {
        match self {
            Self::Free => "",
            Self::Limited => "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;",
        }
    }
}

/// Whether rows are for chunks that may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    Fresh,
    Late,
}

impl Chunks {
    /// Those of the points' table; none where it is no hypertable.
    pub(super) async fn find(session: &Session, tables: &Tables) -> Result<Option<Self>, Fault> {
        const VIEWS: &str =
            "SELECT to_regclass('timescaledb_information.dimensions'), to_regclass('timescaledb_information.jobs')";
        if session.rows(VIEWS).await?.iter().flatten().any(String::is_empty) {
            return Ok(None);
        }
        let query = format!(
            "SELECT (extract(epoch FROM d.time_interval) * 1000000)::bigint, \
             (SELECT (extract(epoch FROM min((j.config ->> 'compress_after')::interval)) * 1000000)::bigint \
             FROM timescaledb_information.jobs j WHERE j.proc_name = 'policy_compression' \
             AND (j.hypertable_schema, j.hypertable_name) = (d.hypertable_schema, d.hypertable_name)) \
             FROM timescaledb_information.dimensions d JOIN pg_catalog.pg_namespace n ON n.nspname = d.hypertable_schema \
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = d.hypertable_name \
             WHERE c.oid = to_regclass({}) AND d.dimension_number = 1",
            literal(&tables.metrics)
        );
        let found = match session.rows(&query).await {
            Ok(found) => found,
            // A version whose views are others: rows are stored all the same, only not parted.
            Err(fault) if !session.is_closed() => {
                let why = fault.into_sink_error("its chunks").to_string();
                tracing::debug!(why, "nothing is known of the chunks: writes are not parted by them");
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        let Some([width, after]) = found.first().map(Vec::as_slice) else { return Ok(None) };
        let width_us = width.parse().ok().filter(|&width| width > 0);
        Ok(width_us.map(|width_us| Self { width_us, compressed_after_us: after.parse().ok() }))
    }

    /// Whether all rows between these times may go together.
    pub(super) fn together(&self, first_us: i64, last_us: i64, now_us: i64) -> bool {
        let first = self.of(first_us);
        self.age(first, now_us) == Age::Fresh && self.of(last_us).saturating_sub(first) < MOST
    }

    /// The rows as they go together, in the order in which they are to be written: few chunks each, late ones last. Each part is
    /// ascending, as `numbers` are.
    pub(super) fn divide(
        &self,
        numbers: Vec<u32>,
        time_us: impl Fn(u32) -> i64,
        now_us: i64,
    ) -> Vec<(Age, Vec<u32>)> {
        let mut by_chunk: BTreeMap<(Age, i64), Vec<u32>> = BTreeMap::new();
        for number in numbers {
            let chunk = self.of(time_us(number));
            by_chunk.entry((self.age(chunk, now_us), chunk)).or_default().push(number);
        }
        let mut parts: Vec<(Age, Vec<u32>)> = Vec::new();
        let mut chunks = 0;
        for ((age, _), rows) in by_chunk {
            match parts.last_mut().filter(|(of, _)| *of == age && chunks < MOST) {
                Some((_, part)) => part.extend(rows),
                None => {
                    chunks = 0;
                    parts.push((age, rows));
                }
            }
            chunks += 1;
        }
        parts.iter_mut().for_each(|(_, part)| part.sort_unstable());
        parts
    }

    /// The age of one row.
    pub(super) fn age_of(&self, time_us: i64, now_us: i64) -> Age {
        self.age(self.of(time_us), now_us)
    }

    /// Rows of a time before this are for chunks that may be compressed.
    pub(super) fn late_before_us(&self, now_us: i64) -> Option<i64> {
        let after_us = self.compressed_after_us?;
        Some(self.of(now_us.saturating_sub(after_us)).saturating_mul(self.width_us))
    }

    fn of(&self, time_us: i64) -> i64 {
        time_us.div_euclid(self.width_us)
    }

    /// A chunk is compressed when its end is old enough.
    fn age(&self, chunk: i64, now_us: i64) -> Age {
        let end_us = chunk.saturating_add(1).saturating_mul(self.width_us);
        match self.compressed_after_us {
            Some(after_us) if end_us <= now_us.saturating_sub(after_us) => Age::Late,
            _ => Age::Fresh,
        }
    }
}

#[cfg(test)]
impl Chunks {
    /// A chunk a day, compressed after so many.
    pub(super) fn daily_compressed_after(days: i64) -> Self {
        const DAY_US: i64 = 86_400_000_000;
        Self { width_us: DAY_US, compressed_after_us: Some(days * DAY_US) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: Chunks = Chunks { width_us: 10, compressed_after_us: Some(70) };
    const NOW: i64 = 1_000;

    /// Guarantees: what is late by its time alone is late by its chunk, to the microsecond.
    #[test]
    fn late_by_time() {
        let is_late = |time: i64| CHUNKS.late_before_us(NOW).is_some_and(|before| time < before);
        for time in 900..950 {
            assert_eq!(CHUNKS.age_of(time, NOW) == Age::Late, is_late(time), "{time}");
        }
        assert!(is_late(929) && !is_late(930));
        assert_eq!(Chunks { compressed_after_us: None, ..CHUNKS }.late_before_us(NOW), None);
    }

    /// Guarantees: rows of up to eight chunks go together, unless a chunk among them may be compressed; times before 1970 and at the
    /// ends of the scale are no exception.
    #[test]
    fn what_goes_together() {
        assert!(CHUNKS.together(930, 1_009, NOW), "eight, the oldest not quite old enough");
        assert!(!CHUNKS.together(929, 931, NOW), "the oldest is compressed");
        assert!(!CHUNKS.together(930, 1_010, NOW), "nine");
        assert!(!CHUNKS.together(i64::MIN, i64::MAX, NOW));
        let never = Chunks { compressed_after_us: None, ..CHUNKS };
        assert!(never.together(-75, -1, NOW));
        assert!(!never.together(-85, -1, NOW));
    }

    /// Guarantees: no part has more than eight chunks, or fresh and late rows; late ones come last; every row is in one part, in order, and
    /// rows of one chunk are in the same.
    #[test]
    fn parts() {
        let times: Vec<i64> = (0..500).map(|i| i * 7_919 % 1_200).collect();
        let parts = CHUNKS.divide((0..500).collect(), |number| times[number as usize], NOW);
        let ages: Vec<Age> = parts.iter().map(|(age, _)| *age).collect();
        assert!(ages.is_sorted() && ages.contains(&Age::Fresh) && ages.contains(&Age::Late), "{ages:?}");
        let mut seen = BTreeMap::new();
        for (at, (age, part)) in parts.iter().enumerate() {
            assert!(part.is_sorted());
            let mut chunks: Vec<i64> = part.iter().map(|&number| CHUNKS.of(times[number as usize])).collect();
            assert!(chunks.iter().all(|&chunk| *age == CHUNKS.age(chunk, NOW)));
            assert!(chunks.iter().all(|&chunk| *seen.entry(chunk).or_insert(at) == at));
            chunks.sort_unstable();
            chunks.dedup();
            assert!(chunks.len() <= 8, "{chunks:?}");
        }
        assert_eq!(parts.iter().map(|(_, part)| part.len()).sum::<usize>(), 500);
        assert_eq!(CHUNKS.divide(Vec::new(), |_| 0, NOW), []);
    }
}
