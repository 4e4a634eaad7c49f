//! What has become of every message, and whether that is as promised.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tidegate_tests::{Host, Postgres};

use crate::book::{Book, Line};
use crate::plant::Tally;
use crate::stream::{message, number_of_payload, number_of_row, row};

/// mosquitto saves after a hundred changes, which under load is many times a second; but a turn of its loop that writes a
/// long queue to disk takes its time.
const BROKER_WINDOW: Duration = Duration::from_secs(2);

/// How many examples of each kind are shown.
const EXAMPLES: usize = 10;

/// The account of a run. Of each message either of `stored`, `dead_lettered`, `broker_lost` or `lost` holds.
#[derive(Debug, Default)]
pub struct Verdict {
    messages: u64,
    stored: u64,
    dead_lettered: u64,
    /// The broker acknowledged it, was killed at once, and never had it acknowledged by the host.
    broker_lost: u64,
    lost: u64,
    /// Rows and dead letters beyond the first of a message.
    duplicated: u64,
    /// Of these, how many there are beyond what the broker delivered again: what the host itself has written twice.
    written_twice: u64,
    /// Messages the broker gave to the host beyond the first time.
    redelivered: u64,
    /// Rows and dead letters that are not byte for byte what was sent.
    changed: u64,
    /// Good messages among the dead letters.
    misjudged: u64,
    examples: Vec<String>,
}

/// The last line of a run.
#[derive(Debug, Serialize)]
struct Ledger {
    kills: u64,
    messages: u64,
    stored: u64,
    dead_lettered: u64,
    /// Nothing is configured that may drop, so nothing may be missing with that excuse.
    declared_drops: u64,
    lost: u64,
    duplicated: u64,
    seed: u64,
    written_twice: u64,
    redelivered: u64,
    broker_lost: u64,
    changed: u64,
    misjudged: u64,
    broker_kills: u64,
    database_kills: u64,
    stops: u64,
    line_faults: u64,
    reloads: u64,
    seconds: u64,
}

impl Verdict {
    /// Reads everything there is.
    pub fn of(book: &Book, database: &Postgres, host: &Host) -> Self {
        let lines = book.all();
        let mut verdict = Self { messages: lines.len() as u64, ..Self::default() };
        let (mut rows, mut letters) = (vec![0_u32; lines.len()], vec![0_u32; lines.len()]);
        database.each_row(|found| {
            match number_of_row(&found).filter(|number| row(*number).as_ref() == Some(&found)) {
                Some(number) if (number as usize) < lines.len() => verdict.count(&mut rows[number as usize]),
                _ => verdict.changed(format!("row {found}")),
            }
        });
        for letter in host.dead_letters() {
            let sent = |number: &u64| {
                let sent = message(*number);
                sent.topic == letter.topic && sent.payload == letter.payload
            };
            match number_of_payload(&letter.payload).filter(sent) {
                Some(number) if (number as usize) < lines.len() => {
                    verdict.count(&mut letters[number as usize]);
                    if row(number).is_some() {
                        verdict.misjudged += 1;
                        verdict.example(format!("good message {number} is dead: {}", letter.reason));
                    }
                }
                _ => verdict.changed(format!("dead letter on {}: {:?}", letter.topic, letter.payload)),
            }
        }
        for (number, line) in lines.into_iter().enumerate() {
            let written = rows[number] + letters[number];
            verdict.written_twice += u64::from(written.saturating_sub(line.deliveries.max(1)));
            verdict.redelivered += u64::from(line.deliveries.saturating_sub(1));
            match (rows[number], letters[number]) {
                (1.., _) => verdict.stored += 1,
                (0, 1..) => verdict.dead_lettered += 1,
                (0, 0) => verdict.missing(number, line, book),
            }
        }
        verdict
    }

    /// Whether nothing is missing, so that there is nothing to wait for.
    pub fn complete(&self) -> bool {
        self.lost + self.broker_lost == 0
    }

    /// Whether all is as promised.
    pub fn holds(&self) -> bool {
        self.lost + self.changed + self.misjudged == 0
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
            written_twice: self.written_twice,
            redelivered: self.redelivered,
            broker_lost: self.broker_lost,
            changed: self.changed,
            misjudged: self.misjudged,
            broker_kills: tally.broker_kills,
            database_kills: tally.database_kills,
            stops: tally.stops,
            line_faults: tally.line_faults,
            reloads: tally.reloads,
            seconds: took.as_secs(),
        };
        serde_json::to_string(&ledger).expect("numbers are JSON")
    }

    fn missing(&mut self, number: usize, line: Line, book: &Book) {
        let before_end = book.taken_before_end(line);
        if !line.settled && before_end.is_some_and(|time| time <= BROKER_WINDOW) {
            self.broker_lost += 1;
            return;
        }
        self.lost += 1;
        let Line { taken_ms, settled, .. } = line;
        let said = if settled { "acknowledged by the host" } else { "never acknowledged by the host" };
        self.example(format!(
            "message {number} is lost: taken by the broker at {taken_ms:?} ms, {before_end:?} before it was killed; {said}"
        ));
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
        for example in &self.examples {
            writeln!(f, "  {example}")?;
        }
        let Self { messages, stored, dead_lettered, broker_lost, lost, .. } = self;
        write!(
            f,
            "{messages} messages: {stored} stored, {dead_lettered} dead letters, {lost} lost by us, {broker_lost} by the broker"
        )
    }
}
