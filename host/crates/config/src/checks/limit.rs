//! `[sources.….limit]`: how fast messages may come.

use tidegate_model::{Excess, Limit, Limits, PrefixLimit};

use super::Checker;
use crate::document::Place;
use crate::raw::{RawExcess, RawLimit, RawPrefixLimit};

const MOST_PER_SECOND: u32 = 10_000_000;
const LARGEST_BURST: u32 = 100_000_000;

/// A limit as written, for a source or a prefix.
struct Written {
    messages_per_s: Option<i64>,
    burst: Option<i64>,
    excess: Option<RawExcess>,
}

impl Checker<'_> {
    /// The limits of the source at `place`.
    pub(super) fn limits(&mut self, place: &Place, raw: Option<RawLimit>) -> Limits {
        let Some(raw) = raw else { return Limits::default() };
        let place = place.key("limit");
        let RawLimit { messages_per_s, burst, excess, prefix } = raw;
        if messages_per_s.is_none() && prefix.is_none() {
            self.missing(&place, "messages_per_s", "1000");
        }
        if messages_per_s.is_none() && burst.is_some() {
            self.error(&place.key("burst"), "`burst` means nothing without a rate", "add messages_per_s = 1000");
        }
        let written = Written { messages_per_s, burst, excess };
        let source = messages_per_s.is_some().then(|| self.limit(&place, &written, Excess::Hold));
        let prefix = prefix.map(|raw| self.prefix_limit(&place.key("prefix"), raw));
        Limits { source, prefix }
    }

    fn prefix_limit(&mut self, place: &Place, raw: RawPrefixLimit) -> PrefixLimit {
        let RawPrefixLimit { levels, messages_per_s, burst, excess, max_prefixes } = raw;
        if messages_per_s.is_none() {
            self.missing(place, "messages_per_s", "100");
        }
        PrefixLimit {
            levels: self.number(place, "levels", levels, 1, 1..=64),
            limit: self.limit(place, &Written { messages_per_s, burst, excess }, Excess::DeadLetter),
            max_prefixes: self.number(place, "max_prefixes", max_prefixes, 1_000, 1..=100_000),
        }
    }

    fn limit(&mut self, place: &Place, written: &Written, default: Excess) -> Limit {
        let per_second = self.number(place, "messages_per_s", written.messages_per_s, 1_000, 1..=MOST_PER_SECOND);
        Limit {
            per_second,
            burst: self.number(place, "burst", written.burst, per_second, 1..=LARGEST_BURST),
            excess: match written.excess {
                None => default,
                Some(RawExcess::Hold) => Excess::Hold,
                Some(RawExcess::DeadLetter) => Excess::DeadLetter,
                Some(RawExcess::Drop) => Excess::Drop,
            },
        }
    }
}
