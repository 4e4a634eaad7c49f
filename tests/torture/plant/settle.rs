//! The end of a run: waits until all is there, or nothing more comes; asks the host how it has fared.

use std::time::{Duration, Instant};

use tidegate_tests::{Status, root};

use super::Plant;
use crate::verdict::Verdict;

/// How long nothing may change, with everything in repair, before it is looked whether all is there.
const CALM: Duration = Duration::from_secs(3);

/// How long nothing may change before what is missing is held for lost.
const QUIET: Duration = Duration::from_secs(45);

/// The same where the broker explains all that is missing.
const BROKER_QUIET: Duration = Duration::from_secs(15);

/// The most that is waited for what is on the way.
const DRAIN: Duration = Duration::from_secs(900);

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A load that is smaller than this share of what was asked for shows less than it claims.
const LEAST_LOAD: f64 = 0.9;

/// What the host writes to its log and must not.
const COMPLAINTS: [&str; 2] = ["panicked", "this is a bug of the host"];

/// The most complaints of one kind that are shown.
const EXAMPLES: usize = 5;

impl Plant {
    /// Ends the load; waits until all is there, or nothing more comes.
    pub fn settle(&mut self) -> Verdict {
        self.feed.end();
        let (start, mut last, mut since) = (Instant::now(), None, Instant::now());
        let mut judged: Option<Verdict> = None;
        let mut verdict = loop {
            self.look();
            let now = Some((self.database.number("SELECT count(*) FROM metrics").unwrap_or(0), self.book.counts()));
            if now != last {
                (last, since, judged) = (now, Instant::now(), None);
            }
            // Everything is read once for each calm, however long that lasts.
            if judged.is_none() && since.elapsed() > CALM {
                judged = Some(self.judge());
            }
            if let Some(verdict) = judged.take_if(|verdict| {
                let patience = if verdict.holds() { BROKER_QUIET } else { QUIET };
                verdict.complete() || since.elapsed() > patience || start.elapsed() > DRAIN
            }) {
                break verdict;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        self.hear_the_host(&mut verdict);
        let (due, fed) = (self.feed.due(), self.book.len());
        if (fed as f64) < due as f64 * LEAST_LOAD {
            verdict.complain(format!("{due} messages were to be sent, and only {fed} were: lower RATE"));
        }
        verdict
    }

    fn judge(&self) -> Verdict {
        Verdict::of(&self.book.all(), |each| self.database.each_row(each), self.host.dead_letters())
    }

    /// Its account must balance, and its log must not complain, from its first start on.
    fn hear_the_host(&self, verdict: &mut Verdict) {
        let start = Instant::now();
        let status = loop {
            let status = self.host.status();
            if (status.messages.in_flight == 0 && status.points.in_flight == 0) || start.elapsed() > QUIET {
                break status;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        if let Some(imbalance) = imbalance(&status) {
            verdict.complain(imbalance);
        }
        let log = std::fs::read_to_string(self.log()).unwrap_or_else(|error| format!("panicked: no log: {error}"));
        for what in COMPLAINTS {
            for line in log.lines().filter(|line| line.contains(what)).take(EXAMPLES) {
                verdict.complain(format!("the host's log says: {line}"));
            }
        }
    }

    /// Keeps what tells how it came, and says where.
    pub fn keep(&self) -> String {
        let place = root().join("target/torture");
        let to = place.join(format!("tidegate-{}.log", self.seed));
        let kept = std::fs::create_dir_all(&place).and_then(|()| std::fs::copy(self.log(), &to).map(drop));
        match kept {
            Ok(()) => format!("the host's log is kept: {}", to.display()),
            Err(error) => format!("the host's log could not be kept: {error}; {}", self.host.tail()),
        }
    }

    fn log(&self) -> std::path::PathBuf {
        self.host.path().join("tidegate.log")
    }
}

/// What is wrong with the accounts of a host that is idle.
fn imbalance(status: &Status) -> Option<String> {
    let (m, p) = (&status.messages, &status.points);
    let idle = m.in_flight == 0 && p.in_flight == 0;
    let messages = m.received == m.decoded + m.stored + m.filtered + m.dead_lettered + m.dropped;
    let points = p.produced + p.generated == p.stored + p.filtered + p.dead_lettered + p.held + p.returned;
    (!(idle && messages && points)).then(|| format!("the host's accounts do not balance: {m:?} {p:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(received: u64, stored: u64, in_flight: u64) -> Status {
        let json = serde_json::json!({
            "messages": { "received": received, "decoded": 9, "stored": 0, "filtered": 0, "dead_lettered": 1, "in_flight": in_flight, "dropped": 0,
                          "returned": 0 },
            "points": { "produced": 9, "generated": 0, "stored": stored, "filtered": 0, "dead_lettered": 0, "held": 0,
                        "returned": 0, "in_flight": 0 },
            "sources": [], "sinks": [], "rules": [], "alerts_standing": 0,
        });
        serde_json::from_value(json).unwrap()
    }

    /// Guarantees: an account that is off by one, and one that never comes to rest, are complaints.
    #[test]
    fn imbalances_are_seen() {
        assert_eq!(imbalance(&status(10, 9, 0)), None);
        for wrong in [status(11, 9, 0), status(10, 8, 0), status(10, 9, 1)] {
            assert!(imbalance(&wrong).is_some(), "{wrong:?}");
        }
    }
}
