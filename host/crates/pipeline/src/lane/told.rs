//! What a lane does between two batches when it is told to: rules come, go, and forget.

use std::sync::atomic::Ordering::Relaxed;

use tidegate_engine::LoadError;

use crate::lane::kept::Kept;
use crate::lane::slot::Slot;
use crate::lane::{Begins, Control, Copied, Lane, Reset, Start};

impl<L> Lane<L> {
    pub(super) fn obey(&mut self, told: Control) {
        let now_us = self.around.clock.now_us();
        match told {
            Control::Copy { rule, reply } => {
                let slot = self.slots.iter_mut().find(|slot| slot.rule().name == rule);
                let copy = slot.map(|slot| Copied { state: slot.copy(), rule: slot.rule().clone() });
                // Who asked may have stopped waiting.
                let _ = reply.send(copy);
            }
            Control::Install { instance, begins, reply } => {
                let name = instance.rule().name.clone();
                if let Begins::Afresh(_) = begins {
                    self.clear_alerts_of(&name, Reset::Everything, "the state of the rule was discarded");
                }
                let done = match self.slots.iter_mut().find(|slot| slot.rule().name == name) {
                    Some(slot) => slot.succeed(*instance, begins, now_us),
                    None => {
                        let Start { state, differs } = match begins {
                            Begins::At(start) | Begins::Afresh(start) => *start,
                            Begins::WhereTheLastStands => Start::default(),
                        };
                        let kept = Kept::new(state, self.keeping.as_ref().map(|_| differs));
                        self.slots.push(Slot::new(*instance, kept, self.around.books.clone(), now_us));
                        Ok(())
                    }
                };
                self.rules_changed();
                let _ = reply.send(done);
            }
            Control::Reset { rule, of, reply } => {
                let slot = self.slots.iter_mut().find(|slot| slot.rule().name == rule);
                let done = slot.map(|slot| slot.reset(of));
                // A rule whose state is that of a partition forgets nothing of one series, and goes on to believe that what it raised stands.
                if done
                    .as_ref()
                    .is_some_and(|done| done.as_ref().is_ok_and(|&cells| cells > 0 || of == Reset::Everything))
                {
                    self.clear_alerts_of(&rule, of, "the state of the rule was reset");
                }
                let _ = reply.send(done);
            }
            Control::Remove { rule, clear, reply } => {
                self.slots.retain(|slot| slot.rule().name != rule);
                if let Some(reason) = clear {
                    self.clear_alerts_of(&rule, Reset::Everything, &reason);
                }
                if let Some(keeping) = &mut self.keeping {
                    keeping.forget(&rule);
                }
                self.rules_changed();
                let _ = reply.send(());
            }
            Control::Shadow { mut shadow, rule, has_copy, reply } => {
                if has_copy {
                    shadow.stand(self.standing_of(&rule));
                }
                let gone = || Err(LoadError::Unsupported("the rule does not serve any more".into()));
                let done = self.slot(&rule).map_or_else(gone, |slot| slot.shadow_with(shadow, has_copy));
                let _ = reply.send(done);
            }
            Control::EndShadow { rule, reply } => {
                if let Some(slot) = self.slot(&rule) {
                    slot.end_shadow();
                }
                let _ = reply.send(());
            }
            Control::Promote { fresh, reply } => {
                let name = fresh.rule().name.clone();
                let done = match self.slot(&name) {
                    Some(slot) => {
                        slot.promote(*fresh, now_us).map(|standing| self.alerts_become(&name, standing, now_us))
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
                self.routes.hand_over(rules);
                let _ = reply.send(());
            }
            Control::Here { reply } => {
                let _ = reply.send(());
            }
            Control::Finish => {}
        }
    }

    fn slot(&mut self, rule: &str) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| &*slot.rule().name == rule)
    }

    pub(super) fn rules_changed(&mut self) {
        self.slots.sort_by(|a, b| {
            let key = |slot: &Slot| (slot.rule().order, slot.rule().name.clone());
            key(a).cmp(&key(b))
        });
        self.routes.forget();
        self.status.rules.store(self.slots.len() as u64, Relaxed);
        self.note_memory();
    }

    pub(super) fn note_memory(&self) {
        let bytes: usize = self.slots.iter().map(Slot::memory_bytes).sum();
        self.status.memory_bytes.store(bytes as u64, Relaxed);
    }
}
