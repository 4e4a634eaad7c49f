//! A batch that the rule fails on is taken apart: what its instances stand on meanwhile, and who is to blame.
//!
//! Every fault costs an instance, and to give a new one the state of a hundred thousand series takes tenths of a second. So that is done once a batch: the
//! instance that has it all is laid aside, and those that are tried on parts of the batch are given the state of its partitions only, where that
//! is all that a rule may look at for them. In the end the one that was laid aside is given, unheard, what went well.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use tidegate_engine::{Fault, Instance, LoadError, Rule, Scope, thread_cpu};
use tidegate_model::{Books, Messages, PartitionId, Points, SavedState, StateBook};

use super::Slot;
use crate::lane::patience::{Patience, sole};

/// Of fewer cells than this each new instance is given all.
const FEW_CELLS: usize = 1_000;

/// What is to become of what the rule failed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// It is poison: one row, or as little as there was patience to find.
    Found,
    /// The poison is somewhere in there.
    Within,
}

/// The instance that has all the state, from before the batch, and of that the cells of the batch's partitions.
pub(super) struct LaidAside {
    whole: Instance,
    pub cells: StateBook,
}

/// A batch, or a part of it.
#[derive(Clone, Copy)]
pub(crate) enum Tried<'a> {
    Messages(&'a Messages),
    Points(&'a Points),
}

impl Tried<'_> {
    fn len(self) -> usize {
        match self {
            Tried::Messages(messages) => messages.len(),
            Tried::Points(points) => points.len(),
        }
    }
}

impl Slot {
    /// The instance has failed on `tried`, in a call that began at `call` where there is a clock: another one is put in its place. Poison that is found
    /// is an episode of its partition; where it is not known whose it is, the whole rule's.
    pub fn failed_on(
        &mut self,
        tried: Tried<'_>,
        fault: &Fault,
        call: Option<Duration>,
        patience: &mut Patience,
    ) -> Poison {
        let now = thread_cpu();
        let first = patience.failed(fault, call, now);
        let spent = patience.is_spent(&self.rule.limits, now);
        self.replace(fault);
        if tried.len() > 1 && !spent {
            if first {
                patience.revived(thread_cpu());
                self.lay_aside(tried);
            }
            return Poison::Within;
        }
        patience.found();
        match sole(self.partitions_of(tried)) {
            Some(partition) => self.episode(partition, fault),
            None => self.gave_up(fault),
        }
        Poison::Found
    }

    /// The batch is done with: if the rule has failed in it, the instance has all the state again, and what that took of the lane counts.
    pub fn done_with(&mut self, patience: &Patience) {
        let Some(fault) = patience.last_fault() else { return };
        self.put_together();
        let too_much = self.toll.enter(patience.since_first(thread_cpu()), Instant::now(), &self.rule.limits);
        if too_much && self.instance.is_some() {
            self.quarantine(&format!(
                "to set right what it fails on takes too much of a lane's time, last so: {fault}"
            ));
        }
    }

    pub(super) fn put_together(&mut self) {
        let Some(LaidAside { mut whole, .. }) = self.laid_aside.take() else { return };
        let again = self.replay_log.replay(&mut whole);
        self.instance = Some(whole);
        match again {
            Ok(()) => drop(self.rule.stats.replayed.fetch_add(self.replay_log.len() as u64, Relaxed)),
            Err(fault) => self.replace(&fault),
        }
        self.note_size();
    }

    /// Lays the instance aside for as long as a batch is taken apart, if it has much more state than that needs.
    fn lay_aside(&mut self, batch: Tried<'_>) {
        if !self.keeps_state() {
            return;
        }
        // What it was given since it was saved last would be given to each.
        self.touched = true;
        self.save();
        let scope = self.rule.module.description().scope;
        if self.replay_log.len() > 0
            || !say_all(batch, scope, self.last_saved.whole())
            || self.last_saved.whole().len() <= FEW_CELLS
        {
            return;
        }
        let partitions: HashSet<PartitionId> = self.partitions_of(batch).collect();
        let (books, all) = (&self.books, self.last_saved.whole());
        let theirs = |id| books.series(id).is_some_and(|series| partitions.contains(&series.partition));
        let mut cells = StateBook::default();
        cells.take(SavedState {
            series: all.series().filter(|(id, _)| theirs(*id)).map(|(id, cell)| (id, cell.clone())).collect(),
            partitions: (all.partitions().filter(|(id, _)| partitions.contains(id)))
                .map(|(id, cell)| (id, cell.clone()))
                .collect(),
            ..SavedState::default()
        });
        if cells.len() > all.len() / 2 {
            return;
        }
        let Some(whole) = self.instance.take() else { return };
        let one = instance_at(&self.rule, &self.books, &cells);
        match one {
            Ok(one) => {
                self.laid_aside = Some(LaidAside { whole, cells });
                self.instance = Some(one);
            }
            // What it does not take in part it is given as a whole, each time.
            Err(error) => {
                tracing::debug!(rule = &*self.rule.name, "a part of its state is refused: {error}");
                self.instance = Some(whole);
            }
        }
    }

    fn partitions_of<'a>(&'a self, tried: Tried<'a>) -> Box<dyn Iterator<Item = PartitionId> + 'a> {
        let of_topic = |&id| self.books.topic(id).map(|topic| topic.partition).unwrap_or_default();
        let of_series = |&id| self.books.series(id).map(|series| series.partition).unwrap_or_default();
        match tried {
            Tried::Messages(messages) => Box::new(messages.topic.iter().map(of_topic)),
            Tried::Points(points) => Box::new(points.series.iter().map(of_series)),
        }
    }
}

/// Whether the partitions of `batch` say which of `all` cells a rule of this scope may look at for it. A processor is given the series. A decoder is given
/// topics, and makes series of them that may have come first by a topic of another partition, where their cells belong.
fn say_all(batch: Tried<'_>, scope: Scope, all: &StateBook) -> bool {
    match (batch, scope) {
        (_, Scope::Node) => false,
        (Tried::Points(_), _) => true,
        (Tried::Messages(_), Scope::Partition) => all.series().len() == 0,
        (Tried::Messages(_), _) => false,
    }
}

/// An instance of `rule` that has these cells.
pub(super) fn instance_at(rule: &Arc<Rule>, books: &Arc<Books>, cells: &StateBook) -> Result<Instance, LoadError> {
    let mut new = rule.instantiate(books)?;
    new.restore(&rule.module.description().version, cells)?;
    rule.stats.cells_restored.fetch_add(cells.len() as u64, Relaxed);
    Ok(new)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
