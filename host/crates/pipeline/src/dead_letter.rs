//! Dead letters made from rows.

use std::borrow::Cow;
use std::sync::Arc;

use tidegate_engine::{Fault, Rule};
use tidegate_model::{Books, DeadLetter, Marks, Messages, RawMessages, Stage};

/// What the letters of rows say that a rule is not given any more.
const PARKED: &str = "parked: the rule failed on this partition again and again, and is not called for it; replayed when it is called again";

/// Why rows cannot be used. Nothing is copied before a letter is made of it.
#[derive(Clone, Debug)]
pub(crate) struct Cause<'a> {
    pub stage: Stage,
    pub rule: Option<&'a Arc<str>>,
    pub module: Option<&'a Arc<str>>,
    pub reason: Cow<'a, str>,
    pub backtrace: Option<&'a str>,
}

impl<'a> Cause<'a> {
    /// Nobody could be given the row.
    pub fn route(reason: impl Into<Cow<'a, str>>) -> Self {
        Self { stage: Stage::Route, rule: None, module: None, reason: reason.into(), backtrace: None }
    }

    /// A rule refused the row.
    pub fn reject(stage: Stage, rule: &'a Rule, reason: impl Into<Cow<'a, str>>) -> Self {
        let (name, module) = (&rule.name, rule.module.sha256());
        Self { stage, rule: Some(name), module: Some(module), reason: reason.into(), backtrace: None }
    }

    /// The rule is not called for the row's partition: it waits in the dead letters until the rule is.
    pub fn parked(rule: &'a Rule) -> Self {
        Self::reject(Stage::Parked, rule, PARKED)
    }

    /// A rule failed on a row; or on one of `rows`, and which one was not found out.
    pub fn fault(stage: Stage, rule: &'a Rule, fault: &'a Fault, rows: usize) -> Self {
        let reason = match rows {
            1 => fault.to_string(),
            _ => format!(
                "the rule failed for too long in one batch to find the row that is at fault, last so: {fault}"
            ),
        };
        Self { backtrace: fault.backtrace.as_deref(), ..Self::reject(stage, rule, reason) }
    }

    /// The letter for `row` of `messages`; without a row, one that says only why.
    pub fn letter(&self, books: &Books, messages: &Messages, row: Option<u32>, source: Arc<str>) -> DeadLetter {
        let mut letter = DeadLetter {
            source,
            topic: "".into(),
            received_us: 0,
            marks: 0,
            payload: Vec::new(),
            properties: Vec::new(),
            stage: self.stage,
            rule: self.rule.cloned(),
            module: self.module.cloned(),
            reason: self.reason.clone().into_owned(),
            backtrace: self.backtrace.map(str::to_owned),
        };
        let Some(row) = row.filter(|&row| (row as usize) < messages.len()) else { return letter };
        let i = row as usize;
        letter.topic = match messages.unnamed(row) {
            Some(name) => name.into(),
            None => books.topic(messages.topic[i]).map(|topic| topic.name.clone()).unwrap_or_default(),
        };
        letter.received_us = messages.received_us[i];
        letter.marks = messages.marks[i];
        letter.payload = messages.payload.get(i).to_vec();
        letter.properties =
            messages.properties.of(row).map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
        letter
    }
}

/// The letter of a message that goes to the sinks that take messages, `raw`, beside: when it is put back, it is not for them.
pub(crate) fn handed_on(mut letter: DeadLetter, raw: &RawMessages) -> DeadLetter {
    if raw.are_of(&letter.source) && !Marks(letter.marks).are_not_raw() {
        letter.marks |= Marks::HANDED_ON.0;
    }
    letter
}
