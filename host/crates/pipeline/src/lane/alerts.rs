//! What becomes of a rule's standing alerts on a lane where its state does not simply go on: some of it is forgotten, or a shadow serves with its
//! own. The book must say what the rule believes, or an alert stands that nobody ever clears, or one is never raised.
//!
//! An alert is that lane's whose state it stands by: the one that raised it, whatever series it is about. Of what an earlier process has left nobody
//! knows that, until a lane raises it again or clears it; till then the lane of the topic's partition speaks for it, and of a topic that is no
//! series' any more the first.

use hashbrown::HashSet;
use tidegate_engine::{Believed, Rule};
use tidegate_model::{Alert, Delivery, PartitionId, Series, SeriesId, Transition};

use crate::alert_book::key_of;
use crate::lane::{Lane, LaneId, Reset, STATE_GONE};

/// Why alerts are cleared that a promoted shadow does not know.
const NOT_OF_THE_SHADOW: &str = "a generation with a state of its own serves now, by which this does not stand";

impl<L> Lane<L> {
    /// Clears what a rule raised of its state on this lane, which is forgotten: at once, since with its next batch it may raise it again.
    pub(super) fn clear_alerts_of(&mut self, rule: &str, of: Reset, reason: &str) {
        let book = self.around.alert_book.clone();
        // Of a hundred thousand alerts that stand, nearly all are told apart by their topics, without a look into the books.
        let only = if let Reset::Series(only) = of { Some(self.around.books.series_topic(only)) } else { None };
        let about = |topic: &str, by: Option<LaneId>| {
            if only.is_some_and(|only| only != topic) {
                return false;
            }
            let series = self.series_called(topic);
            let asked = match (of, series) {
                (Reset::Everything, _) => true,
                (Reset::Series(only), Some((id, _))) => id == only,
                (Reset::Partition(only), Some((_, series))) => series.partition == only,
                (Reset::Series(_) | Reset::Partition(_), None) => false,
            };
            asked && (by == book.lane() || (by.is_none() && self.speaks_for(series.map(|(_, series)| series))))
        };
        let alerts = book.clear_where(rule, about, self.around.clock.now_us(), reason);
        self.publish(alerts);
    }

    /// Clears what a rule of that name raised before it was forgotten, and of which nobody may have heard that it is cleared: what comes under that name
    /// now does not know of it.
    pub(super) fn clear_void_alerts_of(&mut self, rule: &str) {
        let book = self.around.alert_book.clone();
        let here = |topic: &str| self.speaks_for(self.series_called(topic).map(|(_, series)| series));
        let alerts = book.clear_void(rule, here, self.around.clock.now_us(), STATE_GONE);
        self.publish(alerts);
    }

    /// From now on these alerts of a rule stand on this lane: others are cleared, and what did not stand before is raised.
    pub(super) fn alerts_become(&mut self, rule: &Rule, believed: Believed, now_us: i64) {
        let Believed { raised, unspoken } = believed;
        let book = self.around.alert_book.clone();
        let known: HashSet<_> = raised.iter().map(key_of).collect();
        let nobodys = book.nobodys(&rule.name).into_iter().filter(|alert| match &unspoken {
            // It was told of them, and has raised or cleared those that it has spoken of.
            Some(unspoken) => !unspoken.contains(&(alert.topic.clone(), alert.key.clone())),
            None => self.speaks_for(self.series_called(&alert.topic).map(|(_, series)| series)),
        });
        let gone = book.own(&rule.name).into_iter().chain(nobodys).filter(|alert| !known.contains(&key_of(alert)));
        let cleared = gone.map(|alert| Alert {
            time_us: now_us,
            transition: Transition::Cleared,
            message: NOT_OF_THE_SHADOW.to_owned(),
            ..alert
        });
        let alerts: Vec<Alert> = cleared.chain(raised).filter(|alert| book.publishes(rule, alert)).collect();
        self.publish(alerts);
    }

    fn publish(&mut self, alerts: Vec<Alert>) {
        if !alerts.is_empty() {
            self.send_own(Delivery { alerts, ..Delivery::default() }, None);
        }
    }

    fn series_called(&self, topic: &str) -> Option<(SeriesId, &Series)> {
        let books = &self.around.books;
        let id = SeriesId(books.all_series().find(topic)?);
        Some((id, books.series(id)?))
    }

    /// Whether this lane is the one that speaks for what is nobody's about that series, or about none.
    fn speaks_for(&self, series: Option<&Series>) -> bool {
        self.dealt.has(series.map_or(PartitionId(0), |series| series.partition))
    }
}
