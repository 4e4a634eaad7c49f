//! With a journal: what comes again is acknowledged like all else, and goes to no lane.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_model::{Outcome, Phase, StateStore};

use super::Connection;
use crate::mqtt::error::LinkError;
use crate::mqtt::known::{End, Known, Met};
use crate::mqtt::packet::Publish;
use crate::mqtt::session::Session;
use crate::mqtt::window::{PacketId, Window};
use crate::phase;

/// What is locked is never left half done.
pub(super) fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Reads what the rules have had of this connection. A disk that does not say is asked again: without it nothing may be taken.
    pub(super) async fn recall(&mut self, state: &Arc<dyn StateStore>) {
        let stream: Arc<str> = format!("mqtt/{}/{}", self.inlet.source(), self.place.client_id).into();
        while phase::now(&self.phase) < Phase::Draining {
            let (of, from) = (stream.clone(), state.clone());
            let why = match tokio::task::spawn_blocking(move || from.packets(&of)).await {
                Ok(Ok(marks)) => {
                    let known = Known::new(stream, self.inlet.lanes(), &marks);
                    self.known = Some(Arc::new(Mutex::new(known)));
                    return;
                }
                Ok(Err(unread)) => unread.to_string(),
                Err(error) => format!("the state that is kept was not read: {error}"),
            };
            let why = format!("which messages the rules have had is not known: {why}; see to the disk of data_dir");
            if self.standing.down(self.place.index, why.clone()) {
                tracing::error!(source = %self.inlet.source(), client_id = self.place.client_id, "{why}; trying again");
            }
            let wait = self.backoff.failed();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = phase::reaches(&mut self.phase, Phase::Draining) => {}
            }
        }
    }

    /// Whether the rules had a message that came before: then it has only to be acknowledged, when the first copy is settled.
    pub(super) fn had_before(&mut self, session: &mut Session, publish: &Publish) -> Result<bool, LinkError> {
        let Some(known) = self.known.as_ref().filter(|_| publish.id != PacketId::NONE) else { return Ok(false) };
        let Met::Again(end) = locked(known).receive(publish, self.generation, session.window.len()) else {
            return Ok(false);
        };
        session.window.receive(publish.id)?;
        if end == End::Settled {
            session.window.settle(publish.id);
        }
        self.inlet.ledger().repeat(1);
        if session.burst_us.is_none() {
            self.begin_burst(session);
        }
        Ok(true)
    }

    /// Moves a settlement into the window, for each copy that this connection has; gives whether one of those was given back.
    pub(super) fn settle_known(
        &self,
        known: &Mutex<Known>,
        window: &mut Window,
        (generation, outcome): (u32, Outcome),
        ids: &[PacketId],
    ) -> Outcome {
        let (mut known, mut worst, mut lost) = (locked(known), Outcome::Settled, 0);
        for &id in ids {
            match outcome {
                Outcome::Returned if id == PacketId::NONE => lost += 1,
                Outcome::Returned if known.returned(id, generation, self.generation) => worst = Outcome::Returned,
                Outcome::Settled if id != PacketId::NONE => {
                    (0..known.settled(id, generation, self.generation)).for_each(|_| window.settle(id));
                }
                Outcome::Returned | Outcome::Settled => {}
            }
        }
        self.report_lost(lost);
        worst
    }
}
