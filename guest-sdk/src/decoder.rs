//! Decoders: a message at a time to points.

use crate::about::About;
use crate::book::{SeriesBook, SeriesHandle};
use crate::call::{Call, Refusal};
use crate::columns::{
    Command, Decoded, Emitted, Messages, NO_ROW, PartitionId, Points, Produced, Rejects, SeriesId, Topic,
};
use crate::json::Key;
use crate::message::Message;
use crate::quality::Quality;
use crate::rejects::Reason;
use crate::rule::Rule;
use crate::state::State;
use crate::topics::Topics;

/// The most that a text of a point may have, as the interface says: bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;
const TOO_LONG: &str = "a text in it has more than 1 MiB, which is the most that a point may have";

/// A rule that makes points of messages, one message at a time.
///
/// A message that writes no point counts as filtered; one that returns an error is rejected, goes
/// to the dead letters with that reason, and nothing it wrote is kept.
pub trait Decoder: Sized + 'static {
    /// The rule's configuration; keys it does not have are refused.
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema;
    /// What the rule says of itself.
    const ABOUT: About;

    /// A decoder from its configuration.
    ///
    /// # Errors
    /// A sentence that names the key and what it should be.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Writes the points of one message to `out`.
    ///
    /// # Errors
    /// Why the message cannot be used.
    fn decode(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<(), Reason>;

    /// Called every `tick-ms` and when a wake-up asked for has come, message or none.
    fn tick(&mut self, out: &mut Out<'_>) {
        let _ = out;
    }

    /// The state that is to outlive this instance.
    fn state(&mut self) -> State<'_> {
        State::none()
    }
}

/// Where a decoder's output goes. Rows are kept track of here: what is written belongs to the
/// message being decoded.
pub struct Out<'a> {
    made: Produced,
    rejects: Rejects,
    held: Vec<u32>,
    commands: Vec<Command>,
    wake_us: Option<i64>,
    /// Points whose series has no id yet: index and series.
    unresolved: Vec<(u32, SeriesHandle)>,
    book: &'a mut SeriesBook,
    now_us: i64,
    row: u32,
    row_start: usize,
    /// The message at hand gave a text that no point may have.
    too_long: bool,
}

impl<'a> Out<'a> {
    fn new(book: &'a mut SeriesBook, now_us: i64, rows: usize) -> Self {
        Self {
            made: Produced { points: Points::with_capacity(rows), from_row: Vec::with_capacity(rows) },
            rejects: Rejects::default(),
            held: Vec::new(),
            commands: Vec::new(),
            wake_us: None,
            unresolved: Vec::new(),
            book,
            now_us,
            row: NO_ROW,
            row_start: 0,
            too_long: false,
        }
    }

    /// The host's time, microseconds since 1970-01-01 UTC.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// The series that has the message's own topic: an index, no name is looked at.
    #[inline(always)]
    pub fn series_of(&mut self, message: &Message<'_>) -> SeriesHandle {
        self.book.of_topic(message.topic_id, message.topic_version())
    }

    /// The series of a topic; unit and labels describe it when it is new. Hashes the name: keep the
    /// handle in a [`crate::PerTopic`].
    pub fn series(&mut self, topic: &str, unit: Option<&str>, labels: &[(&str, &str)]) -> SeriesHandle {
        self.book.named(topic, unit, labels)
    }

    /// Says what unit a series has from this message on; costs a comparison when nothing changes.
    #[inline]
    pub fn unit(&mut self, series: SeriesHandle, unit: &str) {
        self.book.set_unit(series, unit, self.row);
    }

    /// Says what labels a series of [`Self::series`] has from this message on. Packs them each time to compare: say it when they may have changed.
    pub fn labels(&mut self, series: SeriesHandle, labels: &[(&str, &str)]) {
        self.book.set_labels(series, labels, self.row);
    }

    /// The unit a series is known to have; empty for none.
    #[inline(always)]
    pub fn unit_of(&self, series: SeriesHandle) -> &Key {
        self.book.unit(series)
    }

    /// Writes a number.
    #[inline(always)]
    pub fn point(&mut self, series: SeriesHandle, time_us: i64, value: f64, quality: Quality) {
        let id = match self.book.id(series) {
            Some(id) => id,
            None => self.unresolved(series),
        };
        self.made.points.push(id, time_us, value, quality.bits());
        self.made.from_row.push(self.row);
    }

    /// Writes a text, with the number it stands for or NaN. One of more than 1 MiB has the message rejected, whatever
    /// becomes of it otherwise: who sends it must not have the whole call fail. In a tick there is no message to reject.
    pub fn text(&mut self, series: SeriesHandle, time_us: i64, value: f64, quality: Quality, text: &str) {
        if text.len() > MAX_TEXT_BYTES && self.row != NO_ROW {
            self.too_long = true;
            return;
        }
        self.made.points.texts.push(self.made.points.len(), text);
        self.point(series, time_us, value, quality);
    }

    /// Gives every point this message has written so far this time, for payloads whose time may
    /// come after their values.
    #[inline]
    pub fn retime(&mut self, time_us: i64) {
        self.made.points.time_us[self.row_start..].fill(time_us);
    }

    #[cold]
    fn unresolved(&mut self, series: SeriesHandle) -> SeriesId {
        self.book.ask(series, self.row);
        self.unresolved.push((self.made.points.len() as u32, series));
        0
    }

    /// Keeps the message for later output: it is neither filtered nor settled until then.
    pub fn hold(&mut self) {
        if self.row != NO_ROW && self.held.last() != Some(&self.row) {
            self.held.push(self.row);
        }
    }

    /// Publishes a message, if the rule's file permits the topic.
    pub fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Asks for a tick at this time; the earliest asked for counts.
    pub fn wake_at(&mut self, us: i64) {
        self.wake_us = Some(self.wake_us.map_or(us, |before| before.min(us)));
    }

    #[inline]
    fn begin_row(&mut self, row: usize) {
        self.row = row as u32;
        self.row_start = self.made.points.len();
        self.too_long = false;
    }

    /// Whether all that the message at hand gave could be written.
    #[inline]
    fn is_whole(&self) -> Result<(), Reason> {
        if self.too_long { Err(Reason::from(TOO_LONG)) } else { Ok(()) }
    }

    #[cold]
    fn reject_row(&mut self, reason: &Reason) {
        self.made.points.truncate(self.row_start);
        self.made.from_row.truncate(self.row_start);
        let start = self.row_start as u32;
        while self.unresolved.last().is_some_and(|(point, _)| *point >= start) {
            self.unresolved.pop();
        }
        if self.held.last() == Some(&self.row) {
            self.held.pop();
        }
        self.rejects.push(self.row, reason);
    }

    /// Asks for what is unknown and puts ids where they are missing.
    fn settle(&mut self, call: &mut Call<'_>, topics: &Topics) {
        self.book.resolve(call, topics);
        let mut refused: Vec<(u32, Refusal)> = Vec::new();
        for (point, series) in self.unresolved.drain(..) {
            match self.book.id(series) {
                Some(id) => self.made.points.series[point as usize] = id,
                None => refused.push((self.made.from_row[point as usize], self.book.refusal(series))),
            }
        }
        if !refused.is_empty() {
            self.drop_refused(refused);
        }
    }

    /// A row of which any series was refused is rejected whole: half a message would be a lie.
    #[cold]
    fn drop_refused(&mut self, mut refused: Vec<(u32, Refusal)>) {
        refused.dedup_by_key(|(row, _)| *row);
        let rows: Vec<u32> = refused.iter().map(|(row, _)| *row).collect();
        let before = std::mem::take(&mut self.made);
        let mut text = 0;
        for index in 0..before.points.len() {
            let has_text = before.points.texts.row.get(text) == Some(&(index as u32));
            let row = before.from_row[index];
            if rows.binary_search(&row).is_err() {
                let points = &mut self.made.points;
                if has_text {
                    points.texts.push(points.len(), before.points.texts.get(text));
                }
                points.push(
                    before.points.series[index],
                    before.points.time_us[index],
                    before.points.value[index],
                    before.points.quality[index],
                );
                self.made.from_row.push(row);
            }
            text += usize::from(has_text);
        }
        self.held.retain(|row| rows.binary_search(row).is_err());
        for (row, refusal) in refused {
            if row != NO_ROW {
                self.rejects.push(row, &Reason::from(refusal.sentence()));
            }
        }
        self.rejects.sort();
    }
}

impl Refusal {
    /// Why, as the reason of a reject.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Limit => {
                "its series is new and the limit of series is reached; raise max_series, or mend what makes so many names"
            }
            Self::BadTopic => "its topic cannot name a series: it is empty, too long, or holds NUL or a wildcard",
        }
    }
}

/// A [`Decoder`] as a [`Rule`].
pub struct EachMessage<D> {
    decoder: D,
    topics: Topics,
    book: SeriesBook,
    wake_us: Option<i64>,
}

impl<D: Decoder> Rule for EachMessage<D> {
    type Config = D::Config;
    const ABOUT: About = D::ABOUT;

    fn new(config: Self::Config) -> Result<Self, String> {
        Ok(Self { decoder: D::new(config)?, topics: Topics::default(), book: SeriesBook::default(), wake_us: None })
    }

    fn declare_topics(&mut self, new: Vec<Topic>) {
        self.topics.declare(new);
    }

    fn retire(&mut self, series: &[SeriesId], partitions: &[PartitionId]) {
        self.book.retire(series);
        self.topics.retire(partitions);
    }

    fn decode(&mut self, call: &mut Call<'_>, batch: Messages) -> Decoded {
        self.book.begin(call.now_us, &mut self.topics);
        let mut out = Out::new(&mut self.book, call.now_us, batch.len());
        out.wake_us = self.wake_us;
        for message in batch.messages(&self.topics) {
            out.begin_row(message.row());
            if let Err(reason) = self.decoder.decode(&message, &mut out).and_then(|()| out.is_whole()) {
                out.reject_row(&reason);
            }
        }
        out.settle(call, &self.topics);
        self.wake_us = out.wake_us;
        Decoded { made: out.made, rejects: out.rejects, held: out.held, commands: out.commands, wake_us: out.wake_us }
    }

    fn tick(&mut self, call: &mut Call<'_>) -> Emitted {
        self.book.begin(call.now_us, &mut self.topics);
        let mut out = Out::new(&mut self.book, call.now_us, 0);
        out.wake_us = self.wake_us.filter(|wake| *wake > call.now_us);
        self.decoder.tick(&mut out);
        out.settle(call, &self.topics);
        self.wake_us = out.wake_us;
        Emitted { points: out.made.points, commands: out.commands, wake_us: out.wake_us, ..Emitted::default() }
    }

    fn state(&mut self) -> State<'_> {
        self.decoder.state()
    }
}

#[cfg(test)]
mod tests;
