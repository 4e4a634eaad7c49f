//! What becomes of a rule's standing alerts on a lane where its state does not simply go on: some of it is forgotten, or a shadow serves with its
//! own. The book must say what the rule believes, or an alert stands that nobody ever clears, or one is never raised.

use std::sync::Arc;

use hashbrown::HashSet;
use tidegate_model::{Alert, Delivery, SeriesId, Transition};

use crate::alert_book::{News, key_of};
use crate::lane::{Lane, Reset};

/// Why alerts are cleared that a promoted shadow does not know.
const NOT_OF_THE_SHADOW: &str = "a generation with a state of its own serves now, by which this does not stand";

impl<L> Lane<L> {
    /// Clears what a rule raised of its state on this lane, which is forgotten: at once, since with its next batch it may raise it again.
    /// Those of no series any more are cleared with everything.
    pub(super) fn clear_alerts_of(&mut self, rule: &str, of: Reset, reason: &str) {
        let (books, lanes) = (&self.around.books, self.lanes);
        let about = |topic: &str| {
            let id = books.all_series().find(topic).map(SeriesId);
            let Some((id, series)) = id.and_then(|id| Some((id, books.series(id)?))) else {
                return of == Reset::Everything;
            };
            let asked = match of {
                Reset::Everything => true,
                Reset::Series(only) => id == only,
                Reset::Partition(only) => series.partition == only,
            };
            asked && series.partition.index() % lanes == self.index
        };
        let alerts = self.around.alert_book.clear_where(rule, about, self.around.clock.now_us(), reason);
        if !alerts.is_empty() {
            self.send_own(Delivery { alerts, ..Delivery::default() }, None);
        }
    }

    /// The alerts of a rule that stand and are of this lane's partitions.
    pub(super) fn standing_of(&self, rule: &str) -> Vec<Alert> {
        let standing = self.around.alert_book.oldest(usize::MAX, |alert| alert.rule == rule);
        let raised = standing.iter().map(|alert| alert.raised());
        raised.filter(|alert| self.is_ours(&alert.topic)).collect()
    }

    /// From now on these alerts of a rule stand on this lane: others are cleared, and what did not stand before is raised.
    pub(super) fn alerts_become(&mut self, rule: &Arc<str>, standing: Vec<Alert>, now_us: i64) {
        let known: HashSet<_> = standing.iter().map(key_of).collect();
        let gone = self.standing_of(rule).into_iter().filter(|alert| !known.contains(&key_of(alert)));
        let cleared = gone.map(|alert| Alert {
            time_us: now_us,
            transition: Transition::Cleared,
            message: NOT_OF_THE_SHADOW.to_owned(),
            ..alert
        });
        let book = self.around.alert_book.clone();
        let alerts: Vec<Alert> = cleared.chain(standing).filter(|alert| book.enter(alert) == News::Publish).collect();
        if !alerts.is_empty() {
            self.send_own(Delivery { alerts, ..Delivery::default() }, None);
        }
    }

    /// Whether this lane is the one that speaks of a series. Of what is known of none, which an earlier run has left, the first lane does.
    fn is_ours(&self, topic: &str) -> bool {
        let books = &self.around.books;
        let series = books.all_series().find(topic).and_then(|id| books.series(SeriesId(id)));
        series.map_or(0, |series| series.partition.index() % self.lanes) == self.index
    }
}
