//! What a connection is made of: its place, its session, and the reasons it wakes and ends for.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{InletClosed, Parcels};

use super::error::LinkError;
use super::link::Link;
use super::packet::Packet;
use super::watchdog::Watchdog;
use super::window::{PacketId, Window};
use crate::settlements::Settlement;

/// Which connection of its source this is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) role: Role,
    /// Among those of its role.
    pub(super) index: usize,
    pub(super) client_id: String,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To take what is subscribed to.
    Serving,
    /// To end a session of earlier settings, by another number of connections: its subscriptions are taken back, and what it still holds is taken.
    Retiring,
}

/// What lasts as long as the broker keeps us.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) window: Window,
    pub(super) parcels: Parcels<PacketId>,
    /// Whether new messages are taken in.
    pub(super) intake: Intake,
    /// When the messages now being read came: one look at the clock for all that is at hand.
    pub(super) burst_us: Option<i64>,
    pub(super) settled: Vec<Settlement<PacketId>>,
    /// With `stale_after`: whether the broker has been silent for too long.
    pub(super) watchdog: Option<Watchdog>,
    pub(super) unanswered: Unanswered,
}

/// What the broker has been asked for and not answered yet.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// SUBSCRIBE, with these filters.
    pub(super) subscribing: bool,
    /// What the session is subscribed to, as far as it is known.
    pub(super) stands: BTreeSet<String>,
    /// UNSUBSCRIBE, by packet id.
    pub(super) taking_back: BTreeMap<u16, String>,
    /// What was taken back.
    pub(super) gone: Vec<String>,
}

impl Unanswered {
    /// Whether all is answered.
    pub(super) fn is_empty(&self) -> bool {
        !self.subscribing && self.taking_back.is_empty()
    }
}

impl Session {
    /// The broker has sent something, or could not have.
    pub(super) fn heard(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.heard();
        }
    }

    /// Whether silence is the broker's: nothing waits for us to acknowledge it.
    pub(super) fn awaits_messages(&self) -> bool {
        self.intake == Intake::Open && self.window.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    Open,
    /// What arrives is left unacknowledged and uncounted.
    Shut,
}

/// Why a session ended.
pub(super) enum End {
    /// The host is done with us.
    Closed,
    /// Something was given back: only a new connection makes the broker send it again.
    Returned,
    /// The connection broke.
    Lost(LinkError),
    /// It stands, by its looks, but nothing came for too long.
    Stale,
    /// The session is empty, and not subscribed to anything.
    Retired,
}

/// What woke the loop.
pub(super) enum Turn {
    Packet(Result<Packet, LinkError>),
    Settled,
    Phase,
    /// The broker has been silent for too long.
    Stale,
    Sent(Result<(), InletClosed>),
}
