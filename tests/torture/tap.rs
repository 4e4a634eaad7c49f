//! Listens in between broker and host: what the host has acknowledged is its promise.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_tests::{Tap, Way};

use crate::book::Book;
use crate::stream::number_of_payload;
use crate::wire::{Frames, Packet};

/// Hears one connection and writes into the book.
pub fn tap(book: &Arc<Book>) -> Tap {
    let book = book.clone();
    let life = book.life();
    let (mut up, mut down) = (Frames::default(), Frames::default());
    let mut level = 4;
    let mut open: HashMap<u16, u64> = HashMap::new();
    Box::new(move |way, bytes| match way {
        Way::ToServer => up.take(bytes, level, |packet| match packet {
            Packet::Connect { level: by, keeps_session } => {
                level = by;
                assert!(keeps_session, "the host asked the broker to forget its session, and what waits in it");
            }
            // Whatever the reason in it: to the broker the message is done with (MQTT 5.0, section 4.4).
            Packet::PubAck { id, .. } => {
                if let Some(number) = open.remove(&id) {
                    book.settled(number);
                }
            }
            _ => {}
        }),
        Way::ToClient => down.take(bytes, level, |packet| {
            if let Packet::Publish { id: Some(id), payload } = packet {
                let number = number_of_payload(payload).expect("the host should get our messages only");
                open.insert(id, number);
                book.delivered(number, life);
            }
        }),
    })
}
