//! A rule tried on what one gives it: everything it would do is shown, nothing is done. It runs on a scratch instance with books of
//! its own, under the limits of its file, beside the lanes.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate_config::RuleFile;
use tidegate_engine::{Instance, Kind, Rule};
use tidegate_model::{Books, Description, Marks, Messages, Points};

use super::outcome::Outcome;
use super::{json, now_us};
use crate::problem::{Mistake, Problem};
use crate::route::{Answer, Call};
use crate::rules::Desk;
use crate::shapes::{SeenPoint, TrialInput, TrialMessage, TrialOutput};

/// The most rows of a trial.
const MAX_ROWS: usize = 10_000;
/// Topics and series that a trial may know.
const MAX_SERIES: usize = 100_000;
/// The most points, alerts and commands that are shown, of each.
const MAX_SHOWN: usize = 10_000;
/// Names, texts and payloads of those have so many bytes in all.
const MAX_SHOWN_BYTES: usize = 8 << 20;

/// A rule that is there: as it is, or with another definition.
pub(crate) async fn existing(call: Call) -> Answer {
    let (app, name) = (call.app.clone(), call.name());
    let input: TrialInput = call.body.json().await?;
    let tried = app.blocking(move |app| {
        let file = match &input.definition {
            Some(definition) => {
                app.desk.rule(&name)?;
                defined_file(&name, definition)?
            }
            None => app.desk.rule(&name)?.file.ok_or_else(|| {
                Problem::conflict("unreadable", format!("{name}.toml cannot be read; give a `definition`"))
            })?,
        };
        try_on(&app.desk, &name, &file, &input).map(json)
    });
    tried.await?
}

/// A rule that is not there yet.
pub(crate) async fn defined(call: Call) -> Answer {
    let app = call.app.clone();
    let input: TrialInput = call.body.json().await?;
    let tried = app.blocking(move |app| {
        let missing =
            || Mistake::new("/definition", "say what the rule is: what would be PUT to /api/v1/rules/{rule}");
        let definition = input.definition.as_ref();
        let definition =
            definition.ok_or_else(|| Problem::unusable("body", "there is no definition", vec![missing()]))?;
        try_on(&app.desk, "trial", &defined_file("trial", definition)?, &input).map(json)
    });
    tried.await?
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
        .examine_candidate(name, file)
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
}

impl Trial {
    fn new(rule: Arc<Rule>) -> Result<Self, Problem> {
        let books = Arc::new(Books::new(MAX_SERIES));
        let instance = rule.rehearse(&books)?;
        Ok(Self { rule, instance, books, now_us: now_us() })
    }

    fn run(mut self, input: &TrialInput) -> Result<TrialOutput, Problem> {
        let (rule, books) = (self.rule.clone(), self.books.clone());
        let mut outcome = Outcome::new(&rule, &books, MAX_SHOWN, MAX_SHOWN_BYTES);
        let began = match self.rule.kind() {
            Kind::Decoder => self.decode(&input.messages, &mut outcome)?,
            Kind::Processor => self.process(&input.points, &mut outcome)?,
        };
        if let Some(at) = input.tick_us.filter(|_| outcome.shown.fault.is_none() && self.instance.can_tick()) {
            match self.instance.tick(at) {
                Ok(emitted) => outcome.emitted(emitted),
                Err(fault) => outcome.shown.fault = Some(fault.to_string()),
            }
        }
        outcome.shown.nanos = began.elapsed().as_nanos() as u64;
        Ok(outcome.shown)
    }

    /// Gives when the call began.
    fn decode(&mut self, given: &[TrialMessage], outcome: &mut Outcome<'_>) -> Result<Instant, Problem> {
        let batch = self.messages(given)?;
        let began = Instant::now();
        match self.instance.decode(self.now_us, &batch) {
            Ok(decoded) => drop(outcome.decoded(decoded)),
            Err(fault) => outcome.shown.fault = Some(fault.to_string()),
        }
        Ok(began)
    }

    fn process(&mut self, given: &[SeenPoint], outcome: &mut Outcome<'_>) -> Result<Instant, Problem> {
        let batch = self.points(given)?;
        let began = Instant::now();
        match self.instance.process(self.now_us, &batch) {
            Ok(processed) => drop(outcome.processed(&batch, processed)),
            Err(fault) => outcome.shown.fault = Some(fault.to_string()),
        }
        Ok(began)
    }

    fn messages(&self, given: &[TrialMessage]) -> Result<Messages, Problem> {
        let mut batch = Messages::default();
        for (i, message) in given.iter().enumerate() {
            let place = |field: &str| format!("/messages/{i}/{field}");
            let payload = payload(message, place)?;
            let topic = self.books.intern_topic(&message.topic, &message.topic);
            let topic = topic.map_err(|error| refused(place("topic"), error.to_string()))?;
            let row = batch.push(topic, message.time_us.unwrap_or(self.now_us), Marks::default(), &payload);
            put_properties(&mut batch, row, message, place)?;
        }
        Ok(batch)
    }

    fn points(&self, given: &[SeenPoint]) -> Result<Points, Problem> {
        let mut batch = Points::default();
        for (i, point) in given.iter().enumerate() {
            let place = || format!("/points/{i}/topic");
            check_topic(&point.topic, place())?;
            let labels = point.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let description = Description { unit: point.unit.as_deref().map(Into::into), labels };
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
}

/// The bytes of a message that can be one; `place` says where a field of it stands in the body.
pub(super) fn payload(message: &TrialMessage, place: impl Fn(&str) -> String) -> Result<Vec<u8>, Problem> {
    check_topic(&message.topic, place("topic"))?;
    match (&message.payload, &message.payload_base64) {
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, None) => Ok(Vec::new()),
        (None, Some(coded)) => {
            STANDARD.decode(coded).map_err(|error| refused(place("payload_base64"), error.to_string()))
        }
        (Some(_), Some(_)) => Err(refused(place("payload"), "there is `payload_base64` as well: keep one of them")),
    }
}

/// Gives a row the properties of its message; `place` says where a field of that stands in the body.
pub(super) fn put_properties(
    batch: &mut Messages,
    row: u32,
    message: &TrialMessage,
    place: impl Fn(&str) -> String,
) -> Result<(), Problem> {
    for (i, property) in message.properties.iter().enumerate() {
        let wrong = |(field, what)| refused(place(&format!("properties/{i}/{field}")), what);
        batch.properties.push(row, &property.key, &property.bytes().map_err(wrong)?);
    }
    Ok(())
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
