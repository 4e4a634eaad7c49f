//! Rows of columns as JSON for people: what tails, traces and trials show.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_model::{Books, Marks, Messages, Points};

use crate::shapes::{SeenMessage, SeenPoint};

/// The most of a point's text that is shown, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Row `row` of `messages`.
pub(super) fn message(messages: &Messages, row: usize, books: &Books) -> SeenMessage {
    let payload = messages.payload.get(row);
    // As it is where that can be read; else nothing is lost by base64.
    let (payload, payload_base64) = match std::str::from_utf8(payload) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(payload))),
    };
    let unnamed = messages.unnamed.binary_search_by_key(&(row as u32), |(row, _)| *row);
    let topic = match (unnamed, messages.topic.get(row)) {
        (Ok(i), _) => messages.unnamed.get(i).map_or("", |(_, name)| name),
        (Err(_), Some(topic)) => books.topic_name(*topic),
        (Err(_), None) => "",
    };
    let marks = Marks(messages.marks.get(row).copied().unwrap_or_default());
    SeenMessage {
        topic: topic.to_owned(),
        time_us: messages.received_us.get(row).copied().unwrap_or_default(),
        payload,
        payload_base64,
        cut: marks.has(Marks::TRUNCATED).then_some(true),
        retained: marks.has(Marks::RETAINED).then_some(true),
        replayed: marks.has(Marks::REPLAYED).then_some(true),
        source: None,
        ended: None,
    }
}

/// Row `row` of `points`; `from` is the row it came from, where that is of interest.
pub(super) fn point(points: &Points, row: usize, from: Option<u32>, books: &Books) -> SeenPoint {
    let series = points.series.get(row).copied().unwrap_or_default();
    let (topic, described) =
        (books.series_topic(series), books.series(series).map(|series| series.description.load()));
    let whole = points.texts.get(row as u32);
    let text = whole.map(|text| text.get(..MAX_TEXT_BYTES).unwrap_or(text));
    SeenPoint {
        topic: topic.to_owned(),
        time_us: points.time_us.get(row).copied(),
        value: points.value.get(row).copied().filter(|value| value.is_finite()),
        text: text.map(|text| String::from_utf8_lossy(text).into_owned()),
        cut: whole.is_some_and(|text| text.len() > MAX_TEXT_BYTES).then_some(true),
        quality: points.quality.get(row).copied(),
        unit: described.as_ref().and_then(|described| described.unit.as_ref()).map(ToString::to_string),
        labels: described.iter().flat_map(|described| described.labels.iter().cloned()).collect(),
        from,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: a text of 4 KiB is shown whole; of a longer one the beginning is, and that it is no more.
    #[test]
    fn long_texts_are_cut() {
        let (books, mut points) = (Books::new(1), Points::default());
        let partition = books.intern_partition("a").unwrap();
        let series = books.intern_series("a", partition, tidegate_model::Description::default()).unwrap();
        for row in 0..2 {
            points.push(series, 1, f64::NAN, 192);
            points.texts.push(row, "x".repeat(MAX_TEXT_BYTES + row as usize).as_bytes());
        }
        for (row, cut) in [(0, None), (1, Some(true))] {
            let shown = point(&points, row, None, &books);
            assert_eq!((shown.text.unwrap().len(), shown.cut), (MAX_TEXT_BYTES, cut));
        }
    }
}
