//! The batch at hand: what becomes of its messages, gathered while the rules run.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_engine::{RawAlert, RawCommand, Rule};
use tidegate_model::{
    Alert, Books, Command, DeadLetter, Delivery, DescribedAs, Messages, NO_ROW, PointLedger, Quality, RawMessages,
};

use crate::dead_letter::{Cause, handed_on};
use crate::lane::batch::Fate;
use crate::lane::book::LaneBook;
use crate::lane::flow::Flow;

/// The most commands taken from one call.
const MAX_COMMANDS: usize = 1_000;

/// A batch while the rules run on it.
pub(crate) struct Work<'a> {
    pub messages: &'a Messages,
    pub books: &'a Books,
    /// The messages that sinks take as they came.
    pub raw: &'a RawMessages,
    pub alert_book: &'a LaneBook,
    /// The source of a row.
    pub source_of: &'a dyn Fn(u32) -> Arc<str>,
    pub now_us: i64,
    /// How each message ends.
    pub fates: Vec<Fate>,
    pub account: Account,
    alerts: Vec<Alert>,
    commands: Vec<Command>,
    dead_letters: Vec<DeadLetter>,
    /// The message of the last of them.
    last_letter_of: Option<u32>,
    /// Points of that message which were refused after it by the same rule, for other reasons than the letter gives.
    others: usize,
}

/// The batch's line in the points' account.
#[derive(Default)]
pub(crate) struct Account {
    pub produced: u64,
    pub generated: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub held: u64,
}

impl<'a> Work<'a> {
    pub fn new(
        messages: &'a Messages,
        (books, raw): (&'a Books, &'a RawMessages),
        alert_book: &'a LaneBook,
        source_of: &'a dyn Fn(u32) -> Arc<str>,
        now_us: i64,
        fates: Vec<Fate>,
    ) -> Self {
        Self {
            messages,
            books,
            raw,
            alert_book,
            source_of,
            now_us,
            fates,
            account: Account::default(),
            alerts: Vec::new(),
            commands: Vec::new(),
            dead_letters: Vec::new(),
            last_letter_of: None,
            others: 0,
        }
    }

    /// A message that could not become points.
    pub fn dead_letter_message(&mut self, row: u32, cause: &Cause<'_>) {
        self.fates[row as usize] = Fate::DeadLettered;
        self.letter(Some(row), cause);
    }

    /// A point that cannot go on; its message goes to the dead letters, once for each rule that refuses some of it.
    pub fn dead_letter_point(&mut self, origin: u32, cause: &Cause<'_>) {
        self.account.dead_lettered += 1;
        self.letter(Some(origin).filter(|&row| row != NO_ROW), cause);
    }

    fn letter(&mut self, row: Option<u32>, cause: &Cause<'_>) {
        // Many points of one message are refused one after the other: one letter speaks for them, whatever the reasons. It has the whole message
        // in it, and a letter a point would make of a large one as many as it has points. Two messages may well be the same to the byte, and each
        // has its own.
        let last = self.dead_letters.last().filter(|_| row.is_some() && self.last_letter_of == row);
        if let Some(last) = last
            && last.stage == cause.stage
            && last.rule.as_ref() == cause.rule
        {
            self.others += usize::from(last.reason != cause.reason);
            return;
        }
        self.count_others();
        let source = row.map(|row| (self.source_of)(row)).unwrap_or_default();
        self.dead_letters.push(handed_on(cause.letter(self.books, self.messages, row, source), self.raw));
        self.last_letter_of = row;
    }

    /// The last letter is whole: says in it for how many others it speaks.
    fn count_others(&mut self) {
        let others = std::mem::take(&mut self.others);
        if let Some(last) = self.dead_letters.last_mut().filter(|_| others > 0) {
            last.reason += &format!(" (and {others} more of its points for other reasons)");
        }
    }

    /// Rows a rule let fall.
    pub fn filtered(&mut self, rule: &Rule, rows: u64) {
        self.account.filtered += rows;
        rule.stats.filtered.fetch_add(rows, Relaxed);
    }

    /// Alerts of a rule: those that are news are published.
    pub fn alerts(&mut self, rule: &Rule, raw: Vec<RawAlert>) {
        let said = raw.into_iter().filter_map(|raw| raw.of(&rule.name, self.books));
        self.alerts.extend(said.filter(|alert| self.alert_book.publishes(rule, alert)));
    }

    /// Commands of a rule: those its file permits are published.
    pub fn commands(&mut self, rule: &Rule, raw: Vec<RawCommand>) {
        for (i, raw) in raw.into_iter().enumerate() {
            let permitted = i < MAX_COMMANDS
                && !raw.topic.is_empty()
                && !raw.topic.contains(['+', '#', '\0'])
                && rule.commands.iter().any(|filter| filter.matches(&raw.topic));
            if !permitted {
                if rule.stats.commands_refused.fetch_add(1, Relaxed) == 0 {
                    tracing::warn!(
                        rule = &*rule.name,
                        topic = raw.topic,
                        "the rule sent a command to a topic that `commands` in its file does not permit; it was not published (said once, counted always)"
                    );
                }
                continue;
            }
            rule.stats.commands.fetch_add(1, Relaxed);
            self.commands.push(Command {
                rule: rule.name.clone(),
                topic: raw.topic,
                payload: raw.payload,
                qos: raw.qos.min(1),
                retain: raw.retain,
            });
        }
    }

    /// Closes the batch: enters its account, and gives what goes to the sinks and how the messages end.
    pub fn close(mut self, mut flow: Flow, ledger: &PointLedger, store_points: bool) -> (Delivery, Vec<Fate>) {
        self.count_others();
        if !store_points {
            self.account.filtered += flow.points.len() as u64;
            flow = Flow::default();
        } else if flow.points.quality.iter().any(|quality| quality & Quality::NOT_STORED != 0) {
            let gone: Vec<bool> = flow.points.quality.iter().map(|q| q & Quality::NOT_STORED != 0).collect();
            self.account.filtered += gone.iter().filter(|&&gone| gone).count() as u64;
            flow.change(&gone, Default::default());
        }
        ledger.produced.fetch_add(self.account.produced, Relaxed);
        ledger.generated.fetch_add(self.account.generated, Relaxed);
        ledger.filtered.fetch_add(self.account.filtered, Relaxed);
        ledger.dead_lettered.fetch_add(self.account.dead_lettered, Relaxed);
        ledger.held.fetch_add(self.account.held, Relaxed);
        let delivery = Delivery {
            points: flow.points,
            described: DescribedAs::now(self.books),
            from_row: flow.from_row,
            alerts: self.alerts,
            commands: self.commands,
            dead_letters: self.dead_letters,
            ..Delivery::default()
        };
        (delivery, self.fates)
    }
}
