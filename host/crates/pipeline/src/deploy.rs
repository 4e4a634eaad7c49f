//! Rules onto lanes: a new generation is made ready beside the one that serves, and takes over at a batch boundary.
//!
//! A rule whose state belongs to the whole node goes onto the node's lane, and the others are told what it matches: after it is there, and before
//! it goes.

mod catching_up;
mod orders;
mod placement;
mod reply;
mod resetting;
mod shadowing;
mod stored;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fail::fail_point;
use tidegate_engine::{Deploy, Instance, LoadError, OnRefusedState, Rule, ShadowReport, ShadowStart};
use tidegate_model::{KeptState, PartitionId, SavedState, StateBook};

use crate::deploy::orders::tell_all;
pub(crate) use crate::deploy::orders::{Held, Orders, at_hand, orders};
pub(crate) use crate::deploy::placement::Placement;
pub(crate) use crate::deploy::reply::Reply;
pub(crate) use crate::deploy::resetting::as_changes;
use crate::deploy::stored::{as_stored, without};
use crate::lane::{
    Awaits, Begins, Control, Copied, DISCARDED, Dealt, Gone, LaneKind, Refused, STATE_GONE, Surroundings,
};

/// Installs and removes rules on all lanes of a pipeline.
pub struct LaneDeploy {
    pub(crate) lanes: Vec<Orders>,
    pub(crate) node: [Orders; 1],
    pub(crate) placement: Arc<Placement>,
    pub(crate) around: Surroundings,
}

/// What becomes of the state that a rule has already, on the lanes or on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    TakenOver,
    Discarded,
}

/// An instance for one lane.
struct Ready {
    instance: Instance,
    begins: Begins,
    /// The generation that serves there.
    before: Option<Arc<Rule>>,
    /// What it was given of the state of that one, where that is of another version.
    given: Option<Arc<StateBook>>,
    /// Where it was given a copy.
    awaits: Option<Arc<Awaits>>,
}

impl Deploy for LaneDeploy {
    /// Makes an instance for each lane, gives it a copy of its predecessor's state, and lets it take over. An error leaves the
    /// predecessor serving on all lanes. A rule that refuses the state begins without, where its file says so. Where the rule does not
    /// serve yet, the state is what the store has of the lane's partitions.
    fn install(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        let changes = self.placement.clone();
        let _alone = changes.change();
        let done = self.placed(rule, None);
        if done.is_ok() {
            let handed = Placement::of(rule) == LaneKind::Node || self.placement.elsewhere(rule).is_some();
            self.placement.enter(rule);
            if handed {
                self.tell_what_is_handed_over("")?;
            }
        }
        done
    }

    /// On each lane both happen between the same two batches; what the lanes hand over to the node's is what the old name matched until all is done.
    fn rename(&mut self, rule: &Arc<Rule>, gone: &str, reason: &str) -> Result<(), LoadError> {
        let changes = self.placement.clone();
        let _alone = changes.change();
        self.placed(rule, Some(&Gone { rule: gone.into(), reason: reason.into() }))?;
        let of_node = Placement::of(rule) == LaneKind::Node;
        self.placement.enter(rule);
        self.placement.leave(gone);
        leave(if of_node { &self.lanes } else { &self.node }, gone, None)?;
        if of_node {
            self.tell_what_is_handed_over("")?;
        }
        Ok(())
    }

    fn shadow(&mut self, rule: &Arc<Rule>, report: &Arc<ShadowReport>, state: ShadowStart) -> Result<(), LoadError> {
        let changes = self.placement.clone();
        // Who is copied for meanwhile would not learn what changes.
        let _alone = changes.change();
        self.begin_shadow(rule, report, state)
    }

    fn end_shadow(&mut self, rule: &str) -> Result<(), LoadError> {
        self.let_shadow_go(rule)
    }

    fn promote(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        let changes = self.placement.clone();
        let _alone = changes.change();
        self.let_shadow_serve(rule)
    }

    /// Takes the rule from all lanes, clears what it has raised and forgets its state: one that comes back begins afresh, as it must, since
    /// it would else believe that its alerts still stand.
    ///
    /// Told again, it does again what it did in part.
    fn remove(&mut self, rule: &str, reason: &str) -> Result<(), LoadError> {
        let changes = self.placement.clone();
        let _alone = changes.change();
        // A rule that is gone from some lanes only would be neither there nor not.
        self.all_at_hand()?;
        let of_node = self.placement.get(rule).is_some_and(|serving| Placement::of(&serving) == LaneKind::Node);
        if of_node {
            self.tell_what_is_handed_over(rule)?;
        }
        let (here, there) =
            if of_node { (&self.node[..], &self.lanes[..]) } else { (&self.lanes[..], &self.node[..]) };
        // Who has raised them clears them: the store hears in order what one lane says.
        leave(here, rule, Some(reason))?;
        leave(there, rule, None)?;
        self.placement.leave(rule);
        Ok(())
    }
}

impl LaneDeploy {
    /// The lanes that this rule runs on.
    fn lanes_of(&self, rule: &Rule) -> &[Orders] {
        match Placement::of(rule) {
            LaneKind::Partitions => &self.lanes,
            LaneKind::Node => &self.node,
        }
    }

    fn all_at_hand(&self) -> Result<(), Held> {
        at_hand(self.lanes.iter().chain(&self.node))
    }

    /// Tells the lanes which rows the rules of the node match, but for the one called `without`. Each first waits until those it handed over before
    /// are done with.
    fn tell_what_is_handed_over(&self, without: &str) -> Result<(), Held> {
        let rules = self.placement.of_node(without);
        tell_all(&self.lanes, |reply| Control::NodeRules { rules: rules.clone(), reply })
    }

    /// `gone` is a rule that goes where this one comes.
    fn placed(&mut self, rule: &Arc<Rule>, gone: Option<&Gone>) -> Result<(), LoadError> {
        let serves = match self.placement.elsewhere(rule) {
            None => self.let_serve(rule, Before::TakenOver, gone),
            Some(before) => Err(LoadError::State(format!(
                "it belongs to something else now: the `scope` was {:?} and is {:?}; to let it begin without state, write `discard_state = true` in its file",
                before.module.description().scope,
                rule.module.description().scope
            ))),
        };
        match serves {
            Err(LoadError::State(why)) if rule.on_refused_state == OnRefusedState::Discard => {
                // Where it does not come to serve, the one before it goes on with its state and its alerts.
                self.let_serve(rule, Before::Discarded, gone)?;
                rule.stats.state_discarded.fetch_add(1, Relaxed);
                tracing::warn!(
                    rule = &*rule.name,
                    "it begins without state, as its file allows (discard_state): {why}"
                );
                Ok(())
            }
            done => done,
        }
    }

    fn let_serve(&mut self, rule: &Arc<Rule>, state: Before, gone: Option<&Gone>) -> Result<(), LoadError> {
        let lanes = self.lanes_of(rule);
        let mut all = Vec::with_capacity(lanes.len());
        let mut stored = None;
        // What a lane has yet to forget must not be read from the disk for another; and it forgets all that is kept under the name, so it must
        // not do so when the new one has saved.
        self.all_at_hand()?;
        for at in 0..lanes.len() {
            all.push(self.made_ready(at, rule, state, &mut stored)?);
        }
        // When all have their copies, which is what takes long.
        let all = all.into_iter().zip(lanes).map(|(ready, lane)| self.brought_close(lane, ready));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let before = all.iter().find_map(|ready| ready.before.clone());
        if let Some(elsewhere) = self.placement.elsewhere(rule) {
            // What is ready cannot fail any more where nothing serves yet; so no row is given to both.
            let left = self.lanes_of(&elsewhere);
            leave(left, &rule.name, Some(DISCARDED))?;
            // As above: where one of them is held back just now, nothing serves until it has left, and this is tried again.
            at_hand(left.iter())?;
        }
        for (at, ready) in all.into_iter().enumerate() {
            if let Err(error) = takes_over(&lanes[at], ready, gone.cloned()) {
                if let Some(before) = &before {
                    self.go_back(at, before);
                }
                return Err(error);
            }
            fail_point!("swap-within", |_| std::process::abort());
        }
        // Not before: where a lane refuses it, what stands against the old one is said of what serves.
        rule.stats.release(rule.generation);
        Ok(())
    }

    /// An instance of `rule` for a lane, with the state of the generation that serves there; if none does, with what is `stored`, which is
    /// read once.
    fn made_ready(
        &self,
        at: usize,
        rule: &Arc<Rule>,
        state: Before,
        stored: &mut Option<Vec<KeptState>>,
    ) -> Result<Ready, LoadError> {
        let mut instance = rule.instantiate(&self.around.books)?;
        let lanes = self.lanes_of(rule);
        let copied = lanes[at].tell(|reply| Control::Copy { rule: rule.name.clone(), reply }).answer()?;
        match copied {
            Some(Copied { rule: old, .. }) if state == Before::Discarded => Ok(Ready {
                instance,
                begins: Begins::Afresh(Box::default(), DISCARDED),
                before: Some(old),
                given: None,
                awaits: None,
            }),
            Some(Copied { rule: old, state, awaits }) => {
                let taken = instance.restore(&old.module.description().version, &state);
                taken.map_err(LoadError::of_old_state)?;
                let given = is_foreign(&instance, &old).then_some(state);
                let (begins, awaits) = (Begins::WhereTheLastStands, Some(awaits));
                Ok(Ready { instance, begins, before: Some(old), given, awaits })
            }
            None if self.around.state.is_none() => {
                Ok(Ready { instance, begins: Begins::At(Box::default()), before: None, given: None, awaits: None })
            }
            None => {
                let stored = self.stored(rule, stored)?;
                let nothing_kept = stored.iter().all(|kept| kept.cells == SavedState::default());
                let own = self.dealt(at, lanes.len(), stored);
                let begins = match state {
                    // It cannot believe of any alert that it stands. That is left of a rule that went, where the host died before the sinks knew.
                    Before::TakenOver if nothing_kept && instance.keeps_state() => {
                        Begins::Afresh(without(own), STATE_GONE)
                    }
                    Before::TakenOver if instance.keeps_state() => as_stored(&mut instance, own)?,
                    // What a version that keeps none finds, it leaves to nobody.
                    Before::TakenOver => Begins::At(without(own)),
                    Before::Discarded => Begins::Afresh(without(own), DISCARDED),
                };
                Ok(Ready { instance, begins, before: None, given: None, awaits: None })
            }
        }
    }

    /// What is kept of a rule that does not serve yet. A disk that does not say is no word that there is nothing: it is asked again.
    fn stored<'a>(&self, rule: &Rule, stored: &'a mut Option<Vec<KeptState>>) -> Result<&'a [KeptState], LoadError> {
        if stored.is_none() {
            let loaded = self.around.state.as_ref().map(|store| store.load(&rule.name)).transpose();
            *stored = Some(loaded.map_err(|error| LoadError::Busy(error.to_string()))?.unwrap_or_default());
        }
        Ok(stored.as_deref().unwrap_or_default())
    }

    /// Of what is stored, the cells of the partitions that belong to a lane: another number of lanes shares them out anew.
    /// The node's lane has all of them.
    fn dealt(&self, lane: usize, lanes: usize, stored: &[KeptState]) -> Vec<KeptState> {
        let here = |partition: PartitionId| Dealt { index: lane, lanes }.has(partition);
        let part = |kept: &KeptState| {
            let series = kept
                .cells
                .series
                .iter()
                .filter(|(id, _)| self.around.books.series(*id).is_some_and(|series| here(series.partition)));
            let partitions = kept.cells.partitions.iter().filter(|(id, _)| here(*id));
            let (series, partitions) = (series.cloned().collect(), partitions.cloned().collect());
            let cells = SavedState { series, partitions, ..SavedState::default() };
            KeptState { version: kept.version.clone(), cells }
        };
        stored.iter().map(part).collect()
    }

    /// One lane cannot let a new generation take over, so those before it go back to the old one, whenever they come to it: no two serve side by
    /// side. What the new one has made of the state the old one may not take; then it begins without.
    fn go_back(&self, lanes: usize, old: &Arc<Rule>) {
        for lane in &self.lanes_of(old)[..lanes] {
            let told = old.instantiate(&self.around.books).and_then(|instance| {
                let (instance, begins) = (Box::new(instance), Begins::WhereTheLastStands);
                let refused = Refused::BeginsWithout;
                let order = |reply| Control::Install { instance, begins, refused, gone: None, reply };
                lane.tell(order).or_later(Ok(None))?
            });
            if let Err(error) = told {
                let rule = &*old.name;
                tracing::error!(
                    rule,
                    "a lane could not go back to the generation before, and goes on with the new one: {error}"
                );
            }
        }
    }
}

/// Whether an instance is of another version than the one before it, whose state it takes over.
fn is_foreign(instance: &Instance, before: &Rule) -> bool {
    instance.rule().module.description().version != before.module.description().version
}

/// Has lanes call a rule no more, keep nothing of it, and clear what it has raised if there is a reason.
pub(crate) fn leave(lanes: &[Orders], rule: &str, clear: Option<&str>) -> Result<(), Held> {
    tell_all(lanes, |reply| Control::Remove { rule: rule.into(), clear: clear.map(Into::into), reply })
}

fn takes_over(lane: &Orders, ready: Ready, gone: Option<Gone>) -> Result<(), LoadError> {
    let Ready { instance, begins, awaits: _until_then, .. } = ready;
    // Where the answer comes too late, other lanes have gone on with it: what is refused then serves without state (`Control::Install`).
    let refused = Refused::TheOldServesOn;
    let told = lane.tell(|reply| Control::Install { instance: Box::new(instance), begins, refused, gone, reply });
    // What it has left ends here, and holds up no lane.
    told.or_later(Ok(None))?.map(drop).map_err(LoadError::of_old_state)
}
