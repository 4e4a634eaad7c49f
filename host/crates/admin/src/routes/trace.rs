//! One message through every rule that serves: what each was given, what it made of it, and how the message would end.
//!
//! It runs beside the lanes, on scratch instances of the very generations that serve, with books of its own and without state: what a
//! rule remembers of earlier messages is not there. Nothing is stored, published or counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_engine::{Kind, Rule, decoder_of};
use tidegate_model::{Books, Marks, Messages, NO_ROW, Points, Quality};
use tidegate_pipeline::{Fate, Wanted};

use super::outcome::Outcome;
use super::{json, now_us, place, show, tail, trial};
use crate::app_state::AppState;
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{SeenMessage, SeenPoint, TraceNext, TraceOutput, TraceStep, TrialMessage, limit};

/// How long the next message is waited for, where nothing is said, and at most.
const WITHIN_S: u32 = 10;
const MAX_WITHIN_S: u32 = 60;
/// The largest message that is traced as it passes.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// The most rules that are shown.
const MAX_STEPS: usize = 128;
/// The most points, alerts and commands of one rule that are shown, of each.
const MAX_SHOWN: usize = 200;
/// The most bytes that all steps show, of names, texts and payloads.
const MAX_SHOWN_BYTES: usize = 4 << 20;
/// Of a step that has more, no more is taken down: it is told in short.
const TOO_MUCH_BYTES: usize = 2 * MAX_SHOWN_BYTES;
/// Names that a trace may know.
const MAX_NAMES: usize = 100_000;

/// A message that is given.
pub(crate) async fn given(call: Call) -> Answer {
    let app = call.app.clone();
    let message: TrialMessage = call.body.json().await?;
    traced(&app, as_given(&message)?).await
}

/// The next one that passes.
pub(crate) async fn next(call: Call) -> Answer {
    let app = call.app.clone();
    let next: TraceNext = call.body.json().await?;
    let passed = as_passed(&app, next).await?;
    traced(&app, passed).await
}

async fn traced(app: &Arc<AppState>, (books, messages, seen): Given) -> Answer {
    // One that is given comes from no source, so that only who takes those of all takes it.
    let raw = app.view.pipeline.raw_messages().are_of(seen.source.as_deref().unwrap_or_default());
    let not_raw = messages.marks.first().is_some_and(|&marks| Marks(marks).are_not_raw());
    let unused = if raw && !not_raw { Fate::Stored } else { Fate::Filtered };
    app.blocking(move |app| Chain::new(app, books, unused).run(&messages, seen).map(json)).await?
}

type Given = (Arc<Books>, Messages, SeenMessage);

fn as_given(message: &TrialMessage) -> Result<Given, Problem> {
    let place = |field: &str| format!("/{field}");
    let payload = trial::payload(message, place)?;
    let time_us = message.time_us.unwrap_or_else(now_us);
    let (books, mut messages) = (Arc::new(Books::new(MAX_NAMES)), Messages::default());
    let topic = books.intern_topic(&message.topic, &message.topic);
    let topic = topic.map_err(|error| Problem::internal(error.to_string()))?;
    let row = messages.push(topic, time_us, Marks::default(), &payload);
    trial::put_properties(&mut messages, row, message, place)?;
    let seen = show::message(&messages, 0, &books);
    Ok((books, messages, seen))
}

/// The next message that passes through a lane and is wanted, with how it ended there.
async fn as_passed(app: &AppState, next: TraceNext) -> Result<Given, Problem> {
    let topics = next.topic.map(|text| text.parse()).transpose().map_err(tail::wrong_topic)?;
    let within = Duration::from_secs(limit(next.within_s, WITHIN_S, MAX_WITHIN_S)?.into());
    let wanted = Wanted {
        topics,
        messages: true,
        points: false,
        alerts: false,
        rows_per_s: 1,
        payload_bytes: MAX_PAYLOAD_BYTES,
    };
    let mut tail = app.view.pipeline.tail(wanted).map_err(|_| tail::too_many())?;
    let none = || {
        let detail = format!("no such message passed within {} s", within.as_secs());
        Problem::new(axum::http::StatusCode::NOT_FOUND, "no_message", detail)
    };
    let glimpse = tokio::time::timeout(within, tail.next()).await.map_err(|_| none())?;
    let seen = tail::message(&glimpse, 0, &app.view.books);
    let (books, mut messages) = (Arc::new(Books::new(MAX_NAMES)), Messages::default());
    let topic = books.intern_topic(&seen.topic, &seen.topic).map_err(|error| Problem::internal(error.to_string()))?;
    let marks = glimpse.messages.marks.first().copied().unwrap_or_default();
    messages.push(topic, seen.time_us, Marks(marks), glimpse.messages.payload.get(0));
    glimpse.messages.properties.of(0).for_each(|(key, value)| messages.properties.push(0, key, value));
    Ok((books, messages, seen))
}

/// The rules that serve, in the order they run in.
struct Chain {
    rules: Vec<Arc<Rule>>,
    books: Arc<Books>,
    now_us: i64,
    /// How the message ends if no rule does anything with it: where a sink takes it as it came, it is stored.
    unused: Fate,
    steps: Vec<TraceStep>,
    /// Bytes that may still be shown.
    room: usize,
}

/// How the message would end, and why where that is not plain.
type End = (Fate, Option<String>);

impl Chain {
    fn new(app: &AppState, books: Arc<Books>, unused: Fate) -> Self {
        let mut rules = app.view.registry.serving();
        rules.sort_by_cached_key(|rule| place(rule));
        Self { rules, books, now_us: now_us(), unused, steps: Vec::new(), room: MAX_SHOWN_BYTES }
    }

    fn run(mut self, messages: &Messages, message: SeenMessage) -> Result<TraceOutput, Problem> {
        let (mut points, (fate, reason)) = self.decode(messages, &message.topic)?;
        let processors: Vec<Arc<Rule>> =
            self.rules.iter().filter(|rule| rule.kind() == Kind::Processor).cloned().collect();
        for rule in &processors {
            if points.is_empty() || self.steps.len() >= MAX_STEPS {
                break;
            }
            points = self.process(rule, points)?;
        }
        let stored = |row: &u32| points.quality.get(*row as usize).is_some_and(|q| q & Quality::NOT_STORED == 0);
        let rows: Vec<u32> = (0..points.len() as u32).filter(stored).collect();
        let shown = rows.iter().take(MAX_SHOWN).map(|&row| show::point(&points, row as usize, None, &self.books));
        let points_out = rows.len() as u64;
        let mut room = MAX_SHOWN_BYTES;
        let fits = |point: &SeenPoint| {
            let left = room.checked_sub(point.bytes());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let points = shown.take_while(fits).collect();
        Ok(TraceOutput { message, ended: fate.as_str().to_owned(), reason, steps: self.steps, points, points_out })
    }

    fn decode(&mut self, messages: &Messages, topic: &str) -> Result<(Points, End), Problem> {
        let at = decoder_of(topic, self.rules.iter().map(|rule| &**rule));
        let Some(rule) = at.and_then(|at| self.rules.get(at).cloned()) else {
            let end = match self.unused {
                Fate::Stored => (Fate::Stored, None),
                _ => (Fate::DeadLettered, Some("no decoder's topics match".to_owned())),
            };
            return Ok((Points::default(), end));
        };
        let mut instance = rule.rehearse(&self.books)?;
        let mut outcome = Outcome::new(&rule, &self.books, MAX_SHOWN, TOO_MUCH_BYTES);
        let began = Instant::now();
        let called = instance.decode(self.now_us, messages);
        outcome.shown.nanos = began.elapsed().as_nanos() as u64;
        let (points, end) = match called {
            Err(fault) => {
                let reason = fault.to_string();
                outcome.shown.fault = Some(reason.clone());
                (Points::default(), (Fate::DeadLettered, Some(reason)))
            }
            Ok(decoded) => {
                let reason = decoded.rejects.iter().next().map(|(_, reason)| reason.to_owned());
                let held = !decoded.held.is_empty();
                let points = outcome.decoded(decoded);
                let fate = match (&reason, held || !points.is_empty()) {
                    (Some(_), _) => Fate::DeadLettered,
                    (None, true) => Fate::Decoded,
                    (None, false) => self.unused,
                };
                (points, (fate, reason))
            }
        };
        let did = outcome.shown;
        let rows_out = points.len() as u64;
        self.take(TraceStep { given: Vec::new(), rows_in: 1, rows_out, did, ..step(&rule) });
        Ok((points, end))
    }

    /// Keeps a step, without its rows where there is no room for them.
    fn take(&mut self, step: TraceStep) {
        let left = self.room.checked_sub(step.bytes());
        self.steps.push(if left.is_some() { step } else { step.in_short() });
        self.room = left.unwrap_or(self.room);
    }

    /// Gives what goes on after `rule`. Rows it is not given stay where they stood; those of a call that fails end here, though in a
    /// lane only those do that it fails on.
    fn process(&mut self, rule: &Arc<Rule>, flow: Points) -> Result<Points, Problem> {
        let wants = |row: &u32| {
            flow.series.get(*row as usize).is_some_and(|series| rule.wants(self.books.series_topic(*series)))
        };
        let (given, rest): (Vec<u32>, Vec<u32>) = (0..flow.len() as u32).partition(wants);
        if given.is_empty() {
            return Ok(flow);
        }
        let part = flow.gather(&given);
        let mut instance = rule.rehearse(&self.books)?;
        let mut outcome = Outcome::new(rule, &self.books, MAX_SHOWN, TOO_MUCH_BYTES);
        let began = Instant::now();
        let called = instance.process(self.now_us, &part);
        outcome.shown.nanos = began.elapsed().as_nanos() as u64;
        let (points, from) = match called {
            Ok(processed) => outcome.processed(&part, processed),
            Err(fault) => {
                outcome.shown.fault = Some(fault.to_string());
                Default::default()
            }
        };
        let did = outcome.shown;
        let rows = 0..part.len().min(MAX_SHOWN);
        self.take(TraceStep {
            given: rows.map(|row| show::point(&part, row, None, &self.books)).collect(),
            rows_in: part.len() as u64,
            rows_out: points.len() as u64,
            did,
            ..step(rule)
        });
        let place = |row: &u32| given.get(*row as usize).copied().unwrap_or(NO_ROW);
        let mut all = flow.gather(&rest);
        all.append(&points);
        let places: Vec<u32> = rest.iter().copied().chain(from.iter().map(place)).collect();
        let mut order: Vec<u32> = (0..places.len() as u32).collect();
        order.sort_by_key(|&row| places.get(row as usize).copied());
        Ok(all.gather(&order))
    }
}

fn step(rule: &Rule) -> TraceStep {
    TraceStep {
        rule: rule.name.to_string(),
        kind: rule.kind().as_str().to_owned(),
        generation: rule.generation,
        given: Vec::new(),
        rows_in: 0,
        rows_out: 0,
        did: Default::default(),
    }
}
