//! How a source or a sink is, for `/readyz` and for people.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Shared between a part and those who ask after it.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
    failures: AtomicU64,
    stale: AtomicU64,
}

/// What a part last said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    #[default]
    Starting,
    /// It works.
    Up,
    /// It does not, and why; it goes on trying.
    Down(String),
}

impl Health {
    /// It works.
    pub fn up(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Up;
    }

    /// It does not; `reason` is for people, without secrets. Gives whether it is news: log it then.
    pub fn down(&self, reason: impl Into<String>) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let new = State::Down(reason.into());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *state != new;
        *state = new;
        news
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It seemed connected, but nothing has come for too long: counted beside the failure that follows.
    pub fn went_stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    /// How often nothing had come for too long.
    pub fn stale(&self) -> u64 {
        self.stale.load(Relaxed)
    }

    /// How often it went down or failed to come up.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}
