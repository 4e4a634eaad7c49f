//! What has become of every message, and whether that is as promised.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tidegate_tests::{DeadLetter, Row};

use crate::book::{Line, Road};
use crate::plant::Tally;
use crate::stream::{message, number_of_payload, number_of_row, row};

#[cfg(test)]
mod tests;

/// How many examples of each kind are shown.
const EXAMPLES: usize = 10;

/// The account of a run. Of each message one of `stored`, `dead_lettered`, `broker_lost` or `lost` holds.
#[derive(Debug, Default)]
pub struct Verdict {
    messages: u64,
    by_kafka: u64,
    stored: u64,
    dead_lettered: u64,
    /// The broker had promised it, was killed without it on its disk, and never had it acknowledged by the host.
    broker_lost: u64,
    lost: u64,
    /// Rows and dead letters beyond the first of a message.
    duplicated: u64,
    duplicated_by_kafka: u64,
    /// Of those by MQTT, how many there are beyond what the broker delivered again: what the host itself has written twice.
    written_twice: u64,
    /// Messages the MQTT broker gave to the host beyond the first time.
    redelivered: u64,
    /// Rows and dead letters that are not byte for byte what was sent.
    changed: u64,
    /// Good messages among the dead letters. Bad ones among the rows are `changed`: no row is due for them.
    misjudged: u64,
    /// What the host says of itself, or the run of itself, that must not be.
    complaints: Vec<String>,
    examples: Vec<String>,
}

/// The last line of a run.
#[derive(Debug, Serialize)]
struct Ledger<'a> {
    /// Of the host.
    kills: u64,
    messages: u64,
    stored: u64,
    dead_lettered: u64,
    /// Nothing is configured that may drop, so nothing may be missing with that excuse.
    declared_drops: u64,
    lost: u64,
    duplicated: u64,
    seed: u64,
    /// Of the kills, those at a site in the host's own code, and at which.
    kills_at_failpoints: u64,
    failpoints: &'a BTreeMap<&'static str, u64>,
    broker_kills: u64,
    database_kills: u64,
    stops: u64,
    line_faults: u64,
    reloads: u64,
    messages_by_kafka: u64,
    duplicated_by_kafka: u64,
    broker_lost: u64,
    changed: u64,
    misjudged: u64,
    complaints: u64,
    redelivered: u64,
    written_twice: u64,
    seconds: u64,
}

impl Verdict {
    /// Compares what was sent with what is there. `rows` gives every row to its argument.
    pub fn of(lines: &[Line], rows: impl FnOnce(&mut dyn FnMut(Row)), letters: Vec<DeadLetter>) -> Self {
        let mut verdict = Self { messages: lines.len() as u64, ..Self::default() };
        let (mut as_rows, mut as_letters) = (vec![0_u32; lines.len()], vec![0_u32; lines.len()]);
        rows(&mut |found| {
            let number = number_of_row(&found).filter(|number| row(*number).as_ref() == Some(&found));
            match number.and_then(|number| as_rows.get_mut(number as usize)) {
                Some(times) => verdict.count(times),
                None => verdict.changed(format!("row {found}")),
            }
        });
        for letter in letters {
            let as_sent = |number: &u64| {
                let sent = message(*number);
                sent.topic == letter.topic && sent.payload == letter.payload
            };
            let number = number_of_payload(&letter.payload).filter(as_sent);
            let Some((number, times)) =
                number.and_then(|number| Some((number, as_letters.get_mut(number as usize)?)))
            else {
                verdict.changed(format!("dead letter on {}: {:?}", letter.topic, letter.payload));
                continue;
            };
            verdict.count(times);
            if row(number).is_some() {
                verdict.misjudged += 1;
                verdict.example(format!("good message {number} is dead: {}", letter.reason));
            }
        }
        for (number, line) in lines.iter().enumerate() {
            let written = as_rows[number] + as_letters[number];
            if line.road == Road::Kafka {
                verdict.by_kafka += 1;
                verdict.duplicated_by_kafka += u64::from(written.saturating_sub(1));
            } else {
                verdict.written_twice += u64::from(written.saturating_sub(line.deliveries.max(1)));
                verdict.redelivered += u64::from(line.deliveries.saturating_sub(1));
            }
            match (as_rows[number], as_letters[number]) {
                (1.., _) => verdict.stored += 1,
                (0, 1..) => verdict.dead_lettered += 1,
                (0, 0) => verdict.missing(number, line),
            }
        }
        if lines.is_empty() {
            verdict.complain("not one message was sent".to_owned());
        }
        verdict
    }

    /// Something else that must not be.
    pub fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    /// Whether nothing is missing, so that there is nothing to wait for.
    pub fn complete(&self) -> bool {
        self.lost + self.broker_lost == 0
    }

    /// Whether all is as promised.
    pub fn holds(&self) -> bool {
        self.lost + self.changed + self.misjudged == 0 && self.complaints.is_empty()
    }

    /// The last line of the run.
    pub fn ledger(&self, tally: &Tally, seed: u64, took: Duration) -> String {
        let ledger = Ledger {
            kills: tally.kills,
            messages: self.messages,
            stored: self.stored,
            dead_lettered: self.dead_lettered,
            declared_drops: 0,
            lost: self.lost,
            duplicated: self.duplicated,
            seed,
            kills_at_failpoints: tally.at_failpoints.values().sum(),
            failpoints: &tally.at_failpoints,
            broker_kills: tally.broker_kills,
            database_kills: tally.database_kills,
            stops: tally.stops,
            line_faults: tally.line_faults,
            reloads: tally.reloads,
            messages_by_kafka: self.by_kafka,
            duplicated_by_kafka: self.duplicated_by_kafka,
            broker_lost: self.broker_lost,
            changed: self.changed,
            misjudged: self.misjudged,
            complaints: self.complaints.len() as u64,
            redelivered: self.redelivered,
            written_twice: self.written_twice,
            seconds: took.as_secs(),
        };
        serde_json::to_string(&ledger).expect("numbers are JSON")
    }

    fn missing(&mut self, number: usize, line: &Line) {
        if line.lost_by_broker() {
            self.broker_lost += 1;
        } else {
            self.lost += 1;
            self.example(format!("message {number} is lost: {line:?}"));
        }
    }

    fn count(&mut self, times: &mut u32) {
        self.duplicated += u64::from(*times > 0);
        *times += 1;
    }

    fn changed(&mut self, what: String) {
        self.changed += 1;
        self.example(format!("not as sent: {what}"));
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.examples.iter().chain(&self.complaints) {
            writeln!(f, "  {line}")?;
        }
        let Self { messages, stored, dead_lettered, broker_lost, lost, duplicated, .. } = self;
        write!(
            f,
            "{messages} messages: {stored} stored, {dead_lettered} dead letters, {lost} lost by us, {broker_lost} by the broker; \
             {duplicated} duplicates"
        )
    }
}
