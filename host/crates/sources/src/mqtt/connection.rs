//! One connection: from the broker's packets to parcels, and from settlements to PUBACKs, in one task.
//!
//! The loop reads all that is at hand before it sends parcels: under load they are large, when quiet they are one
//! message. When lanes are full it goes on reading as long as the broker's own window (QoS 1) bounds what is unsettled;
//! past [`HELD_ROWS`] or [`HELD_BYTES`], which only QoS 0 or a broker without a window can reach, it stops reading, and
//! TCP holds the broker back. A stop longer than one and a half keep-alives makes the broker end the connection.

mod again;
mod intake;
mod subscribing;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;
use tidegate_config::MqttSource as Settings;
use tidegate_model::{Inlet, InletClosed, Outcome, Phase, PhaseWatch, StateStore};

use super::error::{LinkError, advice};
use super::known::Known;
use super::link::Link;
use super::packet::{Codec, SessionState};
use super::session::{End, Intake, Place, Role, Session, Turn};
use super::standing::Standing;
use super::subscribed::Subscribed;
use super::watchdog::{Watchdog, silence};
use super::window::{PacketId, Window};
use crate::backoff::Backoff;
use crate::phase;
use crate::routes::Routes;
use crate::settlements::{Settlement, Settlements};

pub(crate) use intake::lane_by;

/// How many messages may wait for a lane, beside the receive maximum.
const HELD_ROWS: usize = 10_000;
/// How many bytes of payload may wait for a lane.
const HELD_BYTES: usize = 16 << 20;
/// How long the last acknowledgements may take at the end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection with all that outlives its breaks.
pub(super) struct Connection {
    codec: &'static dyn Codec,
    tls: Option<Arc<ClientConfig>>,
    settings: Arc<Settings>,
    place: Place,
    standing: Arc<Standing>,
    inlet: Inlet,
    phase: PhaseWatch,
    routes: Routes,
    settlements: Arc<Settlements<PacketId>>,
    /// With a journal: what may come again.
    known: Option<Arc<Mutex<Known>>>,
    /// What sessions are subscribed to.
    subscribed: Option<Arc<Subscribed>>,
    /// Grows with each connection made: settlements of older ones are the broker's to repeat.
    generation: u32,
    backoff: Backoff,
    /// The last connection was given up for its silence, and no message has come since: not well, though connected.
    silent: bool,
    /// It was said that something comes of no subscription that is configured.
    told_of_stranger: bool,
}

impl Connection {
    pub(super) fn new(
        codec: &'static dyn Codec,
        tls: Option<Arc<ClientConfig>>,
        settings: Arc<Settings>,
        place: Place,
        standing: Arc<Standing>,
        inlet: Inlet,
        phase: PhaseWatch,
    ) -> Self {
        let told_of_stranger = place.role == Role::Retiring;
        Self {
            codec,
            tls,
            settings,
            place,
            standing,
            inlet,
            phase,
            routes: Routes::default(),
            settlements: Arc::default(),
            known: None,
            subscribed: None,
            generation: 0,
            backoff: Backoff::default(),
            silent: false,
            told_of_stranger,
        }
    }

    /// The same, with a memory of what was subscribed to.
    #[must_use]
    pub(super) fn remembering(self, subscribed: Option<Arc<Subscribed>>) -> Self {
        Self { subscribed, ..self }
    }

    /// Connects, serves and connects again, until the phase is [`Phase::Closed`]. With a journal, `state` says what the rules have had.
    pub(super) async fn run(mut self, state: Option<Arc<dyn StateStore>>) {
        if let Some(state) = state {
            self.recall(&state).await;
        }
        loop {
            // Without a connection there is nothing to settle, so a host that drains needs no new one.
            if phase::now(&self.phase) >= Phase::Draining {
                return phase::reaches(&mut self.phase, Phase::Closed).await;
            }
            let end = match self.connect().await {
                Ok(session) => self.serve(session).await,
                Err(end) => end,
            };
            let wait = match end {
                End::Closed => return,
                End::Retired => return self.retired().await,
                End::Returned => {
                    tracing::warn!(
                        source = %self.inlet.source(), client_id = self.place.client_id,
                        "messages were given back by the lanes; reconnecting, so that the broker sends them again"
                    );
                    self.backoff.failed()
                }
                End::Lost(error) => {
                    self.report(&error);
                    self.backoff.failed()
                }
                End::Stale => {
                    self.silent = true;
                    self.inlet.health().went_stale();
                    let seconds = self.settings.stale_after.unwrap_or_default().as_secs_f64();
                    self.report(&LinkError::lost(format!("no message for {seconds} s"), advice::STALE));
                    self.backoff.failed()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = phase::reaches(&mut self.phase, Phase::Draining) => {}
            }
        }
    }

    fn report(&self, error: &LinkError) {
        let endpoint = &self.settings.endpoint;
        let why = format!("MQTT broker {}:{}: {error}", endpoint.host, endpoint.port);
        if self.standing.down(self.place.index, why.clone()) {
            tracing::warn!(source = %self.inlet.source(), client_id = self.place.client_id, "{why}; trying again");
        }
    }

    async fn connect(&mut self) -> Result<Session, End> {
        let (wishes, stands) = self.wishes().await;
        let connecting = Link::connect(self.codec, &self.settings, &self.place.client_id, self.tls.as_ref(), wishes);
        let link = tokio::select! {
            link = connecting => link.map_err(End::Lost)?,
            () = phase::reaches(&mut self.phase, Phase::Draining) => {
                phase::reaches(&mut self.phase, Phase::Closed).await;
                return Err(End::Closed);
            }
        };
        if self.place.role == Role::Retiring && link.session() == SessionState::New {
            return Err(End::Retired);
        }
        if self.generation > 0 && link.session() == SessionState::New {
            tracing::warn!(
                source = %self.inlet.source(), client_id = self.place.client_id,
                "the broker did not keep our session: what it held for us is lost; see its persistence, and session_expiry_s"
            );
        }
        self.generation = self.generation.wrapping_add(1);
        self.backoff.holds();
        if let Some(known) = &self.known {
            again::locked(known).connected(link.session());
        }
        let stale_after = match self.place.role {
            Role::Serving => self.settings.stale_after,
            Role::Retiring => Some(link.proof_of_life()),
        };
        Ok(Session {
            unanswered: self.unanswered(&link, stands),
            link,
            window: Window::default(),
            parcels: self.parcels(),
            intake: Intake::Open,
            burst_us: None,
            settled: Vec::new(),
            watchdog: stale_after.map(Watchdog::new),
        })
    }

    /// Serves a session to its end, and sees to what it still holds.
    async fn serve(&mut self, mut session: Session) -> End {
        let end = match self.exchange(&mut session).await {
            Ok(end) => end,
            Err(error) => End::Lost(error),
        };
        if let End::Closed | End::Retired = end {
            let left = tokio::time::timeout(LEAVE_TIMEOUT, leave(session)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::warn!(
                    source = %self.inlet.source(), client_id = self.place.client_id,
                    "the broker did not take our last acknowledgements in time; it will send those messages again"
                );
            }
            return end;
        }
        let Session { link, mut parcels, .. } = session;
        drop(link);
        // What was read and not handed over yet: at QoS 1 it would come again, at QoS 0 it would be lost.
        tokio::select! {
            _sent_or_lanes_gone = parcels.send() => {}
            () = phase::reaches(&mut self.phase, Phase::Closed) => {}
        }
        end
    }

    async fn exchange(&mut self, session: &mut Session) -> Result<End, LinkError> {
        loop {
            let mut room = true;
            while let Some(packet) = session.link.ready()? {
                self.take(session, packet)?;
                if room && session.parcels.is_full() {
                    self.offer(session);
                    // If not all went, the rest of what was read waits too: one full lane must not make small parcels for the others.
                    room = !session.parcels.is_full();
                }
            }
            if self.settlements.any() && self.settle(session) == Outcome::Returned && session.intake == Intake::Open {
                session.link.acknowledge(&mut session.window).await?;
                return Ok(End::Returned);
            }
            if session.window.next_settled().is_some() {
                session.link.acknowledge(&mut session.window).await?;
                session.heard();
            }
            if session.intake == Intake::Shut {
                // What was taken before is handed over, and nothing after it: lanes close once all sources have said so.
                self.offer(session);
                if session.parcels.is_empty() {
                    session.parcels.shut();
                }
            }
            match self.turn(session).await {
                Turn::Packet(packet) => self.take(session, packet?)?,
                Turn::Settled => {}
                Turn::Sent(Ok(())) => session.heard(),
                Turn::Stale if self.place.role == Role::Serving => return Ok(End::Stale),
                Turn::Stale if session.unanswered.is_empty() && session.unanswered.stands.is_empty() => {
                    return Ok(End::Retired);
                }
                Turn::Stale => session.heard(),
                Turn::Sent(Err(InletClosed)) => self.shut(session),
                Turn::Phase => {
                    if phase::now(&self.phase) == Phase::Closed {
                        self.settle(session);
                        return Ok(End::Closed);
                    }
                    session.intake = Intake::Shut;
                }
            }
        }
    }

    /// Reads what is at hand; when nothing is, sends the parcels and waits for whatever comes first.
    async fn turn(&mut self, session: &mut Session) -> Turn {
        let next_phase = match session.intake {
            Intake::Open => Phase::Draining,
            Intake::Shut => Phase::Closed,
        };
        let held_rows = HELD_ROWS.max(usize::from(self.settings.receive_maximum));
        if session.parcels.len() >= held_rows || session.parcels.bytes() >= HELD_BYTES {
            let turn = tokio::select! {
                biased;
                () = self.settlements.news() => Turn::Settled,
                () = phase::reaches(&mut self.phase, next_phase) => Turn::Phase,
                sent = session.parcels.send_some() => Turn::Sent(sent),
            };
            session.heard();
            return turn;
        }
        let awaits_messages = session.awaits_messages();
        let mut poll = pin!(session.link.poll());
        if let Poll::Ready(packet) = poll_fn(|cx| Poll::Ready(poll.as_mut().poll(cx))).await {
            return Turn::Packet(packet);
        }
        session.burst_us = None;
        let behind = match session.parcels.try_send() {
            Ok(all) => !all,
            Err(closed) => return Turn::Sent(Err(closed)),
        };
        tokio::select! {
            biased;
            () = self.settlements.news() => Turn::Settled,
            () = phase::reaches(&mut self.phase, next_phase) => Turn::Phase,
            packet = &mut poll => Turn::Packet(packet),
            sent = session.parcels.send_some(), if behind => Turn::Sent(sent),
            () = silence(&mut session.watchdog), if !behind && awaits_messages => Turn::Stale,
        }
    }

    /// Moves settlements into the window; gives the worst outcome of this connection's messages that the broker still
    /// has.
    fn settle(&mut self, session: &mut Session) -> Outcome {
        let mut worst = Outcome::Settled;
        let mut settled = std::mem::take(&mut session.settled);
        self.settlements.take(&mut settled);
        for Settlement { generation, outcome, tokens } in settled.drain(..) {
            if let Some(known) = &self.known {
                if self.settle_known(known, &mut session.window, (generation, outcome), &tokens) == Outcome::Returned
                {
                    worst = Outcome::Returned;
                }
                continue;
            }
            let of_broker = tokens.iter().filter(|id| **id != PacketId::NONE);
            match outcome {
                Outcome::Returned => {
                    let kept = of_broker.count();
                    self.report_lost(tokens.len() - kept);
                    if kept > 0 && generation == self.generation {
                        worst = Outcome::Returned;
                    }
                }
                Outcome::Settled if generation == self.generation => {
                    of_broker.for_each(|id| session.window.settle(*id))
                }
                Outcome::Settled => {}
            }
        }
        session.settled = settled;
        worst
    }

    fn report_lost(&self, messages: usize) {
        if messages > 0 {
            tracing::warn!(
                source = %self.inlet.source(), messages,
                "messages received at QoS 0 were given back and are lost, since the broker does not keep them; subscribe at QoS 1"
            );
        }
    }
}

/// Sends all acknowledgements there are, and only then says goodbye.
async fn leave(mut session: Session) -> Result<(), LinkError> {
    session.link.acknowledge(&mut session.window).await?;
    session.link.leave().await
}
