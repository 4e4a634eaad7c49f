//! The answer to an order. Who gives it waits for nobody: who asked gives way to all others, so a lane would stand still for as long as that one's
//! thread has no processor. Yet it is certain whether the answer is taken: of a late one and the end of patience the first counts, for both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
use std::time::Instant;

/// Of who obeys.
pub(crate) struct Reply<T> {
    to: SyncSender<T>,
    settled: Arc<AtomicBool>,
}

/// Of who asked.
pub(crate) struct Answer<T> {
    from: Receiver<T>,
    settled: Arc<AtomicBool>,
}

/// Both ends of an answer.
pub(crate) fn reply<T>() -> (Reply<T>, Answer<T>) {
    let (to, from) = sync_channel(1);
    let settled = Arc::<AtomicBool>::default();
    (Reply { to, settled: settled.clone() }, Answer { from, settled })
}

impl<T> Reply<T> {
    /// Gives the answer.
    ///
    /// # Errors
    /// Nobody takes it any more: this is it.
    pub fn send(self, answer: T) -> Result<(), T> {
        if self.settled.swap(true, AcqRel) {
            return Err(answer);
        }
        self.to.send(answer).map_err(|SendError(answer)| answer)
    }
}

impl<T> Answer<T> {
    /// Waits until then.
    ///
    /// # Errors
    /// There is none until then, and will be none after; or nobody is left who could give one.
    pub fn by(self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        match self.from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            // It is being given at this moment.
            Err(RecvTimeoutError::Timeout) if self.settled.swap(true, AcqRel) => Ok(self.from.recv()?),
            done => done,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Guarantees: an answer is given without anybody waiting for it, and taken later; and one that nobody waits for any more comes back to who gives
    /// it, whether patience or who asked has ended.
    #[test]
    fn given_or_given_back() {
        let (given, answer) = reply();
        assert_eq!(given.send(1), Ok(()), "nobody waits yet");
        assert_eq!(answer.by(Instant::now()), Ok(1));

        let (late, answer) = reply();
        assert_eq!(answer.by(Instant::now()), Err(RecvTimeoutError::Timeout));
        assert_eq!(late.send(2), Err(2));

        let (unheard, answer) = reply();
        drop(answer);
        assert_eq!(unheard.send(3), Err(3));

        let (dropped, answer) = reply::<u8>();
        drop(dropped);
        assert_eq!(answer.by(Instant::now() + Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    }

    /// Guarantees: where answer and end of patience meet, both sides say the same of it.
    #[test]
    fn of_one_mind() {
        for _ in 0..2_000 {
            let (late, answer) = reply();
            let asks = std::thread::spawn(move || answer.by(Instant::now()));
            let taken = late.send(7).is_ok();
            assert_eq!(asks.join().unwrap().is_ok(), taken);
        }
    }
}
