//! Which rule gets which row: worked out once a topic and once a series, then a look into a table.
//!
//! Series that match the same rules share a *route*. A batch has few routes, so whether a rule gets all of it, none of it
//! or some rows is decided by those, not row by row and rule by rule.

use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_engine::{Kind, Rule, decoder_of};
use tidegate_model::{Books, Points, SeriesId, TopicId};

use crate::lane::slot::Slot;

/// Routing tables of one lane. Emptied when the rules change.
#[derive(Default)]
pub(crate) struct Routes {
    /// By topic: the index of its decoder's slot, [`NO_DECODER`] or [`UNKNOWN`].
    decoder_of: Vec<u32>,
    /// By series: its route or [`UNKNOWN`].
    route_of: Vec<u32>,
    /// By route: the slots that match, ascending; [`NODE_LANE`] last.
    routes: Vec<Box<[u32]>>,
    by_slots: HashMap<Box<[u32]>, u32>,
    /// The routes of the batch at hand.
    present: Vec<u32>,
    stamp: Vec<u64>,
    batch: u64,
    /// Rules of the node, which run on another lane.
    node_rules: Arc<[Arc<Rule>]>,
}

const UNKNOWN: u32 = u32::MAX;
const NO_DECODER: u32 = u32::MAX - 1;
/// In a route, the last slot: rules of the node match too.
pub(crate) const NODE_LANE: usize = (u32::MAX - 2) as usize;

/// Which rows of a batch a processor gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Share {
    None,
    All,
    /// Ascending.
    Some(Vec<u32>),
}

impl Routes {
    /// The rules have changed: nothing worked out so far holds.
    pub fn forget(&mut self) {
        *self = Self { batch: self.batch, node_rules: self.node_rules.clone(), ..Self::default() };
    }

    /// Rows that one of these matches are for [`NODE_LANE`].
    pub fn hand_over(&mut self, rules: Arc<[Arc<Rule>]>) {
        self.node_rules = rules;
        self.forget();
    }

    /// Whether any row may be for [`NODE_LANE`].
    #[inline]
    pub fn hands_over(&self) -> bool {
        !self.node_rules.is_empty()
    }

    /// The slot of the decoder for `topic`.
    #[inline]
    pub fn decoder(&mut self, topic: TopicId, slots: &[Slot], books: &Books) -> Option<usize> {
        let found = match self.decoder_of.get(topic.index()) {
            Some(&known) if known != UNKNOWN => known,
            _ => self.find_decoder(topic, slots, books),
        };
        (found != NO_DECODER).then_some(found as usize)
    }

    #[cold]
    fn find_decoder(&mut self, topic: TopicId, slots: &[Slot], books: &Books) -> u32 {
        let name = books.topic_name(topic);
        let best = decoder_of(name, slots.iter().map(|slot| &**slot.rule()));
        let found = best.map_or(NO_DECODER, |i| i as u32);
        grow(&mut self.decoder_of, topic.index(), UNKNOWN);
        self.decoder_of[topic.index()] = found;
        found
    }

    /// Works out the routes of `points`; to be called when the rows have changed, before [`Self::share`].
    pub fn look(&mut self, points: &Points, slots: &[Slot], books: &Books) {
        self.batch += 1;
        self.present.clear();
        for &series in &points.series {
            let route = match self.route_of.get(series.index()) {
                Some(&known) if known != UNKNOWN => known,
                _ => self.find_route(series, slots, books),
            };
            if self.stamp[route as usize] != self.batch {
                self.stamp[route as usize] = self.batch;
                self.present.push(route);
            }
        }
    }

    #[cold]
    fn find_route(&mut self, series: SeriesId, slots: &[Slot], books: &Books) -> u32 {
        let topic = books.series_topic(series);
        let matches = |rule: &Rule| rule.kind() == Kind::Processor && rule.wants(topic);
        let matching = (0..slots.len()).filter(|&i| matches(slots[i].rule())).map(|i| i as u32);
        let to_node = self.node_rules.iter().any(|rule| rule.wants(topic)).then_some(NODE_LANE as u32);
        let matching: Box<[u32]> = matching.chain(to_node).collect();
        let route = match self.by_slots.get(&matching) {
            Some(&known) => known,
            None => {
                let new = self.routes.len() as u32;
                self.routes.push(matching.clone());
                self.stamp.push(0);
                self.by_slots.insert(matching, new);
                new
            }
        };
        grow(&mut self.route_of, series.index(), UNKNOWN);
        self.route_of[series.index()] = route;
        route
    }

    /// What the processor in `slot`, or [`NODE_LANE`], gets of the points last looked at.
    pub fn share(&self, slot: usize, points: &Points) -> Share {
        let has = |route: u32| self.routes[route as usize].binary_search(&(slot as u32)).is_ok();
        let matching = self.present.iter().filter(|&&route| has(route)).count();
        if matching == 0 {
            return Share::None;
        }
        if matching == self.present.len() {
            return Share::All;
        }
        let wanted: Vec<bool> = (0..self.routes.len()).map(|route| has(route as u32)).collect();
        let row_wanted = |series: &SeriesId| wanted[self.route_of[series.index()] as usize];
        let rows = points.series.iter().enumerate().filter(|(_, series)| row_wanted(series));
        Share::Some(rows.map(|(row, _)| row as u32).collect())
    }
}

fn grow(table: &mut Vec<u32>, index: usize, with: u32) {
    if table.len() <= index {
        table.resize((index + 1).max(table.len() * 2), with);
    }
}
