//! A process that publishes the workload to a broker: the same bytes at the same haste whoever receives them.
//!
//! It says `ready` when it is connected and its packets are encoded, begins when a line comes on standard input, and says `done` when
//! all are sent, at QoS 1 acknowledged.

use std::io::Write;
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

use super::flow::Flow;
use super::wire::{self, DISCONNECT, Kind, Packets, Qos, Version};
use crate::poison::Hundredth;

/// What is published, and where.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Publish {
    /// The broker's port on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    /// Messages.
    #[arg(long)]
    pub messages: usize,
    /// QoS of all messages.
    #[arg(long)]
    pub qos: Qos,
    /// The most unacknowledged messages.
    #[arg(long)]
    pub window: usize,
}

/// Runs to the last message.
pub fn run(publish: Publish) -> Result<()> {
    let flow = Flow::new(publish.messages, Version::V3, publish.qos, Hundredth::Usual);
    let mut stream = TcpStream::connect(("127.0.0.1", publish.port)).context("the broker cannot be reached")?;
    stream.set_nodelay(true)?;
    let mut packets = Packets::new(stream.try_clone()?);
    stream.write_all(&wire::connect("bench-publisher"))?;
    match packets.next()? {
        Some((Kind::ConnAck, body)) => ensure!(wire::is_taken_in(body), "the broker refused the publisher"),
        other => bail!("the broker answered CONNECT with {:?}", other.map(|(kind, _)| kind)),
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    flow.send(&stream, packets, publish.window, || {
        println!("done");
        Ok((&stream).write_all(&DISCONNECT)?)
    })
}
