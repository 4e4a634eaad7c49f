//! From packets to parcels.

use tidegate_config::{LaneBy, MqttSource as Settings};
use tidegate_model::{InletClosed, Marks, Parcels, Phase, Properties};

use super::Connection;
use super::again::locked;
use super::subscribing::tell_of_stranger;
use crate::mqtt::error::LinkError;
use crate::mqtt::packet::{Packet, Publish};
use crate::mqtt::session::{Intake, Session};
use crate::mqtt::window::PacketId;
use crate::phase;

/// How many user properties of one message are kept: the rest is not for telemetry.
const MAX_PROPERTIES: usize = 64;
/// The longest key that is kept, in bytes.
const MAX_KEY_BYTES: usize = 256;

impl Connection {
    /// Sends full parcels in the midst of a burst, and looks at what a burst without end would never come to.
    pub(super) fn offer(&mut self, session: &mut Session) {
        session.burst_us = None;
        if let Err(InletClosed) = session.parcels.try_send() {
            self.shut(session);
        }
        if phase::now(&self.phase) >= Phase::Draining {
            session.intake = Intake::Shut;
        }
    }

    /// The lanes take no more: what is in the parcels stays with the broker.
    pub(super) fn shut(&self, session: &mut Session) {
        session.intake = Intake::Shut;
        session.parcels = self.parcels();
    }

    /// Empty parcels of the present connection.
    pub(super) fn parcels(&self) -> Parcels<PacketId> {
        let (settlements, generation) = (self.settlements.clone(), self.generation);
        let parcels = self.inlet.parcels(move |tokens: Vec<PacketId>| {
            if tokens.iter().all(|id| *id == PacketId::NONE) {
                settlements.ack_if_returned(generation, tokens)
            } else {
                settlements.ack(generation, tokens)
            }
        });
        match self.known.clone() {
            Some(known) => parcels.journaled(move |ids, _| locked(&known).taken(ids)),
            None => parcels,
        }
    }

    #[inline]
    pub(super) fn take(&mut self, session: &mut Session, packet: Packet) -> Result<(), LinkError> {
        match packet {
            Packet::Message(publish) if session.intake == Intake::Open => {
                if self.had_before(session, &publish)? {
                    return Ok(());
                }
                if publish.id != PacketId::NONE {
                    session.window.receive(publish.id)?;
                }
                self.push(session, &publish, Marks::default());
                Ok(())
            }
            Packet::Oversized(publish, _) if session.intake == Intake::Open => {
                if self.had_before(session, &publish)? {
                    return Ok(());
                }
                if publish.id != PacketId::NONE {
                    session.window.receive(publish.id)?;
                }
                self.push(session, &publish, Marks::TRUNCATED);
                Ok(())
            }
            Packet::Message(_) | Packet::Oversized(..) | Packet::Alive => Ok(()),
            Packet::Subscribed(answers) => self.subscribed(session, &answers),
            Packet::Unsubscribed(id, refused) => self.taken_back(session, id, refused),
            Packet::Connected(_) => Err(LinkError::protocol("the broker sent CONNACK twice")),
        }
    }

    #[inline]
    fn push(&mut self, session: &mut Session, publish: &Publish, mut marks: Marks) {
        let Publish { topic, payload, id, .. } = publish;
        let received_us = match session.burst_us {
            Some(received_us) => received_us,
            None => self.begin_burst(session),
        };
        if publish.retained {
            marks = marks.with(Marks::RETAINED);
        }
        if publish.duplicate {
            marks = marks.with(Marks::REDELIVERED);
        }
        if *id == PacketId::NONE {
            marks = marks.with(Marks::AT_MOST_ONCE);
        }
        let (settings, inlet, told) = (&self.settings, &self.inlet, &mut self.told_of_stranger);
        let route = self.routes.find(topic, inlet, |name| {
            tell_of_stranger(settings, inlet, told, name);
            lane_by(settings, name).partition(name)
        });
        let (messages, row) = match route {
            Some(route) => session.parcels.push(route, received_us, marks, payload, *id),
            None => session.parcels.push_unnamed(&String::from_utf8_lossy(topic), received_us, marks, payload, *id),
        };
        for (name, value) in &publish.said {
            messages.properties.push(row, name, value);
        }
        let kept = |key: &str| key.len() <= MAX_KEY_BYTES && !Properties::is_ours(key);
        for (key, value) in publish.properties.iter().filter(|(key, _)| kept(key)).take(MAX_PROPERTIES) {
            messages.properties.push(row, key, value.as_bytes());
        }
    }

    /// The first message of those at hand: when it came.
    pub(super) fn begin_burst(&mut self, session: &mut Session) -> i64 {
        session.heard();
        if std::mem::take(&mut self.silent) {
            self.standing.up(self.place.index);
        }
        let received_us = self.inlet.now_us();
        session.burst_us = Some(received_us);
        received_us
    }
}

/// What decides the lane of a topic: the first subscription that matches it. One that none matches comes of an older
/// subscription the broker still keeps.
pub(crate) fn lane_by<'a>(settings: &'a Settings, topic: &str) -> &'a LaneBy {
    settings.subscriptions.iter().find(|s| s.filter.matches(topic)).map_or(&LaneBy::Topic, |s| &s.lane_by)
}
