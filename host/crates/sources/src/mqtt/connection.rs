//! One connection: from the broker's packets to parcels, and from settlements to PUBACKs, in one task.
//!
//! The loop reads all that is at hand before it sends parcels: under load they are large, when quiet they are one
//! message. When lanes are full it goes on reading as long as the broker's own window (QoS 1) bounds what is unsettled;
//! past [`HELD_ROWS`] or [`HELD_BYTES`], which only QoS 0 or a broker without a window can reach, it stops reading, and
//! TCP holds the broker back. A stop longer than one and a half keep-alives makes the broker end the connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tidegate_config::{LaneBy, MqttSource as Settings, Qos};
use tidegate_model::{Inlet, InletClosed, Marks, Outcome, Parcels, Phase, PhaseWatch};

use super::link::{Answer, Event, Link, LinkError, Publish, advice};
use super::session::{End, Intake, Place, Session, Turn};
use super::standing::Standing;
use super::watchdog::{Watchdog, silence};
use super::window::{PacketId, Window};
use crate::backoff::Backoff;
use crate::phase;
use crate::routes::Routes;
use crate::settlements::{Settlement, Settlements};

/// How many messages may wait for a lane, beside the receive maximum.
const HELD_ROWS: usize = 10_000;
/// How many bytes of payload may wait for a lane.
const HELD_BYTES: usize = 16 << 20;
/// How many user properties of one message are kept: the rest is not for telemetry.
const MAX_PROPERTIES: usize = 64;
/// How long the last acknowledgements may take at the end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection with all that outlives its breaks.
pub(super) struct Connection<L: Link> {
    link: L,
    settings: Arc<Settings>,
    place: Place,
    standing: Arc<Standing>,
    inlet: Inlet,
    phase: PhaseWatch,
    routes: Routes,
    settlements: Arc<Settlements<PacketId>>,
    /// Grows with each connection made: settlements of older ones are the broker's to repeat.
    generation: u32,
    backoff: Backoff,
    /// The last connection was given up for its silence, and no message has come since: not well, though connected.
    silent: bool,
}

impl<L: Link> Connection<L> {
    pub(super) fn new(
        link: L,
        settings: Arc<Settings>,
        place: Place,
        standing: Arc<Standing>,
        inlet: Inlet,
        phase: PhaseWatch,
    ) -> Self {
        Self {
            link,
            settings,
            place,
            standing,
            inlet,
            phase,
            routes: Routes::default(),
            settlements: Arc::default(),
            generation: 0,
            backoff: Backoff::default(),
            silent: false,
        }
    }

    /// Connects, serves and connects again, until the phase is [`Phase::Closed`].
    pub(super) async fn run(mut self) {
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
            self.link.abandon();
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
        loop {
            let event = tokio::select! {
                event = self.link.poll() => event.map_err(End::Lost)?,
                () = phase::reaches(&mut self.phase, Phase::Draining) => {
                    phase::reaches(&mut self.phase, Phase::Closed).await;
                    return Err(End::Closed);
                }
            };
            if matches!(event, Event::Connected) {
                break;
            }
        }
        self.generation = self.generation.wrapping_add(1);
        self.backoff.holds();
        self.link.subscribe().map_err(End::Lost)?;
        Ok(Session {
            window: Window::default(),
            parcels: self.parcels(),
            intake: Intake::Open,
            burst_us: None,
            held_bytes: 0,
            settled: Vec::new(),
            watchdog: self.settings.stale_after.map(Watchdog::new),
        })
    }

    /// Serves a session to its end, and sees to what it still holds.
    async fn serve(&mut self, mut session: Session) -> End {
        let end = match self.exchange(&mut session).await {
            Ok(end) => end,
            Err(error) => End::Lost(error),
        };
        if let End::Closed = end {
            let left = tokio::time::timeout(LEAVE_TIMEOUT, self.leave(&mut session)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::warn!(
                    source = %self.inlet.source(), client_id = self.place.client_id,
                    "the broker did not take our last acknowledgements in time; it will send those messages again"
                );
            }
            return end;
        }
        // What was read and not handed over yet: at QoS 1 it would come again, at QoS 0 it would be lost.
        tokio::select! {
            _sent_or_lanes_gone = session.parcels.send() => {}
            () = phase::reaches(&mut self.phase, Phase::Closed) => {}
        }
        end
    }

    /// Sends all acknowledgements there are, and only then says goodbye.
    async fn leave(&mut self, session: &mut Session) -> Result<(), LinkError> {
        loop {
            self.link.acknowledge(&mut session.window).await?;
            if session.window.next_settled().is_none() {
                return self.link.leave().await;
            }
            // The way out is full: a broker may have more on the way to us than our receive maximum allows.
            self.link.poll().await?;
        }
    }

    async fn exchange(&mut self, session: &mut Session) -> Result<End, LinkError> {
        loop {
            while let Some(event) = self.link.ready() {
                self.take(session, event)?;
            }
            if self.settlements.any() && self.settle(session) == Outcome::Returned && session.intake == Intake::Open {
                self.link.acknowledge(&mut session.window).await?;
                return Ok(End::Returned);
            }
            if session.window.next_settled().is_some() {
                self.link.acknowledge(&mut session.window).await?;
                session.heard();
            }
            if session.intake == Intake::Shut {
                // What was taken before is handed over, and nothing after it: lanes close once all sources have said so.
                self.offer(session);
                if session.parcels.is_empty() {
                    session.parcels.shut();
                }
            } else if session.parcels.is_full() {
                self.offer(session);
            }
            match self.turn(session).await {
                Turn::Event(event) => self.take(session, event?)?,
                Turn::Settled => {}
                Turn::Sent(Ok(())) => {
                    session.held_bytes = 0;
                    session.heard();
                }
                Turn::Stale => return Ok(End::Stale),
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
    async fn turn(&mut self, session: &mut Session) -> Turn<L::Publish> {
        let next_phase = match session.intake {
            Intake::Open => Phase::Draining,
            Intake::Shut => Phase::Closed,
        };
        let held_rows = HELD_ROWS.max(usize::from(self.settings.receive_maximum));
        if session.parcels.len() >= held_rows || session.held_bytes >= HELD_BYTES {
            let turn = tokio::select! {
                biased;
                () = self.settlements.news() => Turn::Settled,
                () = phase::reaches(&mut self.phase, next_phase) => Turn::Phase,
                sent = session.parcels.send() => Turn::Sent(sent),
            };
            session.heard();
            return turn;
        }
        let mut poll = pin!(self.link.poll());
        if let Poll::Ready(event) = poll_fn(|cx| Poll::Ready(poll.as_mut().poll(cx))).await {
            return Turn::Event(event);
        }
        session.burst_us = None;
        let behind = match session.parcels.try_send() {
            Ok(true) => {
                session.held_bytes = 0;
                false
            }
            Ok(false) => true,
            Err(closed) => return Turn::Sent(Err(closed)),
        };
        tokio::select! {
            biased;
            () = self.settlements.news() => Turn::Settled,
            () = phase::reaches(&mut self.phase, next_phase) => Turn::Phase,
            event = &mut poll => Turn::Event(event),
            sent = session.parcels.send(), if behind => Turn::Sent(sent),
            () = silence(&mut session.watchdog), if !behind && session.awaits_messages() => Turn::Stale,
        }
    }

    /// Sends full parcels in the midst of a burst, and looks at what a burst without end would never come to.
    fn offer(&mut self, session: &mut Session) {
        session.burst_us = None;
        match session.parcels.try_send() {
            Ok(true) => session.held_bytes = 0,
            Ok(false) => {}
            Err(InletClosed) => self.shut(session),
        }
        if phase::now(&self.phase) >= Phase::Draining {
            session.intake = Intake::Shut;
        }
    }

    /// The lanes take no more: what is in the parcels stays with the broker.
    fn shut(&self, session: &mut Session) {
        session.intake = Intake::Shut;
        session.parcels = self.parcels();
        session.held_bytes = 0;
    }

    /// Empty parcels of the present connection.
    fn parcels(&self) -> Parcels<PacketId> {
        let (settlements, generation) = (self.settlements.clone(), self.generation);
        self.inlet.parcels(move |tokens: Vec<PacketId>| {
            if tokens.iter().all(|id| *id == PacketId::NONE) {
                settlements.ack_if_returned(generation, tokens)
            } else {
                settlements.ack(generation, tokens)
            }
        })
    }

    #[inline]
    fn take(&mut self, session: &mut Session, event: Event<L::Publish>) -> Result<(), LinkError> {
        match event {
            Event::Message(publish) => {
                if session.intake == Intake::Open {
                    self.push(session, &publish);
                }
                Ok(())
            }
            Event::Subscribed(answers) => self.subscribed(&answers),
            Event::Connected | Event::Other => Ok(()),
        }
    }

    #[inline]
    fn push(&mut self, session: &mut Session, publish: &L::Publish) {
        let id = publish.packet_id();
        if id != PacketId::NONE {
            session.window.receive(id);
        }
        let received_us = match session.burst_us {
            Some(received_us) => received_us,
            None => self.begin_burst(session),
        };
        let mut marks = Marks::default();
        if publish.retained() {
            marks = marks.with(Marks::RETAINED);
        }
        if publish.duplicate() {
            marks = marks.with(Marks::REDELIVERED);
        }
        let (topic, payload) = (publish.topic(), publish.payload());
        session.held_bytes += payload.len();
        let settings = &self.settings;
        let route = self.routes.find(topic, &self.inlet, |name| lane_by(settings, name).partition(name));
        let Some(route) = route else {
            let name = String::from_utf8_lossy(topic);
            return session.parcels.push_unnamed(&name, received_us, marks, payload, id);
        };
        let (messages, row) = session.parcels.push(route, received_us, marks, payload, id);
        for (key, value) in publish.properties().iter().take(MAX_PROPERTIES) {
            messages.properties.push(row, key, value.as_bytes());
        }
    }

    /// The first message of those at hand: when it came.
    fn begin_burst(&mut self, session: &mut Session) -> i64 {
        session.heard();
        if std::mem::take(&mut self.silent) {
            self.standing.up(self.place.index);
        }
        let received_us = self.inlet.now_us();
        session.burst_us = Some(received_us);
        received_us
    }

    /// Moves settlements into the window; gives the worst outcome of this connection's messages that the broker still
    /// has.
    fn settle(&mut self, session: &mut Session) -> Outcome {
        let mut worst = Outcome::Settled;
        let mut settled = std::mem::take(&mut session.settled);
        self.settlements.take(&mut settled);
        for Settlement { generation, outcome, tokens } in settled.drain(..) {
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

    /// Looks at the broker's answers. One subscription refused leaves the others at work; all refused is no connection.
    fn subscribed(&self, answers: &[Answer]) -> Result<(), LinkError> {
        let mut refused = Vec::new();
        for (subscription, answer) in self.settings.subscriptions.iter().zip(answers) {
            match answer {
                Answer::Refused(why) => refused.push(format!("`{}` ({why})", subscription.filter)),
                Answer::Granted(Qos::AtMostOnce) if subscription.qos == Qos::AtLeastOnce => tracing::warn!(
                    source = %self.inlet.source(), filter = %subscription.filter,
                    "the broker grants QoS 0 only, not 1: it keeps nothing for us while we are away"
                ),
                Answer::Granted(_) => {}
            }
        }
        if refused.is_empty() {
            // After a silence, only a message shows that all is well again.
            if !self.silent {
                self.standing.up(self.place.index);
            }
            return Ok(());
        }
        let error = LinkError::lost(
            format!("the broker refused to subscribe us to {}", refused.join(", ")),
            "check the filter and the broker's access rules",
        );
        if refused.len() == answers.len() {
            return Err(error);
        }
        self.report(&error);
        Ok(())
    }
}

/// What decides the lane of a topic: the first subscription that matches it. One that none matches comes of an older
/// subscription the broker still keeps.
pub(crate) fn lane_by<'a>(settings: &'a Settings, topic: &str) -> &'a LaneBy {
    settings.subscriptions.iter().find(|s| s.filter.matches(topic)).map_or(&LaneBy::Topic, |s| &s.lane_by)
}
