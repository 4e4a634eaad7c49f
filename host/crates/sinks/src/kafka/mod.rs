//! Messages as they came, points, alerts and copies of dead letters in topics of a Kafka cluster, over librdkafka.
//!
//! Each record has its series (or the topic of a message or dead letter) as the key, so what belongs together is in one partition, in order. The
//! producer is idempotent: what it sends again by itself is neither doubled nor out of order. A write is confirmed when every record
//! has been acknowledged by all replicas in sync; when one fails, the next try produces by a new producer what was not acknowledged, and what comes behind
//! it under the same key (`progress`): at least once. Where a broker finds fault with a batch, that producer sends each record alone, so that only
//! what is bad is refused.
//!
//! Points and alerts bear no timestamp of their own: a broker drops by it what is old, and may refuse what is to come; when a point was measured
//! stands in the record. Messages bear the time when they were received, which is of our own clock. Points have no headers: what they would say
//! (unit, quality) stands in the record, and they would weigh as much as it; alerts say in theirs what is often filtered by, and messages what they came with.
//!
//! | file | what |
//! |---|---|
//! | `message` | key and headers of a message |
//! | `record` | what stands in a record |
//! | `producer` | librdkafka, and the count of what it has acknowledged |
//! | `progress` | what of a write is done, and what the next try sends |

mod message;
mod producer;
mod progress;
mod record;

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::types::RDKafkaErrorCode;
use tidegate_config::{KafkaSink, PointFormat};
use tidegate_model::{
    Books, Clock as _, Delivery, RawMessages, Rejected, Sink, SinkError, SystemClock, Wants, Written,
};

use crate::json::{AlertJson, DeadLetterJson};
use crate::rows::{TextCursor, UNKNOWN_SERIES, readable};
use producer::{Batches, Fault, Producer};
use progress::{Kind, Left, Progress, Unfinished};
use record::Point;

/// Topics of a Kafka cluster.
#[derive(Debug)]
pub struct Kafka {
    settings: KafkaSink,
    books: Arc<Books>,
    wants: Wants,
    producer: Option<Producer>,
    /// Of its next one.
    batches: Batches,
    /// The last write, if that failed in part.
    unfinished: Option<Unfinished>,
    /// A record on its way to the producer, which copies it; kept for its memory.
    payload: Vec<u8>,
}

/// A try of a write, while its records are handed over.
struct Sending<'a> {
    producer: &'a Producer,
    left: Left<'a>,
    /// What each record is of, by its number: so that a refusal finds its row. Points first, then messages.
    rows: Vec<(u32, u32)>,
    written: Written,
}

impl Kafka {
    /// A sink for the cluster of `settings`; connects at the first write.
    pub fn new(settings: KafkaSink, books: Arc<Books>) -> Self {
        let wants = wants(&settings);
        let (batches, payload) = (Batches::UpTo(None), Vec::new());
        Self { settings, books, wants, producer: None, batches, unfinished: None, payload }
    }

    /// One try of a write: sends what of it is not done.
    async fn produce(
        &mut self,
        producer: &mut Producer,
        deliveries: &[Arc<Delivery>],
        progress: &mut Progress,
    ) -> Result<Written, Fault> {
        producer.begin();
        let mut sending =
            Sending { producer, left: Left::of(progress), rows: Vec::new(), written: Written::default() };
        for (at, delivery) in deliveries.iter().enumerate() {
            if let Some(topic) = self.settings.points.clone() {
                self.produce_points(&mut sending, &topic, (at, delivery)).await?;
            }
        }
        let points = sending.rows.len();
        for (at, delivery) in deliveries.iter().enumerate() {
            self.produce_messages(&mut sending, (at, delivery)).await?;
        }
        for delivery in deliveries {
            self.produce_others(&mut sending, delivery).await?;
        }
        let Sending { left, rows, mut written, .. } = sending;
        let records = left.count();
        producer.acknowledged(records, progress).await?;
        written.points = (points - written.rejected.len()) as u64;
        for (&number, reason) in &progress.refused {
            let reason = reason.clone();
            match rows.get(number) {
                Some(&(delivery, row)) if number < points => {
                    written.points -= 1;
                    written.rejected.push(Rejected { delivery: delivery as usize, row, reason });
                }
                Some(&(delivery, row)) => {
                    written.rejected_messages.push(Rejected { delivery: delivery as usize, row, reason });
                }
                // A dead letter is kept by the host, of which this is a copy; an alert is never so large but by a rule's fault.
                None => tracing::warn!(
                    reason,
                    "an alert, or the copy of a dead letter, is no record that Kafka takes: left out"
                ),
            }
        }
        Ok(written)
    }

    /// Sends what of a write is not done record by record.
    async fn one_by_one(
        &mut self,
        deliveries: &[Arc<Delivery>],
        progress: &mut Progress,
    ) -> Result<Written, SinkError> {
        let mut producer = Producer::new(&self.settings, Batches::OfOne)?;
        let written = self.produce(&mut producer, deliveries, progress).await;
        producer.end().await;
        written.map_err(|fault| match fault {
            Fault::Sink(error) => error,
            // Of a record that is alone in its batch it is known.
            Fault::Batch(error) => SinkError::Retry(error.to_string()),
        })
    }

    /// A broker finds fault with a batch: what is not acknowledged of the write is about to be sent once more, record by record.
    fn look_closer(&mut self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
            self.batches = self.batches.smaller(&self.settings);
            tracing::warn!(
                %error,
                "a broker finds a batch too large: batches are made smaller from now on; set `batch.size` under `client` below the topic's \
                 `max.message.bytes`"
            );
        } else {
            tracing::debug!(%error, "a broker finds fault with a batch: its records are sent one by one");
        }
    }

    async fn produce_points(
        &mut self,
        sending: &mut Sending<'_>,
        topic: &str,
        (at, delivery): (usize, &Delivery),
    ) -> Result<(), SinkError> {
        let points = &delivery.points;
        let mut texts = TextCursor::from_row(&points.texts, 0);
        for row in 0..points.len() {
            sending.rows.push((at as u32, row as u32));
            let text = texts.of(row).map(readable).transpose();
            let (text, series) = match (text, self.books.series(points.series[row])) {
                (Ok(text), Some(series)) => (text, series),
                (text, _) => {
                    let reason = text.err().unwrap_or_else(|| UNKNOWN_SERIES.to_owned());
                    sending.left.pass();
                    sending.written.rejected.push(Rejected { delivery: at, row: row as u32, reason });
                    continue;
                }
            };
            let Some(number) = sending.left.next(Kind::Points, Some(series.topic.as_bytes())) else { continue };
            let latest = series.description.load();
            let other = delivery.described.other(&self.books, points.series[row]);
            let description = other.as_deref().unwrap_or(&**latest);
            let point = Point {
                topic: &series.topic,
                time_us: points.time_us[row],
                value: points.value[row],
                text,
                quality: points.quality[row],
                unit: description.unit.as_deref(),
            };
            self.payload.clear();
            match self.settings.format {
                PointFormat::Json => point.put_json(&mut self.payload),
                PointFormat::Reading => point.put_reading(&mut self.payload),
            }
            .map_err(no_json)?;
            let record = BaseRecord::with_opaque_to(topic, number).key(&*series.topic).payload(&self.payload);
            sending.producer.send(record).await?;
        }
        Ok(())
    }

    async fn produce_messages(
        &self,
        sending: &mut Sending<'_>,
        (at, delivery): (usize, &Delivery),
    ) -> Result<(), SinkError> {
        let Some(to) = &self.settings.messages else { return Ok(()) };
        let messages = &delivery.origin;
        // Brokers refuse a time that is to come (`message.timestamp.after.max.ms`); the exact one stands in a header.
        let now_us = SystemClock.now_us();
        for row in delivery.raw_rows(&self.wants.messages) {
            let i = row as usize;
            sending.rows.push((at as u32, row));
            let key = message::key(to.key, &self.books, messages, row);
            let Some(number) = sending.left.next(Kind::Messages, key) else { continue };
            let record = BaseRecord::with_opaque_to(&to.topic, number)
                .timestamp(messages.received_us[i].min(now_us) / 1_000)
                .headers(message::headers(to.key, &self.books, messages, row));
            let record = match key {
                Some(key) => record.key(key),
                None => record,
            };
            let record = match message::payload(messages, row) {
                Some(payload) => record.payload(payload),
                None => record,
            };
            sending.producer.send(record).await?;
        }
        Ok(())
    }

    async fn produce_others(&mut self, sending: &mut Sending<'_>, delivery: &Delivery) -> Result<(), SinkError> {
        if let Some(topic) = &self.settings.alerts {
            for alert in &delivery.alerts {
                let Some(number) = sending.left.next(Kind::Alerts, Some(alert.topic.as_bytes())) else { continue };
                self.payload.clear();
                serde_json::to_writer(&mut self.payload, &AlertJson::from(alert)).map_err(no_json)?;
                let mut headers = OwnedHeaders::new();
                let (severity, transition) = (alert.severity.as_str(), alert.transition.as_str());
                for (key, value) in [("rule", &*alert.rule), ("severity", severity), ("transition", transition)] {
                    headers = headers.insert(Header { key, value: Some(value) });
                }
                let record = BaseRecord::with_opaque_to(topic, number).key(&*alert.topic);
                sending.producer.send(record.payload(&self.payload).headers(headers)).await?;
            }
            sending.written.alerts += delivery.alerts.len() as u64;
        }
        if let Some(topic) = &self.settings.dead_letters {
            for letter in &delivery.dead_letters {
                let key = Some(letter.topic.as_bytes());
                let Some(number) = sending.left.next(Kind::DeadLetters, key) else { continue };
                self.payload.clear();
                serde_json::to_writer(&mut self.payload, &DeadLetterJson::from(letter)).map_err(no_json)?;
                let headers = OwnedHeaders::new().insert(Header { key: "stage", value: Some(letter.stage.as_str()) });
                let record = BaseRecord::with_opaque_to(topic, number).key(&*letter.topic);
                sending.producer.send(record.payload(&self.payload).headers(headers)).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for Kafka {
    fn wants(&self) -> Wants {
        self.wants.clone()
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let progress = self.unfinished.take().and_then(|unfinished| unfinished.of(deliveries));
        let mut progress = progress.unwrap_or_default();
        // Taken out: after a write that failed or was given up, what is left in the producer must not come after what is written next.
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => Producer::new(&self.settings, self.batches)?,
        };
        let fault = match self.produce(&mut producer, deliveries, &mut progress).await {
            Ok(written) => {
                self.producer = Some(producer);
                return Ok(written);
            }
            Err(fault) => fault,
        };
        producer.end().await;
        let written = match fault {
            Fault::Sink(error) => Err(error),
            Fault::Batch(error) => {
                self.look_closer(&error);
                self.one_by_one(deliveries, &mut progress).await
            }
        };
        if written.is_err() {
            self.unfinished = Unfinished::new(deliveries, progress);
        }
        written
    }

    async fn close(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.end().await;
        }
    }
}

fn no_json(error: serde_json::Error) -> SinkError {
    SinkError::NeedsOperator(format!("a record cannot be written as JSON: {error}"))
}

fn wants(settings: &KafkaSink) -> Wants {
    let KafkaSink { messages, points, alerts, dead_letters, .. } = settings;
    let messages = match messages.as_ref().map(|messages| &messages.from) {
        None => RawMessages::None,
        Some(None) => RawMessages::All,
        Some(Some(names)) => RawMessages::Of(names.iter().map(|name| name.as_str().into()).collect()),
    };
    Wants {
        messages,
        points: points.is_some(),
        alerts: alerts.is_some(),
        dead_letters: dead_letters.is_some(),
        ..Wants::default()
    }
}
