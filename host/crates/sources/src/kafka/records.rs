//! From a record to a message: its logical topic, its time, its key and headers.

use std::borrow::Cow;

use rdkafka::message::Message;
use tidegate_config::{KafkaSource as Settings, RecordHeaders, TimeFrom};
use tidegate_model::{Inlet, Marks, Messages, Names, Page, Parcels, Position, Properties, Span};

use super::assignment::{Received, Token};
use super::logs::Logs;
use super::together::Together;
use super::topic_from::{LogicalTopic, fits};
use super::{headers, time_from};
use crate::routes::Routes;

/// The most headers of one record that are kept, and the most bytes of them: the rest is not for telemetry.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What must be known to make messages of records. A record costs no allocation of its own.
#[derive(Debug)]
pub(super) struct Records {
    logical: LogicalTopic,
    received: time_from::Received,
    headers: RecordHeaders,
    together: Together,
    routes: Routes,
}

impl Records {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            logical: LogicalTopic::new(&settings.topic_from),
            received: time_from::Received::new(&settings.time_from),
            headers: settings.headers,
            together: Together::new(&settings.lane_by),
            routes: Routes::default(),
        }
    }

    /// Puts a record that arrived at `arrived_us` into the parcel of its lane. With `logs` it is told with its position, and its partition
    /// decides the lane.
    #[inline]
    pub(super) fn put(
        &mut self,
        record: &impl Message,
        (marks, arrived_us, received): (Marks, i64, Received),
        logs: Option<&mut Logs>,
        inlet: &Inlet,
        parcels: &mut Parcels<Token>,
    ) {
        let received_us = self.received.of(record, arrived_us);
        // A tombstone (no payload at all) is an empty message; its properties say so.
        let payload = record.payload().unwrap_or(&[]);
        let log = logs.map(|logs| logs.find(record.topic(), record.partition(), |name| inlet.lane_of(name)));
        let said = self.logical.said(record);
        // Only what could be a topic is ever known, so that what is known need not be looked at again.
        let mut route = said.as_deref().and_then(|said| self.routes.known(said));
        // A record without a logical topic keeps the Kafka topic's name: its bytes reach a decoder or the dead letters.
        let topic = || said.as_deref().filter(|said| fits(said)).unwrap_or(record.topic().as_bytes());
        if route.is_none() {
            let together = &self.together;
            route = self.routes.find(topic(), inlet, |name| match log {
                Some(log) => Cow::Owned(log.name.clone()),
                None => together.partition(record, name),
            });
        }
        if let (Some((id, _)), None) = (route, log) {
            self.together.look(record, id, inlet);
        }
        let (id, usual_lane) = route.unwrap_or_default();
        let lane = log.map_or(usual_lane, |log| log.lane);
        let (messages, row) = parcels.push((id, lane), received_us, marks, payload, received.token);
        if let Some(log) = log {
            let position = Position { offset: record.offset(), after: received.after };
            messages.positions.push(row, &log.log, position);
        }
        if route.is_none() {
            messages.unnamed.push((row, String::from_utf8_lossy(topic()).into()));
        }
        tell_properties(record, self.headers, row, messages);
    }

    /// The time that a record is of, for who reads it long after it came: where its source goes by its arrival, its own timestamp; or `unknown_us`.
    pub(super) fn time_of(&self, record: &impl Message, unknown_us: i64) -> i64 {
        self.received.of(record, time_from::Received::new(&TimeFrom::Record).of(record, unknown_us))
    }

    /// Puts a record that is of the time `at` into a page, if it is of the span.
    pub(super) fn read(&self, record: &impl Message, at: i64, span: &Span, names: &mut Names, page: &mut Page) {
        page.looked_at += 1;
        let found = self.logical.find(record);
        let Ok(topic) = std::str::from_utf8(found.as_deref().unwrap_or(record.topic().as_bytes())) else {
            let (partition, offset) = (record.partition(), record.offset());
            page.unreadable.push(format!("partition {partition}, offset {offset}: its topic is not UTF-8"));
            return;
        };
        let early = span.from_us.is_some_and(|from| at < from);
        let late = span.until_us.is_some_and(|until| at >= until);
        if early || late || !span.has_topic(topic) {
            return;
        }
        let Some(topic) = names.topic(topic) else {
            page.nameless += 1;
            return;
        };
        let row = page.messages.push(topic, at, Marks::REPLAYED, record.payload().unwrap_or(&[]));
        tell_properties(record, self.headers, row, &mut page.messages);
    }
}

/// The key and, where they are kept, the headers of a record, as properties of its row.
#[inline]
fn tell_properties(record: &impl Message, kept: RecordHeaders, row: u32, messages: &mut Messages) {
    if let Some(key) = record.key() {
        messages.properties.push(row, Properties::KEY, key);
    }
    if record.payload().is_none() {
        messages.properties.push(row, Properties::TOMBSTONE, &[]);
    }
    if kept == RecordHeaders::Left {
        return;
    }
    let mut left = MAX_HEADER_BYTES;
    for header in headers::of(record).filter(|header| !Properties::is_ours(header.key)).take(MAX_HEADERS) {
        let value = header.value.unwrap_or(&[]);
        let Some(rest) = left.checked_sub(header.key.len() + value.len()) else { break };
        left = rest;
        messages.properties.push(row, header.key, value);
    }
}
