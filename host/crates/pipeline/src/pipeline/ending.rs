//! The end of a pipeline, in order.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tidegate_model::Phase;

use super::{Pipeline, Role};

/// Time kept at the end of a shutdown for sources to send their last acks.
const LAST_ACKS: Duration = Duration::from_secs(2);

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All that was taken in is settled.
    Completely,
    /// The time was over first: what was left was returned to its sources.
    InPart,
}

impl Pipeline {
    /// Ends everything in order, within `timeout`: sources take no more, lanes finish what they have, sinks write it, sources send
    /// their acks and go.
    pub async fn shutdown(&self, timeout: Duration) -> Drained {
        let deadline = Instant::now() + timeout;
        self.phase.send_replace(Phase::Draining);
        tracing::info!("draining: sources take no more");
        let patience = deadline - LAST_ACKS.min(timeout / 2);
        self.sources_shut(Instant::now() + timeout / 4).await;
        for orders in &self.orders {
            let _ = tokio::time::timeout_at(patience.into(), orders.finish()).await;
        }
        let mut drained = Drained::Completely;
        if !self.lanes_end(patience).await {
            tracing::warn!(
                "the lanes did not finish in time: what the sinks cannot write now goes back to its sources"
            );
            self.give_up.send_replace(true);
            drained = Drained::InPart;
            self.lanes_end(patience + Duration::from_millis(500)).await;
        }
        for last in [false, true] {
            let ending: Vec<_> = self.sinks.iter().filter(|sink| (sink.role == Role::Letters) == last).collect();
            for sink in &ending {
                sink.finish.send_replace(true);
            }
            for sink in &ending {
                let task = sink.task.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(mut task) = task else { continue };
                if !ends(&mut task, patience).await {
                    self.give_up.send_replace(true);
                    drained = Drained::InPart;
                    if !ends(&mut task, Instant::now() + Duration::from_millis(500)).await {
                        tracing::warn!(sink = &*sink.name, "the sink did not end in time");
                        task.abort();
                    }
                }
            }
        }
        self.state_kept(patience).await;
        self.phase.send_replace(Phase::Closed);
        let tasks: Vec<_> =
            self.sources().iter_mut().filter_map(|source| Some((source.name.clone(), source.task.take()?))).collect();
        for (name, mut task) in tasks {
            if !ends(&mut task, deadline.max(Instant::now() + Duration::from_millis(200))).await {
                tracing::warn!(source = &*name, "the source did not end in time");
                task.abort();
                drained = Drained::InPart;
            }
        }
        drained
    }

    /// Waits until the sources have handed over what they had taken; one that cannot, since a sink holds the lanes back, is not
    /// waited for beyond `deadline`: its broker has those messages.
    async fn sources_shut(&self, deadline: Instant) {
        while !self.sources().iter().all(|source| source.intake.is_shut()) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits for all lanes, saying every 5 s what remains; gives whether they ended by `deadline`.
    async fn lanes_end(&self, deadline: Instant) -> bool {
        let mut say_at = Instant::now() + Duration::from_secs(5);
        while !self.lanes.iter().all(|(_, thread)| thread.is_finished()) {
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            if now >= say_at {
                say_at = now + Duration::from_secs(5);
                let in_flight: u64 = self.sources().iter().map(|source| source.ledger.totals().in_flight).sum();
                tracing::info!(in_flight, "draining: waiting for lanes and sinks");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }
}

/// Waits for a task until `deadline`; gives whether it has ended.
async fn ends(task: &mut tokio::task::JoinHandle<()>, deadline: Instant) -> bool {
    tokio::time::timeout_at(deadline.into(), task).await.is_ok()
}
