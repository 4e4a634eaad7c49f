//! Plain values to columns.

use crate::columns::{Messages, Points, TopicId};

impl Messages {
    /// Adds a message.
    pub fn push(&mut self, topic: TopicId, received_us: i64, marks: u8, payload: &[u8]) {
        self.topic.push(topic);
        self.received_us.push(received_us);
        self.marks.push(marks);
        self.payload_bytes.extend_from_slice(payload);
        self.payload_ends.push(self.payload_bytes.len() as u32);
    }

    /// Adds a property of the last message.
    pub fn push_property(&mut self, name: &str, value: &[u8]) {
        let Self { properties, topic, .. } = self;
        let key = properties.keys.iter().position(|known| known == name).unwrap_or_else(|| {
            properties.keys.push(name.to_owned());
            properties.keys.len() - 1
        });
        properties.row.push(topic.len().saturating_sub(1) as u32);
        properties.key.push(key as u32);
        properties.value_bytes.extend_from_slice(value);
        properties.value_ends.push(properties.value_bytes.len() as u32);
    }
}

impl Points {
    /// Adds a point, with a text if it has one.
    pub fn push_with_text(&mut self, series: u32, time_us: i64, value: f64, quality: u16, text: Option<&str>) {
        if let Some(text) = text {
            self.texts.push(self.len(), text);
        }
        self.push(series, time_us, value, quality);
    }
}
