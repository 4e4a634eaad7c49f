//! When a child has had its time: by the wall, unless the machine has kept it waiting.
//!
//! A child is polite (`nice`), so a machine that is busy with something else gives it next to nothing: by the wall alone, a node under load would refuse
//! at its start the very rules that it compiles in a moment otherwise.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// In what the kernel tells processor time by here: the same on all machines that we run on (`USER_HZ`).
const TICKS_PER_S: u64 = 100;

/// How often it is looked whether the time is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is left of a child's time.
#[derive(Debug)]
pub(super) struct TimeLeft {
    child: u32,
    began: Instant,
    wall: Duration,
    patience: Duration,
}

impl TimeLeft {
    /// From now on, `wall` for a child that gets the processors it can use, and `patience` at most for one that does not.
    pub(super) fn of(child: u32, wall: Duration, patience: Duration) -> Self {
        Self { child, began: Instant::now(), wall, patience }
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        let gone = self.began.elapsed();
        gone >= self.wall && (gone >= self.patience || used(self.child).is_none_or(|used| used >= self.wall))
    }

    /// What comes before it is over.
    pub(super) fn receive<T>(&self, from: &Receiver<T>) -> Option<T> {
        loop {
            match from.recv_timeout(LOOK_EVERY) {
                Ok(what) => return Some(what),
                Err(RecvTimeoutError::Timeout) if !self.is_over() => {}
                Err(_) => return None,
            }
        }
    }
}

/// What a process and all its threads have had of processors; none where that cannot be told.
fn used(process: u32) -> Option<Duration> {
    ticks(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
        .map(|ticks| Duration::from_millis(ticks * 1_000 / TICKS_PER_S))
}

/// `utime` and `stime`, the 14th and 15th field: the second is the program's name, in parentheses, whatever is in it (proc(5)).
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc::channel;

    use super::*;

    const WALL: Duration = Duration::from_millis(300);

    fn child(script: &str) -> std::process::Child {
        Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Guarantees: a child that works all the time is out of time by the wall, or soon after where others work too; one that was given no
    /// processor has patience, and no more; one that is gone has none.
    #[test]
    fn by_the_wall_and_by_what_it_got() {
        let (_sender, nothing) = channel::<()>();
        let hour = Duration::from_secs(3_600);
        let mut busy = child("while :; do :; done");
        assert!(TimeLeft::of(busy.id(), WALL, hour).receive(&nothing).is_none());
        assert!(used(busy.id()).unwrap() >= WALL);
        busy.kill().unwrap();
        busy.wait().unwrap();

        let mut still = child("read nothing");
        let time = TimeLeft::of(still.id(), WALL, WALL * 3);
        assert!(time.receive(&nothing).is_none());
        assert!(time.began.elapsed() >= WALL * 3, "{:?}", time.began.elapsed());
        still.kill().unwrap();
        still.wait().unwrap();
        let gone = TimeLeft::of(still.id(), Duration::ZERO, hour);
        assert!(gone.is_over());
    }

    /// Guarantees: the right fields are taken, whatever a program is called.
    #[test]
    fn fields() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!((ticks("7 (a) S 1"), ticks("")), (None, None));
    }
}
