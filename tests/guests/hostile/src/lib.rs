//! A decoder that obeys its payloads, bad ones included: `trap`, `loop`, `grow` and `lie` do what they say, any other
//! payload is a number and becomes a point. The suite proves with it that one poison row costs nobody else anything.
//!
//! It never misbehaves by itself.

use std::hint::black_box;

use tidegate_rule::columns::{Decoded, Emitted, Messages, Topic};
use tidegate_rule::{About, Call, Decoder, EachMessage, Message, Out, Quality, Reason, Rule};

/// It has no settings.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Decodes numbers, and obeys three of the four orders.
pub struct Obedient;

impl Decoder for Obedient {
    type Config = Config;
    const ABOUT: About = tidegate_rule::about!("Does what its payloads say").topics(&["hostile/#"]);

    fn new(_: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn decode(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<(), Reason> {
        match message.payload {
            b"trap" => trap(),
            b"loop" => spin(),
            b"grow" => grow(),
            payload => {
                let text = std::str::from_utf8(payload).map_err(|_| Reason::from("not a number"))?;
                let value = match text {
                    "lie" => 0.0,
                    number => number.parse().map_err(|_| Reason::from("not a number"))?,
                };
                let series = out.series_of(message);
                out.point(series, message.received_us, value, Quality::GOOD);
                Ok(())
            }
        }
    }
}

#[allow(clippy::panic, reason = "to trap is the point")]
fn trap() -> ! {
    panic!("told to trap")
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

/// Takes memory until there is no more, which traps.
fn grow() -> ! {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(black_box(vec![1; 1 << 20]));
    }
}

/// The decoder, which says of a batch with a `lie` in it that its rows came from rows that are not there.
pub struct Hostile(EachMessage<Obedient>);

impl Rule for Hostile {
    type Config = Config;
    const ABOUT: About = Obedient::ABOUT;

    fn new(config: Config) -> Result<Self, String> {
        EachMessage::new(config).map(Self)
    }

    fn declare_topics(&mut self, new: Vec<Topic>) {
        self.0.declare_topics(new);
    }

    fn decode(&mut self, call: &mut Call<'_>, batch: Messages) -> Decoded {
        let lies = batch.payload_bytes.windows(3).any(|bytes| bytes == b"lie");
        let mut decoded = self.0.decode(call, batch);
        if lies {
            decoded.made.from_row.fill(1 << 30);
        }
        decoded
    }

    fn tick(&mut self, call: &mut Call<'_>) -> Emitted {
        self.0.tick(call)
    }
}

tidegate_rule::export!(Hostile as decoder rule);
