//! The account over a run: what was sent is stored or dead-lettered, byte for byte, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::message::{Expect, Message, Row};
use crate::store::DeadLetter;

/// How many examples of each kind of difference a failing test shows.
const EXAMPLES: usize = 5;

/// What was sent against what is there.
#[derive(Debug, Default)]
pub struct Account {
    /// Due, and not there.
    lost: Vec<String>,
    /// There, and not due: other bytes than were sent, for one.
    foreign: Vec<String>,
    /// There more often than due.
    doubled: Vec<String>,
    rows: usize,
    dead_letters: usize,
}

impl Account {
    /// Draws it up.
    pub fn of<'a>(
        sent: impl IntoIterator<Item = &'a Message>,
        rows: impl IntoIterator<Item = Row>,
        dead_letters: &[DeadLetter],
    ) -> Self {
        let (mut due_rows, mut due_letters) = (BTreeMap::new(), BTreeMap::new());
        for message in sent {
            match &message.expect {
                Expect::Rows(rows) => rows.iter().for_each(|row| *due_rows.entry(row.clone()).or_default() += 1),
                Expect::DeadLetter => {
                    *due_letters.entry((message.topic.clone(), message.payload.clone())).or_default() += 1;
                }
            }
        }
        let timeless: BTreeSet<String> =
            due_rows.keys().filter(|row: &&Row| row.time_us.is_none()).map(|row| row.topic.clone()).collect();
        let mut there_rows: BTreeMap<Row, usize> = BTreeMap::new();
        for mut row in rows {
            if timeless.contains(&row.topic) {
                row.time_us = None;
            }
            *there_rows.entry(row).or_default() += 1;
        }
        let mut there_letters: BTreeMap<(String, Vec<u8>), usize> = BTreeMap::new();
        for letter in dead_letters {
            *there_letters.entry((letter.topic.clone(), letter.payload.clone())).or_default() += 1;
        }
        let mut account =
            Self { rows: there_rows.values().sum(), dead_letters: dead_letters.len(), ..Self::default() };
        account.compare(&due_rows, &there_rows, |row| format!("row {row}"));
        account.compare(&due_letters, &there_letters, |(topic, payload)| {
            let why = dead_letters.iter().find(|letter| letter.topic == *topic && letter.payload == *payload);
            let reason = why.map(|letter| format!(", dead for: {}", letter.reason)).unwrap_or_default();
            let start = String::from_utf8_lossy(&payload[..payload.len().min(100)]);
            format!("dead letter on {topic}, {} bytes: {start:?}{reason}", payload.len())
        });
        account
    }

    fn compare<K: Ord>(&mut self, due: &BTreeMap<K, usize>, there: &BTreeMap<K, usize>, show: impl Fn(&K) -> String) {
        for (key, &times) in due {
            let found = there.get(key).copied().unwrap_or(0);
            self.lost.extend((found..times).map(|_| show(key)));
            self.doubled.extend((times..found).map(|_| show(key)));
        }
        for (key, &times) in there.iter().filter(|(key, _)| !due.contains_key(key)) {
            self.foreign.extend((0..times).map(|_| show(key)));
        }
    }

    /// Whether all that is due is there.
    pub fn complete(&self) -> bool {
        self.lost.is_empty()
    }

    /// How many are there more often than due.
    pub fn doubled(&self) -> usize {
        self.doubled.len()
    }

    /// Fails unless all that was sent is there, once, and nothing else.
    pub fn assert_exact(&self, what: &str) {
        self.assert_nothing_lost(what);
        assert!(self.doubled.is_empty(), "{what}: doubled\n{self}");
    }

    /// Fails unless all that was sent is there, at least once, and nothing else.
    pub fn assert_nothing_lost(&self, what: &str) {
        assert!(self.lost.is_empty(), "{what}: lost\n{self}");
        assert!(self.foreign.is_empty(), "{what}: there is what was not sent\n{self}");
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows and {} dead letters are there", self.rows, self.dead_letters)?;
        for (word, all) in [("lost", &self.lost), ("foreign", &self.foreign), ("doubled", &self.doubled)] {
            writeln!(f, "{word}: {}", all.len())?;
            for each in all.iter().take(EXAMPLES) {
                writeln!(f, "  {each}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::plain;

    fn rows(messages: &[Message]) -> Vec<Row> {
        let rows = |message: &Message| match &message.expect {
            Expect::Rows(rows) => rows.clone(),
            Expect::DeadLetter => Vec::new(),
        };
        messages.iter().flat_map(rows).collect()
    }

    fn letter(message: &Message) -> DeadLetter {
        DeadLetter {
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            source: String::new(),
            stage: String::new(),
            rule: None,
            module: None,
            reason: String::new(),
            backtrace: None,
        }
    }

    /// Guarantees: the account sees what is lost, doubled, changed by a bit, or in the wrong place; the suite's other tests
    /// can fail.
    #[test]
    fn sees_every_difference() {
        let sent = [plain("dev/a", 1, 1.5), plain("dev/b", 2, 2.5), Message::poison("dev/c", "x")];
        let (good, dead) = (rows(&sent), [letter(&sent[2])]);
        Account::of(&sent, good.clone(), &dead).assert_exact("all there");

        let counts = |rows: Vec<Row>, dead: &[DeadLetter]| {
            let account = Account::of(&sent, rows, dead);
            (account.lost.len(), account.foreign.len(), account.doubled.len())
        };
        assert_eq!(counts(good[1..].to_vec(), &dead), (1, 0, 0), "a row is lost");
        assert_eq!(counts(good.clone(), &[]), (1, 0, 0), "a dead letter is lost");
        assert_eq!(counts([good.clone(), good.clone()].concat(), &dead), (0, 0, 2), "rows are doubled");
        let mut changed = good.clone();
        changed[0].value = changed[0].value.map(|bits| bits ^ 1);
        assert_eq!(counts(changed, &dead), (1, 1, 0), "a bit has changed");
        assert_eq!(counts(good[1..].to_vec(), &[letter(&sent[0]), dead[0].clone()]), (1, 1, 0), "dead instead");
    }
}
