//! Rows of series that were described as something else when they were measured: their unit is the one of that time, not the latest.

use std::collections::HashMap;

use tidegate_model::{Books, Delivery, SeriesId};

use super::template::RowTemplate;

/// The templates of a write's series where the latest does not hold, by delivery. Nearly always empty.
#[derive(Debug, Default)]
pub(super) struct EarlierRows(HashMap<(usize, SeriesId), RowTemplate>);

impl EarlierRows {
    /// The template of a series in delivery number `at`, where it is not the latest one.
    pub(super) fn make(
        &mut self,
        books: &Books,
        at: usize,
        delivery: &Delivery,
        id: SeriesId,
    ) -> Option<&RowTemplate> {
        let described = delivery.described.other(books, id)?;
        let template = || RowTemplate::new(books.series_topic(id), &described);
        Some(&*self.0.entry((at, id)).or_insert_with(template))
    }

    /// What was made.
    pub(super) fn get(&self, at: usize, id: SeriesId) -> Option<&RowTemplate> {
        if self.0.is_empty() { None } else { self.0.get(&(at, id)) }
    }
}
