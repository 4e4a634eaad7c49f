//! Generated types to the SDK's own and back. A `Vec` is moved, not walked.

use super::{own, telemetry};

impl From<telemetry::Topic> for own::Topic {
    fn from(topic: telemetry::Topic) -> Self {
        Self { id: topic.id, name: topic.name, partition: topic.partition }
    }
}

impl From<telemetry::Series> for own::Series {
    fn from(series: telemetry::Series) -> Self {
        Self {
            id: series.id,
            topic: series.topic,
            unit: series.unit,
            labels: series.labels,
            partition: series.partition,
        }
    }
}

impl From<telemetry::Messages> for own::Messages {
    fn from(messages: telemetry::Messages) -> Self {
        let properties = messages.properties;
        Self {
            topic: messages.topic,
            received_us: messages.received_us,
            marks: messages.marks,
            payload_ends: messages.payload_ends,
            payload_bytes: messages.payload_bytes,
            properties: own::Properties {
                row: properties.row,
                key: properties.key,
                value_ends: properties.value_ends,
                value_bytes: properties.value_bytes,
                keys: properties.keys,
            },
        }
    }
}

impl From<telemetry::Points> for own::Points {
    fn from(points: telemetry::Points) -> Self {
        Self {
            series: points.series,
            time_us: points.time_us,
            value: points.value,
            quality: points.quality,
            texts: own::Texts { row: points.texts.row, ends: points.texts.ends, bytes: points.texts.bytes },
        }
    }
}

impl From<own::Points> for telemetry::Points {
    fn from(points: own::Points) -> Self {
        Self {
            series: points.series,
            time_us: points.time_us,
            value: points.value,
            quality: points.quality,
            texts: telemetry::Texts { row: points.texts.row, ends: points.texts.ends, bytes: points.texts.bytes },
        }
    }
}

impl From<own::Produced> for telemetry::Produced {
    fn from(made: own::Produced) -> Self {
        Self { points: made.points.into(), from_row: made.from_row }
    }
}

impl From<own::Rejects> for telemetry::Rejects {
    fn from(rejects: own::Rejects) -> Self {
        Self { row: rejects.row, reason: rejects.reason, reasons: rejects.reasons }
    }
}

impl From<own::Command> for telemetry::Command {
    fn from(command: own::Command) -> Self {
        Self { topic: command.topic, payload: command.payload, qos: command.qos, retain: command.retain }
    }
}

impl From<own::Alerts> for telemetry::Alerts {
    fn from(alerts: own::Alerts) -> Self {
        Self {
            series: alerts.series,
            time_us: alerts.time_us,
            transition: alerts
                .transition
                .into_iter()
                .map(|transition| match transition {
                    own::Transition::Event => telemetry::Transition::Event,
                    own::Transition::Raised => telemetry::Transition::Raised,
                    own::Transition::Cleared => telemetry::Transition::Cleared,
                })
                .collect(),
            severity: alerts
                .severity
                .into_iter()
                .map(|severity| match severity {
                    own::Severity::Info => telemetry::Severity::Info,
                    own::Severity::Warning => telemetry::Severity::Warning,
                    own::Severity::Critical => telemetry::Severity::Critical,
                })
                .collect(),
            value: alerts.value,
            key: alerts.key,
            message_ends: alerts.message_ends,
            message_bytes: alerts.message_bytes,
            keys: alerts.keys,
        }
    }
}
