//! Server-sent events: answers that go on while there is news, for all routes that have such.
//!
//! A route asks for a [`stream`], starts a task that feeds it, and answers with the response. Everything about it is bounded: how many
//! there are at once, how many events wait for the reader, how large one is and how long the whole goes on. A reader who is slow is
//! waited for by whoever feeds; one who is gone, or reads nothing for too long, ends the stream, which the feeder learns from
//! [`Gone`].

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use crate::problem::Problem;

/// The content type.
pub(crate) const TYPE: &str = "text/event-stream";
/// The most streams at once: each takes a connection for long.
const MOST: usize = 32;
/// Events that wait for their reader.
const WAITING: usize = 64;
/// The largest event.
const MAX_BYTES: usize = 256 << 10;
/// How often something is said when there is nothing to say, so that who is between does not take it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long one stream goes on: below the longest life of a connection, so that its end is said. Who wants more asks again.
const LONGEST: Duration = Duration::from_secs(540);
/// The last event of a stream that has gone on for so long.
const END: &[u8] = b"event: end\ndata: {\"reason\":\"a stream goes on for 9 minutes; ask again\"}\n\n";
/// What stands in the place of an event that is too large.
const OMITTED: &[u8] = b"event: omitted\ndata: {\"reason\":\"it is too large to be shown here\"}\n\n";

/// The places for streams.
pub(crate) struct Streams {
    places: Arc<Semaphore>,
    heartbeat: Duration,
    longest: Duration,
}

/// The reader is there no more.
#[derive(Debug)]
pub(crate) struct Gone;

/// Where events are put in.
pub(crate) struct Feed(mpsc::Sender<Bytes>);

/// The other end: the body of the answer.
struct Stream {
    events: mpsc::Receiver<Bytes>,
    heartbeat: Interval,
    end: Pin<Box<Sleep>>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Default for Streams {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), heartbeat: HEARTBEAT, longest: LONGEST }
    }
}

impl Streams {
    /// A new stream: what feeds it, and the answer that carries it. It ends when the feed is dropped.
    pub fn open(&self) -> Result<(Feed, Response), Problem> {
        let place = self.places.clone().try_acquire_owned();
        let place =
            place.map_err(|_| Problem::busy(format!("there are {MOST} event streams already, which is the most")))?;
        let (feed, events) = mpsc::channel(WAITING);
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let end = Box::pin(tokio::time::sleep(self.longest));
        let stream = Stream { events, heartbeat, end, ended: false, _place: place };
        let response = (StatusCode::OK, [(header::CONTENT_TYPE, TYPE)], Body::new(stream)).into_response();
        Ok((Feed(feed), response))
    }
}

impl Feed {
    /// Sends an event, waiting for a slow reader; `name` is one word.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn send(&self, name: &str, data: &impl Serialize) -> Result<(), Gone> {
        self.0.send(event(name, data)).await.map_err(|_| Gone)
    }

    /// Resolves when nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// An event as it goes over the wire: JSON has no line breaks of its own, so that its data are always one line.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    let before = text.len();
    let written = serde_json::to_writer(&mut text, data);
    if written.is_err() || text.len() - before > MAX_BYTES {
        return Bytes::from_static(OMITTED);
    }
    text.extend_from_slice(b"\n\n");
    text.into()
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let some = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        // Before the events, which may never cease.
        if self.end.as_mut().poll(context).is_ready() {
            self.ended = true;
            self.events.close();
            return some(Bytes::from_static(END));
        }
        match self.events.poll_recv(context) {
            Poll::Ready(Some(bytes)) => {
                self.heartbeat.reset();
                return some(bytes);
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.heartbeat.poll_tick(context).is_ready() {
            return some(Bytes::from_static(b": still here\n\n"));
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn next(body: &mut Body) -> Option<String> {
        let frame = body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// Guarantees: events go out in order, one line of JSON each whatever is in them; silence is broken by a heartbeat; the end of the
    /// feed is the end of the stream, and its time is over some day with a word.
    #[tokio::test]
    async fn events_and_ends() {
        let streams = Streams { heartbeat: Duration::from_millis(20), ..Streams::default() };
        let (feed, response) = streams.open().unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], TYPE);
        let mut body = response.into_body();
        feed.send("point", &"a\nb").await.unwrap();
        assert_eq!(next(&mut body).await.unwrap(), "event: point\ndata: \"a\\nb\"\n\n");
        feed.send("point", &"x".repeat(MAX_BYTES)).await.unwrap();
        assert!(next(&mut body).await.unwrap().starts_with("event: omitted\n"));
        assert!(next(&mut body).await.unwrap().starts_with(':'), "a heartbeat");
        drop(feed);
        assert!(next(&mut body).await.is_none());
    }

    /// Guarantees: a stream that goes on for too long ends with a word, however much there would be to say, and its feeder learns of it.
    #[tokio::test]
    async fn no_stream_is_for_ever() {
        let streams = Streams { longest: Duration::from_millis(50), ..Streams::default() };
        let (feed, response) = streams.open().unwrap();
        let feeding = tokio::spawn(async move { while feed.send("point", &1).await.is_ok() {} });
        let (mut body, mut last) = (response.into_body(), String::new());
        while let Some(text) = next(&mut body).await {
            last = text;
        }
        assert!(last.starts_with("event: end\n"), "{last}");
        feeding.await.unwrap();
    }

    /// Guarantees: there are so many streams and no more; a reader who goes makes room, and who feeds it learns of it.
    #[tokio::test]
    async fn so_many() {
        let streams = Streams::default();
        let mut all: Vec<_> = (0..MOST).map(|_| streams.open().unwrap()).collect();
        assert_eq!(streams.open().err().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        let (feed, response) = all.pop().unwrap();
        drop(response);
        feed.closed().await;
        assert!(feed.send("point", &1).await.is_err());
        assert!(streams.open().is_ok());
    }
}
