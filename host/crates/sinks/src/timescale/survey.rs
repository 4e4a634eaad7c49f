//! What a write is about to store, looked over before anything goes on the wire.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use tidegate_model::{Alert, Books, Delivery, Rejected};

use super::template::{RowTemplate, timestamp};
use crate::rows::{TextCursor, UNKNOWN_SERIES, readable};
use crate::series::SeriesCache;

/// All points of a write, numbered through from 0 over all its deliveries, and which of them cannot be stored.
pub(super) struct Survey<'a> {
    deliveries: &'a [Arc<Delivery>],
    /// The number of each delivery's first point.
    starts: Vec<usize>,
    total: usize,
    /// Ascending by number.
    refused: Vec<(usize, String)>,
}

impl<'a> Survey<'a> {
    /// Looks at every point once: series are brought up to date, points that PostgreSQL could not take are noted.
    pub(super) fn new(
        deliveries: &'a [Arc<Delivery>],
        books: &Books,
        series: &mut SeriesCache<RowTemplate>,
    ) -> Survey<'a> {
        let mut survey =
            Survey { deliveries, starts: Vec::with_capacity(deliveries.len()), total: 0, refused: Vec::new() };
        series.begin_write();
        for delivery in deliveries {
            let points = &delivery.points;
            let first = survey.total;
            survey.starts.push(first);
            survey.total += points.len();
            for (row, (&id, &time_us)) in points.series.iter().zip(&points.time_us).enumerate() {
                let refused = match series.refresh(books, id, RowTemplate::new) {
                    Some(template) => template.refused(),
                    None => Some(UNKNOWN_SERIES),
                };
                if let Some(reason) = refused {
                    survey.refused.push((first + row, reason.to_owned()));
                } else if timestamp(time_us).is_none() {
                    survey
                        .refused
                        .push((first + row, format!("its time ({time_us} µs) is before what PostgreSQL can store")));
                }
            }
            survey.look_at_texts(first, delivery);
        }
        // Texts were looked at after the columns; a point may have been refused for both.
        survey.refused.sort_by_key(|(number, _)| *number);
        survey.refused.dedup_by_key(|(number, _)| *number);
        survey
    }

    fn look_at_texts(&mut self, first: usize, delivery: &Delivery) {
        let texts = &delivery.points.texts;
        for (&row, text) in texts.row.iter().zip(texts.text.iter()) {
            let refused = match readable(text) {
                Err(reason) => reason,
                Ok(text) if text.contains('\0') => {
                    "its text has a NUL character, which PostgreSQL cannot store".to_owned()
                }
                Ok(_) => continue,
            };
            self.refused.push((first + row as usize, refused));
        }
    }

    /// How many points there are, storable or not.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// All alerts of the write.
    pub(super) fn alerts(&self) -> impl Iterator<Item = &'a Alert> + use<'a> {
        let deliveries: &'a [Arc<Delivery>] = self.deliveries;
        deliveries.iter().flat_map(|delivery| &delivery.alerts)
    }

    /// How many of the points in `range` can be stored.
    pub(super) fn storable(&self, range: &Range<usize>) -> usize {
        range.len() - self.refused_in(range).len()
    }

    /// The number of the `nth` storable point (from 0) in `range`.
    pub(super) fn nth_storable(&self, range: &Range<usize>, nth: usize) -> Option<usize> {
        let mut refused = self.refused_in(range).iter().map(|(number, _)| *number).peekable();
        range.clone().filter(|number| refused.next_if_eq(number).is_none()).nth(nth)
    }

    /// Notes that the database will not take point `number`.
    pub(super) fn refuse(&mut self, number: usize, reason: String) {
        let at = self.refused.partition_point(|(n, _)| *n < number);
        self.refused.insert(at, (number, reason));
    }

    /// The points that were not stored, as the pipeline names them.
    pub(super) fn into_rejected(self) -> Vec<Rejected> {
        let starts = self.starts;
        let rejected = |(number, reason): (usize, String)| {
            let delivery = starts.partition_point(|&start| start <= number).saturating_sub(1);
            Rejected { delivery, row: (number - starts[delivery]) as u32, reason }
        };
        self.refused.into_iter().map(rejected).collect()
    }

    /// Appends the storable points of `range` to `to`, in COPY's binary format.
    pub(super) fn encode(&self, range: Range<usize>, series: &SeriesCache<RowTemplate>, to: &mut BytesMut) {
        let mut refused = self.refused_in(&range).iter().map(|(number, _)| *number).peekable();
        let mut at = self.starts.partition_point(|&start| start <= range.start).saturating_sub(1);
        let mut number = range.start;
        while number < range.end && at < self.deliveries.len() {
            let first = self.starts[at];
            let points = &self.deliveries[at].points;
            let rows = number - first..points.len().min(range.end - first);
            let mut texts = TextCursor::from_row(&points.texts, rows.start);
            for row in rows {
                let text = texts.of(row);
                if refused.next_if_eq(&(first + row)).is_some() {
                    continue;
                }
                // Neither is ever missing for a point that the survey let pass.
                if let (Some(template), Some(time)) = (series.get(points.series[row]), timestamp(points.time_us[row]))
                {
                    template.put_row(to, time, points.value[row], points.quality[row], text);
                }
            }
            number = first + points.len();
            at += 1;
        }
    }

    fn refused_in(&self, range: &Range<usize>) -> &[(usize, String)] {
        let from = self.refused.partition_point(|(number, _)| *number < range.start);
        let to = self.refused.partition_point(|(number, _)| *number < range.end);
        &self.refused[from..to]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tidegate_model::{Description, PartitionId, Points};

    fn delivery(books: &Books, rows: &[(&str, i64, Option<&[u8]>)]) -> Arc<Delivery> {
        let mut points = Points::default();
        for (row, (topic, time_us, text)) in rows.iter().enumerate() {
            let id = books.intern_series(topic, PartitionId(0), Description::default()).unwrap();
            points.push(id, *time_us, row as f64, 192);
            if let Some(text) = text {
                points.texts.push(row as u32, text);
            }
        }
        Arc::new(Delivery { points, ..Delivery::default() })
    }

    /// Guarantees: each kind of impossible point is found before the wire and named by its own delivery and row, an empty delivery
    /// in between disturbs nothing, and any split of the range encodes the same bytes.
    #[test]
    fn impossible_points_are_named_and_left_out() {
        let books = Books::new(99);
        let deliveries = [
            delivery(&books, &[("a", 1, None), ("a", i64::MIN, None), ("b\0", 2, None)]),
            delivery(&books, &[]),
            delivery(&books, &[("a", 3, Some(b"x\0y")), ("a", 4, Some(b"ok")), ("a", 5, Some(b"\xff"))]),
            delivery(&books, &[("c", 6, None)]),
        ];
        let mut series = SeriesCache::default();
        let survey = Survey::new(&deliveries, &books, &mut series);
        assert_eq!((survey.len(), survey.storable(&(0..7))), (7, 3));
        let storable: Vec<_> = (0..4).map(|nth| survey.nth_storable(&(0..7), nth)).collect();
        assert_eq!(storable, [Some(0), Some(4), Some(6), None]);

        let mut whole = BytesMut::new();
        survey.encode(0..7, &series, &mut whole);
        for cut in 0..=7 {
            let mut parts = BytesMut::new();
            survey.encode(0..cut, &series, &mut parts);
            survey.encode(cut..7, &series, &mut parts);
            assert_eq!(parts, whole, "cut at {cut}");
        }
        let named: Vec<_> = survey.into_rejected().iter().map(|r| (r.delivery, r.row)).collect();
        assert_eq!(named, [(0, 1), (0, 2), (2, 0), (2, 2)]);
    }
}
