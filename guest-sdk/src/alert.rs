//! Alert rules: a reading at a time, with state by series, to what is raised and cleared.

use std::fmt::{self, Write as _};
use std::ops::Range;

use serde::{Serialize, de::DeserializeOwned};

use crate::about::About;
use crate::call::Call;
use crate::columns::{
    Alerts, Command, Emitted, Outcome, PartitionId, Points, Series, SeriesId, Severity, Transition,
};
use crate::reading::Reading;
use crate::rule::Rule;
use crate::state::{BySeries, State, Tracked};

/// A rule that looks at readings and raises and clears alerts. The batch passes unchanged.
///
/// `raise` when the alert is already raised is not published again: the host keeps the book.
pub trait Alert: Sized + 'static {
    /// The rule's configuration; keys it does not have are refused.
    type Config: DeserializeOwned + schemars::JsonSchema;
    /// What is kept for each series, over swaps and restarts. `()` for nothing.
    type State: Default + Serialize + DeserializeOwned + 'static;
    /// What the rule says of itself.
    const ABOUT: About;

    /// An alert rule from its configuration.
    ///
    /// # Errors
    /// A sentence that names the key and what it should be.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Looks at one reading. Changing `state` marks it to be saved; only reading it does not.
    fn check(&mut self, reading: &Reading<'_>, state: &mut Tracked<Self::State>, out: &mut Alarms);

    /// Whether this reading changes nothing, as most do: then it need not be checked, though it may be all the same. For rules that are to cost little: where
    /// that is told with no call to anything else, the readings that pass are gone through in a loop of a few nanoseconds each. It may note what need not be
    /// saved ([`Tracked::unmarked`]).
    #[inline]
    fn passes(&self, reading: &Reading<'_>, state: &mut Tracked<Self::State>, now_us: i64) -> bool {
        let _ = (reading, state, now_us);
        false
    }

    /// Called every `tick-ms` and when a wake-up asked for has come, reading or none.
    fn tick(&mut self, states: &mut BySeries<Self::State>, out: &mut Alarms) {
        let _ = (states, out);
    }

    /// Called once for each series before its first reading, and again when unit or labels change.
    fn declared(&mut self, series: &Series) {
        let _ = series;
    }
}

/// Where alerts go.
pub struct Alarms {
    alerts: Alerts,
    commands: Vec<Command>,
    wake_us: Option<i64>,
    now_us: i64,
}

impl Alarms {
    /// None yet, in a call at that time; `wake_us` is a wake-up asked for before. For a [`Rule`] that raises alerts itself.
    pub fn new(now_us: i64, wake_us: Option<i64>) -> Self {
        Self { alerts: Alerts::default(), commands: Vec::new(), wake_us, now_us }
    }

    /// These alerts and commands as the outcome of a batch, which passes unchanged.
    // What is always empty has no code in a module whose compiler sees that it is.
    #[inline(always)]
    pub fn into_outcome(self) -> Outcome {
        Outcome { alerts: self.alerts, commands: self.commands, wake_us: self.wake_us, ..Outcome::default() }
    }

    /// The same as what a tick has made.
    #[inline(always)]
    pub fn into_emitted(self) -> Emitted {
        Emitted { alerts: self.alerts, commands: self.commands, wake_us: self.wake_us, ..Emitted::default() }
    }

    /// The host's time, microseconds since 1970-01-01 UTC.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// Raises an alert on the reading's series; it stands until cleared.
    pub fn raise(&mut self, reading: &Reading<'_>, severity: Severity, message: fmt::Arguments<'_>) {
        self.push(Alarm::of(reading, Transition::Raised, severity), message);
    }

    /// Clears what was raised on the reading's series.
    pub fn clear(&mut self, reading: &Reading<'_>, severity: Severity, message: fmt::Arguments<'_>) {
        self.push(Alarm::of(reading, Transition::Cleared, severity), message);
    }

    /// Tells of something that has no life of its own.
    pub fn event(&mut self, reading: &Reading<'_>, severity: Severity, message: fmt::Arguments<'_>) {
        self.push(Alarm::of(reading, Transition::Event, severity), message);
    }

    /// Any alert, in full.
    pub fn push(&mut self, alarm: Alarm<'_>, message: fmt::Arguments<'_>) {
        let key = self.intern(alarm.key);
        let alerts = &mut self.alerts;
        alerts.series.push(alarm.series);
        alerts.time_us.push(alarm.time_us);
        alerts.transition.push(alarm.transition);
        alerts.severity.push(alarm.severity);
        alerts.value.push(alarm.value);
        alerts.key.push(key);
        // For most messages in one step: their pieces are a few bytes each.
        alerts.message_bytes.reserve(MESSAGE_BYTES);
        // Adding bytes cannot fail, and a Display that says it did leaves a shorter message.
        let _ = Message(&mut alerts.message_bytes).write_fmt(message);
        alerts.message_ends.push(alerts.message_bytes.len() as u32);
    }

    fn intern(&mut self, key: &str) -> u32 {
        let keys = &mut self.alerts.keys;
        if let Some(index) = keys.iter().position(|known| known == key) {
            return index as u32;
        }
        keys.push(key.to_owned());
        (keys.len() - 1) as u32
    }

    /// Publishes a message, if the rule's file permits the topic.
    pub fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Asks for a tick at this time; the earliest asked for counts.
    pub fn wake_at(&mut self, us: i64) {
        self.wake_us = Some(self.wake_us.map_or(us, |before| before.min(us)));
    }
}

/// How long most messages are.
const MESSAGE_BYTES: usize = 64;

/// The message of an alert as it is written.
struct Message<'a>(&'a mut Vec<u8>);

impl fmt::Write for Message<'_> {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        self.0.extend_from_slice(words.as_bytes());
        Ok(())
    }
}

/// One alert but for its message.
#[derive(Clone, Copy, Debug)]
pub struct Alarm<'a> {
    pub series: SeriesId,
    /// Microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    pub transition: Transition,
    pub severity: Severity,
    pub value: f64,
    /// Tells apart several alerts of one rule on one series; empty for most.
    pub key: &'a str,
}

impl Alarm<'_> {
    /// An alert at a reading, with its value and no key.
    pub fn of(reading: &Reading<'_>, transition: Transition, severity: Severity) -> Self {
        Self { series: reading.series, time_us: reading.time_us, transition, severity, value: reading.value, key: "" }
    }
}

/// An [`Alert`] as a [`Rule`].
pub struct EachReading<A: Alert> {
    alert: A,
    states: BySeries<A::State>,
    wake_us: Option<i64>,
}

/// So many readings are checked at once when one does not pass: then the ones after it may pass again.
const CHECKED_AT_ONCE: usize = 16;

impl<A: Alert> EachReading<A> {
    /// Lets readings of a batch without texts pass, from a row on, up to the first that does not, or whose series' state is not lent yet; gives
    /// that row. A loop without a call, in a function of its own: its few values would be kept in memory instead of registers beside a call, even one
    /// that is hardly ever made.
    #[inline(never)]
    fn pass_numbers(&mut self, batch: &Points, from: usize, now_us: i64) -> usize {
        let (alert, rows) = (&self.alert, from..batch.series.len());
        if size_of::<A::State>() == 0 {
            let mut nothing = Tracked::default();
            batch.each_number(rows, |reading| alert.passes(&reading, &mut nothing, now_us))
        } else {
            let mut states = self.states.lent();
            batch.each_number(rows, |reading| {
                states.get(reading.series).is_some_and(|state| alert.passes(&reading, state, now_us))
            })
        }
    }

    /// Checks the readings of these rows of a batch without texts.
    #[inline(never)]
    fn check_numbers(&mut self, batch: &Points, rows: Range<usize>, out: &mut Alarms) {
        // A rule that keeps nothing gets no table that grows with the fleet.
        let mut nothing = Tracked::default();
        batch.each_number(rows, |reading| {
            let state = if size_of::<A::State>() == 0 { &mut nothing } else { self.states.of(reading.series) };
            self.alert.check(&reading, state, out);
            true
        });
    }

    #[inline(never)]
    fn check_texts(&mut self, batch: &Points, out: &mut Alarms) {
        let mut nothing = Tracked::default();
        for reading in batch.readings() {
            let state = if size_of::<A::State>() == 0 { &mut nothing } else { self.states.of(reading.series) };
            self.alert.check(&reading, state, out);
        }
    }
}

impl<A: Alert> Rule for EachReading<A> {
    type Config = A::Config;
    const ABOUT: About = A::ABOUT;

    fn new(config: Self::Config) -> Result<Self, String> {
        Ok(Self { alert: A::new(config)?, states: BySeries::default(), wake_us: None })
    }

    fn declare_series(&mut self, new: Vec<Series>) {
        for series in &new {
            self.alert.declared(series);
        }
    }

    fn retire(&mut self, _series: &[SeriesId], _partitions: &[PartitionId]) {}

    fn process(&mut self, call: &mut Call<'_>, batch: Points) -> Outcome {
        let mut out = Alarms::new(call.now_us, self.wake_us);
        if batch.texts.row.is_empty() {
            let (mut row, rows) = (0, batch.series.len());
            while row < rows {
                row = self.pass_numbers(&batch, row, out.now_us);
                let next = rows.min(row + CHECKED_AT_ONCE);
                self.check_numbers(&batch, row..next, &mut out);
                row = next;
            }
        } else {
            self.check_texts(&batch, &mut out);
        }
        self.wake_us = out.wake_us;
        out.into_outcome()
    }

    fn tick(&mut self, call: &mut Call<'_>) -> Emitted {
        let pending = self.wake_us.filter(|wake| *wake > call.now_us);
        let mut out = Alarms::new(call.now_us, pending);
        self.alert.tick(&mut self.states, &mut out);
        self.wake_us = out.wake_us;
        out.into_emitted()
    }

    fn state(&mut self) -> State<'_> {
        if size_of::<A::State>() == 0 { State::none() } else { State::by_series(&mut self.states) }
    }
}

#[cfg(test)]
mod tests;
