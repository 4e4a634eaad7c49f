//! What the series of a delivery were described as when it was made.
//!
//! Points bear no unit: it stands in the books, by series, and may change. What waits for its sink meanwhile, in a queue or in a spool for hours, was
//! measured in the unit of its own time. A delivery says so in eight bytes, and only where something was described anew since is more looked at.

use std::sync::Arc;

use crate::{Books, Description, SeriesId};

/// As of when the books hold for a delivery, and where they do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedAs {
    /// [`Books::descriptions`] when the delivery was made.
    as_of: u64,
    /// What was never in the books of this process, ascending by series.
    own: Vec<(SeriesId, Arc<Description>)>,
}

impl Default for DescribedAs {
    /// As in the books, whenever they are looked at.
    fn default() -> Self {
        Self { as_of: u64::MAX, own: Vec::new() }
    }
}

impl DescribedAs {
    /// As in the books now.
    pub fn now(books: &Books) -> Self {
        Self { as_of: books.descriptions(), own: Vec::new() }
    }

    /// These, each series once, where the books say something else now; and as in the books now.
    pub fn now_but(books: &Books, told: impl IntoIterator<Item = (SeriesId, Description)>) -> Self {
        let as_of = books.descriptions();
        let differs = |(id, told): &(SeriesId, Description)| {
            books.series(*id).is_some_and(|series| *series.described_by(as_of) != *told)
        };
        let mut own: Vec<_> = told.into_iter().filter(differs).map(|(id, told)| (id, Arc::new(told))).collect();
        own.sort_unstable_by_key(|(id, _)| *id);
        Self { as_of, own }
    }

    /// Whether some series may have been described as something else than the books say now.
    fn may_differ(&self, books: &Books) -> bool {
        !self.own.is_empty() || books.announced() > self.as_of
    }

    /// What a series was described as, perhaps without its labels, where the books say something else by now. Where they do not, what was read of them before
    /// this call holds: to be asked for each row, and after the books, since a series may be described anew at any time. Costs one load where nothing was.
    #[inline]
    pub fn other(&self, books: &Books, id: SeriesId) -> Option<Arc<Description>> {
        if self.may_differ(books) { self.looked_up(books, id) } else { None }
    }

    #[cold]
    fn looked_up(&self, books: &Books, id: SeriesId) -> Option<Arc<Description>> {
        if let Ok(at) = self.own.binary_search_by_key(&id, |(id, _)| *id) {
            return Some(self.own[at].1.clone());
        }
        let series = books.series(id)?;
        series.has_changed_since(self.as_of).then(|| series.described_by(self.as_of))
    }

    /// What a series was described as. Of what only the books remember the labels are those of now: they keep units alone.
    pub fn of(&self, books: &Books, id: SeriesId) -> Option<Arc<Description>> {
        let latest = books.series(id)?.description.load_full();
        Some(match self.other(books, id) {
            None => latest,
            Some(then) if self.is_own(id) => then,
            Some(then) => Arc::new(Description { unit: then.unit.clone(), labels: latest.labels.clone() }),
        })
    }

    fn is_own(&self, id: SeriesId) -> bool {
        self.own.binary_search_by_key(&id, |(id, _)| *id).is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::PartitionId;

    fn unit(unit: &str) -> Description {
        Description { unit: Some(unit.into()), labels: Vec::new() }
    }

    fn said(described: &DescribedAs, books: &Books, id: SeriesId) -> String {
        described.of(books, id).unwrap().unit.as_deref().unwrap_or("").to_owned()
    }

    /// Guarantees: what a delivery brought along is given as it came, labels or none; of what the books remember the unit is of its time, and the labels are
    /// those of now.
    #[test]
    fn labels_of_now_or_its_own() {
        let books = Books::new(9);
        let labelled = |at: &str| Description { unit: Some("C".into()), labels: vec![("at".into(), at.into())] };
        let [a, b] = ["a", "b"].map(|topic| books.intern_series(topic, PartitionId(0), labelled("roof")).unwrap());
        let described = DescribedAs::now_but(&books, [(a, unit("K"))]);
        for id in [a, b] {
            books.describe(id, Description { unit: Some("F".into()), ..labelled("cellar") });
        }
        assert_eq!(*described.of(&books, a).unwrap(), unit("K"));
        assert_eq!(*described.of(&books, b).unwrap(), labelled("cellar"), "the unit of then, the labels of now");
    }

    /// Guarantees: a delivery keeps the unit of its time through several changes, of its own series only; beyond those that are remembered it is the
    /// oldest that is; and one that was made after the last has nothing to look up.
    #[test]
    fn the_unit_of_its_time() {
        let books = Books::new(9);
        let [a, b] = ["a", "b"].map(|topic| books.intern_series(topic, PartitionId(0), unit("F")).unwrap());
        let mut made = Vec::new();
        for next in ["C", "K", "R", "X", "Y", "Z"] {
            made.push(DescribedAs::now(&books));
            books.describe(a, unit(next));
        }
        let units: Vec<_> = made.iter().map(|described| said(described, &books, a)).collect();
        assert_eq!(units, ["K", "K", "K", "R", "X", "Y"], "four are remembered");
        assert!(made.iter().all(|described| described.may_differ(&books) && described.other(&books, b).is_none()));
        let last = DescribedAs::now(&books);
        assert!(!last.may_differ(&books) && last.other(&books, a).is_none());
        assert_eq!((said(&last, &books, a), said(&made[0], &books, b)), ("Z".to_owned(), "F".to_owned()));
        assert!(!DescribedAs::default().may_differ(&books));
    }

    /// Guarantees: while a series is described anew without end, what a delivery says of it is of the delivery's time, and never of a later one.
    #[test]
    fn nothing_newer_slips_in() {
        const CHANGES: u64 = 50_000;
        let books = Books::new(9);
        let id = books.intern_series("t", PartitionId(0), unit("0")).unwrap();
        let looked = std::thread::scope(|scope| {
            let telling = scope.spawn(|| (1..=CHANGES).for_each(|n| books.describe(id, unit(&n.to_string()))));
            let mut looked = 0_u64;
            loop {
                let over = telling.is_finished();
                let made = DescribedAs::now(&books);
                let said = said(&made, &books, id);
                // Where a few came meanwhile, what it was may be forgotten.
                if books.descriptions() - made.as_of < 3 {
                    assert_eq!(said, made.as_of.to_string());
                    looked += 1;
                }
                if over {
                    break looked;
                }
            }
        });
        assert!(looked > 0);
    }

    /// Guarantees: what was told of a series elsewhere holds for this delivery, and the books for all others in it, as they are when it is made.
    #[test]
    fn told_elsewhere() {
        let books = Books::new(9);
        let [a, b, c] = ["a", "b", "c"].map(|topic| books.intern_series(topic, PartitionId(0), unit("C")).unwrap());
        let described = DescribedAs::now_but(&books, [(b, unit("F")), (c, unit("C")), (a, unit("K"))]);
        books.describe(b, unit("R"));
        books.describe(c, unit("R"));
        assert_eq!([a, b, c].map(|id| said(&described, &books, id)), ["K", "F", "C"]);
        assert!(described.of(&books, SeriesId(7)).is_none());
    }
}
