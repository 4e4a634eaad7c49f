//! A rule tried on what one gives it: everything it would do is shown, nothing is done. It runs on a scratch instance with books of
//! its own, under the limits of its file, beside the lanes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate_config::RuleFile;
use tidegate_engine::{Instance, Kind, Passage, RawAlert, RawCommand, Rejects, Rule};
use tidegate_model::{Books, Description, Marks, Messages, Points, SeriesId};

use super::json;
use crate::problem::{Mistake, Problem};
use crate::route::{Answer, Call};
use crate::rules::Desk;
use crate::shapes::{TrialAlert, TrialCommand, TrialInput, TrialMessage, TrialOutput, TrialPoint, TrialReject};

/// The most rows of a trial.
const MAX_ROWS: usize = 10_000;
/// Topics and series that a trial may know.
const MAX_SERIES: usize = 100_000;
/// The most points, alerts and commands that are shown, of each.
const MAX_SHOWN: usize = 10_000;

/// A rule that is there: as it is, or with another definition.
pub(crate) async fn existing(call: Call) -> Answer {
    let (house, name) = (call.house.clone(), call.name());
    let input: TrialInput = call.body.json().await?;
    let tried = house.blocking(move |house| {
        let file = match &input.definition {
            Some(definition) => {
                house.desk.rule(&name)?;
                defined_file(&name, definition)?
            }
            None => house.desk.rule(&name)?.file.ok_or_else(|| {
                Problem::conflict("unreadable", format!("{name}.toml cannot be read; give a `definition`"))
            })?,
        };
        try_on(&house.desk, &name, &file, &input)
    });
    Ok(json(tried.await??))
}

/// A rule that is not there yet.
pub(crate) async fn defined(call: Call) -> Answer {
    let house = call.house.clone();
    let input: TrialInput = call.body.json().await?;
    let tried = house.blocking(move |house| {
        let missing =
            || Mistake::new("/definition", "say what the rule is: what would be PUT to /api/v1/rules/{rule}");
        let definition = input.definition.as_ref();
        let definition =
            definition.ok_or_else(|| Problem::unusable("body", "there is no definition", vec![missing()]))?;
        try_on(&house.desk, "trial", &defined_file("trial", definition)?, &input)
    });
    Ok(json(tried.await??))
}

/// Mistakes are told with their place in the body of this request.
pub(super) fn defined_file(name: &str, definition: &Value) -> Result<RuleFile, Problem> {
    let read = RuleFile::from_json(definition, &format!("{name}.toml"));
    read.map(|(file, _)| file).map_err(|errors| Problem::from(errors).below("/definition"))
}

fn try_on(desk: &Desk, name: &str, file: &RuleFile, input: &TrialInput) -> Result<TrialOutput, Problem> {
    if input.messages.len() > MAX_ROWS || input.points.len() > MAX_ROWS {
        let detail = format!("a trial has {MAX_ROWS} rows at most");
        return Err(Problem::unusable("body", detail, Vec::new()));
    }
    let rule = desk
        .examine(name, file)
        .map_err(|problem| if input.definition.is_some() { problem.below("/definition") } else { problem })?;
    let wrong = |field: &str, detail: &str| Problem::unusable("body", detail, vec![Mistake::new(field, detail)]);
    match rule.kind() {
        Kind::Decoder if !input.points.is_empty() => {
            return Err(wrong("/points", "the rule is a decoder: give it messages"));
        }
        Kind::Processor if !input.messages.is_empty() => {
            return Err(wrong("/messages", "the rule is a processor: give it points"));
        }
        _ => {}
    }
    Trial::new(rule)?.run(input)
}

/// A rule, and what it is tried with.
struct Trial {
    rule: Arc<Rule>,
    instance: Instance,
    books: Arc<Books>,
    now_us: i64,
    shown: TrialOutput,
}

impl Trial {
    fn new(rule: Arc<Rule>) -> Result<Self, Problem> {
        let books = Arc::new(Books::new(MAX_SERIES));
        let instance = rule.rehearse(&books)?;
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        Ok(Self { rule, instance, books, now_us, shown: TrialOutput::default() })
    }

    fn run(mut self, input: &TrialInput) -> Result<TrialOutput, Problem> {
        let began = match self.rule.kind() {
            Kind::Decoder => self.decode(&input.messages)?,
            Kind::Processor => self.process(&input.points)?,
        };
        if let Some(at) = input.tick_us.filter(|_| self.shown.fault.is_none() && self.instance.can_tick()) {
            match self.instance.tick(at) {
                Ok(emitted) => {
                    self.show_points(&emitted.points, None);
                    self.show_alerts(emitted.alerts);
                    self.show_commands(emitted.commands);
                }
                Err(fault) => self.shown.fault = Some(fault.to_string()),
            }
        }
        self.shown.nanos = began.elapsed().as_nanos() as u64;
        Ok(self.shown)
    }

    /// Gives when the call began.
    fn decode(&mut self, given: &[TrialMessage]) -> Result<Instant, Problem> {
        let batch = self.messages(given)?;
        let began = Instant::now();
        match self.instance.decode(self.now_us, &batch) {
            Ok(decoded) => {
                self.show_points(&decoded.points, Some(&decoded.from_row));
                self.show_rejects(&decoded.rejects);
                self.show_commands(decoded.commands);
                self.shown.held = decoded.held;
            }
            Err(fault) => self.shown.fault = Some(fault.to_string()),
        }
        Ok(began)
    }

    fn process(&mut self, given: &[TrialPoint]) -> Result<Instant, Problem> {
        let batch = self.points(given)?;
        let began = Instant::now();
        match self.instance.process(self.now_us, &batch) {
            Ok(processed) => {
                self.show_rejects(&processed.rejects);
                self.show_alerts(processed.alerts);
                self.show_commands(processed.commands);
                self.shown.held = processed.held;
                self.show_passage(&batch, processed.passage, &processed.rejects);
            }
            Err(fault) => self.shown.fault = Some(fault.to_string()),
        }
        Ok(began)
    }

    fn messages(&self, given: &[TrialMessage]) -> Result<Messages, Problem> {
        let mut batch = Messages::default();
        for (i, message) in given.iter().enumerate() {
            let place = |field: &str| format!("/messages/{i}/{field}");
            let payload = match (&message.payload, &message.payload_base64) {
                (Some(text), None) => text.as_bytes().to_vec(),
                (None, None) => Vec::new(),
                (None, Some(coded)) => {
                    STANDARD.decode(coded).map_err(|error| refused(place("payload_base64"), error.to_string()))?
                }
                (Some(_), Some(_)) => {
                    return Err(refused(place("payload"), "there is `payload_base64` as well: keep one of them"));
                }
            };
            check_topic(&message.topic, place("topic"))?;
            let topic = self.books.intern_topic(&message.topic, &message.topic);
            let topic = topic.map_err(|error| refused(place("topic"), error.to_string()))?;
            batch.push(topic, message.time_us.unwrap_or(self.now_us), Marks::default(), &payload);
        }
        Ok(batch)
    }

    fn points(&self, given: &[TrialPoint]) -> Result<Points, Problem> {
        let mut batch = Points::default();
        for (i, point) in given.iter().enumerate() {
            let place = || format!("/points/{i}/topic");
            check_topic(&point.topic, place())?;
            let description = Description { unit: point.unit.as_deref().map(Into::into), labels: Vec::new() };
            let series = self.books.intern_partition(&point.topic);
            let series = series.and_then(|partition| self.books.intern_series(&point.topic, partition, description));
            let series = series.map_err(|error| refused(place(), error.to_string()))?;
            let (time, value) = (point.time_us.unwrap_or(self.now_us), point.value.unwrap_or(f64::NAN));
            batch.push(series, time, value, point.quality.unwrap_or(192));
            if let Some(text) = &point.text {
                batch.texts.push(i as u32, text.as_bytes());
            }
        }
        Ok(batch)
    }

    /// What goes on of a processor's batch.
    fn show_passage(&mut self, batch: &Points, passage: Passage, rejects: &Rejects) {
        let gone: Vec<u32> = rejects.row.iter().chain(&self.shown.held).copied().collect();
        let stay = |batch: &Points| -> Vec<u32> {
            (0..batch.time_us.len() as u32).filter(|row| !gone.contains(row)).collect()
        };
        match passage {
            Passage::Unchanged => {
                let rows = stay(batch);
                self.show_points(&batch.gather(&rows), Some(&rows));
            }
            Passage::Keep(rows) => self.show_points(&batch.gather(&rows), Some(&rows)),
            Passage::Values(values) => {
                let changed = Points { value: values, ..batch.clone() };
                let rows = stay(batch);
                self.show_points(&changed.gather(&rows), Some(&rows));
            }
            Passage::Replaced(points, from) => self.show_points(&points, Some(&from)),
            Passage::Added(points, from) => {
                let rows = stay(batch);
                self.show_points(&batch.gather(&rows), Some(&rows));
                self.show_points(&points, Some(&from));
            }
        }
    }

    fn show_points(&mut self, points: &Points, from: Option<&[u32]>) {
        let room = MAX_SHOWN.saturating_sub(self.shown.points.len());
        for (i, &series) in points.series.iter().enumerate().take(room) {
            let known = self.books.series(series);
            let text = points.texts.get(i as u32).map(|text| String::from_utf8_lossy(text).into_owned());
            self.shown.points.push(TrialPoint {
                topic: self.topic(series),
                time_us: points.time_us.get(i).copied(),
                value: points.value.get(i).copied().filter(|value| value.is_finite()),
                text,
                quality: points.quality.get(i).copied(),
                unit: known.and_then(|series| series.description.load().unit.as_ref().map(ToString::to_string)),
                from: from.and_then(|from| from.get(i).copied()),
            });
        }
    }

    fn show_alerts(&mut self, alerts: Vec<RawAlert>) {
        let room = MAX_SHOWN.saturating_sub(self.shown.alerts.len());
        for alert in alerts.into_iter().take(room) {
            self.shown.alerts.push(TrialAlert {
                topic: self.topic(alert.series),
                key: alert.key.to_string(),
                transition: alert.transition.as_str().to_owned(),
                severity: alert.severity.as_str().to_owned(),
                time_us: alert.time_us,
                value: Some(alert.value).filter(|value| value.is_finite()),
                message: alert.message,
            });
        }
    }

    fn show_rejects(&mut self, rejects: &Rejects) {
        let each = |(row, reason): (u32, &str)| TrialReject { row, reason: reason.to_owned() };
        self.shown.rejected = rejects.iter().map(each).collect();
    }

    fn show_commands(&mut self, commands: Vec<RawCommand>) {
        let mut permits: BTreeMap<String, bool> = BTreeMap::new();
        let room = MAX_SHOWN.saturating_sub(self.shown.commands.len());
        for command in commands.into_iter().take(room) {
            let permitted = *permits
                .entry(command.topic.clone())
                .or_insert_with(|| self.rule.commands.iter().any(|filter| filter.matches(&command.topic)));
            self.shown.commands.push(TrialCommand {
                topic: command.topic,
                payload_base64: STANDARD.encode(&command.payload),
                qos: command.qos,
                retain: command.retain,
                permitted,
            });
        }
    }

    fn topic(&self, series: SeriesId) -> String {
        self.books.series_topic(series).to_owned()
    }
}

/// What no broker would let through, no rule is to be tried with.
fn check_topic(topic: &str, place: String) -> Result<(), Problem> {
    if topic.is_empty() || topic.len() > 65_535 || topic.contains(['#', '+', '\0']) {
        return Err(refused(place, "a topic has 1 to 65,535 bytes, and none of `#`, `+` and NUL"));
    }
    Ok(())
}

fn refused(place: String, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    Problem::unusable("body", detail.clone(), vec![Mistake::new(place, detail)])
}
