//! What a lane hands to the sinks: one batch's messages, points, alerts, commands and dead letters.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::{Alert, Command, DescribedAs, Marks, Messages, NO_ROW, Points, Positions, RawMessages};

/// The outcome of one batch. Shared by all sinks; each takes the part it wants.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Points to be stored: none is marked [`crate::Quality::NOT_STORED`].
    pub points: Points,
    /// What their series were described as.
    pub described: DescribedAs,
    /// The message each point came from, as a row of `origin`: ascending, [`NO_ROW`] for none.
    pub from_row: Vec<u32>,
    /// The messages of the batch.
    pub origin: Arc<Messages>,
    /// What they are there for.
    pub origin_is: OriginIs,
    /// The source of each message of `origin`, as (first row, name), ascending from row 0.
    pub sources: Vec<(u32, Arc<str>)>,
    /// Where the messages of `origin` stand in their logs, as far as their source says so. With them this delivery says: all of each log
    /// up to here is in it, or was in one before.
    pub positions: Positions,
    /// Alerts to publish and store.
    pub alerts: Vec<Alert>,
    /// Messages to publish.
    pub commands: Vec<Command>,
    /// Messages and points that could not be used.
    pub dead_letters: Vec<DeadLetter>,
    /// What sinks would not take: noted by their tasks before they confirm, so that the ledger is right when the last of them has.
    pub refused: Arc<Refused>,
}

/// What the messages of a delivery are there for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginIs {
    /// To tell where points came from: for the dead letters of sinks.
    #[default]
    Context,
    /// For the sinks that take messages, too.
    Cargo,
    /// These rows of it, ascending, are for the sink that they were spooled for, whatever sources it names by now.
    Chosen(Arc<[u32]>),
}

/// What of a delivery is in the dead letters instead of in a sink.
#[derive(Debug, Default)]
pub struct Refused {
    /// Points.
    pub points: AtomicU64,
    /// Messages that were to be stored as they came, as rows of `origin`. The lock is taken for a refusal, and once for a batch whose
    /// messages sinks take.
    pub messages: Mutex<Vec<u32>>,
}

impl Delivery {
    /// About what it takes in memory where that is much: the payloads of its messages and of its dead letters, and the texts of its points.
    pub fn bytes(&self) -> usize {
        let letters: usize = self.dead_letters.iter().map(|letter| letter.payload.len()).sum();
        self.origin.bytes() + self.points.texts.text.bytes.len() + letters
    }
}

/// Where on its way a dead letter died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// No decoder wanted it, or its topic could not be taken in.
    Route,
    /// A decoder refused it.
    Decode,
    /// A processor refused it.
    Process,
    /// A sink refused it.
    Sink,
    /// A rule was not called for its partition: it has not died, but waits until the rule is. A stage, since a guest can write any reason, and no stage.
    Parked,
}

impl Stage {
    /// All of them, in the order of a message's way.
    pub const ALL: [Stage; 5] = [Stage::Route, Stage::Decode, Stage::Process, Stage::Sink, Stage::Parked];

    /// The word used in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Route => "route",
            Stage::Decode => "decode",
            Stage::Process => "process",
            Stage::Sink => "sink",
            Stage::Parked => "parked",
        }
    }
}

/// A message that could not be used, kept whole, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The source it came from; empty for what a rule's `tick` made.
    pub source: Arc<str>,
    /// The topic it came on.
    pub topic: Arc<str>,
    /// When it was received: microseconds since 1970-01-01 UTC.
    pub received_us: i64,
    /// See [`crate::Marks`].
    pub marks: u8,
    /// The original bytes.
    pub payload: Vec<u8>,
    /// User properties, headers and key.
    pub properties: Vec<(String, Vec<u8>)>,
    /// Where it died.
    pub stage: Stage,
    /// The rule that refused it or failed on it, or the sink.
    pub rule: Option<Arc<str>>,
    /// The module's sha256, in hex.
    pub module: Option<Arc<str>>,
    /// Why, for people.
    pub reason: String,
    /// Where in the module, when it trapped.
    pub backtrace: Option<String>,
}

impl Delivery {
    /// Whether no sink has anything to do.
    pub fn is_empty(&self) -> bool {
        let cargo = match &self.origin_is {
            OriginIs::Context => false,
            OriginIs::Cargo => !self.origin.is_empty(),
            OriginIs::Chosen(rows) => !rows.is_empty(),
        };
        !cargo
            && self.points.is_empty()
            && self.alerts.is_empty()
            && self.commands.is_empty()
            && self.dead_letters.is_empty()
    }

    /// The points named, ascending, with the messages they came from, and nothing else of it. What is refused of them is noted in both.
    #[must_use]
    pub fn points_of(&self, rows: &[u32]) -> Self {
        Self {
            points: self.points.gather(rows),
            described: self.described.clone(),
            from_row: rows.iter().map(|&row| self.origin_row(row).unwrap_or(NO_ROW)).collect(),
            origin: self.origin.clone(),
            sources: self.sources.clone(),
            refused: self.refused.clone(),
            ..Self::default()
        }
    }

    /// The message that point `row` came from, as a row of `origin`.
    pub fn origin_row(&self, row: u32) -> Option<u32> {
        self.from_row.get(row as usize).copied().filter(|&from| from != NO_ROW)
    }

    /// The rows of `origin` that a sink takes which wants these messages, ascending. What was beyond a limit or is not whole is none of
    /// them: it is in the dead letters, or dropped; nor is what those sinks have had before.
    pub fn raw_rows<'a>(&'a self, wanted: &'a RawMessages) -> impl Iterator<Item = u32> + 'a {
        let (rows, chosen) = match &self.origin_is {
            OriginIs::Cargo if wanted.any() => (self.origin.len() as u32, &[][..]),
            OriginIs::Chosen(chosen) if wanted.any() => (0, &**chosen),
            OriginIs::Context | OriginIs::Cargo | OriginIs::Chosen(_) => (0, &[][..]),
        };
        let end = move |at: usize| self.sources.get(at + 1).map_or(rows, |(first, _)| rows.min(*first));
        let shares = self.sources.iter().enumerate().filter(|(_, (_, source))| wanted.are_of(source));
        let shares = shares.flat_map(move |(at, (first, _))| *first..end(at));
        chosen.iter().copied().chain(shares).filter(|&row| {
            let marks = self.origin.marks.get(row as usize);
            marks.is_some_and(|&marks| !Marks(marks).are_not_raw())
        })
    }

    /// The name of the source of row `row` of `origin`.
    pub fn source_of(&self, row: u32) -> Option<&Arc<str>> {
        let after = self.sources.partition_point(|(first, _)| *first <= row);
        self.sources.get(after.checked_sub(1)?).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicId;

    /// Guarantees: a sink is given the messages of the sources it names, but for those that are dropped or in the dead letters already; and
    /// none of a delivery that only tells where points came from.
    #[test]
    fn raw_rows_by_source() {
        let mut origin = Messages::default();
        for marks in
            [Marks::default(), Marks::EXCESS, Marks::RETAINED, Marks::TRUNCATED, Marks::DROPPED, Marks::REPLAYED]
        {
            origin.push(TopicId(0), 0, marks, b"");
        }
        let sources: Vec<(u32, Arc<str>)> = vec![(0, "a".into()), (2, "b".into()), (3, "a".into())];
        let mut delivery =
            Delivery { origin: Arc::new(origin), origin_is: OriginIs::Cargo, sources, ..Delivery::default() };
        let of = |name: &str| RawMessages::Of([Arc::from(name)].into());
        let rows = |delivery: &Delivery, wanted: &RawMessages| delivery.raw_rows(wanted).collect::<Vec<_>>();
        assert_eq!(rows(&delivery, &RawMessages::All), [0, 2, 5]);
        assert_eq!(rows(&delivery, &of("a")), [0, 5]);
        assert_eq!(rows(&delivery, &of("a").with(&of("b"))), [0, 2, 5]);
        assert!(rows(&delivery, &of("c")).is_empty());
        assert!(rows(&delivery, &RawMessages::None).is_empty());
        assert!(!delivery.is_empty());
        delivery.origin_is = OriginIs::Chosen([0, 5].into());
        assert_eq!(rows(&delivery, &of("c")), [0, 5]);
        assert!(rows(&delivery, &RawMessages::None).is_empty());
        delivery.origin_is = OriginIs::Context;
        assert!(rows(&delivery, &RawMessages::All).is_empty());
        assert!(delivery.is_empty());
    }
}
