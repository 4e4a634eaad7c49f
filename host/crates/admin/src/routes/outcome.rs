//! What a call of a rule came to, as JSON: for trials and traces.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_engine::{Decoded, Emitted, Processed, RawAlert, RawCommand, Rejects, Rule};
use tidegate_model::{Books, Points};

use super::show;
use crate::shapes::{SeenAlert, TrialCommand, TrialOutput, TrialReject};

/// Takes down what the calls of one rule came to.
pub(super) struct Outcome<'a> {
    rule: &'a Rule,
    books: &'a Books,
    /// The most points, alerts and commands that are shown, of each.
    most: usize,
    /// Bytes of names, texts and payloads that may still be shown.
    room: usize,
    pub shown: TrialOutput,
}

impl<'a> Outcome<'a> {
    /// Shows `most` points, alerts, refusals and commands, of each, with so many bytes in all.
    pub fn new(rule: &'a Rule, books: &'a Books, most: usize, bytes: usize) -> Self {
        Self { rule, books, most, room: bytes, shown: TrialOutput::default() }
    }

    /// Gives the points that go on.
    pub fn decoded(&mut self, decoded: Decoded) -> Points {
        self.points(&decoded.points, Some(&decoded.from_row));
        self.rejects(&decoded.rejects);
        self.commands(decoded.commands);
        self.shown.held = decoded.held;
        decoded.points
    }

    /// Gives what goes on of `batch`, each row with the one it came from.
    pub fn processed(&mut self, batch: &Points, processed: Processed) -> (Points, Vec<u32>) {
        let (points, from) = processed.carried(batch);
        let Processed { alerts, rejects, held, commands, .. } = processed;
        self.rejects(&rejects);
        self.alerts(alerts);
        self.commands(commands);
        self.shown.held = held;
        self.points(&points, Some(&from));
        (points, from)
    }

    pub fn emitted(&mut self, emitted: Emitted) {
        self.points(&emitted.points, None);
        self.alerts(emitted.alerts);
        self.commands(emitted.commands);
    }

    fn points(&mut self, points: &Points, from: Option<&[u32]>) {
        let room = self.most.saturating_sub(self.shown.points.len());
        for row in 0..points.len().min(room) {
            let from = from.and_then(|from| from.get(row).copied());
            let point = show::point(points, row, from, self.books);
            if !self.fits(point.bytes()) {
                return;
            }
            self.shown.points.push(point);
        }
    }

    fn alerts(&mut self, alerts: Vec<RawAlert>) {
        let room = self.most.saturating_sub(self.shown.alerts.len());
        for alert in alerts.into_iter().take(room) {
            let Some(alert) = alert.of(&self.rule.name, self.books) else { continue };
            // All are of one rule, which was asked for.
            let alert = SeenAlert { rule: None, ..SeenAlert::from(&alert) };
            if !self.fits(alert.bytes()) {
                return;
            }
            self.shown.alerts.push(alert);
        }
    }

    fn rejects(&mut self, rejects: &Rejects) {
        for (row, reason) in rejects.iter().take(self.most) {
            if !self.fits(reason.len()) {
                return;
            }
            self.shown.rejected.push(TrialReject { row, reason: reason.to_owned() });
        }
    }

    fn commands(&mut self, commands: Vec<RawCommand>) {
        let mut permits: BTreeMap<String, bool> = BTreeMap::new();
        let room = self.most.saturating_sub(self.shown.commands.len());
        for command in commands.into_iter().take(room) {
            let permitted = *permits
                .entry(command.topic.clone())
                .or_insert_with(|| self.rule.commands.iter().any(|filter| filter.matches(&command.topic)));
            let RawCommand { topic, qos, retain, .. } = command;
            let payload_base64 = STANDARD.encode(&command.payload);
            let command = TrialCommand { topic, payload_base64, qos, retain, permitted };
            if !self.fits(command.bytes()) {
                return;
            }
            self.shown.commands.push(command);
        }
    }

    /// Whether there is room for so much more; once there was not, there is none.
    fn fits(&mut self, bytes: usize) -> bool {
        let left = self.room.checked_sub(bytes);
        self.room = left.unwrap_or(0);
        left.is_some()
    }
}
