//! Raises one alert while at least `k` of all the series it is given are beyond a limit at the same time: three of the bearings of a hall,
//! not each of them. A series counts for so long after its last reading, and no longer: one that has fallen silent says nothing.
//!
//! Its state belongs to the node, since the series may be of any partition. The alert stands on a series of its own name.

mod limit;

use serde::{Deserialize, Serialize};
use tidegate_rule::columns::{Emitted, NO_ROW, Outcome, PartitionId, Points};
use tidegate_rule::{
    About, Alarm, Alarms, BySeries, Call, Level, NewSeries, Quality, Reading, Rule, Scope, SeriesId, Severity, State,
    Transition, seconds_to_us,
};

use crate::limit::{Limit, Where};

/// How many, of what, and for how long.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// So many series beyond the limit raise the alert; 1 or more.
    k: u32,
    /// The topic that the alert stands on, such as `plant/hall-2/overheat`.
    topic: String,
    /// A series counts while its value is above this. Give either this or `below`.
    #[serde(default)]
    above: Option<f64>,
    /// A series counts while its value is below this.
    #[serde(default)]
    below: Option<f64>,
    /// How far back behind the limit a value must be before its series counts no more.
    #[serde(default)]
    hysteresis: f64,
    /// How many seconds after its last reading a series counts; 1 or more.
    #[serde(default = "minute")]
    fresh_s: f64,
    /// How much the alert matters.
    #[serde(default)]
    severity: Severity,
}

fn minute() -> f64 {
    60.0
}

/// What is remembered of a series, and of the alert's own.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Member {
    beyond: bool,
    /// Time of the last reading judged, at most the host's.
    last_us: i64,
    /// When the last reading judged came, by the host's clock.
    seen_us: i64,
    /// `seen_us` when it was last marked to be saved. It moves with every reading, and saving it that often would write the whole table every
    /// second.
    #[serde(skip)]
    noted_us: i64,
    /// Of the alert's own series: the alert stands.
    raised: bool,
}

/// The rule.
pub struct KOfN {
    k: usize,
    topic: String,
    limit: Limit,
    fresh_us: i64,
    severity: Severity,
    members: BySeries<Member>,
    /// The alert's own series, once the host has given it an id.
    own: Option<SeriesId>,
    /// How many are beyond the limit; counted anew when nobody knows.
    beyond: Option<usize>,
    /// It has been said that there is no id for the alert's series.
    refused: bool,
}

impl Rule for KOfN {
    type Config = Config;
    const ABOUT: About =
        tidegate_rule::about!("Raises one alert while so many series are beyond a limit at the same time")
            .scope(Scope::Node)
            .tick_ms(1_000)
            .config_schema(include_str!("../config-schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        if config.k == 0 {
            return Err("k is 0; it must be 1 or more".to_owned());
        }
        if config.topic.is_empty() || config.topic.contains(['+', '#', '\0']) {
            return Err(format!("topic is {:?}; it must be a topic without wildcards", config.topic));
        }
        let fresh_us = seconds_to_us("fresh_s", config.fresh_s, 1.0)?;
        Ok(Self {
            k: config.k as usize,
            topic: config.topic,
            limit: Limit::new(config.above, config.below, config.hysteresis)?,
            fresh_us,
            severity: config.severity,
            members: BySeries::default(),
            own: None,
            beyond: None,
            refused: false,
        })
    }

    fn retire(&mut self, series: &[SeriesId], _partitions: &[PartitionId]) {
        if self.own.is_some_and(|own| series.contains(&own)) {
            self.own = None;
        }
        self.beyond = None;
    }

    fn process(&mut self, call: &mut Call<'_>, batch: Points) -> Outcome {
        // Without a row there is nothing to judge, and no partition that the alert's series could join.
        let Some(own) = (!batch.is_empty()).then(|| self.own_series(call, 0)).flatten() else {
            return Outcome::default();
        };
        let mut out = Alarms::new(call.now_us, None);
        self.members.of(own);
        for reading in batch.readings() {
            if reading.series != own && self.judge(&reading, call.now_us) {
                self.decide(own, reading.time_us, &mut out);
            }
        }
        out.into_outcome()
    }

    fn tick(&mut self, call: &mut Call<'_>) -> Emitted {
        let now_us = call.now_us;
        let mut out = Alarms::new(now_us, None);
        let known = self.members.iter_mut().next().is_some();
        // While there is nobody who could count, nothing can stand.
        let Some(own) = (if known { self.own_series(call, NO_ROW) } else { None }) else { return Emitted::default() };
        for (_, member) in self.members.iter_mut() {
            if member.beyond && now_us - member.seen_us >= self.fresh_us {
                member.beyond = false;
                self.beyond = None;
            }
        }
        self.decide(own, now_us, &mut out);
        out.into_emitted()
    }

    fn state(&mut self) -> State<'_> {
        State::by_series(&mut self.members)
    }
}

impl KOfN {
    /// Takes a reading in; gives whether its series has come to count, or counts no more.
    #[inline]
    fn judge(&mut self, reading: &Reading<'_>, now_us: i64) -> bool {
        let state = self.members.of(reading.series);
        let judged = !reading.quality.is_historical()
            && reading.quality.major() >= Quality::UNCERTAIN.major()
            && !reading.value.is_nan()
            && reading.time_us >= state.last_us;
        if !judged {
            return false;
        }
        let member = state.unmarked();
        // A device's clock that runs ahead once must not silence it for years.
        member.last_us = reading.time_us.min(now_us);
        member.seen_us = now_us;
        let beyond = match self.limit.place(reading.value) {
            Where::Beyond => true,
            Where::Between => member.beyond,
            Where::Back => false,
        };
        let changed = beyond != member.beyond;
        if changed || (beyond && now_us - member.noted_us > self.fresh_us / 8) {
            state.noted_us = now_us;
            state.beyond = beyond;
        }
        if changed && let Some(count) = &mut self.beyond {
            *count = if beyond { *count + 1 } else { count.saturating_sub(1) };
        }
        changed
    }

    /// Raises or clears, where the count says so.
    #[cold]
    fn decide(&mut self, own: SeriesId, time_us: i64, out: &mut Alarms) {
        let members = &mut self.members;
        let beyond = *self
            .beyond
            .get_or_insert_with(|| members.iter_mut().filter(|(id, member)| *id != own && member.beyond).count());
        let stands = beyond >= self.k;
        let state = self.members.of(own);
        if state.raised == stands {
            return;
        }
        state.raised = stands;
        let transition = if stands { Transition::Raised } else { Transition::Cleared };
        let (severity, value) = (self.severity, beyond as f64);
        let alarm = Alarm { series: own, time_us, transition, severity, value, key: "" };
        match stands {
            true => out.push(alarm, format_args!("{beyond} series {}, and {} are enough", self.limit, self.k)),
            false => out.push(alarm, format_args!("{beyond} series {}, and it takes {}", self.limit, self.k)),
        }
    }

    /// The id of the alert's own series; asked for once.
    fn own_series(&mut self, call: &mut Call<'_>, from_row: u32) -> Option<SeriesId> {
        if self.own.is_some() {
            return self.own;
        }
        let asked = NewSeries { topic: self.topic.clone(), unit: None, labels: Vec::new(), from_row };
        match call.host.resolve(vec![asked]).pop() {
            Some(Ok(id)) => self.own = Some(id),
            refusal => {
                if !std::mem::replace(&mut self.refused, true) {
                    let why =
                        format!("the host gives the topic {:?} no id, so there is no alert: {refusal:?}", self.topic);
                    call.host.log(Level::Error, &why);
                }
            }
        }
        self.own
    }
}

tidegate_rule::export!(KOfN as processor rule);

#[cfg(test)]
mod tests;
