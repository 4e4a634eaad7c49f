//! What a sink keeps of each series, so that a row costs an index and no lock, hash or string.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_model::{Books, Description, SeriesId};

/// A sink's own form of each series (an encoded name, say), made anew when the series' description changes.
///
/// It also knows which series the target has not been told of. As large as the books, which are bounded.
#[derive(Debug)]
pub(crate) struct SeriesCache<F> {
    known: Vec<Option<Known<F>>>,
    /// Descriptions are compared once a write: a unit that changes within one is seen by the next.
    write: AtomicU64,
    untold: Vec<SeriesId>,
}

#[derive(Debug)]
struct Known<F> {
    /// Kept, and not only its address: the address of a description that was dropped may come again.
    description: Arc<Description>,
    checked_in: AtomicU64,
    told: bool,
    form: F,
}

impl<F> Default for SeriesCache<F> {
    fn default() -> Self {
        Self { known: Vec::new(), write: AtomicU64::new(0), untold: Vec::new() }
    }
}

impl<F> SeriesCache<F> {
    /// A write begins, and this is its number: from now on each series is compared with its description once.
    pub(crate) fn begin_write(&self) -> u64 {
        self.write.fetch_add(1, Relaxed) + 1
    }

    /// The form of a series, made with `make` where it is new or its description has changed; `None` for an id that the books
    /// never gave.
    pub(crate) fn refresh(
        &mut self,
        books: &Books,
        id: SeriesId,
        make: impl FnOnce(&str, &Description) -> F,
    ) -> Option<&F> {
        if !self.stands(books, id) {
            self.make(books, id, make)?;
        }
        self.get(id)
    }

    /// Whether the form of a series is there, and of its description as it is. Nothing changes by asking.
    pub(crate) fn stands(&self, books: &Books, id: SeriesId) -> bool {
        let Some(Some(known)) = self.known.get(id.index()) else { return false };
        let write = self.write.load(Relaxed);
        if known.checked_in.load(Relaxed) == write {
            return true;
        }
        let stands =
            books.series(id).is_some_and(|series| Arc::ptr_eq(&known.description, &series.description.load()));
        if stands {
            known.checked_in.store(write, Relaxed);
        }
        stands
    }

    fn make(&mut self, books: &Books, id: SeriesId, make: impl FnOnce(&str, &Description) -> F) -> Option<()> {
        let series = books.series(id)?;
        let described = series.description.load();
        if self.known.len() <= id.index() {
            self.known.resize_with(id.index() + 1, || None);
        }
        let slot = &mut self.known[id.index()];
        if slot.as_ref().is_none_or(|known| known.told) {
            self.untold.push(id);
        }
        let form = make(&series.topic, &described);
        let checked_in = AtomicU64::new(self.write.load(Relaxed));
        *slot = Some(Known { description: Arc::clone(&described), checked_in, told: false, form });
        Some(())
    }

    /// The form of a series that was refreshed.
    pub(crate) fn get(&self, id: SeriesId) -> Option<&F> {
        self.known.get(id.index())?.as_ref().map(|known| &known.form)
    }

    /// The description that the form of a series was made from.
    pub(crate) fn description(&self, id: SeriesId) -> Option<&Arc<Description>> {
        self.known.get(id.index())?.as_ref().map(|known| &known.description)
    }

    /// Series that are new or changed since [`SeriesCache::all_told`].
    pub(crate) fn untold(&self) -> &[SeriesId] {
        &self.untold
    }

    /// The target knows all series refreshed so far, durably.
    pub(crate) fn all_told(&mut self) {
        for id in self.untold.drain(..) {
            if let Some(Some(known)) = self.known.get_mut(id.index()) {
                known.told = true;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tidegate_model::PartitionId;

    fn unit(unit: &str) -> Description {
        Description { unit: Some(unit.into()), labels: Vec::new() }
    }

    /// Guarantees: a form is made once for each description, and a series is untold until the target has it, also after its
    /// unit changed.
    #[test]
    fn forms_follow_descriptions() {
        let books = Books::new(9);
        let id = books.intern_series("t", PartitionId(0), unit("C")).unwrap();
        let mut cache = SeriesCache::default();
        let mut made = 0;
        let mut look = |cache: &mut SeriesCache<String>| {
            let form = cache.refresh(&books, id, |topic, d| {
                made += 1;
                format!("{topic} {}", d.unit.as_deref().unwrap_or(""))
            });
            (form.unwrap().clone(), made)
        };
        cache.begin_write();
        assert_eq!(look(&mut cache), ("t C".to_owned(), 1));
        assert_eq!(look(&mut cache), ("t C".to_owned(), 1));
        assert_eq!(cache.untold(), [id]);
        cache.all_told();
        cache.begin_write();
        assert_eq!(look(&mut cache).1, 1);
        assert!(cache.untold().is_empty());

        books.intern_series("t", PartitionId(0), unit("K")).unwrap();
        cache.begin_write();
        assert_eq!(look(&mut cache), ("t K".to_owned(), 2));
        assert_eq!(cache.untold(), [id]);
        assert!(cache.refresh(&books, SeriesId(5), |_, _| String::new()).is_none());
    }
}
