//! Which messages of one connection may be acknowledged now.
//!
//! A receiver must send its PUBACKs in the order in which it got the PUBLISHes (MQTT 5.0 §4.6, [MQTT-4.6.0-2]; the same in
//! 3.1.1), but lanes settle in any order. The window holds what is not acknowledged yet, in order of receipt, and gives
//! out the settled ones from its front.
//!
//! Guarantees: an id is given out only after it was settled, in order of receipt, once for each time it was received.
//! No I/O.

use std::collections::VecDeque;

use super::error::LinkError;

/// An MQTT packet identifier. 0 is never used by the protocol (§2.2.1) and stands for a message that needs no
/// acknowledgement (QoS 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketId(pub(super) u16);

impl PacketId {
    /// Of a message with QoS 0.
    pub(super) const NONE: PacketId = PacketId(0);
}

/// The unacknowledged messages of one connection.
#[derive(Debug)]
pub(super) struct Window {
    order: VecDeque<PacketId>,
    /// By packet id: how often it was settled and not given out yet. A broker sends an id again only after our PUBACK, so
    /// this is 0 or 1; should it repeat itself all the same, the copies are one message and may settle each other.
    settled: Vec<u8>,
}

impl Default for Window {
    fn default() -> Self {
        Self { order: VecDeque::new(), settled: vec![0; usize::from(u16::MAX) + 1] }
    }
}

impl Window {
    /// A message with this id was received. An error when there are as many as packet ids already: no broker that waits for
    /// its ids to come back sends more, and one that does not may send for ever.
    #[inline]
    pub(super) fn receive(&mut self, id: PacketId) -> Result<(), LinkError> {
        if self.order.len() >= usize::from(u16::MAX) {
            return Err(LinkError::protocol("the broker does not wait for acknowledgements"));
        }
        self.order.push_back(id);
        Ok(())
    }

    /// How many wait for their acknowledgement.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing waits for its acknowledgement.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// It is settled. An id that is not in the window must not be given: it came from this connection's own parcels.
    #[inline]
    pub(super) fn settle(&mut self, id: PacketId) {
        let count = &mut self.settled[usize::from(id.0)];
        *count = count.saturating_add(1);
    }

    /// The id to acknowledge next, if it is settled.
    #[inline]
    pub(super) fn next_settled(&self) -> Option<PacketId> {
        self.order.front().copied().filter(|id| self.settled[usize::from(id.0)] > 0)
    }

    /// What [`Self::next_settled`] gave is on its way to the broker.
    #[inline]
    pub(super) fn acknowledged(&mut self) {
        if let Some(id) = self.order.pop_front() {
            let count = &mut self.settled[usize::from(id.0)];
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn acknowledge_all(window: &mut Window) -> Vec<u16> {
        let mut out = Vec::new();
        while let Some(id) = window.next_settled() {
            window.acknowledged();
            out.push(id.0);
        }
        out
    }

    fn received(ids: &[u16]) -> Window {
        let mut window = Window::default();
        ids.iter().for_each(|&id| window.receive(PacketId(id)).unwrap());
        window
    }

    /// Guarantees: what settles early waits for what came before it.
    #[test]
    fn in_order_of_receipt() {
        let mut window = received(&[7, 3, 9]);
        window.settle(PacketId(9));
        window.settle(PacketId(3));
        assert!(acknowledge_all(&mut window).is_empty());
        window.settle(PacketId(7));
        assert_eq!(acknowledge_all(&mut window), [7, 3, 9]);
    }

    /// Guarantees: an id used again after its acknowledgement is a new message, not settled by the old one.
    #[test]
    fn ids_come_again() {
        let mut window = received(&[1]);
        window.settle(PacketId(1));
        assert_eq!(acknowledge_all(&mut window), [1]);
        window.receive(PacketId(1)).unwrap();
        assert!(acknowledge_all(&mut window).is_empty());
        window.settle(PacketId(1));
        assert_eq!(acknowledge_all(&mut window), [1]);
    }

    /// Guarantees: a broker that sends without end before we acknowledge anything does not fill our memory.
    #[test]
    fn never_more_than_there_are_ids() {
        let mut window = Window::default();
        for id in 1..=u16::MAX {
            window.receive(PacketId(id)).unwrap();
        }
        assert!(window.receive(PacketId(1)).is_err());
        window.settle(PacketId(1));
        assert_eq!(acknowledge_all(&mut window), [1]);
        window.receive(PacketId(1)).unwrap();
    }

    /// Guarantees: whatever the order of settling, acknowledgements are a prefix of what was received, and no id is
    /// acknowledged that was not settled. Compared with a plain list over many random histories.
    #[test]
    fn agrees_with_a_plain_model() {
        let mut random = fastrand::Rng::with_seed(0x71de);
        for _ in 0..200 {
            let mut window = Window::default();
            let (mut history, mut settled, mut acknowledged) = (Vec::new(), Vec::new(), 0);
            for _ in 0..300 {
                if random.bool() && history.len() - acknowledged < 64 {
                    let id = (history.len() % 64) as u16 + 1;
                    window.receive(PacketId(id)).unwrap();
                    history.push(id);
                    settled.push(false);
                } else if let Some(at) =
                    (acknowledged..history.len()).filter(|&i| !settled[i]).nth(random.usize(0..4))
                {
                    window.settle(PacketId(history[at]));
                    settled[at] = true;
                }
                for id in acknowledge_all(&mut window) {
                    assert!(settled[acknowledged]);
                    assert_eq!(id, history[acknowledged]);
                    acknowledged += 1;
                }
                assert!(settled.get(acknowledged) != Some(&true), "a settled front was held back");
            }
        }
    }
}
