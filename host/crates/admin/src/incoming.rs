//! Places for bodies that may be large and slow. Who is slow keeps nobody out: when all places are taken and another comes, the slowest of those that have
//! been at it for a while gives way, unless all of them come fast enough. But who has come furthest gives way to nobody, for some minutes and while it goes on
//! coming: else slow senders that come again and again would put each other out, and none would ever be done. Who has sent much and then
//! nearly nothing is slow by what it sends now.
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

/// Who sends less a second by now does not come at all.
const FLOOR_PER_S: u64 = 1 << 10;
/// How long a window is by which it is told how fast somebody is by now; two of them are looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// How long who has come furthest gives way to nobody, however slow.
const SPARED: Duration = Duration::from_secs(240);

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
    lately: Mutex<Lately>,
    /// All has come: what it waits for now is us.
    whole: AtomicBool,
    gives_way: Notify,
}

/// What has come in this window, and in the one before.
struct Lately {
    began: Instant,
    bytes: u64,
    before: u64,
}

impl Lately {
    fn came(&mut self, bytes: u64, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age >= WINDOW {
            let before = if age < 2 * WINDOW { self.bytes } else { 0 };
            *self = Self { began: now, bytes: 0, before };
        }
        self.bytes += bytes;
    }

    /// Bytes a second of one who is here `since`.
    fn per_s(&self, since: Instant, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.began);
        let is_first = self.began == since;
        let (bytes, time) =
            if is_first || age >= WINDOW { (self.bytes, age) } else { (self.bytes + self.before, age + WINDOW) };
        if age >= 2 * WINDOW {
            return 0;
        }
        per_s(bytes, time)
    }
}

fn per_s(bytes: u64, time: Duration) -> u64 {
    bytes.saturating_mul(1_000) / (time.as_millis() as u64).max(1)
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
            let spared = coming.clone().filter(|(_, sender)| sender.may_be_spared(now));
            let furthest = spared.max_by_key(|(at, sender)| (sender.bytes.load(Relaxed), Reverse(*at)));
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
        Self {
            since,
            bytes: AtomicU64::new(0),
            lately: Mutex::new(Lately { began: since, bytes: 0, before: 0 }),
            whole: AtomicBool::new(false),
            gives_way: Notify::new(),
        }
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its bytes a second, if they are too few: on the whole, or by now.
    fn too_slow(&self, now: Instant) -> Option<u64> {
        let time = now.saturating_duration_since(self.since);
        let (on_the_whole, by_now) = (per_s(self.bytes.load(Relaxed), time), self.lately().per_s(self.since, now));
        let per_s = if by_now < FLOOR_PER_S { by_now.min(on_the_whole) } else { on_the_whole };
        (time >= GRACE && per_s < ENOUGH_PER_S && !self.whole.load(Relaxed)).then_some(per_s)
    }

    /// Whether it goes on coming, and has not been at it for too long.
    fn may_be_spared(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < SPARED && self.lately().per_s(self.since, now) >= FLOOR_PER_S
    }
}

impl Seat {
    /// So many bytes have come.
    pub fn came(&self, bytes: usize, now: Instant) {
        self.sender.bytes.fetch_add(bytes as u64, Relaxed);
        self.sender.lately().came(bytes as u64, now);
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
        slow.came(1_000, start);
        let late = start + GRACE;
        let third = places.take(late).unwrap();
        slower.given_away().await;
        third.came(1, late);
        slow.came(ENOUGH_PER_S as usize * 60, late);
        assert!(places.take(late).is_none(), "one is fast, and one has just come");
        drop(slower);
        assert!(places.take(late).is_none(), "its place was another's already");
        assert!(third.keep());
        let much_later = late + 40 * GRACE;
        slow.came(ENOUGH_PER_S as usize, much_later);
        assert!(
            places.take(much_later).is_none(),
            "what has come is worked on, however long that takes; the other has come furthest"
        );
        assert!(slow.keep());
        assert!(places.take(much_later).is_none(), "both are worked on");
        drop(third);
        assert!(places.take(much_later).is_some());
    }

    /// Guarantees: who has sent much and then next to nothing gives way, and not who has sent less and goes on; who has come furthest gives way too when
    /// it has been at it for too long.
    #[tokio::test]
    async fn who_has_stopped_gives_way() {
        let (places, start) = (Incoming::new(2), Instant::now());
        let (stopped, slow) = (places.take(start).unwrap(), places.take(start).unwrap());
        stopped.came(20 << 20, start);
        let at = |second: u64| start + Duration::from_secs(second);
        for second in 1..=60 {
            slow.came(8 << 10, at(second));
            if second % 9 == 0 {
                stopped.came(1, at(second));
            }
        }
        let third = places.take(at(60)).unwrap();
        assert!(!stopped.keep());
        let last = SPARED.as_secs() - 1;
        for second in 61..=last + 1 {
            slow.came(8 << 10, at(second));
            // Faster, and not as far yet.
            third.came(9 << 10, at(second));
            if second == last {
                assert!(slow.sender.may_be_spared(at(second)));
            }
        }
        assert!(places.take(at(last + 1)).is_some(), "nobody is spared for ever");
        assert!(third.keep() && !slow.keep());
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
                seat.came(4_000, now);
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
