//! One connection to a broker: its socket, what was read from it, what waits to be written to it, and the keep-alive.
//!
//! What differs between the versions of the protocol is in a [`Codec`]. rumqttc's event loops are not used: that of
//! version 5 writes each PUBACK by a system call of its own. Here all that settled since the last turn is one write.
//!
//! Guarantees: no wait here loses anything when it is dropped, once connected. What a broker makes us hold is bounded: a
//! packet by `max_packet_bytes`, before there is room for it (the rest of a longer message is let pass, `oversized.rs`); PUBACKs that it does not read by [`UNSENT_BYTES`]. Never: a
//! PUBLISH of our own, QoS 2, topic aliases, a wait without an end (a silent broker is noticed by keep-alive).

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use rumqttc::tokio_rustls::TlsConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tidegate_config::{MqttEndpoint, MqttSource as Settings, Qos};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::error::{LinkError, advice};
use super::options;
use super::packet::{Codec, Packet, SessionState};
use super::window::{PacketId, Window};

/// How long it may take until a broker has taken us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is taken from the socket at a time.
const READ_BYTES: usize = 32 << 10;
/// In the place of the keep-alive, where a broker wants none.
const UNPINGED: Duration = Duration::from_secs(60);
/// How many bytes of ours a broker may leave unread: PUBACKs for four times all packet ids there are.
const UNSENT_BYTES: usize = 1 << 20;

/// The beginning of a PUBACK that says success; its packet id follows. The same in both versions, as those below.
const PUBACK: [u8; 2] = [0x40, 2];
const PINGREQ: [u8; 2] = [0xC0, 0];
/// A normal end: the broker keeps the session.
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// TCP, with or without TLS.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// What a session shall be subscribed to.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) filters: Vec<(String, Qos)>,
    /// What it may be subscribed to besides: to be taken back.
    pub(super) old: Vec<String>,
}

/// A connection on which the broker has taken us in, and SUBSCRIBE is on its way. Hangs up when it is dropped.
pub(super) struct Link {
    codec: &'static dyn Codec,
    socket: Box<dyn Socket>,
    /// Read and not taken yet.
    incoming: BytesMut,
    /// Of what comes next, bytes of a message that was too large.
    skip: usize,
    /// Not written yet.
    outgoing: BytesMut,
    /// TLS holds something back until it is flushed.
    unflushed: bool,
    max_packet: u32,
    session: SessionState,
    /// By packet id: the filters that UNSUBSCRIBE was sent for.
    taken_back: Vec<(u16, String)>,
    /// When to send PINGREQ; never, if a broker wants no keep-alive.
    pings: Option<Interval>,
    /// Nothing at all has come since the last PINGREQ.
    unanswered: bool,
}

impl Link {
    /// Connects and subscribes; the answers to the latter are [`Packet::Subscribed`] and [`Packet::Unsubscribed`].
    pub(super) async fn connect(
        codec: &'static dyn Codec,
        settings: &Settings,
        client_id: &str,
        tls: Option<&Arc<ClientConfig>>,
        wishes: Wishes,
    ) -> Result<Self, LinkError> {
        let connecting = async {
            let socket = dial(&settings.endpoint, tls).await?;
            Self::over(socket, codec, settings, client_id, wishes).await
        };
        timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_elapsed| {
            let what = format!("we were not taken in within {} s", CONNECT_TIMEOUT.as_secs());
            Err(LinkError::lost(what, advice::SILENT))
        })
    }

    async fn over(
        socket: Box<dyn Socket>,
        codec: &'static dyn Codec,
        settings: &Settings,
        client_id: &str,
        wishes: Wishes,
    ) -> Result<Self, LinkError> {
        let mut link = Self {
            codec,
            socket,
            incoming: BytesMut::with_capacity(2 * READ_BYTES),
            skip: 0,
            outgoing: BytesMut::new(),
            unflushed: false,
            max_packet: settings.endpoint.max_packet_bytes,
            session: SessionState::New,
            taken_back: Vec::new(),
            pings: None,
            unanswered: false,
        };
        codec.connect(settings, client_id, &mut link.outgoing)?;
        let Packet::Connected(welcome) = link.poll().await? else {
            return Err(LinkError::protocol("the broker answered CONNECT with something else than CONNACK"));
        };
        link.session = welcome.session;
        let keep_alive = welcome.keep_alive.unwrap_or_else(|| options::keep_alive(&settings.endpoint));
        link.pings = pings(Duration::from_secs(keep_alive.into()));
        if !wishes.filters.is_empty() {
            codec.subscribe(&wishes.filters, &mut link.outgoing)?;
        }
        if let Some(max) = welcome.max_packet
            && link.outgoing.len() > max as usize
        {
            let what = format!("SUBSCRIBE has {} bytes, and the broker takes {max}", link.outgoing.len());
            return Err(LinkError::lost(what, advice::SHORTER));
        }
        // After SUBSCRIBE: what is published in between comes twice, and not never.
        if link.session == SessionState::Resumed {
            link.taken_back = (options::SUBSCRIBE_ID + 1..).zip(wishes.old).collect();
            for (id, filter) in &link.taken_back {
                codec.unsubscribe(*id, filter, &mut link.outgoing)?;
            }
        }
        Ok(link)
    }

    /// After how long without a message, all being acknowledged, the broker has none for us: meanwhile it has answered a PINGREQ that we sent after the
    /// last PUBACK, or the connection has ended.
    pub(super) fn proof_of_life(&self) -> Duration {
        let period = self.pings.as_ref().map_or(UNPINGED, Interval::period);
        2 * period + Duration::from_secs(1)
    }

    /// By packet id: the filters that UNSUBSCRIBE is on its way for.
    pub(super) fn taken_back(&self) -> &[(u16, String)] {
        &self.taken_back
    }

    /// Whether the broker still knew us.
    pub(super) fn session(&self) -> SessionState {
        self.session
    }

    /// The next packet that was already read from the socket, if there is one.
    #[inline]
    pub(super) fn ready(&mut self) -> Result<Option<Packet>, LinkError> {
        if self.skip > 0 {
            let skipped = self.skip.min(self.incoming.len());
            self.incoming.advance(skipped);
            self.skip -= skipped;
        }
        if self.incoming.is_empty() {
            return Ok(None);
        }
        let next = self.codec.next(&mut self.incoming, self.max_packet)?;
        if let Some(Packet::Oversized(_, rest)) = &next {
            self.skip = *rest;
        }
        Ok(next)
    }

    /// Waits for the next packet, and writes meanwhile what waits to be written.
    pub(super) async fn poll(&mut self) -> Result<Packet, LinkError> {
        loop {
            if let Some(packet) = self.ready()? {
                return Ok(packet);
            }
            poll_fn(|cx| self.poll_exchange(cx)).await?;
        }
    }

    /// Acknowledges what the window gives, without waiting: what the socket does not take now, [`Self::poll`] writes.
    pub(super) async fn acknowledge(&mut self, window: &mut Window) -> Result<(), LinkError> {
        while let Some(PacketId(id)) = window.next_settled() {
            self.outgoing.put_slice(&PUBACK);
            self.outgoing.put_u16(id);
            window.acknowledged();
        }
        poll_fn(|cx| Poll::Ready(self.write(cx))).await?;
        if self.outgoing.len() > UNSENT_BYTES {
            let what = format!("the broker leaves {} bytes of acknowledgements unread", self.outgoing.len());
            return Err(LinkError::lost(what, advice::SILENT));
        }
        Ok(())
    }

    /// Sends what is on its way, then DISCONNECT; the broker keeps the session. Ends when the broker hangs up: only then has
    /// it read everything, and a successor under our client id cannot overtake our last acknowledgements.
    pub(super) async fn leave(mut self) -> Result<(), LinkError> {
        self.outgoing.put_slice(&DISCONNECT);
        loop {
            match poll_fn(|cx| self.poll_exchange(cx)).await {
                // A message that still comes stays with the broker.
                Ok(()) => self.incoming.clear(),
                Err(_hung_up) if self.outgoing.is_empty() && !self.unflushed => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what can be written, and is ready when something was read.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.write(cx)?;
        self.incoming.reserve(READ_BYTES);
        match pin!(self.socket.read_buf(&mut (&mut self.incoming).limit(READ_BYTES))).poll(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(LinkError::lost("the broker hung up", advice::CLOSED))),
            Poll::Ready(Ok(_bytes)) => {
                self.unanswered = false;
                // A broker that never lets us wait must hear of us all the same, or it takes us for gone: at QoS 0 we send it nothing else.
                if let Poll::Ready(failed) = self.poll_pings(cx) {
                    return Poll::Ready(failed);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(&error, advice::CLOSED))),
            Poll::Pending => self.poll_pings(cx),
        }
    }

    /// Asks a quiet broker whether it is still there: an error, if it has not answered by the next time. Never ready otherwise.
    fn poll_pings(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        while let Some(pings) = &mut self.pings {
            ready!(pings.poll_tick(cx));
            if self.unanswered {
                let seconds = pings.period().as_secs();
                let what = format!("nothing came from the broker within {seconds} s of a PINGREQ");
                return Poll::Ready(Err(LinkError::lost(what, advice::SILENT)));
            }
            self.unanswered = true;
            self.outgoing.put_slice(&PINGREQ);
            self.write(cx)?;
        }
        Poll::Pending
    }

    /// Writes until nothing is left or the socket takes no more; then it wakes the task.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.outgoing) {
                Poll::Ready(Ok(0)) => return Err(broken(&io::ErrorKind::WriteZero.into(), advice::CLOSED)),
                Poll::Ready(Ok(bytes)) => {
                    self.outgoing.advance(bytes);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(broken(&error, advice::CLOSED)),
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(broken(&error, advice::CLOSED)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }
}

/// One PINGREQ each `keep_alive`: brokers wait one and a half (5.0 §3.1.2.10).
fn pings(keep_alive: Duration) -> Option<Interval> {
    if keep_alive.is_zero() {
        return None;
    }
    let mut pings = interval_at(Instant::now() + keep_alive, keep_alive);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(pings)
}

async fn dial(endpoint: &MqttEndpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Socket>, LinkError> {
    let unreachable = |error: io::Error| broken(&error, advice::UNREACHABLE);
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(unreachable)?;
    // What is written is gathered here; the kernel need not wait for more.
    tcp.set_nodelay(true).map_err(unreachable)?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|error| LinkError::lost(format!("no certificate can be for this host: {error}"), advice::TLS))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await;
    Ok(Box::new(stream.map_err(|error| broken(&error, advice::TLS))?))
}

/// A broken socket. Whatever the moment, what TLS says is for TLS: a broker may refuse our certificate after the handshake.
#[cold]
fn broken(error: &io::Error, advice: &'static str) -> LinkError {
    let of_tls = error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>());
    LinkError::lost(error.to_string(), if of_tls { advice::TLS } else { advice })
}
