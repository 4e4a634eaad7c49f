//! What labels take up of the host's memory, and who has told them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::Description;

/// What a label takes up beside its texts: its place in the list, and what two allocations are rounded up by.
const LABEL_BYTES: usize = size_of::<(String, String)>() + 32;

/// The bytes of all labels that stand since one rule told them.
#[derive(Debug, Default)]
pub struct LabelRoom(AtomicUsize);

/// The place of a series' labels in somebody's room. It is given back with this.
#[derive(Debug)]
pub struct Place {
    bytes: usize,
    room: Arc<LabelRoom>,
}

/// A description, with the place of its labels where they have one: those that the host tells by itself need none.
#[derive(Debug, Default)]
pub struct Telling {
    pub(crate) description: Description,
    pub(crate) place: Option<Arc<Place>>,
}

impl LabelRoom {
    /// How many bytes are taken.
    pub fn now(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// `description`, with a place for its labels where the room has `most` bytes; `before` is the place that is given back for it. Without its labels,
    /// and false, where they do not fit.
    pub fn take_in(
        self: &Arc<Self>,
        description: Description,
        before: Option<&Place>,
        most: usize,
    ) -> (Telling, bool) {
        let labels = &description.labels;
        let bytes: usize = labels.iter().map(|(key, value)| LABEL_BYTES + key.len() + value.len()).sum();
        if bytes == 0 {
            return (description.into(), true);
        }
        let back = before.filter(|place| Arc::ptr_eq(&place.room, self)).map_or(0, |place| place.bytes);
        let fits = |now: usize| (now.saturating_sub(back).saturating_add(bytes) <= most).then(|| now + bytes);
        match self.0.fetch_update(Relaxed, Relaxed, fits) {
            Ok(_) => {
                let place = Place { bytes, room: self.clone() };
                (Telling { description, place: Some(Arc::new(place)) }, true)
            }
            Err(_) => (Description { unit: description.unit, labels: Vec::new() }.into(), false),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Relaxed);
    }
}

impl From<Description> for Telling {
    fn from(description: Description) -> Self {
        Self { description, place: None }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Books, PartitionId, SeriesId};

    fn labelled(value: &str) -> Description {
        Description { unit: Some("C".into()), labels: vec![("k".into(), value.into())] }
    }

    const ONE: usize = LABEL_BYTES + 2;

    /// Guarantees: labels take room for as long as they stand, and no longer: others of the same series take their place, though the room is full,
    /// whoever tells them; what does not fit leaves its labels out, and its unit in.
    #[test]
    fn room_is_what_stands() {
        let (books, mine, other) = (Books::new(9), Arc::<LabelRoom>::default(), Arc::<LabelRoom>::default());
        let tell = |room: &Arc<LabelRoom>, topic: &str, value: &str| {
            let known = books.all_series().find(topic).and_then(|id| books.series(SeriesId(id)));
            let before = known.and_then(|series| series.labels_place());
            let (told, fits) = room.take_in(labelled(value), before.as_deref(), 2 * ONE);
            books.intern_series(topic, PartitionId(0), told).unwrap();
            fits
        };
        assert!(tell(&mine, "a", "1") && tell(&mine, "b", "1") && mine.now() == 2 * ONE);
        assert!(!tell(&mine, "c", "1"), "the third");
        let c = books.series(SeriesId(2)).unwrap().description.load_full();
        assert_eq!((c.unit.as_deref(), c.labels.len()), (Some("C"), 0));
        assert!(tell(&mine, "a", "2") && tell(&mine, "a", "2"), "in the place of its own");
        assert_eq!(mine.now(), 2 * ONE);
        assert!(tell(&other, "a", "3"));
        assert_eq!((mine.now(), other.now()), (ONE, ONE), "the one who told it last has it");
        assert!(tell(&mine, "c", "1"));
        books.describe(SeriesId(2), Description::default());
        assert_eq!(mine.now(), ONE);
        drop(books);
        assert_eq!((mine.now(), other.now()), (0, 0));
    }
}
