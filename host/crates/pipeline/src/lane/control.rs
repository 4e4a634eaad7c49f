//! What a lane does between two batches when it is told to: rules come, go, and forget.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_engine::{Instance, LoadError, Rule};

use crate::lane::checkpoint::{Checkpoints, Handover};
use crate::lane::last_saved::LastSaved;
use crate::lane::route::Routed;
use crate::lane::slot::Slot;
use crate::lane::{Begins, Control, DISCARDED, Forgot, Gone, Lane, Left, Refused, Remade, Reset, Spent, Start};

impl<L> Lane<L> {
    pub(super) fn obey(&mut self, told: Control) {
        let now_us = self.around.clock.now_us();
        match told {
            Control::Copy { rule, reply } => {
                let copy = self.slot(&rule).map(Slot::copy);
                // Who asked may have stopped waiting.
                let _ = reply.send(copy);
            }
            Control::Changed { rule, reply } => {
                let changed = self.slot(&rule).and_then(Slot::changed);
                // Who does not get it has no use for its copy any more, and asks for another.
                let _ = reply.send(changed);
            }
            Control::Install { instance, begins, refused, gone, reply } => {
                let rule = instance.rule().clone();
                let mut done = self.install(*instance, begins, now_us);
                if let (Err(why), Refused::BeginsWithout) = (&done, refused) {
                    done = self.install_without_state(&rule, why, now_us);
                }
                if let Some(Gone { rule, reason }) = gone.filter(|_| done.is_ok()) {
                    self.let_rule_go(&rule, Some(&reason));
                }
                // Last, since it may wake somebody who takes this processor.
                match reply.send(done) {
                    Ok(()) => {}
                    Err(Ok(left)) => let_go(left),
                    Err(Err(why)) => self.follow(&rule, &why, now_us),
                }
            }
            Control::Reset { rule, remade, reply } => {
                let Remade { of, next, _awaits } = *remade;
                let done = self.slot(&rule).map(|slot| match next {
                    Some((next, rest)) => slot.reset(next, rest).map(|(cells, spent)| (cells, Some(spent))),
                    None => Ok((0, None)),
                });
                let done = done.map(|done| done.map(|(cells, spent)| self.forgot(&rule, of, cells, spent)));
                let_go(reply.send(done).err());
            }
            Control::Remove { rule, clear, reply } => {
                self.let_rule_go(&rule, clear.as_deref());
                let _ = reply.send(());
            }
            Control::Shadow { mut shadow, rule, has_copy, reply } => {
                let book = &self.around.alert_book;
                let told = if has_copy { shadow.stand(book.own(&rule), book.nobodys(&rule)) } else { Ok(()) };
                let gone = || Err(LoadError::Unsupported("the rule does not serve any more".into()));
                let begun = |slot: &mut Slot| told.and_then(|()| slot.shadow_with(shadow, has_copy));
                let done = self.slot(&rule).map_or_else(gone, begun);
                let _ = reply.send(done);
            }
            Control::EndShadow { rule, reply } => {
                let_go(self.slot(&rule).and_then(Slot::end_shadow));
                let _ = reply.send(());
            }
            Control::LendShadow { rule, generation, reply } => {
                let lent = self.slot(&rule).and_then(|slot| slot.lend_shadow(generation));
                if let (Err(Some(shadow)), Some(slot)) = (reply.send(lent), self.slot(&rule)) {
                    let _ = slot.shadow_with(shadow, false);
                }
            }
            Control::Missed { rule, reply } => {
                let missed = self.slot(&rule).map(Slot::missed).unwrap_or_default();
                if let (Err(missed), Some(slot)) = (reply.send(missed), self.slot(&rule)) {
                    slot.missed_still(missed);
                }
            }
            Control::Promote { fresh, ready, reply } => {
                let name = fresh.rule().name.clone();
                let done = match self.slot(&name) {
                    Some(slot) => {
                        let rule = fresh.rule().clone();
                        slot.promote(*fresh, ready.map(|ready| *ready), now_us).map(|(believed, left)| {
                            let_go(left);
                            self.alerts_become(&rule, believed, now_us);
                        })
                    }
                    None => Err(LoadError::Unsupported("the rule does not serve any more".into())),
                };
                self.rules_changed();
                let _ = reply.send(done);
            }
            Control::NodeRules { rules, reply } => {
                if let Some(hand_over) = &self.hand_over
                    && self.routes.hands_over()
                {
                    // A series that is not handed over any more must not overtake itself.
                    hand_over.settle();
                }
                self.routes.hand_over(&rules);
                let _ = reply.send(());
            }
            Control::Here { reply } => {
                let _ = reply.send(());
            }
            Control::Finish => {}
        }
    }

    /// Puts an instance in the place of the one of its name, if there is one.
    fn install(&mut self, instance: Instance, begins: Begins, now_us: i64) -> Result<Left, LoadError> {
        let rule = instance.rule().clone();
        let name = &rule.name;
        if let Begins::Afresh(_, reason) = begins {
            self.clear_alerts_of(name, Reset::Everything, reason);
        }
        if let Some(slot) = self.slot(name) {
            let before = slot.rule().clone();
            let left = slot.succeed(instance, begins, now_us)?;
            if rule.is_routed_as(&before) {
                // What was worked out for a hundred thousand series holds.
                self.note_memory();
            } else {
                self.rules_changed();
            }
            return Ok(left);
        }
        self.clear_void_alerts_of(name);
        let Start { state, differs } = match begins {
            Begins::At(start) | Begins::Afresh(start, _) => *start,
            Begins::WhereTheLastStands | Begins::InItsOwnForm(_) | Begins::AsItsShadow(_) => Start::default(),
        };
        let stood = !state.is_empty();
        let kept = LastSaved::new(state, self.checkpoints.as_ref().map(|_| differs));
        let mut slot = Slot::new(instance, kept, self.around.books.clone(), now_us);
        if stood {
            slot.wake_for_its_state(now_us);
        }
        self.slots.push(slot);
        self.rules_changed();
        Ok(None)
    }

    fn let_rule_go(&mut self, rule: &Arc<str>, clear: Option<&str>) {
        let gone = self.slots.iter().position(|slot| slot.rule().name == *rule);
        let_go(gone.map(|at| self.slots.remove(at)));
        if let Some(reason) = clear {
            self.clear_alerts_of(rule, Reset::Everything, reason);
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.forget(rule);
        }
        self.rules_changed();
    }

    /// A rule has forgotten so many cells: clears what it raised by them, and has that kept with the rest.
    fn forgot(&mut self, rule: &str, of: Reset, cells: usize, spent: Option<Spent>) -> Forgot {
        // A rule whose state is that of a partition forgets nothing of one series, and goes on to believe that what it raised stands.
        if cells > 0 || of == Reset::Everything {
            self.clear_alerts_of(rule, of, "the state of the rule was reset");
        }
        let epoch = |lane: &Self| lane.checkpoints.as_ref().map(Checkpoints::epoch);
        let before = epoch(self);
        self.save_now(Handover::OneOfMany);
        let untold = before.zip(epoch(self)).and_then(|(before, now)| {
            // Where nothing was cut though there was room, there was nothing to tell.
            let told = Arc::ptr_eq(&before, &now) && now.is_told() && now.may_cut();
            (!told).then(|| Arc::downgrade(&before))
        });
        Forgot { cells, untold, _spent: spent }
    }

    /// Other lanes have gone on with a generation that does not take the state of the one before it on this lane. It serves here too, without: two
    /// side by side would be two rules of one name.
    fn follow(&mut self, rule: &Arc<Rule>, why: &LoadError, now_us: i64) {
        match self.install_without_state(rule, why, now_us) {
            Ok(left) => let_go(left),
            Err(error) => {
                let (rule, generation) = (&*rule.name, rule.generation);
                tracing::error!(
                    rule,
                    generation,
                    "a lane goes on with the generation before this one, which serves on the others: {error}"
                );
            }
        }
    }

    fn install_without_state(&mut self, rule: &Arc<Rule>, why: &LoadError, now_us: i64) -> Result<Left, LoadError> {
        let instance = rule.instantiate(&self.around.books)?;
        let left = self.install(instance, Begins::Afresh(Box::default(), DISCARDED), now_us)?;
        rule.stats.state_discarded.fetch_add(1, Relaxed);
        let (rule, generation) = (&*rule.name, rule.generation);
        tracing::warn!(
            rule,
            generation,
            "it begins without state on one lane, so that the same generation serves on all: {why}"
        );
        Ok(left)
    }

    fn slot(&mut self, rule: &str) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| &*slot.rule().name == rule)
    }

    pub(super) fn rules_changed(&mut self) {
        self.slots.sort_by(|a, b| {
            let key = |slot: &Slot| (slot.rule().order, slot.rule().name.clone());
            key(a).cmp(&key(b))
        });
        self.routes.rules_are(self.slots.iter().map(|slot| Routed::of(slot.rule())));
        self.status.rules.store(self.slots.len() as u64, Relaxed);
        self.note_memory();
    }

    pub(super) fn note_memory(&self) {
        let bytes: usize = self.slots.iter().map(Slot::memory_bytes).sum();
        self.status.memory_bytes.store(bytes as u64, Relaxed);
    }
}

/// Nobody waits for what is left of an instance: its memory is given back beside the lane. Where no thread can be had it happens here.
fn let_go<T: Send + 'static>(left: Option<T>) {
    if left.is_some() {
        let _ = tidegate_telemetry::thread("last-instance", move || drop(left));
    }
}
