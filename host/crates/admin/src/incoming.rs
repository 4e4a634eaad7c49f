//! Places for bodies that may be large and slow. Who is slow keeps nobody out: when all places are taken and another comes, the slowest of those that have
//! been at it for a while gives way, unless all of them come fast enough. But who has come furthest gives way to nobody: else slow senders that
//! come again and again would put each other out, and none would ever be done.
//!
//! So a slow line is no fault where nobody waits, and senders who mean to be slow hold up others for seconds and not for minutes.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long nobody is asked to give way.
const GRACE: Duration = Duration::from_secs(3);
/// Who sends so many bytes a second, on the whole, gives way to nobody: 64 MiB are there in four minutes.
const ENOUGH_PER_S: u64 = 256 << 10;

/// The places.
pub(crate) struct Incoming {
    most: usize,
    taken: Mutex<Vec<Arc<Sender>>>,
}

/// A place, until it is dropped.
pub(crate) struct Seat {
    all: Arc<Incoming>,
    sender: Arc<Sender>,
}

/// Who has a place.
struct Sender {
    since: Instant,
    bytes: AtomicU64,
    /// All has come: what it waits for now is us.
    whole: AtomicBool,
    gives_way: Notify,
}

impl Incoming {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for who comes now; none if all that are taken are in good hands.
    pub fn take(self: &Arc<Self>, now: Instant) -> Option<Seat> {
        let mut taken = self.taken();
        if taken.len() >= self.most {
            let coming = taken.iter().enumerate().filter(|(_, sender)| !sender.whole.load(Relaxed));
            // Of those that are as far, who was there first.
            let furthest = coming.clone().max_by_key(|(at, sender)| (sender.bytes.load(Relaxed), Reverse(*at)));
            let others = coming.filter(|(at, _)| furthest.is_none_or(|(furthest, _)| furthest != *at));
            let slow = others.filter_map(|(at, sender)| Some((sender.too_slow(now)?, at)));
            let (_, at) = slow.min()?;
            taken.remove(at).gives_way.notify_one();
        }
        let sender = Arc::new(Sender::new(now));
        taken.push(sender.clone());
        Some(Seat { all: self.clone(), sender })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Sender>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    fn new(since: Instant) -> Self {
        Self { since, bytes: AtomicU64::new(0), whole: AtomicBool::new(false), gives_way: Notify::new() }
    }

    /// Its bytes a second, if they are too few by now.
    fn too_slow(&self, now: Instant) -> Option<u64> {
        let millis = now.saturating_duration_since(self.since).as_millis() as u64;
        let per_s = self.bytes.load(Relaxed).saturating_mul(1_000) / millis.max(1);
        let long = millis >= GRACE.as_millis() as u64;
        (long && per_s < ENOUGH_PER_S && !self.whole.load(Relaxed)).then_some(per_s)
    }
}

impl Seat {
    /// So many bytes have come.
    pub fn came(&self, bytes: usize) {
        self.sender.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// All of it has come, and is worked on: the place is not given away any more. False if it has been already.
    pub fn keep(&self) -> bool {
        let taken = self.all.taken();
        let is_ours = taken.iter().any(|sender| Arc::ptr_eq(sender, &self.sender));
        self.sender.whole.store(is_ours, Relaxed);
        is_ours
    }

    /// Resolves when another has got this place.
    pub async fn given_away(&self) {
        self.sender.gives_way.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.taken().retain(|sender| !Arc::ptr_eq(sender, &self.sender));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: while there are places everybody gets one; then the slowest gives way, but neither who has just come nor who sends fast enough; and a
    /// place that was given away is not given back by who had it.
    #[tokio::test]
    async fn the_slowest_gives_way() {
        let (places, start) = (Incoming::new(2), Instant::now());
        let (slow, slower) = (places.take(start).unwrap(), places.take(start).unwrap());
        assert!(places.take(start + GRACE / 2).is_none(), "they have just come");
        slow.came(1_000);
        let late = start + GRACE;
        let third = places.take(late).unwrap();
        slower.given_away().await;
        third.came(1);
        slow.came(ENOUGH_PER_S as usize * 60);
        assert!(places.take(late).is_none(), "one is fast, and one has just come");
        drop(slower);
        assert!(places.take(late).is_none(), "its place was another's already");
        assert!(third.keep());
        let much_later = late + 100 * GRACE;
        assert!(
            places.take(much_later).is_none(),
            "what has come is worked on, however long that takes; the other has come furthest"
        );
        assert!(slow.keep());
        assert!(places.take(much_later).is_none(), "both are worked on");
        drop(third);
        assert!(places.take(much_later).is_some());
    }

    /// Guarantees: of slow senders that come again and again, whenever they were put out, each is done in the end, in as many turns as they are.
    #[tokio::test]
    async fn none_puts_all_out() {
        const WHOLE: usize = 30;
        let (places, mut now) = (Incoming::new(2), Instant::now());
        let mut done = [false; 5];
        let mut seats: Vec<Option<(Seat, usize)>> = (0..done.len()).map(|_| None).collect();
        for _ in 0..WHOLE * 2 * done.len() {
            now += GRACE;
            for at in 0..done.len() {
                if seats[at].is_none() && !done[at] {
                    seats[at] = places.take(now).map(|seat| (seat, 0));
                }
            }
            for at in 0..done.len() {
                let Some((seat, sent)) = &mut seats[at] else { continue };
                if !places.taken().iter().any(|sender| Arc::ptr_eq(sender, &seat.sender)) {
                    seats[at] = None;
                    continue;
                }
                seat.came(1_000);
                *sent += 1;
                if *sent == WHOLE {
                    assert!(seat.keep());
                    (done[at], seats[at]) = (true, None);
                }
            }
        }
        assert_eq!(done, [true; 5]);
    }
}
