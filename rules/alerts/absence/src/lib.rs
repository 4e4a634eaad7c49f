//! Raises an alert when a series falls silent: no reading for so many seconds, by the host's clock.
//! A series is watched from its first reading until the host retires it.
//!
//! The time the host itself was away counts against nobody: what a restored state says of the last
//! readings is moved up by as long as nothing at all was seen. That a host was there to see nothing is
//! noted with the state: silence of all series is not taken for the host's absence when the rule is swapped.

use serde::{Deserialize, Serialize};
use tidegate_rule::{
    About, Alarm, Alarms, Alert, BySeries, Reading, Scope, SeriesId, Severity, Tracked, Transition, seconds_to_us,
};

/// When a series counts as silent.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many seconds without a reading raise the alert; 1 or more.
    after_s: f64,
    /// How much the alert matters.
    #[serde(default)]
    severity: Severity,
    /// Which readings break the silence.
    #[serde(default)]
    quality: Counts,
}

/// Which readings break a silence.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// All but historical ones.
    #[default]
    Any,
    /// Good ones.
    Good,
}

/// What is remembered of a series.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(from = "Cell", into = "Cell")]
pub struct Watch {
    /// When the last reading came, by the host's clock.
    last_us: i64,
    /// `last_us` when it was last marked to be saved. It moves with every reading, and saving it
    /// that often would write the whole table every second.
    noted_us: i64,
    /// When this rule was last known to look, reading or none; noted with one series of all, 0 with the others.
    looked_us: i64,
    absent: bool,
}

/// A [`Watch`] as it is saved.
#[derive(Serialize, Deserialize)]
struct Cell {
    last_us: i64,
    silence: Silence,
}

/// Whether a series is absent, and when the rule last looked, if that is noted here. The first two are
/// saved as the `false` and `true` that stood here before the others were.
#[derive(Serialize, Deserialize)]
enum Silence {
    Present,
    Absent,
    PresentAt(i64),
    AbsentAt(i64),
}

impl From<Cell> for Watch {
    fn from(Cell { last_us, silence }: Cell) -> Self {
        let (absent, looked_us) = match silence {
            Silence::Present => (false, 0),
            Silence::Absent => (true, 0),
            Silence::PresentAt(looked_us) => (false, looked_us),
            Silence::AbsentAt(looked_us) => (true, looked_us),
        };
        Self { last_us, noted_us: 0, looked_us, absent }
    }
}

impl From<Watch> for Cell {
    fn from(Watch { last_us, looked_us, absent, .. }: Watch) -> Self {
        let silence = match (absent, looked_us) {
            (false, 0) => Silence::Present,
            (true, 0) => Silence::Absent,
            (false, at) => Silence::PresentAt(at),
            (true, at) => Silence::AbsentAt(at),
        };
        Self { last_us, silence }
    }
}

/// The rule.
pub struct Absence {
    after_us: i64,
    severity: Severity,
    counts: Counts,
    /// The host's time at this instance's first call.
    began_us: Option<i64>,
    /// How long nobody looked before this instance's first tick.
    away_us: Option<i64>,
    /// When it was last noted that somebody looks.
    looked_us: i64,
}

impl Alert for Absence {
    type Config = Config;
    type State = Watch;
    const ABOUT: About = tidegate_rule::about!("Raises an alert when a series falls silent")
        .scope(Scope::Series)
        .tick_ms(1_000)
        .config_schema(include_str!("../config-schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            after_us: seconds_to_us("after_s", config.after_s, 1.0)?,
            severity: config.severity,
            counts: config.quality,
            began_us: None,
            away_us: None,
            looked_us: 0,
        })
    }

    #[inline]
    fn check(&mut self, reading: &Reading<'_>, state: &mut Tracked<Watch>, out: &mut Alarms) {
        if reading.quality.is_historical() || (self.counts == Counts::Good && !reading.quality.is_good()) {
            return;
        }
        let now_us = out.now_us();
        self.began_us.get_or_insert(now_us);
        if state.absent {
            let silent_us = now_us - state.last_us;
            state.absent = false;
            self.tell(reading.series, Transition::Cleared, silent_us, out);
        }
        let watch = state.unmarked();
        watch.last_us = now_us;
        if now_us - watch.noted_us > self.note_us() {
            state.noted_us = now_us;
        }
    }

    fn tick(&mut self, states: &mut BySeries<Watch>, out: &mut Alarms) {
        let now_us = out.now_us();
        // The clock may have been set back: what is said to have been later than now was now at the latest.
        let began_us = *self.began_us.insert(self.began_us.map_or(now_us, |began_us| began_us.min(now_us)));
        self.looked_us = self.looked_us.min(now_us);
        let note_us = self.note_us();
        let away_us = *self.away_us.get_or_insert_with(|| {
            let away_us = away(states, began_us);
            // So long nothing may have been noted though somebody looked.
            if away_us <= note_us + NOT_AWAY_US { 0 } else { away_us }
        });
        // With one series only: a table of silent series is not written again and again to say so.
        if now_us - self.looked_us >= note_us
            && let Some((_, state)) = states.iter_mut().next()
        {
            (state.looked_us, self.looked_us) = (now_us, now_us);
        }
        for (series, state) in states.iter_mut() {
            if state.last_us > now_us {
                state.unmarked().last_us = now_us;
            }
            let grace_us = if state.last_us < began_us { away_us } else { 0 };
            let silent_us = now_us - state.last_us;
            if !state.absent && silent_us - grace_us >= self.after_us {
                state.absent = true;
                self.tell(series, Transition::Raised, silent_us, out);
            }
        }
    }
}

/// Between two ticks, and until a successor's first, there is no absence.
const NOT_AWAY_US: i64 = 2_000_000;

/// How long before this instance began the last reading was seen of any series, or somebody looked for one.
fn away(states: &mut BySeries<Watch>, began_us: i64) -> i64 {
    states
        .iter_mut()
        .flat_map(|(_, state)| [state.last_us, state.looked_us])
        .filter(|seen_us| *seen_us < began_us)
        .max()
        .map_or(0, |seen_us| began_us - seen_us)
}

impl Absence {
    /// How far what is saved may be behind.
    fn note_us(&self) -> i64 {
        self.after_us / 8
    }

    #[cold]
    fn tell(&self, series: SeriesId, transition: Transition, silent_us: i64, out: &mut Alarms) {
        let seconds = silent_us / 1_000_000;
        let alarm = Alarm {
            series,
            time_us: out.now_us(),
            transition,
            severity: self.severity,
            value: seconds as f64,
            key: "",
        };
        match transition {
            Transition::Cleared => out.push(alarm, format_args!("back after {seconds} s without a reading")),
            _ => out.push(alarm, format_args!("no reading for {seconds} s")),
        }
    }
}

tidegate_rule::export!(Absence as alert);

#[cfg(test)]
mod tests;
