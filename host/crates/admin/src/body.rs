//! The body of a request: never more than its limit, never longer than its time.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::incoming::Seat;
use crate::problem::{Mistake, Problem};

/// The most of a JSON body.
pub(crate) const MAX_JSON_BYTES: usize = 1 << 20;
/// More than that is parsed beside the interface's own thread, which all callers share and which does not give way to lanes.
const PARSED_HERE_BYTES: usize = 64 << 10;
/// The most of a document with modules in it: 64 MiB of them, in base64, and their rules.
const MAX_DOCUMENT_BYTES: usize = 96 << 20;
/// How long the next piece may be waited for.
const IDLE: Duration = Duration::from_secs(10);
/// How long a JSON body may take in all.
const JSON_WITHIN: Duration = Duration::from_secs(15);
/// The most of rows to be tried.
const MAX_ROWS_BYTES: usize = 1 << 30;
/// How long rows may take in all, without what they wait to be read.
const ROWS_WITHIN: Duration = Duration::from_secs(600);
/// How long a module may take in all.
const MODULE_WITHIN: Duration = Duration::from_secs(300);

/// The body of a request, as it comes in.
pub(crate) struct Body {
    inner: axum::body::Body,
    /// What the request says of its length.
    announced: Option<u64>,
    /// Its place, where there are few.
    seat: Option<Arc<Seat>>,
    now: fn() -> Instant,
}

impl Body {
    pub fn new(inner: axum::body::Body, headers: &axum::http::HeaderMap) -> Self {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
        Self { inner, announced, seat: None, now: Instant::now }
    }

    /// The same in a place that others may want while it comes.
    pub fn seated(self, seat: &Arc<Seat>) -> Self {
        Self { seat: Some(seat.clone()), ..self }
    }

    /// The whole of it, as JSON.
    pub async fn json<T: DeserializeOwned + Send + 'static>(self) -> Result<T, Problem> {
        self.json_of(MAX_JSON_BYTES, JSON_WITHIN).await
    }

    /// The same for a document with modules in it.
    pub async fn document<T: DeserializeOwned + Send + 'static>(self) -> Result<T, Problem> {
        self.json_of(MAX_DOCUMENT_BYTES, MODULE_WITHIN).await
    }

    async fn json_of<T: DeserializeOwned + Send + 'static>(
        self,
        most: usize,
        within: Duration,
    ) -> Result<T, Problem> {
        let mut whole = Vec::new();
        self.pieces(most, within, |piece| {
            whole.extend_from_slice(&piece);
            std::future::ready(Ok(()))
        })
        .await?;
        if whole.len() <= PARSED_HERE_BYTES {
            return parsed(&whole);
        }
        // As many at once as there are connections; of the largest, as there are seats.
        let beside = tokio::task::spawn_blocking(move || parsed(&whole));
        beside.await.map_err(|_| Problem::internal("it failed; see the host's log"))?
    }

    /// Piece by piece, for a module.
    pub async fn module<F>(self, most: usize, each: impl FnMut(Bytes) -> F) -> Result<(), Problem>
    where
        F: Future<Output = Result<(), Problem>>,
    {
        self.pieces(most, MODULE_WITHIN, each).await
    }

    /// Piece by piece, for rows.
    pub async fn rows<F>(self, each: impl FnMut(Bytes) -> F) -> Result<(), Problem>
    where
        F: Future<Output = Result<(), Problem>>,
    {
        self.pieces(MAX_ROWS_BYTES, ROWS_WITHIN, each).await
    }

    async fn pieces<F>(
        mut self,
        most: usize,
        within: Duration,
        mut each: impl FnMut(Bytes) -> F,
    ) -> Result<(), Problem>
    where
        F: Future<Output = Result<(), Problem>>,
    {
        if self.announced.is_some_and(|announced| announced > most as u64) {
            return Err(too_large(most));
        }
        // Its sender's time, and not that of who does something with each piece.
        let (mut left, mut taken) = (within, 0);
        loop {
            let began = (self.now)();
            let next = timeout_at(began + left.min(IDLE), self.inner.frame());
            let frame = match &self.seat {
                None => next.await,
                Some(seat) => tokio::select! {
                    frame = next => frame,
                    () = seat.given_away() => return Err(gave_way()),
                },
            };
            let Some(frame) = frame.map_err(|_| too_slow())? else {
                return if self.seat.is_none_or(|seat| seat.keep()) { Ok(()) } else { Err(gave_way()) };
            };
            let frame =
                frame.map_err(|error| Problem::bad(format!("the body ended before it was whole: {error}")))?;
            let took = (self.now)().saturating_duration_since(began);
            left = left.checked_sub(took).ok_or_else(too_slow)?;
            let Ok(piece) = frame.into_data() else { continue };
            taken += piece.len();
            self.seat.iter().for_each(|seat| seat.came(piece.len(), std::time::Instant::now()));
            if taken > most {
                return Err(too_large(most));
            }
            each(piece).await?;
        }
    }
}

fn parsed<T: DeserializeOwned>(whole: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(whole).map_err(|error| {
        let mistake = Mistake::new("", error.to_string());
        match error.classify() {
            serde_json::error::Category::Data => {
                Problem::unusable("body", "the body has not the form that is taken here", vec![mistake])
            }
            _ => Problem::bad(format!("the body is no JSON: {error}")),
        }
    })
}

fn too_large(most: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body may have {most} bytes at most"))
        .with(header::CONNECTION, "close")
}

fn gave_way() -> Problem {
    let detail = "the body came so slowly that another sender, who waited, has got its place; try again in a moment";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "gave_way", detail)
        .with(header::CONNECTION, "close")
        .with(header::RETRY_AFTER, "5")
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come in time")
        .with(header::CONNECTION, "close")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::Cell;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::thread::ThreadId;

    use hyper::body::Frame;
    use serde::{Deserialize, Deserializer};

    use super::*;

    /// On which thread it was parsed.
    struct Where(ThreadId);

    impl<'de> Deserialize<'de> for Where {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            String::deserialize(from)?;
            Ok(Self(std::thread::current().id()))
        }
    }

    /// A body of two pieces, neither of which is there at once.
    struct Late {
        left: usize,
        comes: bool,
    }

    impl hyper::body::Body for Late {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.comes = !self.comes;
            if self.comes {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
            self.left = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    /// Guarantees: the time of who sends is not what somebody else takes for a piece, as a backtest does that waits for its turn.
    #[tokio::test]
    async fn time_of_the_sender() {
        let body = axum::body::Body::new(Late { left: 2, comes: false });
        const WITHIN: Duration = Duration::from_secs(600);
        thread_local!(static LATER: Cell<Duration> = const { Cell::new(Duration::ZERO) });
        let mut taken = 0;
        let body = Body { now: || Instant::now() + LATER.get(), ..Body::new(body, &axum::http::HeaderMap::new()) };
        let read = body.pieces(9, WITHIN, |piece| {
            taken += piece.len();
            LATER.set(LATER.get() + WITHIN);
            std::future::ready(Ok(()))
        });
        assert_eq!(read.await.map_err(|problem| problem.code()), Ok(()));
        assert_eq!(taken, 2);
    }

    /// Guarantees: a large body is not parsed on the thread that answers everybody; what is wrong with it is said all the same.
    #[tokio::test]
    async fn large_ones_are_parsed_beside() {
        let body = |text: String| Body::new(text.into(), &axum::http::HeaderMap::new());
        let here = std::thread::current().id();
        let string = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert_eq!(body(string(PARSED_HERE_BYTES)).json::<Where>().await.ok().unwrap().0, here);
        for bytes in [PARSED_HERE_BYTES + 1, MAX_JSON_BYTES] {
            assert_ne!(body(string(bytes)).json::<Where>().await.ok().unwrap().0, here, "{bytes} bytes");
        }
        let long = PARSED_HERE_BYTES * 2;
        let none = body("x".repeat(long)).json::<Where>().await.err().unwrap();
        assert_eq!(none.status(), StatusCode::BAD_REQUEST);
        let other = body(string(long)).json::<u32>().await.err().unwrap();
        assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
}
