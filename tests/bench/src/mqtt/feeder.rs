//! A process in the place of a broker: it takes one client in, lets it subscribe, and sends it the workload.
//!
//! It says `listening <port>` when its packets are encoded and `done` when all are sent, at QoS 1 acknowledged; then it waits for its
//! client to leave. Nothing stands between it and the client but the loopback interface.

use std::io::Write;
use std::net::TcpListener;

use anyhow::{Context, Result, bail, ensure};

use super::flow::Flow;
use super::wire::{self, Kind, Packets, Qos, Version};
use crate::poison::Hundredth;

/// What is sent.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Feed {
    /// Messages.
    #[arg(long)]
    pub messages: usize,
    /// The version of MQTT that the client must speak.
    #[arg(long)]
    pub version: Version,
    /// QoS of all messages.
    #[arg(long)]
    pub qos: Qos,
    /// The most unacknowledged messages.
    #[arg(long)]
    pub window: usize,
    /// What each hundredth of them is.
    #[arg(long)]
    pub hundredth: Hundredth,
}

/// Runs to the end of the one client.
pub fn run(feed: Feed) -> Result<()> {
    let flow = Flow::new(feed.messages, feed.version, feed.qos, feed.hundredth);
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
    println!("listening {}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut packets = Packets::new(stream.try_clone()?);
    match packets.next()? {
        Some((Kind::Connect, body)) => ensure!(
            wire::connects_with(body, feed.version),
            "the client speaks another version than {}",
            feed.version.as_str()
        ),
        other => bail!("the client began with {:?}", other.map(|(kind, _)| kind)),
    }
    stream.write_all(&wire::connack(feed.version))?;
    let id = match packets.next()? {
        Some((Kind::Subscribe, body)) => wire::packet_id(body)?,
        other => bail!("the client did not subscribe, it sent {:?}", other.map(|(kind, _)| kind)),
    };
    stream.write_all(&wire::suback(feed.version, id, feed.qos))?;
    flow.send(&stream, packets, feed.window, || {
        println!("done");
        Ok(())
    })
}
