//! A connection whose other end must read: one that takes next to nothing for too long is given up.
//!
//! An answer that nobody reads would else hold its place, and what it is made of, for as long as the connection lives. It is waited for only so long in all, and what
//! is taken brings as much of that back as it is worth: who takes a byte now and then is no better than who takes none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Who has taken so much is waited for as long as at first. A line of 20 kbit/s takes it in time.
const WORTH_ALL_BYTES: u32 = 64 << 10;

/// Gives up when it has waited for `within` and too little could be written meanwhile.
#[derive(Debug)]
pub(crate) struct Impatient<S> {
    inner: S,
    patience: Patience,
    /// Since when it is waited for, and until when at most; none while it reads.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// How long it may be waited for: in all, and still.
#[derive(Debug)]
struct Patience {
    within: Duration,
    left: Duration,
}

impl Patience {
    /// So many bytes have been taken, after that wait.
    fn taken(&mut self, bytes: usize, waited: Duration) {
        let worth = bytes.min(WORTH_ALL_BYTES as usize) as u32;
        let regained = self.within * worth / WORTH_ALL_BYTES;
        self.left = (self.left.saturating_sub(waited) + regained).min(self.within);
    }
}

impl<S> Impatient<S> {
    pub fn new(inner: S, within: Duration) -> Self {
        Self { inner, patience: Patience { within, left: within }, waiting: None }
    }

    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = &written {
            let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
            self.patience.taken(done.as_ref().map_or(0, bytes), waited);
            return written;
        }
        let left = self.patience.left;
        let (_, until) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads the answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.in_time(context, written, |&bytes| bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.in_time(context, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        self.in_time(context, shut, |()| 0)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.in_time(context, written, |&bytes| bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(600);

    /// Guarantees: who reads, however little at a time, is waited for; who reads nothing is given up, and so is who has used up what it may be waited for.
    #[tokio::test]
    async fn slow_and_still() {
        let answer = |within| {
            let (ours, theirs) = tokio::io::duplex(16);
            (Impatient::new(ours, within), theirs)
        };
        let (mut ours, mut theirs) = answer(LONG);
        let reading = async {
            let mut piece = [0; 5];
            for _ in 0..20 {
                theirs.read_exact(&mut piece).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[1; 100]), reading);
        written.unwrap();
        ours.patience.left = Duration::ZERO;
        assert_eq!(ours.write_all(&[1; 100]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut still, _theirs) = answer(Duration::from_millis(1));
        assert_eq!(still.write_all(&[1; 100]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// Guarantees: who takes enough is waited for as long as it goes on; who takes a byte now and then uses up what it may be waited for, and no wait is
    /// forgotten before something is taken for it.
    #[test]
    fn what_is_taken_is_worth_some_time() {
        let mut patience = Patience { within: LONG, left: LONG };
        let enough = WORTH_ALL_BYTES as usize / 10;
        (0..1_000).for_each(|_| patience.taken(enough, LONG / 10));
        assert!(patience.left > LONG * 9 / 10, "{patience:?}");
        let tenth = LONG / 10;
        (0..9).for_each(|_| patience.taken(1, tenth));
        assert!(patience.left < LONG / 5, "{patience:?}");
        patience.taken(0, tenth * 2);
        assert_eq!(patience.left, Duration::ZERO);
        patience.taken(9 * WORTH_ALL_BYTES as usize, Duration::ZERO);
        assert_eq!(patience.left, LONG, "never more than at first");
    }
}
