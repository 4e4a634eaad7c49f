//! How a source or a sink is, for `/readyz` and for people.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

/// Shared between a part and those who ask after it.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
    failures: AtomicU64,
    stale: AtomicU64,
    strays: AtomicU64,
    /// Replaced whole, so that who reads takes a reference and copies it beside the lock.
    lag: Mutex<Arc<[Lag]>>,
    unread: Mutex<Arc<[Unread]>>,
}

/// A partition that a source has and does not read until somebody acts. It reads the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unread {
    /// The topic, as the brokers call it.
    pub topic: String,
    /// The partition of the topic.
    pub partition: i32,
    /// Why, and what to do.
    pub reason: String,
}

/// How far a source is behind in one partition of what it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lag {
    /// The topic, as the brokers call it.
    pub topic: String,
    /// The partition of the topic.
    pub partition: i32,
    /// Messages that are there and not settled.
    pub messages: u64,
}

/// The most partitions that are told of one by one.
const MOST_LAGS: usize = 1_000;

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

    /// A record came by another key or partition than its topic belongs to.
    pub fn strayed(&self) {
        self.strays.fetch_add(1, Relaxed);
    }

    /// How many did.
    pub fn strays(&self) -> u64 {
        self.strays.load(Relaxed)
    }

    /// How far it is behind in each partition it holds. Of very many, those furthest behind are kept.
    pub fn behind(&self, mut lag: Vec<Lag>) {
        if lag.len() > MOST_LAGS {
            lag.sort_unstable_by_key(|lag| std::cmp::Reverse(lag.messages));
            lag.truncate(MOST_LAGS);
        }
        lag.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        replace(&self.lag, lag);
    }

    /// How far it was behind when it last looked, by topic and partition.
    pub fn lag(&self) -> Vec<Lag> {
        read(&self.lag).to_vec()
    }

    /// These are all the partitions that it has and does not read.
    pub fn leaves_unread(&self, mut unread: Vec<Unread>) {
        unread.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        unread.truncate(MOST_LAGS);
        replace(&self.unread, unread);
    }

    /// The partitions that it has and does not read, by topic and number.
    pub fn unread(&self) -> Vec<Unread> {
        read(&self.unread).to_vec()
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

/// Jobs of a sink's database that failed when they last ran: what is written is not touched, but what is to be compressed, summed up or dropped by then is not.
#[derive(Debug, Default)]
pub struct FailedJobs(Mutex<Arc<[String]>>);

impl FailedJobs {
    /// The most that are told of.
    pub const MOST: usize = 16;

    /// These have, and no others. Gives whether it is news: log it then.
    pub fn are(&self, mut jobs: Vec<String>) -> bool {
        jobs.truncate(Self::MOST);
        let news = *read(&self.0) != *jobs;
        replace(&self.0, jobs);
        news
    }

    /// Each with what it is of and its number in the database.
    pub fn list(&self) -> Vec<String> {
        read(&self.0).to_vec()
    }
}

fn replace<T>(list: &Mutex<Arc<[T]>>, by: Vec<T>) {
    let by = by.into();
    let old = std::mem::replace(&mut *list.lock().unwrap_or_else(PoisonError::into_inner), by);
    // Beside the lock: it may be the last who has it.
    drop(old);
}

fn read<T>(list: &Mutex<Arc<[T]>>) -> Arc<[T]> {
    list.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what is told of a database's jobs is news when it is another than before, and only then.
    #[test]
    fn failed_jobs_are_news_once() {
        let failed = FailedJobs::default();
        let jobs = |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (told, news) in
            [(&[][..], false), (&[1], true), (&[1], false), (&[1, 2], true), (&[], true), (&[], false)]
        {
            assert_eq!((failed.are(jobs(told)), failed.list()), (news, jobs(told)), "{told:?}");
        }
    }

    /// Guarantees: partitions come in order, and of very many those that are furthest behind are kept.
    #[test]
    fn lags_are_bounded() {
        let health = Health::default();
        let lag =
            |partition: i32| Lag { topic: "t".to_owned(), partition, messages: u64::from(partition.unsigned_abs()) };
        health.behind((0..1_500).rev().map(lag).collect());
        assert_eq!(health.lag(), (500..1_500).map(lag).collect::<Vec<_>>());
    }
}
