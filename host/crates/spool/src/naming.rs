//! Ids for the series of a record, and what becomes of points that get none.

use std::sync::Arc;

use tidegate_model::{Books, DeadLetter, Delivery, DescribedAs, Description, NO_ROW, Points, SeriesId, Stage};

use crate::decode::{Decoded, NamedSeries};

/// Gives series of records their ids in this process.
///
/// What a live message has told of a series (its unit, its labels) is newer than what stands in a spool, and the books keep it; they take a description
/// from a record only for a series that nobody else has described since. The points of a record are described as it says all the same.
#[derive(Default)]
pub(crate) struct Naming {
    /// For each series, the description that a record gave it.
    told: Vec<Option<Arc<Description>>>,
}

impl Naming {
    /// Fills in the series column of `delivery` by their `places` in `table`. Points whose series cannot be given an id leave it.
    pub fn place(
        &mut self,
        books: &Books,
        mut delivery: Delivery,
        places: &[u32],
        table: Vec<NamedSeries<'_>>,
    ) -> Decoded {
        let topics: Vec<&str> = table.iter().map(|series| series.topic).collect();
        let ids: Vec<Option<SeriesId>> = table.iter().map(|series| self.id(books, series)).collect();
        let told = ids.iter().zip(table).filter_map(|(id, series)| Some(((*id)?, series.description)));
        delivery.described = DescribedAs::now_but(books, told);
        let id_of = |place: u32| ids.get(place as usize).copied().flatten();
        if ids.iter().all(Option::is_some) {
            delivery.points.series = places.iter().map(|&place| id_of(place).unwrap_or_default()).collect();
            return Decoded { delivery, unplaced: Vec::new() };
        }
        let (mut kept, mut unplaced) = (Vec::new(), Vec::new());
        let mut last = None;
        for (row, &place) in places.iter().enumerate() {
            if id_of(place).is_some() {
                kept.push(row as u32);
                continue;
            }
            // Many points of one message: one letter speaks for them.
            let origin = delivery.from_row.get(row).copied().filter(|&row| row != NO_ROW);
            if origin.is_none() || last != origin {
                let topic = topics.get(place as usize).copied().unwrap_or("");
                unplaced.push(letter(books, &delivery, origin, topic));
            }
            last = origin;
        }
        delivery.points.series = places.iter().map(|&place| id_of(place).unwrap_or_default()).collect();
        let points: Points = delivery.points.gather(&kept);
        delivery.points = points;
        delivery.from_row =
            kept.iter().map(|&row| delivery.from_row.get(row as usize).copied().unwrap_or(NO_ROW)).collect();
        Decoded { delivery, unplaced }
    }

    fn id(&mut self, books: &Books, series: &NamedSeries<'_>) -> Option<SeriesId> {
        let NamedSeries { topic, partition, description } = series;
        let id = match books.all_series().find(topic).map(SeriesId) {
            Some(id) => {
                let current = books.series(id)?.description.load_full();
                let ours = self.told.get(id.index()).and_then(Option::as_ref);
                if *current == *description || !ours.is_some_and(|ours| Arc::ptr_eq(ours, &current)) {
                    return Some(id);
                }
                books.describe(id, description.clone());
                id
            }
            None => {
                let partition = books.intern_partition(partition).ok()?;
                books.intern_series(topic, partition, description.clone()).ok()?
            }
        };
        if self.told.len() <= id.index() {
            self.told.resize(id.index() + 1, None);
        }
        self.told[id.index()] = Some(books.series(id)?.description.load_full());
        Some(id)
    }
}

/// A letter for the message of a point that cannot be placed.
fn letter(books: &Books, delivery: &Delivery, origin: Option<u32>, series: &str) -> DeadLetter {
    let messages = &delivery.origin;
    let limit = books.all_series().limit();
    let mut letter = DeadLetter {
        source: origin.and_then(|row| delivery.source_of(row)).cloned().unwrap_or_default(),
        topic: series.into(),
        received_us: 0,
        marks: 0,
        payload: Vec::new(),
        properties: Vec::new(),
        stage: Stage::Sink,
        rule: None,
        module: None,
        reason: format!(
            "its series {series} stood in the spool, and the limit of {limit} series is reached; raise max_series"
        ),
        backtrace: None,
    };
    let Some(row) = origin else { return letter };
    let i = row as usize;
    letter.topic = messages.topic_name(books, row).unwrap_or(series).into();
    letter.received_us = messages.received_us.get(i).copied().unwrap_or_default();
    letter.marks = messages.marks.get(i).copied().unwrap_or_default();
    letter.payload = messages.payload.get(i).to_vec();
    letter.properties = messages.properties.of(row).map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
    letter
}
