//! The columns of the contract as plain Rust: one `Vec` a column, one entry a row unless a
//! comment says otherwise. They mirror `wit/rule.wit`, so that a rule and its native tests never
//! see generated types. Nothing here interprets a row; [`crate::Message`] and [`crate::Reading`] do.

/// Dense id of a topic, this instance's own.
pub type TopicId = u32;
/// Dense id of a series, this instance's own.
pub type SeriesId = u32;
/// Dense id of a partition: what stays together, in order, on one lane.
pub type PartitionId = u32;

/// `from_row` of a point that no input row led to.
pub const NO_ROW: u32 = u32::MAX;

/// A topic the host has made known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    pub partition: PartitionId,
}

/// A series the host has made known. It is its topic; unit and labels describe it and may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    pub id: SeriesId,
    pub topic: String,
    pub unit: Option<String>,
    pub labels: Vec<(String, String)>,
    pub partition: PartitionId,
}

/// Messages as they arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Messages {
    pub topic: Vec<TopicId>,
    /// Microseconds since 1970-01-01 UTC.
    pub received_us: Vec<i64>,
    /// Bit 0 retained, bit 1 redelivered, bit 2 replayed.
    pub marks: Vec<u8>,
    /// Where each payload ends in `payload_bytes`.
    pub payload_ends: Vec<u32>,
    /// Bytes, not one a row.
    pub payload_bytes: Vec<u8>,
    pub properties: Properties,
}

/// MQTT 5 user properties, Kafka headers and key: sparse, ascending by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub row: Vec<u32>,
    /// Index into `keys`.
    pub key: Vec<u32>,
    pub value_ends: Vec<u32>,
    pub value_bytes: Vec<u8>,
    /// Not one a row: the distinct keys.
    pub keys: Vec<String>,
}

/// Typed points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    pub series: Vec<SeriesId>,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: Vec<i64>,
    /// NaN where there is no number: null, or a text.
    pub value: Vec<f64>,
    /// See [`crate::Quality`].
    pub quality: Vec<u16>,
    pub texts: Texts,
}

impl Points {
    /// Columns with room for `rows`.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            series: Vec::with_capacity(rows),
            time_us: Vec::with_capacity(rows),
            value: Vec::with_capacity(rows),
            quality: Vec::with_capacity(rows),
            texts: Texts::default(),
        }
    }

    /// Rows in the batch.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Adds one row without text.
    #[inline(always)]
    pub fn push(&mut self, series: SeriesId, time_us: i64, value: f64, quality: u16) {
        self.series.push(series);
        self.time_us.push(time_us);
        self.value.push(value);
        self.quality.push(quality);
    }

    /// Forgets every row from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        self.series.truncate(rows);
        self.time_us.truncate(rows);
        self.value.truncate(rows);
        self.quality.truncate(rows);
        self.texts.truncate_rows(rows);
    }
}

/// Texts of some rows: sparse, ascending by row, UTF-8.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    pub row: Vec<u32>,
    pub ends: Vec<u32>,
    pub bytes: Vec<u8>,
}

impl Texts {
    /// Sets the text of a row. Rows must come in ascending order, each once.
    pub fn push(&mut self, row: usize, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.row.push(row as u32);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The `index`-th text; empty when there is none or it is not UTF-8.
    pub fn get(&self, index: usize) -> &str {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.bytes.get(start as usize..end as usize).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    fn truncate_rows(&mut self, rows: usize) {
        let keep = self.row.partition_point(|row| (*row as usize) < rows);
        self.row.truncate(keep);
        self.ends.truncate(keep);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0) as usize);
    }
}

/// Points, and the input row each came from: ascending, [`NO_ROW`] for none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Produced {
    pub points: Points,
    pub from_row: Vec<u32>,
}

/// Input rows that could not be used. They leave the batch and go to the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejects {
    pub row: Vec<u32>,
    /// Index into `reasons`.
    pub reason: Vec<u32>,
    /// Not one a row: the distinct reasons.
    pub reasons: Vec<String>,
}

/// How much an alert matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

/// An `Event` has no life of its own; `Raised` stands until `Cleared`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    Event,
    Raised,
    Cleared,
}

/// Alerts, as columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts {
    pub series: Vec<SeriesId>,
    pub time_us: Vec<i64>,
    pub transition: Vec<Transition>,
    pub severity: Vec<Severity>,
    pub value: Vec<f64>,
    /// Index into `keys`.
    pub key: Vec<u32>,
    pub message_ends: Vec<u32>,
    /// UTF-8 bytes, not one a row.
    pub message_bytes: Vec<u8>,
    /// Not one a row: the distinct keys, most often just the empty one.
    pub keys: Vec<String>,
}

/// A message to publish; sent only to topics that the rule's own file permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub topic: String,
    pub payload: Vec<u8>,
    /// MQTT quality of service: 0, 1 or 2.
    pub qos: u8,
    pub retain: bool,
}

/// What a decoder's call gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub made: Produced,
    pub rejects: Rejects,
    /// Input rows kept for later output.
    pub held: Vec<u32>,
    pub commands: Vec<Command>,
    /// When to be ticked next, microseconds since 1970; `None` asks for nothing.
    pub wake_us: Option<i64>,
}

/// What becomes of a batch of points.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Passage {
    #[default]
    Unchanged,
    /// Only these rows go on, ascending.
    Keep(Vec<u32>),
    /// Same rows, new values.
    Values(Vec<f64>),
    Replaced(Produced),
    /// The batch goes on, and these with it.
    Added(Produced),
}

/// What a processor's call gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub passage: Passage,
    pub alerts: Alerts,
    pub rejects: Rejects,
    /// Input rows kept for later output.
    pub held: Vec<u32>,
    pub commands: Vec<Command>,
    /// When to be ticked next, microseconds since 1970; `None` asks for nothing.
    pub wake_us: Option<i64>,
}

/// What a tick gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Emitted {
    pub points: Points,
    pub alerts: Alerts,
    pub commands: Vec<Command>,
    /// When to be ticked next, microseconds since 1970; `None` asks for nothing.
    pub wake_us: Option<i64>,
}

/// State, one entry an id; entry i is `bytes[ends[i-1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    pub id: Vec<u32>,
    pub ends: Vec<u32>,
    pub bytes: Vec<u8>,
}

/// A part of a rule's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    pub by_series: Cells,
    pub by_partition: Cells,
    pub removed_series: Vec<SeriesId>,
    pub removed_partitions: Vec<PartitionId>,
    /// There is more than fitted; call again.
    pub more: bool,
}
