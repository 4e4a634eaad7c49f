//! Rows that were parked while a rule was not called for their partition, back among the messages once it is: since somebody let it out of
//! quarantine, or another generation of it serves, or the host has been started anew.
//!
//! It looks at what stands, not at what happens: whatever letter is parked for a rule that serves and does not shun the letter's partition is asked
//! for, by way of the replays that operators ask for, in the order in which the letters died. So a letter that is written only when the rule serves
//! again, and a crash between the two, need no care of their own. What the rule fails on again is parked again, and stays until the next generation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_engine::{RegistryHandle, Rule};
use tidegate_model::{Books, Clock, TopicId};
use tidegate_sinks::dead_letters::{FileError, Parked, request_parked};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most letters of a rule looked at each time: so many a second come back at most.
const MOST_A_LOOK: usize = 1_000;

/// Has parked letters replayed for as long as it is polled.
pub async fn unpark(path: PathBuf, registry: RegistryHandle, books: Arc<Books>, clock: Arc<dyn Clock>) {
    let mut looked = Looked::default();
    let mut news = true;
    loop {
        let (path, registry, books, now_us) = (path.clone(), registry.clone(), books.clone(), clock.now_us());
        let look = tokio::task::spawn_blocking(move || {
            let done = looked.at(&path, &registry.serving(), &books, now_us);
            (looked, done)
        });
        // A panic in it has been said by the thread it was in.
        let Ok((after, done)) = look.await else { return };
        looked = after;
        match done {
            Ok(()) => news = true,
            Err(error) => {
                if std::mem::take(&mut news) {
                    tracing::warn!("parked letters are not replayed: {error}; trying again every second");
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far it has looked, by rule: what of the rule was so then, and the last letter.
#[derive(Debug, Default)]
struct Looked(BTreeMap<Arc<str>, (AsOf, i64)>);

/// As long as none of this changes, what a rule shunned it still shuns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AsOf {
    generation: u64,
    /// How many partitions were given to it again because too many others are in quarantine.
    let_go: u64,
}

impl AsOf {
    fn now(rule: &Rule) -> Self {
        Self { generation: rule.generation, let_go: rule.stats.partitions_let_go.load(Relaxed) }
    }
}

impl Looked {
    /// The last letter that need not be looked at again.
    fn after(&mut self, rule: &Arc<str>, now: AsOf) -> i64 {
        let seen = self.0.entry(rule.clone()).or_default();
        if seen.0 != now {
            *seen = (now, 0);
        }
        seen.1
    }

    fn at<'a>(&mut self, path: &Path, serving: &'a [Arc<Rule>], books: &Books, now_us: i64) -> Result<(), FileError> {
        self.0.retain(|name, _| serving.iter().any(|rule| rule.name == *name));
        // Before any partition is asked about: one that is let go meanwhile is looked at the next time.
        let as_of: Vec<_> = serving.iter().map(|rule| AsOf::now(rule)).collect();
        let look = |(rule, now): (&'a Arc<Rule>, &AsOf)| Parked {
            rule: &rule.name,
            after: self.after(&rule.name, *now),
            most: MOST_A_LOOK,
        };
        let looks: Vec<_> = serving.iter().zip(&as_of).map(look).collect();
        let by_name: BTreeMap<&str, &Rule> = serving.iter().map(|rule| (&*rule.name, &**rule)).collect();
        let wanted = |rule: &str, topic: &str| {
            let shuns = |partition| by_name.get(rule).is_none_or(|rule| rule.stats.shuns(partition));
            !partition_of(books, topic).is_some_and(shuns)
        };
        let found = request_parked(path, &looks, now_us, wanted)?;
        for ((rule, now), found) in serving.iter().zip(as_of).zip(found) {
            self.0.insert(rule.name.clone(), (now, found.to));
            if found.requested > 0 {
                rule.stats.unparked.fetch_add(found.requested, Relaxed);
                let (rule, letters) = (&*rule.name, found.requested);
                tracing::info!(
                    rule,
                    letters,
                    "rows that were parked are replayed: the rule is called for them again"
                );
            }
        }
        Ok(())
    }
}

/// The partition of a topic, by name; none of one that has not been seen since the start, and that nobody shuns therefore.
fn partition_of<'a>(books: &'a Books, topic: &str) -> Option<&'a str> {
    let id = books.all_topics().find(topic).map(TopicId)?;
    books.partition(books.topic(id)?.partition).map(|name| &**name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what was looked at is looked at again by another generation, and once a partition is let go by the same; else not.
    #[test]
    fn looked_at_again() {
        let (mut looked, rule) = (Looked::default(), Arc::from("hot"));
        let as_of = |generation, let_go| AsOf { generation, let_go };
        let mut at = |now| {
            let after = looked.after(&rule, now);
            looked.0.insert(rule.clone(), (now, 7));
            after
        };
        let seen = [as_of(1, 0), as_of(1, 0), as_of(2, 0), as_of(2, 1), as_of(2, 1)].map(&mut at);
        assert_eq!(seen, [0, 7, 0, 0, 7]);
    }
}
