//! Raises an alert when a series falls silent: no reading for so many seconds, by the host's clock.
//! A series is watched from its first reading until the host retires it.
//!
//! The time the host itself was away counts against nobody: what a restored state says of the last
//! readings is moved up by as long as nothing at all was seen.

use serde::{Deserialize, Serialize};
use tidegate_rule::{About, Alarm, Alarms, Alert, BySeries, Reading, Scope, SeriesId, Severity, Tracked, Transition};

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
pub struct Watch {
    /// When the last reading came, by the host's clock.
    last_us: i64,
    /// `last_us` when it was last marked to be saved. It moves with every reading, and saving it
    /// that often would write the whole table every second.
    #[serde(skip)]
    noted_us: i64,
    absent: bool,
}

/// The rule.
pub struct Absence {
    after_us: i64,
    severity: Severity,
    counts: Counts,
    /// The host's time at this instance's first call.
    began_us: Option<i64>,
    /// How long nothing was seen before this instance's first tick.
    away_us: Option<i64>,
}

impl Alert for Absence {
    type Config = Config;
    type State = Watch;
    const ABOUT: About =
        tidegate_rule::about!("Raises an alert when a series falls silent").scope(Scope::Series).tick_ms(1_000);

    fn new(config: Config) -> Result<Self, String> {
        const YEAR_S: f64 = 366.0 * 86_400.0;
        if !(1.0..=YEAR_S).contains(&config.after_s) {
            return Err(format!("after_s is {}; it must be seconds from 1 to a year", config.after_s));
        }
        Ok(Self {
            after_us: (config.after_s * 1e6).round() as i64,
            severity: config.severity,
            counts: config.quality,
            began_us: None,
            away_us: None,
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
        if now_us - watch.noted_us > self.after_us / 8 {
            state.noted_us = now_us;
        }
    }

    fn tick(&mut self, states: &mut BySeries<Watch>, out: &mut Alarms) {
        let now_us = out.now_us();
        let began_us = *self.began_us.get_or_insert(now_us);
        let away_us = *self.away_us.get_or_insert_with(|| away(states, began_us));
        for (series, state) in states.iter_mut() {
            let grace_us = if state.last_us < began_us { away_us } else { 0 };
            let silent_us = now_us - state.last_us;
            if !state.absent && silent_us - grace_us >= self.after_us {
                state.absent = true;
                self.tell(series, Transition::Raised, silent_us, out);
            }
        }
    }
}

/// How long before this instance began the last reading was seen of any series.
fn away(states: &mut BySeries<Watch>, began_us: i64) -> i64 {
    states
        .iter_mut()
        .map(|(_, state)| state.last_us)
        .filter(|last_us| *last_us < began_us)
        .max()
        .map_or(0, |last_us| began_us - last_us)
}

impl Absence {
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
