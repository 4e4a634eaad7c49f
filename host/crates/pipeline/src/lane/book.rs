//! The book of alerts as one lane speaks to it: what it raises is noted as its own, since it stands by the state that this lane has.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_engine::Rule;
use tidegate_model::Alert;

use crate::alert_book::{AlertBook, MAX_STANDING, MAX_STANDING_BYTES, News};
use crate::lane::status::LaneId;

/// The book, and who has it.
#[derive(Clone, Debug)]
pub(crate) struct LaneBook {
    book: Arc<AlertBook>,
    /// None where no lane does.
    lane: Option<LaneId>,
}

impl LaneBook {
    /// In no lane's hands.
    pub fn new(book: AlertBook) -> Self {
        Self { book: Arc::new(book), lane: None }
    }

    /// The same in those of a lane.
    pub fn of(&self, lane: LaneId) -> Self {
        Self { book: self.book.clone(), lane: Some(lane) }
    }

    /// Enters what `rule` says here; gives whether it is to be published. What finds no room is counted, and said once.
    pub fn publishes(&self, rule: &Rule, alert: &Alert) -> bool {
        match self.book.enter_by(alert, self.lane) {
            News::Publish => true,
            News::Known => false,
            News::Refused => {
                if rule.stats.alerts_refused.fetch_add(1, Relaxed) == 0 {
                    tracing::warn!(
                        rule = &*rule.name,
                        "as many alerts of the rule stand as may ({MAX_STANDING}, or {MAX_STANDING_BYTES} bytes of topics, keys and messages): those it raises beside them are not published (said once, counted always)"
                    );
                }
                false
            }
        }
    }

    /// Whose the alerts are that this lane raises.
    pub fn lane(&self) -> Option<LaneId> {
        self.lane
    }

    /// What of a rule stands by the state on this lane.
    pub fn own(&self, rule: &str) -> Vec<Alert> {
        self.book.raised_by(rule, self.lane)
    }

    /// What of a rule stands by nobody knows which lane's state: an earlier process has left it.
    pub fn nobodys(&self, rule: &str) -> Vec<Alert> {
        self.book.raised_by(rule, None)
    }
}

impl Deref for LaneBook {
    type Target = AlertBook;

    fn deref(&self) -> &AlertBook {
        &self.book
    }
}
