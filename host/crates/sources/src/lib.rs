//! Where telemetry comes from: MQTT 3.1.1 and 5, Kafka, and the dead letters that an operator wants back.
//!
//! A source turns what its broker delivers into rows for the lanes, keeps what it must know to settle each of them, and
//! tells the broker only what an [`tidegate_model::Ack`] has said: nothing is acknowledged or committed that was not settled.
//! Nothing here reads a payload's meaning, knows a rule or a sink, or keeps messages of its own: what is not settled stays
//! with the broker.
//!
//! Start with [`mqtt`](MqttSource) (the connection loop in `mqtt/connection.rs`, the order of acks in `mqtt/window.rs`) or
//! [`kafka`](KafkaSource) (the consumer loop in `kafka/consumer.rs`, the offsets in `kafka/offsets.rs`). What they share:
//! `settlements.rs` (from acks back to the loop), `routes.rs` (topic to id and lane), `backoff.rs`.
#![forbid(unsafe_code)]

mod backoff;
mod kafka;
mod mqtt;
mod phase;
mod replay;
mod routes;
#[cfg(test)]
#[path = "../../../../tests/src/servers_run.rs"]
mod servers_run;
mod settlements;
#[cfg(test)]
mod testing;

pub use kafka::{Bound, KafkaLogs, KafkaRange, KafkaSource, RangeError, RangeProgress, Stretch, sole_topic};
pub use mqtt::MqttSource;
pub use replay::ReplaySource;
