//! Room for answers on their way out. One stays in memory until its reader has taken the last of it, and a reader may be as slow as it likes; so all that
//! are large have so many bytes together, whoever reads them, and who comes while they are taken is told to ask again. Those that are not as large have room that
//! no larger one takes: a few slow readers of whole modules keep nobody from a list.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// What all have together: two documents of the largest, and more.
const ROOM_BYTES: u64 = 256 << 20;
/// What those of no more than [`MIDDLING_BYTES`] have for themselves before they take of it.
const OWN_ROOM_BYTES: u64 = 16 << 20;
const MIDDLING_BYTES: u64 = 1 << 20;
/// One of no more than this counts for nothing: as many as there are connections take little.
const SMALL_BYTES: u64 = 64 << 10;
/// What room is counted in.
const UNIT_BYTES: u64 = 1 << 10;
/// What a connection is given at a time: what it has taken up is its own copy, so that the whole goes with [`Held`].
const PIECE_BYTES: usize = 64 << 10;

/// The room.
pub(crate) struct Leaving {
    units: Arc<Semaphore>,
    all: u64,
    /// Of those that are not as large.
    own: Arc<Semaphore>,
}

/// The body of a large answer, and its room until it is dropped.
struct Held {
    inner: Body,
    /// What the connection has not been given yet, of what `inner` has given.
    rest: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Default for Leaving {
    fn default() -> Self {
        Self::of(ROOM_BYTES, OWN_ROOM_BYTES)
    }
}

impl Leaving {
    fn of(bytes: u64, own: u64) -> Self {
        let room = |bytes: u64| Arc::new(Semaphore::new((bytes / UNIT_BYTES) as usize));
        Self { units: room(bytes), all: bytes / UNIT_BYTES, own: room(own) }
    }

    /// The same answer with the room that it takes, if it is large and whole; one that goes on while there is news has its own bounds.
    ///
    /// # Errors
    /// Others have the room now.
    pub fn take(&self, answer: Response) -> Result<Response, Problem> {
        let Some(bytes) = answer.body().size_hint().exact().filter(|&bytes| bytes > SMALL_BYTES) else {
            return Ok(answer);
        };
        // One that is larger than all the room goes alone.
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).min(self.all)).unwrap_or(u32::MAX);
        let of = |room: &Arc<Semaphore>| room.clone().try_acquire_many_owned(units);
        let own = if bytes <= MIDDLING_BYTES { of(&self.own).ok() } else { None };
        let room = own.map_or_else(|| of(&self.units), Ok).map_err(|_| {
            Problem::busy("other large answers are on their way to those who read them; try again in a moment")
        })?;
        Ok(answer.map(|inner| Body::new(Held { inner, rest: Bytes::new(), _room: room })))
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.rest = bytes,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let bytes = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(bytes);
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.inner.size_hint().exact() {
            Some(bytes) => SizeHint::with_exact(bytes + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;

    use super::*;

    fn answer(bytes: u64) -> Response {
        (0..bytes).map(|at| at as u8).collect::<Vec<u8>>().into_response()
    }

    /// Guarantees: large answers take room until they have been read or given up, and small ones none; what is read is what was said, in pieces, and its length
    /// is told.
    #[tokio::test]
    async fn room_until_it_is_read() {
        let leaving = Leaving::of(4 * SMALL_BYTES, 0);
        let large = 2 * SMALL_BYTES;
        let (mut one, other) = (leaving.take(answer(large)).unwrap(), leaving.take(answer(large)).unwrap());
        assert_eq!(one.body().size_hint().exact(), Some(large));
        let none = || leaving.take(answer(SMALL_BYTES + 1)).err().map(|problem| problem.status());
        assert_eq!(none(), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert!(leaving.take(answer(SMALL_BYTES)).is_ok(), "a small one");
        let mut read = one.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
        assert_eq!(
            (read.len(), none()),
            (PIECE_BYTES, Some(StatusCode::SERVICE_UNAVAILABLE)),
            "it is not read to its end"
        );
        assert_eq!(one.body().size_hint().exact(), Some(large - PIECE_BYTES as u64));
        read.extend(one.into_body().collect().await.unwrap().to_bytes());
        assert_eq!(read, answer(large).into_body().collect().await.unwrap().to_bytes());
        let again = leaving.take(answer(large));
        assert!(again.is_ok() && none().is_some(), "the room of the one that was read, and no more");
        drop(other);
        assert_eq!(none(), None);
        drop(again);
        assert!(leaving.take(answer(9 * SMALL_BYTES)).is_ok(), "one larger than the room goes alone");
    }

    /// Guarantees: what is not as large goes out while the largest are held by those who do not read them; when its own room is taken it has that of all.
    #[tokio::test]
    async fn room_of_their_own() {
        let leaving = Leaving::of(2 * MIDDLING_BYTES, MIDDLING_BYTES);
        let take = |bytes| leaving.take(answer(bytes)).ok();
        let largest = take(MIDDLING_BYTES + 1).unwrap();
        assert!(take(MIDDLING_BYTES + 1).is_none());
        let own = take(MIDDLING_BYTES).unwrap();
        assert!(take(MIDDLING_BYTES).is_none(), "both are taken");
        drop(largest);
        let of_all = [take(MIDDLING_BYTES).unwrap(), take(MIDDLING_BYTES).unwrap()];
        assert!(take(SMALL_BYTES + 1).is_none());
        drop(own);
        assert!(take(MIDDLING_BYTES + 1).is_none() && take(MIDDLING_BYTES).is_some());
        drop(of_all);
    }
}
