//! Rules onto lanes: a new generation is made ready beside the one that serves, and takes over at a batch boundary.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use fail::fail_point;
use tidegate_engine::{Deploy, LoadError, Rule};
use tidegate_model::{Ack, Delivery};
use tokio::sync::mpsc;

use crate::lane::{Control, Surroundings};

/// How long a lane may take to come to a batch boundary: it can be held back by a sink for as long as that sink is down.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Installs and removes rules on all lanes of a pipeline.
pub struct LaneDeploy {
    pub(crate) lanes: Vec<mpsc::Sender<Control>>,
    pub(crate) around: Surroundings,
}

impl Deploy for LaneDeploy {
    /// Makes an instance for each lane, gives it a copy of its predecessor's state, and lets it take over. An error leaves the
    /// predecessor serving on all lanes.
    fn install(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        let mut ready = Vec::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            let mut instance = rule.instantiate(&self.around.books)?;
            let (reply, answer) = sync_channel(1);
            if !has_answered(lane) {
                return Err(busy());
            }
            let copied = tell(lane, Control::Copy { rule: rule.name.clone(), reply }, &answer).ok_or_else(busy)?;
            if let Some((version, state)) = copied {
                instance.restore(&version, &state)?;
            }
            ready.push(instance);
        }
        rule.stats.release(rule.generation);
        for (lane, instance) in self.lanes.iter().zip(ready) {
            let (reply, answer) = sync_channel(1);
            // Once sent it will take over, if not within our patience then later.
            let _ = tell(lane, Control::Install { instance: Box::new(instance), reply }, &answer);
            fail_point!("swap-within", |_| std::process::abort());
        }
        Ok(())
    }

    /// Takes the rule from all lanes and clears what it has raised.
    fn remove(&mut self, rule: &str, reason: &str) {
        for lane in &self.lanes {
            let (reply, answer) = sync_channel(1);
            let _ = tell(lane, Control::Remove { rule: rule.into(), reply }, &answer);
        }
        let alerts = self.around.alert_book.clear_rule(rule, self.around.clock.now_us(), reason);
        if !alerts.is_empty() {
            self.around.outlets.send(Delivery { alerts, ..Delivery::default() }, Ack::none());
        }
    }
}

/// Waits until the lane has taken all it was told, within our patience: one that a sink holds back is not told more and more.
fn has_answered(lane: &mpsc::Sender<Control>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while lane.capacity() < lane.max_capacity() && !lane.is_closed() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    true
}

fn tell<T>(lane: &mpsc::Sender<Control>, control: Control, answer: &Receiver<T>) -> Option<T> {
    lane.blocking_send(control).ok()?;
    answer.recv_timeout(PATIENCE).ok()
}

fn busy() -> LoadError {
    LoadError::Busy(format!(
        "a lane did not come to the end of its batch within {PATIENCE:?}: a sink holds it back; it is tried again"
    ))
}
