//! `[sinks.timescale.<name>]`: TimescaleDB or PostgreSQL.

use std::time::Duration;

use super::{Offsets, Secret, Tls};

/// A year and a day. A host without a clock of its own starts at the time it saved last, days or weeks behind, until NTP has set it: the clocks of its
/// devices are right meanwhile, and ahead of it. What says 2106, or counts in another unit, is further.
const AHEAD: Duration = Duration::from_secs(366 * 24 * 3600);
/// Rows of one COPY on each of all connections, together.
const ROWS_OF_ALL: usize = 20_000;
/// Rows of one COPY where connections are many.
const LEAST_ROWS: usize = 5_000;

/// A database, and how points get into it.
#[derive(Clone, Debug)]
pub struct TimescaleSink {
    /// `postgres://user@host:port/database`, with the password merged in from its file or variable; several hosts parted by commas.
    pub url: Secret,
    /// TLS, where the URL says `sslmode=require`.
    pub tls: Tls,
    /// What the tables and columns are called.
    pub names: TableNames,
    /// Whether to make what is missing: tables, hypertable, index, policies, aggregates.
    pub manage_schema: bool,
    /// How the tables that we make are kept.
    pub upkeep: Upkeep,
    /// The most connections: rows are spread over them by series.
    pub connections: usize,
    /// What happens to a point whose topic and time are stored already.
    pub repeats: Repeats,
    /// Where the offsets of Kafka records are kept.
    pub offsets: Offsets,
    /// The most rows of one COPY, where that is configured.
    pub max_rows: Option<usize>,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How far ahead of our clock a point may be; none for any.
    pub ahead: Option<Duration>,
    /// How far behind it; none for any.
    pub behind: Option<Duration>,
}

impl TimescaleSink {
    /// The defaults for a database: what a configuration gets that says no more than `url`.
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            tls: Tls::default(),
            names: TableNames::default(),
            manage_schema: true,
            upkeep: Upkeep::default(),
            connections: 4,
            repeats: Repeats::Stored,
            offsets: Offsets::Group,
            max_rows: None,
            statement_timeout: Duration::from_secs(30),
            ahead: Some(AHEAD),
            behind: None,
        }
    }

    /// The most rows of one COPY. Where that is not configured few connections have more: whatever a COPY has of rows, the server spends as much on the COPY itself as
    /// on five hundred, and with several connections others use its cores meanwhile. A write as a whole has as many rows with one as with four.
    pub fn copy_rows(&self) -> usize {
        self.max_rows.unwrap_or_else(|| (ROWS_OF_ALL / self.connections.max(1)).max(LEAST_ROWS)).max(1)
    }
}

/// What happens to a point whose topic and time are stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// It is stored again: at least once.
    Stored,
    /// It is counted and left out: effectively once.
    Dropped,
}

/// What tables and columns are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    /// The points' table, optionally with its schema; the other tables stand in the same schema.
    pub table: String,
    /// The alerts' table.
    pub alerts: String,
    /// The table of what is known of each series.
    pub series: String,
    /// The columns of the points' table.
    pub columns: Columns,
}

/// What the columns of the points' table are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// When it was measured.
    pub time: String,
    /// The series.
    pub topic: String,
    /// The number.
    pub value: String,
    /// The text.
    pub value_str: String,
    /// OPC quality.
    pub quality: String,
    /// The unit.
    pub unit: String,
}

impl TableNames {
    /// The points' table without its schema.
    pub fn own_table(&self) -> &str {
        self.table.split_once('.').map_or(&self.table, |(_, table)| table)
    }

    /// The schema, where one is named.
    pub fn schema(&self) -> Option<&str> {
        self.table.split_once('.').map(|(schema, _)| schema)
    }
}

impl Columns {
    /// All of them, in the order in which they are written.
    pub fn all(&self) -> [&str; 6] {
        [&self.time, &self.topic, &self.value, &self.value_str, &self.quality, &self.unit]
    }
}

impl Default for TableNames {
    fn default() -> Self {
        Self {
            table: "metrics".to_owned(),
            alerts: "alerts".to_owned(),
            series: "series".to_owned(),
            columns: Columns::default(),
        }
    }
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            time: "time".to_owned(),
            topic: "topic".to_owned(),
            value: "value".to_owned(),
            value_str: "value_str".to_owned(),
            quality: "quality".to_owned(),
            unit: "unit".to_owned(),
        }
    }
}

/// How the tables that we make are kept. TimescaleDB does it; plain PostgreSQL keeps everything, uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// How much time one chunk holds, in hours.
    pub chunk_hours: u32,
    /// The age at which chunks are compressed, in days; never if none.
    pub compress_after_days: Option<u32>,
    /// The age at which chunks are dropped, in days; never if none.
    pub retain_days: Option<u32>,
    /// Whether points are summed up by minute, hour and day.
    pub aggregates: Aggregates,
    /// How each of the three is refreshed.
    pub refresh: [Refresh; 3],
}

/// How an aggregate is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// What is so old is not looked at again, in days.
    pub window_days: u32,
    /// How often it is done, in minutes.
    pub every_minutes: u32,
    /// What is younger is left to the next time, in minutes.
    pub behind_minutes: u32,
}

impl Refresh {
    /// What is usual by minute, hour and day.
    pub const USUAL: [Self; 3] = [
        Self { window_days: 3, every_minutes: 1, behind_minutes: 1 },
        Self { window_days: 14, every_minutes: 30, behind_minutes: 60 },
        Self { window_days: 60, every_minutes: 360, behind_minutes: 1_440 },
    ];
    /// How long a bucket of each is, in minutes.
    pub const BUCKET_MINUTES: [u32; 3] = [1, 60, 1_440];

    /// How far back it looks, in minutes. At what is made of points that are dropped after so many days, an hour less than those: what is gone would be
    /// taken for deleted.
    pub fn reach_minutes(&self, retain_days: Option<u32>) -> u32 {
        let kept = retain_days.map_or(u32::MAX, |days| days * 1_440 - 60);
        kept.min(self.window_days * 1_440)
    }

    /// Whether it sees two buckets, before what is left to the next time; TimescaleDB refuses less.
    pub fn has_room(&self, bucket_minutes: u32, retain_days: Option<u32>) -> bool {
        self.reach_minutes(retain_days) >= self.behind_minutes + 2 * bucket_minutes
    }
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            chunk_hours: 24,
            compress_after_days: Some(7),
            retain_days: Some(90),
            aggregates: Aggregates::Kept,
            refresh: Refresh::USUAL,
        }
    }
}

/// Whether points are summed up by minute, hour and day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregates {
    /// In `<table>_1min`, `<table>_1hour` and `<table>_1day`.
    Kept,
    /// Not by us.
    Absent,
}
