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
