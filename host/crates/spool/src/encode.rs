//! A delivery as the body of a record: columns, with names for ids, since ids are this process' own.
//!
//! Names stand once a record, in tables of series and topics; columns hold their places in these. Only what the sink takes is written.
//! With the points go the messages they came from, byte for byte, so that a point that the sink refuses later can become a dead
//! letter as whole as one refused at once. Messages without a point are left out, unless the sink takes them as they came.

use std::sync::Arc;

use tidegate_model::{Books, Delivery, DescribedAs, Messages, NO_ROW, Points, Ragged, SeriesId, TopicId, Wants};

use crate::columns::Writer;
use crate::record::{HEAD_BYTES, VERSION_MESSAGES, VERSION_POINTS};

/// Makes bodies. Keeps its tables from one to the next.
#[derive(Default)]
pub(crate) struct Encoder {
    series: Places,
    topics: Places,
}

/// A record to be.
pub(crate) struct Encoded {
    /// Its body, after room for its head.
    pub bytes: Vec<u8>,
    pub rows: u32,
    pub version: u16,
}

/// Where in the table of the record at hand an id stands; by dense id, so that a row costs an index and no hash.
#[derive(Default)]
struct Places {
    /// For each id, the record it was last seen in and its place there.
    known: Vec<(u32, u32)>,
    record: u32,
    /// The ids of the record at hand, in the order of their places.
    listed: Vec<u32>,
}

impl Places {
    fn begin(&mut self) {
        // 0 is never a record's number; after 4 Gi records all places are forgotten.
        self.record = self.record.checked_add(1).unwrap_or_else(|| {
            self.known.clear();
            1
        });
        self.listed.clear();
    }

    fn of(&mut self, id: u32) -> u32 {
        let index = id as usize;
        if self.known.len() <= index {
            self.known.resize(index + 1, (0, 0));
        }
        let known = &mut self.known[index];
        if known.0 != self.record {
            *known = (self.record, self.listed.len() as u32);
            self.listed.push(id);
        }
        known.1
    }
}

impl Encoder {
    /// The body of a record.
    pub fn encode(&mut self, books: &Books, wants: &Wants, delivery: &Delivery) -> Encoded {
        let mut to = Writer { bytes: vec![0; HEAD_BYTES] };
        let mut rows = 0;
        let nothing = (Points::default(), Vec::new());
        let (points, from_row) =
            if wants.points { (&delivery.points, &delivery.from_row) } else { (&nothing.0, &nothing.1) };
        rows += points.len();
        self.points(&mut to, books, points, &delivery.described);
        let raw: Vec<u32> = delivery.raw_rows(&wants.messages).collect();
        rows += raw.len();
        let raw = self.origin(&mut to, books, from_row, &raw, delivery);
        let alerts = if wants.alerts { delivery.alerts.as_slice() } else { &[] };
        rows += alerts.len();
        to.length(alerts.len());
        for alert in alerts {
            to.text(&alert.rule);
            to.text(&alert.topic);
            to.text(&alert.key);
            to.i64(alert.time_us);
            to.text(alert.transition.as_str());
            to.text(alert.severity.as_str());
            to.f64(alert.value);
            to.text(&alert.message);
        }
        let commands = if wants.commands { delivery.commands.as_slice() } else { &[] };
        rows += commands.len();
        to.length(commands.len());
        for command in commands {
            to.text(&command.rule);
            to.text(&command.topic);
            to.u8s(&command.payload);
            to.u8(command.qos);
            to.u8(u8::from(command.retain));
        }
        let letters = if wants.dead_letters { delivery.dead_letters.as_slice() } else { &[] };
        rows += letters.len();
        to.length(letters.len());
        for letter in letters {
            to.text(&letter.source);
            to.text(&letter.topic);
            to.i64(letter.received_us);
            to.u8(letter.marks);
            to.u8s(&letter.payload);
            to.length(letter.properties.len());
            for (key, value) in &letter.properties {
                to.text(key);
                to.u8s(value);
            }
            to.text(letter.stage.as_str());
            to.maybe_text(letter.rule.as_deref());
            to.maybe_text(letter.module.as_deref());
            to.text(&letter.reason);
            to.maybe_text(letter.backtrace.as_deref());
        }
        let version = if raw.is_empty() { VERSION_POINTS } else { VERSION_MESSAGES };
        if version == VERSION_MESSAGES {
            to.u32s(&raw);
        }
        Encoded { bytes: to.bytes, rows: rows as u32, version }
    }

    fn points(&mut self, to: &mut Writer, books: &Books, points: &Points, described: &DescribedAs) {
        self.series.begin();
        let column: Vec<u32> = points.series.iter().map(|id| self.series.of(id.0)).collect();
        to.length(self.series.listed.len());
        for &id in &self.series.listed {
            let series = books.series(SeriesId(id));
            let description = described.of(books, SeriesId(id));
            to.text(series.map_or("", |series| &series.topic));
            to.text(series.and_then(|series| books.partition(series.partition)).map_or("", |name| name));
            to.maybe_text(description.as_ref().and_then(|description| description.unit.as_deref()));
            let labels = description.as_ref().map_or(&[][..], |description| &description.labels);
            to.length(labels.len());
            for (key, value) in labels {
                to.text(key);
                to.text(value);
            }
        }
        to.u32s(&column);
        to.i64s(&points.time_us);
        to.f64s(&points.value);
        to.u16s(&points.quality);
        to.u32s(&points.texts.row);
        to.ragged(&points.texts.text);
    }

    /// `from_row`, and the messages it names, and those that are to be stored as they came; gives where the latter stand in the record.
    fn origin(
        &mut self,
        to: &mut Writer,
        books: &Books,
        from_row: &[u32],
        raw: &[u32],
        delivery: &Delivery,
    ) -> Vec<u32> {
        let origin = &delivery.origin;
        let mut place = vec![NO_ROW; origin.len()];
        for &row in from_row.iter().chain(raw) {
            if let Some(place) = place.get_mut(row as usize) {
                *place = 0;
            }
        }
        let mut named = Vec::new();
        for (row, place) in place.iter_mut().enumerate().filter(|(_, place)| **place != NO_ROW) {
            *place = named.len() as u32;
            named.push(row as u32);
        }
        let moved = |row: &u32| place.get(*row as usize).copied().unwrap_or(NO_ROW);
        to.u32s(&from_row.iter().map(moved).collect::<Vec<_>>());
        let gathered;
        let messages = if named.len() == origin.len() {
            &**origin
        } else {
            gathered = origin.gather(&named);
            &gathered
        };
        self.messages(to, books, messages);
        let mut sources: Vec<(u32, &Arc<str>)> = Vec::new();
        for (row, &old) in named.iter().enumerate() {
            let Some(name) = delivery.source_of(old) else { continue };
            if sources.last().is_none_or(|(_, last)| *last != name) {
                sources.push((row as u32, name));
            }
        }
        to.length(sources.len());
        for (first_row, name) in sources {
            to.u32(first_row);
            to.text(name);
        }
        raw.iter().map(moved).collect()
    }

    fn messages(&mut self, to: &mut Writer, books: &Books, messages: &Messages) {
        self.topics.begin();
        let mut column: Vec<u32> = messages.topic.iter().map(|id| self.topics.of(id.0)).collect();
        // Those without an id stand behind the others, each with its own name.
        for (place, (row, _)) in (self.topics.listed.len() as u32..).zip(&messages.unnamed) {
            if let Some(row) = column.get_mut(*row as usize) {
                *row = place;
            }
        }
        to.length(self.topics.listed.len() + messages.unnamed.len());
        for &id in &self.topics.listed {
            let topic = books.topic(TopicId(id));
            to.text(topic.map_or("", |topic| &topic.name));
            to.text(topic.and_then(|topic| books.partition(topic.partition)).map_or("", |name| name));
        }
        for (_, name) in &messages.unnamed {
            to.text(name);
            to.text(name);
        }
        to.u32s(&column);
        to.i64s(&messages.received_us);
        to.u8s(&messages.marks);
        to.ragged(&messages.payload);
        let properties = &messages.properties;
        to.u32s(&properties.row);
        to.u32s(&properties.key);
        to.ragged(&properties.value);
        let mut keys = Ragged::default();
        properties.keys.iter().for_each(|key| keys.push(key.as_bytes()));
        to.ragged(&keys);
    }
}
