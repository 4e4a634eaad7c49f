//! What the routes work with, and the one way to do what takes long.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::backtest::Backtests;
use crate::incoming::{Incoming, Seat};
use crate::leaving::Leaving;
use crate::problem::Problem;
use crate::recent::Recent;
use crate::route::Sees;
use crate::rules::Desk;
use crate::sse::Streams;
use crate::status::View;

/// How much that takes long may be under way at once: changes, which wait for one another and for lanes, and what works with rules.
const BLOCKING: usize = 16;
/// How much that looks things up, on disk or in long lists, and waits for nobody. Its places are its own: whoever looks into what is going on is
/// answered while changes hold all of theirs.
const LOOKING_UP: usize = 16;
/// How many modules, or documents with modules, may come in at once. They come as slowly as their senders like, for minutes, as long as nobody waits.
const INCOMING: usize = 2;
/// How many may be worked on at once, coming or going: each can take up 64 MiB of memory and more. None is waited for: what goes out has room of its own
/// then (`leaving.rs`).
const AT_WORK: usize = 2;

/// The parts of the host that the routes see.
pub(crate) struct AppState {
    pub view: View,
    pub desk: Desk,
    pub backtests: Arc<Backtests>,
    blocking: Arc<Semaphore>,
    looking_up: Arc<Semaphore>,
    incoming: Arc<Incoming>,
    at_work: Arc<Semaphore>,
    compacting: Semaphore,
    /// For answers on their way out.
    pub leaving: Leaving,
    pub streams: Streams,
    pub pages: Pages,
}

/// A place to work on what has come in.
pub(crate) struct Turn {
    _held: OwnedSemaphorePermit,
}

/// What few can have.
pub(crate) trait Place: Send + 'static {}
impl Place for Turn {}
impl Place for Arc<Seat> {}

/// What anybody may ask for.
pub(crate) struct Pages {
    pub ready: Faces,
    pub health: Faces,
    pub metrics: Recent,
}

/// An answer as it looks to each.
pub(crate) struct Faces {
    names: Recent,
    reasons: Recent,
}

impl Faces {
    fn new(now: Instant) -> Self {
        Self { names: Recent::new(now), reasons: Recent::new(now) }
    }

    /// As it looks to who sees that much.
    pub fn of(&self, sees: Sees) -> &Recent {
        match sees {
            Sees::Names => &self.names,
            Sees::Reasons => &self.reasons,
        }
    }
}

impl AppState {
    pub fn new(view: View, desk: Desk) -> Arc<Self> {
        let (blocking, looking_up) = (Arc::new(Semaphore::new(BLOCKING)), Arc::new(Semaphore::new(LOOKING_UP)));
        let (incoming, at_work) = (Incoming::new(INCOMING), Arc::new(Semaphore::new(AT_WORK)));
        let compacting = Semaphore::new(1);
        let (leaving, backtests, streams) = (Leaving::default(), Arc::default(), Streams::default());
        let now = Instant::now();
        let pages = Pages { ready: Faces::new(now), health: Faces::new(now), metrics: Recent::new(now) };
        Arc::new(Self {
            view,
            desk,
            backtests,
            blocking,
            looking_up,
            incoming,
            at_work,
            compacting,
            leaving,
            streams,
            pages,
        })
    }

    /// A place for modules that come in, until they have been worked on.
    pub fn incoming(&self) -> Result<Arc<Seat>, Problem> {
        self.incoming.take(Instant::now()).map(Arc::new).ok_or_else(on_their_way)
    }

    /// A place to work on modules, for who gives some out.
    pub fn at_work(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.at_work.try_acquire().map_err(|_| on_their_way())
    }

    /// The same for who has taken some in: it is not refused after all the way, but waits for its turn. Who has a place does not wait for
    /// callers, so that is soon.
    pub async fn turn(&self) -> Result<Turn, Problem> {
        let held = self.at_work.clone().acquire_owned().await.map_err(|_| on_their_way())?;
        Ok(Turn { _held: held })
    }

    /// The one place to give room back to the disk: two would wait for each other, and take twice the room.
    pub fn compacting(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.compacting.try_acquire().map_err(|_| Problem::busy("the dead letters are being written anew already"))
    }

    /// Does what may block, beside the runtime's thread. It goes on to its end, whoever waits for it.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&AppState) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.beside(&self.blocking, work).await
    }

    /// Looks something up that may block for a moment, but waits neither for a change nor for a lane.
    pub async fn look_up<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&AppState) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.beside(&self.looking_up, work).await
    }

    /// Does what may block for who has a place of another kind already, of which there are few: a seat for what comes in, or a turn to work on it. It is not
    /// refused when changes hold all of theirs.
    pub async fn in_place<P: Place, T: Send + 'static>(
        self: &Arc<Self>,
        place: P,
        work: impl FnOnce(&AppState) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.holding(place, work).await
    }

    async fn beside<T: Send + 'static>(
        self: &Arc<Self>,
        places: &Arc<Semaphore>,
        work: impl FnOnce(&AppState) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = places.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Problem::busy("too much is under way; try again in a moment"))?;
        self.holding(permit, work).await
    }

    async fn holding<T: Send + 'static>(
        self: &Arc<Self>,
        place: impl Send + 'static,
        work: impl FnOnce(&AppState) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let app = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _until_done = place;
            work(&app)
        });
        done.await.map_err(|_| Problem::internal("it failed; see the host's log"))
    }
}

fn on_their_way() -> Problem {
    Problem::busy("other modules are on their way; try again in a moment")
}

impl Drop for AppState {
    fn drop(&mut self) {
        self.backtests.stop();
    }
}
