//! The state of rules, as the pipeline's owner sees it: forgotten, reset, kept at the end.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tidegate_engine::LoadError;
use tidegate_model::{KeptAlerts, StateStore};

use super::Pipeline;
use crate::deploy::{Held, at_hand, leave};
use crate::lane::{Epoch, Reset};

/// How long the start waits for a disk that cannot be read.
const START_PATIENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How long a reset waits for the sinks to confirm what came before it.
const TO_BE_KEPT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateReset {
    /// How many cells were forgotten.
    pub cells: usize,
    /// Whether that outlives a crash.
    pub kept: Kept,
}

/// Whether what was done outlives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk, if anything is.
    Now,
    /// It will be when the sinks have confirmed what came before it. A crash till then undoes it.
    OnceSinksConfirm,
}

/// The alerts that stood when the host was last there. Asks again while the disk does not say.
pub(super) fn alerts_that_stood(store: &dyn StateStore) -> std::io::Result<KeptAlerts> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match store.alerts() {
            Ok(alerts) => return Ok(alerts),
            Err(error) if Instant::now() >= deadline => return Err(std::io::Error::other(error)),
            Err(_) => std::thread::sleep(ASK_AGAIN),
        }
    }
}

/// Why state was not reset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// No lane has the rule.
    #[error("the rule {0:?} does not serve, so it has no state to forget")]
    NotServing(String),
    /// A lane is held back. Nothing was forgotten, unless it came to be held back just then: what it was told it does when it comes to it.
    #[error("a lane did not come to the end of its batch: a sink holds it back; try again")]
    Busy,
    /// The rule does not take what is left. What lanes before that one have forgotten is gone.
    #[error("the rule does not take what is left of its state: {0}")]
    Refused(String),
}

impl From<Held> for ResetError {
    fn from(_: Held) -> Self {
        ResetError::Busy
    }
}

impl From<LoadError> for ResetError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Busy(_) => ResetError::Busy,
            refused => ResetError::Refused(refused.to_string()),
        }
    }
}

impl Pipeline {
    /// Forgets the state and the alerts of all rules but these: a rule that went while the host was away is not coming back. Blocks: not for a
    /// runtime's thread.
    ///
    /// # Errors
    /// A lane is held back by a sink: it is to be asked again.
    pub fn forget_all_but(&self, rules: &[String]) -> Result<(), ResetError> {
        let kept = self.around.state.as_ref().map(|store| store.rules()).unwrap_or_default();
        for rule in kept.iter().filter(|rule| !rules.contains(rule)) {
            let _alone = self.placement.change();
            // It may have come back since it was looked for.
            if self.placement.get(rule).is_some() {
                continue;
            }
            at_hand(self.orders.iter())?;
            leave(&self.orders, rule, Some("the rule was removed"))?;
            tracing::info!(rule, "there is no such rule any more: its state is forgotten");
        }
        Ok(())
    }

    /// Lets a rule forget state, on every lane at the end of its batch, and clears the alerts that came of it. What a rule keeps and what it has raised
    /// go to disk together, and when the sinks have what came of both: so it is undone by a crash before that. Blocks: not for a runtime's thread.
    ///
    /// # Errors
    /// It does not serve, a lane is held back by a sink, or it does not take what is left of its state. What lanes before that one have
    /// forgotten is gone.
    pub fn reset_state(&self, rule: &str, of: Reset) -> Result<StateReset, ResetError> {
        let (deploy, name) = (self.deploy(), Arc::from(rule));
        let (mut cells, mut untold) = (0, Vec::new());
        {
            let _alone = self.placement.change();
            let lanes = self.orders.iter().chain([&self.node_orders]);
            // Before any is told: what is in a lane's queue is done, however late.
            at_hand(lanes.clone())?;
            let mut all = Vec::new();
            for lane in lanes {
                all.extend(deploy.remade(lane, &name, of)?.map(|remade| (lane, remade)));
            }
            if all.is_empty() {
                return Err(ResetError::NotServing(rule.to_owned()));
            }
            for (lane, remade) in all {
                let Some(forgot) = deploy.forget(lane, &name, remade)? else { continue };
                cells += forgot.cells;
                untold.extend(forgot.untold);
            }
        }
        Ok(StateReset { cells, kept: self.kept(&untold) })
    }

    /// Waits a little until the store has been told what was cut after these epochs, and has it on disk.
    fn kept(&self, untold: &[Weak<Epoch>]) -> Kept {
        let Some(store) = &self.around.state else { return Kept::Now };
        let deadline = Instant::now() + TO_BE_KEPT;
        while untold.iter().any(|epoch| epoch.strong_count() > 0) {
            if Instant::now() >= deadline {
                return Kept::OnceSinksConfirm;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(LOOK_AGAIN);
        if store.sync(left) { Kept::Now } else { Kept::OnceSinksConfirm }
    }

    /// Waits until what the lanes saved at their end is on disk; they, and the sinks, have ended.
    pub(super) async fn state_kept(&self, deadline: Instant) {
        let Some(store) = self.around.state.clone() else { return };
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
        let kept = tokio::task::spawn_blocking(move || store.sync(left));
        // All threads of that kind may be held by others.
        let kept = tokio::time::timeout(left, kept).await;
        if !matches!(kept, Ok(Ok(true))) {
            tracing::error!("the state of rules could not be kept before the end: they begin where it was last kept");
        }
    }
}
