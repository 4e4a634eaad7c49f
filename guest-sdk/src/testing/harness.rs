//! A rule driven by plain values.
#![allow(clippy::panic, reason = "a test harness tells of a breach by panicking")]

use std::collections::BTreeMap;
use std::panic::Location;

use crate::about::Properties;
use crate::columns::{Alerts, Decoded, Messages, NO_ROW, Outcome, Passage, Points, Series, Topic};
use crate::rule::Rule;
use crate::testing::check;
use crate::testing::host::TestHost;
use crate::testing::native::Native;
use crate::testing::seen::{Input, Seen, SeenAlert, SeenPoint};

/// A rule and the host it believes in.
pub struct RuleTest<R: Rule> {
    rule: Native<R>,
    config: String,
    topics: BTreeMap<String, u32>,
    declared: usize,
}

impl<R: Rule> RuleTest<R> {
    /// A rule with this configuration.
    ///
    /// # Panics
    /// When the rule refuses it; to test that, use [`RuleTest::refusal`].
    #[track_caller]
    pub fn new(config: &str) -> Self {
        match Native::configured(config) {
            Ok(rule) => Self { rule, config: config.to_owned(), topics: BTreeMap::new(), declared: 0 },
            Err(why) => panic!("the rule refuses {config}: {why}"),
        }
    }

    /// What the rule says against this configuration.
    ///
    /// # Panics
    /// When it says nothing.
    #[track_caller]
    pub fn refusal(config: &str) -> String {
        match Native::<R>::configured(config) {
            Ok(_) => panic!("the rule accepts {config}"),
            Err(why) => why,
        }
    }

    /// The host's side: series, log lines, counters.
    pub fn host(&mut self) -> &mut TestHost {
        &mut self.rule.host
    }

    /// Decodes messages, all received at `now_us`.
    ///
    /// # Panics
    /// When the output is one the host refuses.
    #[track_caller]
    pub fn decode(&mut self, now_us: i64, messages: &[(&str, &[u8])]) -> Seen {
        let rows: Vec<_> = messages.iter().map(|(topic, payload)| (*topic, now_us, 0, *payload)).collect();
        self.decode_rows(now_us, &rows)
    }

    /// Decodes messages, each with topic, time received, marks and payload.
    ///
    /// # Panics
    /// When the output is one the host refuses.
    #[track_caller]
    pub fn decode_rows(&mut self, now_us: i64, rows: &[(&str, i64, u8, &[u8])]) -> Seen {
        self.decode_with(now_us, rows, |_| &[])
    }

    /// The same with properties: user properties, headers, and the key as `kafka.key`, as the host gives those of each row to a rule that asks for them.
    ///
    /// # Panics
    /// When the output is one the host refuses.
    #[track_caller]
    pub fn decode_with<'p>(
        &mut self,
        now_us: i64,
        rows: &[(&str, i64, u8, &[u8])],
        properties: impl Fn(usize) -> &'p [(String, String)],
    ) -> Seen {
        let mut batch = Messages::default();
        let mut new = Vec::new();
        let wanted = R::ABOUT.properties == Properties::Wanted;
        for (row, (topic, received_us, marks, payload)) in rows.iter().enumerate() {
            let next = self.topics.len() as u32;
            let id = *self.topics.entry((*topic).to_owned()).or_insert_with(|| {
                new.push(Topic { id: next, name: (*topic).to_owned(), partition: next });
                next
            });
            batch.push(id, *received_us, *marks, payload);
            for (name, value) in properties(row).iter().filter(|_| wanted) {
                batch.push_property(name, value.as_bytes());
            }
        }
        self.rule.declare_topics(new);
        let decoded = self.rule.decode(now_us, batch);
        let known = self.known();
        accept(check::produced(&decoded.made, rows.len(), known));
        let from = &decoded.made.from_row;
        accept(check::rejects(&decoded.rejects, rows.len(), from));
        self.seen_of_decoded(decoded, rows.len())
    }

    /// Processes readings as one batch.
    ///
    /// # Panics
    /// When the output is one the host refuses.
    #[track_caller]
    pub fn process(&mut self, now_us: i64, readings: &[Input<'_>]) -> Seen {
        let mut batch = Points::default();
        for reading in readings {
            let id = self.rule.host.know(reading.topic, reading.unit);
            if let Some(unit) = reading.unit
                && self.rule.host.series(id).and_then(|series| series.unit.as_deref()) != Some(unit)
                && id as usize >= self.declared
            {
                self.rule.host.set_unit(id, unit);
            }
            batch.push_with_text(id, reading.time_us, reading.value, reading.quality.bits(), reading.text);
        }
        self.declare_new();
        let before = batch.clone();
        let outcome = self.rule.process(now_us, batch);
        let known = self.known();
        let from = accept(check::passage(&outcome.passage, readings.len(), known));
        accept(check::rejects(&outcome.rejects, readings.len(), &from));
        accept(check::alerts(&outcome.alerts, known));
        let seen = self.seen_of_outcome(outcome, &before);
        self.declare_changed();
        seen
    }

    /// Ticks.
    ///
    /// # Panics
    /// When the output is one the host refuses.
    #[track_caller]
    pub fn tick(&mut self, now_us: i64) -> Seen {
        let emitted = self.rule.tick(now_us);
        let known = self.known();
        accept(check::points(&emitted.points, known));
        accept(check::alerts(&emitted.alerts, known));
        let seen = Seen {
            points: self.seen_points(&emitted.points, None),
            alerts: self.seen_alerts(&emitted.alerts),
            commands: emitted.commands,
            wake_us: emitted.wake_us,
            ..Seen::default()
        };
        self.declare_changed();
        seen
    }

    /// Tells the rule that a topic's series, and the partition it stands in, is gone.
    pub fn retire(&mut self, topic: &str) {
        let series: Vec<u32> = self.rule.host.id_of(topic).into_iter().collect();
        let partitions: Vec<u32> = self.topics.get(topic).copied().into_iter().collect();
        self.rule.retire(&series, &partitions);
    }

    /// Saves the state in parts of at most `max_bytes`, and goes on with a fresh instance that
    /// restored them: what a swap does.
    ///
    /// # Panics
    /// When the rule does not read what it wrote.
    #[track_caller]
    pub fn restart(&mut self, max_bytes: u32) {
        let version = R::ABOUT.version;
        let mut parts = vec![self.rule.save(true, max_bytes)];
        while parts.last().is_some_and(|part| part.more) {
            parts.push(self.rule.save(true, max_bytes));
        }
        let host = std::mem::take(&mut self.rule.host);
        self.rule = accept(Native::with_host(&self.config, host));
        let mut topics: Vec<Topic> =
            self.topics.iter().map(|(name, id)| Topic { id: *id, name: name.clone(), partition: *id }).collect();
        topics.sort_by_key(|topic| topic.id);
        self.rule.declare_topics(topics);
        self.declared = 0;
        self.declare_new();
        for part in &parts {
            accept(self.rule.restore(version, part));
        }
    }

    fn known(&self) -> usize {
        (0..).take_while(|id| self.rule.host.series(*id).is_some()).count()
    }

    fn declare_new(&mut self) {
        let known = self.known();
        let new: Vec<Series> =
            (self.declared..known).filter_map(|id| self.rule.host.series(id as u32).cloned()).collect();
        self.declared = known;
        if !new.is_empty() {
            self.rule.declare_series(new);
        }
    }

    /// As the host does: what a rule changes of a series is declared to every rule, itself included.
    fn declare_changed(&mut self) {
        let changed: Vec<Series> = std::mem::take(&mut self.rule.host.changed)
            .into_iter()
            .filter_map(|id| self.rule.host.series(id).cloned())
            .collect();
        if !changed.is_empty() {
            self.rule.declare_series(changed);
        }
    }

    fn seen_of_decoded(&mut self, decoded: Decoded, rows: usize) -> Seen {
        self.rule.host.changed.clear();
        let mut seen = Seen {
            points: self.seen_points(&decoded.made.points, Some(&decoded.made.from_row)),
            rejects: seen_rejects(&decoded.rejects),
            held: decoded.held.iter().map(|row| *row as usize).collect(),
            commands: decoded.commands,
            wake_us: decoded.wake_us,
            ..Seen::default()
        };
        seen.filtered = filtered(rows, &seen);
        seen
    }

    fn seen_of_outcome(&self, outcome: Outcome, batch: &Points) -> Seen {
        let rows: Vec<u32> = (0..batch.len() as u32).collect();
        let mut seen = Seen {
            alerts: self.seen_alerts(&outcome.alerts),
            rejects: seen_rejects(&outcome.rejects),
            held: outcome.held.iter().map(|row| *row as usize).collect(),
            commands: outcome.commands,
            wake_us: outcome.wake_us,
            ..Seen::default()
        };
        match outcome.passage {
            Passage::Unchanged => seen.unchanged = true,
            Passage::Keep(keep) => {
                let all = self.seen_points(batch, Some(&rows));
                seen.points = keep.iter().filter_map(|row| all.get(*row as usize).cloned()).collect();
            }
            Passage::Values(value) => {
                let batch = Points { value, ..batch.clone() };
                seen.points = self.seen_points(&batch, Some(&rows));
                // Rows that are rejected or held do not go on with the others.
                let gone: Vec<usize> =
                    seen.rejects.iter().map(|(row, _)| *row).chain(seen.held.iter().copied()).collect();
                seen.points.retain(|point| point.row.is_none_or(|row| !gone.contains(&row)));
            }
            Passage::Replaced(made) => {
                seen.points = self.seen_points(&made.points, Some(&made.from_row));
            }
            Passage::Added(made) => {
                seen.unchanged = true;
                seen.points = self.seen_points(&made.points, Some(&made.from_row));
            }
        }
        if !seen.unchanged {
            seen.filtered = filtered(batch.len(), &seen);
        }
        seen
    }

    fn seen_points(&self, points: &Points, from_row: Option<&[u32]>) -> Vec<SeenPoint> {
        points
            .readings()
            .map(|reading| {
                let series = self.rule.host.series(reading.series);
                SeenPoint {
                    topic: series.map(|series| series.topic.clone()).unwrap_or_default(),
                    time_us: reading.time_us,
                    value: (!reading.value.is_nan()).then_some(reading.value),
                    text: reading.text.map(str::to_owned),
                    quality: reading.quality.bits(),
                    unit: series.and_then(|series| series.unit.clone()),
                    labels: series.map(|series| series.labels.clone()).unwrap_or_default(),
                    row: from_row
                        .and_then(|from| from.get(reading.row()))
                        .filter(|row| **row != NO_ROW)
                        .map(|row| *row as usize),
                }
            })
            .collect()
    }

    fn seen_alerts(&self, alerts: &Alerts) -> Vec<SeenAlert> {
        let mut start = 0;
        (0..alerts.series.len())
            .map(|row| {
                let end = alerts.message_ends[row] as usize;
                let message = String::from_utf8_lossy(&alerts.message_bytes[start..end]).into_owned();
                start = end;
                SeenAlert {
                    topic: self
                        .rule
                        .host
                        .series(alerts.series[row])
                        .map(|series| series.topic.clone())
                        .unwrap_or_default(),
                    time_us: alerts.time_us[row],
                    transition: alerts.transition[row],
                    severity: alerts.severity[row],
                    value: (!alerts.value[row].is_nan()).then_some(alerts.value[row]),
                    key: alerts.keys[alerts.key[row] as usize].clone(),
                    message,
                }
            })
            .collect()
    }
}

fn seen_rejects(rejects: &crate::columns::Rejects) -> Vec<(usize, String)> {
    rejects
        .row
        .iter()
        .zip(&rejects.reason)
        .map(|(row, reason)| (*row as usize, rejects.reasons[*reason as usize].clone()))
        .collect()
}

fn filtered(rows: usize, seen: &Seen) -> Vec<usize> {
    (0..rows)
        .filter(|row| {
            !seen.points.iter().any(|point| point.row == Some(*row))
                && !seen.rejects.iter().any(|(rejected, _)| rejected == row)
                && !seen.held.contains(row)
        })
        .collect()
}

#[track_caller]
fn accept<T>(judged: Result<T, String>) -> T {
    match judged {
        Ok(value) => value,
        Err(why) => panic!("the host would refuse this output: {why} (at {})", Location::caller()),
    }
}
