//! Which rule gets which row: worked out once a topic and once a series, then a look into a table.
//!
//! Series that match the same rules share a *route*. A batch has few routes, so whether a rule gets all of it, none of it
//! or some rows is decided by those, not row by row and rule by rule.
//!
//! Where one rule of hundreds changes, a hundred thousand series are not matched with all others again. Each rule's filters have a number, and a new one
//! a number higher than all before; a route knows up to which number it was worked out. A series whose route knows less is matched with what
//! is new when it next comes. A rule that goes is taken out of the few routes that there are. A route that no series has any more is used again.

use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_engine::{Kind, Rule, decoder_of};
use tidegate_model::{Books, Points, SeriesId, TopicFilter, TopicId};

use crate::lane::slot::Slot;

/// Routing tables of one lane.
#[derive(Default)]
pub(crate) struct Routes {
    /// By topic: which of `decoders`, [`NO_DECODER`] or [`UNKNOWN`].
    decoder_of: Vec<u32>,
    /// The slots of the decoders.
    decoders: Vec<u32>,
    /// By series: its route or [`UNKNOWN`].
    route_of: Vec<u32>,
    routes: Vec<Route>,
    /// By route: the last batch that had it. One that is out of date never has that of the batch at hand.
    stamp: Vec<u64>,
    /// Those that are up to date, by their filters.
    by_filters: HashMap<Box<[u32]>, u32>,
    /// Those that no series has any more, to be used again.
    free: Vec<u32>,
    /// The routes of the batch at hand.
    present: Vec<u32>,
    /// By route: where it stands in `present`, if it does.
    place: Vec<u32>,
    batch: u64,
    /// By slot.
    rules: Vec<Known>,
    /// What of the rules of the node, which run on another lane, matches.
    of_node: Option<Filters>,
    /// All of them, by number: those of the processors, and `of_node`.
    filters: Vec<Filters>,
    /// The number of the next ones.
    next: u32,
    /// How often filters were matched with a topic.
    #[cfg(test)]
    looks: usize,
}

/// Series that match the same rules.
struct Route {
    /// The numbers of the filters that match: ascending.
    filters: Box<[u32]>,
    /// All filters below this number have been looked at.
    knows: u32,
    /// How many series have it. Only one that is out of date loses any.
    series: u32,
}

/// What a rule gets.
#[derive(Clone)]
struct Filters {
    number: u32,
    all: Arc<[TopicFilter]>,
}

/// A rule as it is known here.
struct Known {
    name: Arc<str>,
    kind: Kind,
    order: i32,
    filters: Filters,
}

/// What of a rule says what it gets.
pub(crate) struct Routed<'a> {
    pub name: &'a Arc<str>,
    pub kind: Kind,
    pub order: i32,
    pub filters: &'a [TopicFilter],
}

impl<'a> Routed<'a> {
    pub fn of(rule: &'a Rule) -> Self {
        Self { name: &rule.name, kind: rule.kind(), order: rule.order, filters: &rule.filters }
    }
}

const UNKNOWN: u32 = u32::MAX;
const NO_DECODER: u32 = u32::MAX - 1;
/// In the place of a slot: the rules of the node.
pub(crate) const NODE_LANE: usize = usize::MAX;
/// The number of what no series is matched with: a decoder's filters.
const NO_NUMBER: u32 = u32::MAX;
/// The most that routes which are out of date may have of filters, all in all: series that do not come any more keep them.
const MOST_OUTDATED: usize = 1 << 20;

/// Which rows of a batch a processor gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Share {
    None,
    All,
    /// Ascending.
    Some(Vec<u32>),
}

impl Routes {
    /// The rules are these now, in the order of the slots.
    pub fn rules_are<'a>(&mut self, rules: impl Iterator<Item = Routed<'a>>) {
        let mut before: HashMap<Arc<str>, Known> =
            self.rules.drain(..).map(|known| (known.name.clone(), known)).collect();
        let mut decoders_hold = true;
        let mut decoders = Vec::new();
        for (slot, rule) in rules.enumerate() {
            let Routed { name, kind, order, filters } = rule;
            let same = before.remove(name).filter(|known| known.kind == kind && *known.filters.all == *filters);
            if kind == Kind::Decoder {
                decoders_hold &= same.as_ref().is_some_and(|known| known.order == order);
                decoders.push(slot as u32);
            }
            let filters = match (same, kind) {
                (Some(known), _) => known.filters,
                (None, Kind::Decoder) => Filters { number: NO_NUMBER, all: filters.into() },
                (None, Kind::Processor) => Filters { number: self.number(), all: filters.into() },
            };
            self.rules.push(Known { name: name.clone(), kind, order, filters });
        }
        decoders_hold &= before.values().all(|gone| gone.kind != Kind::Decoder);
        if !decoders_hold || decoders.len() != self.decoders.len() {
            self.decoder_of = Vec::new();
        }
        self.decoders = decoders;
        self.filters_changed();
    }

    /// Rows that one of these matches are for [`NODE_LANE`].
    pub fn hand_over(&mut self, rules: &[Arc<Rule>]) {
        self.hand_over_what(rules.iter().flat_map(|rule| rule.filters.clone()).collect());
    }

    fn hand_over_what(&mut self, all: Arc<[TopicFilter]>) {
        if self.of_node.as_ref().is_some_and(|before| before.all == all) {
            return;
        }
        self.of_node = (!all.is_empty()).then(|| Filters { number: self.number(), all });
        self.filters_changed();
    }

    /// Whether any row may be for [`NODE_LANE`].
    #[inline]
    pub fn hands_over(&self) -> bool {
        self.of_node.is_some()
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// Brings the routes in line with the rules: what is gone goes out of them, and what is new they do not know yet.
    fn filters_changed(&mut self) {
        self.present.clear();
        let mut filters = self.numbered();
        filters.sort_unstable_by_key(|filters| filters.number);
        let before = std::mem::replace(&mut self.filters, filters);
        let there = |number: &u32| self.filters.binary_search_by_key(number, |filters| filters.number).is_ok();
        let gone: Vec<u32> = before.iter().map(|filters| filters.number).filter(|number| !there(number)).collect();
        for route in &mut self.routes {
            if gone.iter().any(|number| route.filters.binary_search(number).is_ok()) {
                route.filters = route.filters.iter().copied().filter(there).collect();
            }
        }
        let outdated = self.routes.iter().filter(|route| route.knows != self.next && route.series > 0);
        if outdated.map(|route| 1 + route.filters.len()).sum::<usize>() > MOST_OUTDATED || self.next >= NO_NUMBER / 2
        {
            self.forget();
        }
        let up_to_date =
            self.routes.iter().enumerate().filter(|(_, route)| route.knows == self.next && route.series > 0);
        // Two that have become the same both hold.
        self.by_filters = up_to_date.map(|(at, route)| (route.filters.clone(), at as u32)).collect();
    }

    /// Nothing worked out so far is of use: all is numbered and matched anew.
    fn forget(&mut self) {
        (self.route_of, self.routes, self.stamp, self.next) = (Vec::new(), Vec::new(), Vec::new(), 0);
        (self.free, self.place) = (Vec::new(), Vec::new());
        let of_rules = self.rules.iter_mut().map(|rule| &mut rule.filters);
        let numbered = of_rules.filter(|filters| filters.number != NO_NUMBER).chain(&mut self.of_node);
        for (filters, number) in numbered.zip(0..) {
            filters.number = number;
            self.next = number + 1;
        }
        self.filters = self.numbered();
    }

    /// All filters that series are matched with: those of the processors, and `of_node`.
    fn numbered(&self) -> Vec<Filters> {
        let of_rules = self.rules.iter().map(|rule| &rule.filters).filter(|filters| filters.number != NO_NUMBER);
        of_rules.chain(&self.of_node).cloned().collect()
    }

    /// The slot of the decoder for `topic`.
    #[inline]
    pub fn decoder(&mut self, topic: TopicId, slots: &[Slot], books: &Books) -> Option<usize> {
        let found = match self.decoder_of.get(topic.index()) {
            Some(&known) if known != UNKNOWN => known,
            _ => self.find_decoder(topic, slots, books),
        };
        self.decoders.get(found as usize).map(|&slot| slot as usize)
    }

    #[cold]
    fn find_decoder(&mut self, topic: TopicId, slots: &[Slot], books: &Books) -> u32 {
        let name = books.topic_name(topic);
        let best = decoder_of(name, slots.iter().map(|slot| &**slot.rule()));
        let found = best.and_then(|slot| self.decoders.binary_search(&(slot as u32)).ok());
        let found = found.map_or(NO_DECODER, |at| at as u32);
        grow(&mut self.decoder_of, topic.index(), UNKNOWN);
        self.decoder_of[topic.index()] = found;
        found
    }

    /// Works out the routes of `points`; to be called when the rows have changed, before [`Self::share`].
    pub fn look(&mut self, points: &Points, books: &Books) {
        self.batch += 1;
        self.present.clear();
        for &series in &points.series {
            let route = self.route_of.get(series.index()).copied().unwrap_or(UNKNOWN);
            if self.stamp.get(route as usize) != Some(&self.batch) {
                self.meet(series, route, books);
            }
        }
    }

    /// A series whose route this batch has not had yet, or is out of date or not known at all.
    #[inline(never)]
    fn meet(&mut self, series: SeriesId, route: u32, books: &Books) {
        let holds = self.routes.get(route as usize).is_some_and(|route| route.knows == self.next);
        let route = if holds { route } else { self.find_route(series, route, books) };
        if self.stamp[route as usize] != self.batch {
            self.stamp[route as usize] = self.batch;
            self.place[route as usize] = self.present.len() as u32;
            self.present.push(route);
        }
    }

    #[cold]
    fn find_route(&mut self, series: SeriesId, before: u32, books: &Books) -> u32 {
        let topic = books.series_topic(series);
        let (mut matching, knows) = match self.routes.get_mut(before as usize) {
            Some(route) => {
                route.series -= 1;
                let filters = match route.series {
                    0 => {
                        self.free.push(before);
                        std::mem::take(&mut route.filters).into_vec()
                    }
                    _ => route.filters.to_vec(),
                };
                (filters, route.knows)
            }
            None => (Vec::new(), 0),
        };
        let new = &self.filters[self.filters.partition_point(|filters| filters.number < knows)..];
        #[cfg(test)]
        {
            self.looks += new.len();
        }
        let wants = |filters: &&Filters| filters.all.iter().any(|filter| filter.matches(topic));
        matching.extend(new.iter().filter(wants).map(|filters| filters.number));
        let route = match self.by_filters.get(&*matching) {
            Some(&known) => known,
            None => {
                let at = self.free.pop().unwrap_or_else(|| {
                    self.routes.push(Route { filters: Box::default(), knows: 0, series: 0 });
                    self.stamp.push(0);
                    self.place.push(0);
                    self.routes.len() as u32 - 1
                });
                let filters = matching.into_boxed_slice();
                self.routes[at as usize] = Route { filters: filters.clone(), knows: self.next, series: 0 };
                self.by_filters.insert(filters, at);
                at
            }
        };
        self.routes[route as usize].series += 1;
        grow(&mut self.route_of, series.index(), UNKNOWN);
        self.route_of[series.index()] = route;
        route
    }

    /// What the processor in `slot`, or [`NODE_LANE`], gets of the points last looked at.
    pub fn share(&self, slot: usize, points: &Points) -> Share {
        let filters = match slot {
            NODE_LANE => self.of_node.as_ref(),
            slot => self.rules.get(slot).map(|rule| &rule.filters),
        };
        let Some(&Filters { number, .. }) = filters else { return Share::None };
        let has = |route: u32| self.routes[route as usize].filters.binary_search(&number).is_ok();
        let matching = self.present.iter().filter(|&&route| has(route)).count();
        if matching == 0 {
            return Share::None;
        }
        if matching == self.present.len() {
            return Share::All;
        }
        // By place, so that it is as small as the batch has few routes, however many there are.
        let wanted: Vec<bool> = self.present.iter().map(|&route| has(route)).collect();
        let row_wanted = |series: &SeriesId| wanted[self.place[self.route_of[series.index()] as usize] as usize];
        let rows = points.series.iter().enumerate().filter(|(_, series)| row_wanted(series));
        Share::Some(rows.map(|(row, _)| row as u32).collect())
    }
}

fn grow(table: &mut Vec<u32>, index: usize, with: u32) {
    if table.len() <= index {
        table.resize((index + 1).max(table.len() * 2), with);
    }
}

#[cfg(test)]
mod tests;
