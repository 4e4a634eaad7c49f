//! What the routes work with, and the one way to do what takes long.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::backtest::Backtests;
use crate::problem::Problem;
use crate::rules::Desk;
use crate::sse::Streams;
use crate::status::View;

/// How much that takes long may be under way at once.
const BLOCKING: usize = 16;
/// How many modules may come in at once: each can take up 64 MiB of disk and, when it is looked over, of memory.
const UPLOADS: usize = 2;

/// The parts of the host that the routes see.
pub(crate) struct House {
    pub view: View,
    pub desk: Desk,
    pub backtests: Arc<Backtests>,
    blocking: Arc<Semaphore>,
    pub uploads: Arc<Semaphore>,
    pub streams: Streams,
}

impl House {
    pub fn new(view: View, desk: Desk) -> Arc<Self> {
        let (blocking, uploads) = (Arc::new(Semaphore::new(BLOCKING)), Arc::new(Semaphore::new(UPLOADS)));
        let (backtests, streams) = (Arc::default(), Streams::default());
        Arc::new(Self { view, desk, backtests, blocking, uploads, streams })
    }

    /// Does what may block, beside the runtime's thread. It goes on to its end, whoever waits for it.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&House) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = self.blocking.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Problem::busy("too much is under way; try again in a moment"))?;
        let house = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _until_done = permit;
            work(&house)
        });
        done.await.map_err(|_| Problem::internal("it failed; see the host's log"))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.backtests.stop();
    }
}
