//! The dead letters, as far as this crate knows of them: it knows no store.

use serde_json::{Map, Value};
use tidegate_model::{Stage, TopicFilter};

/// Where dead letters are kept. All of it blocks.
pub trait Letters: Send + Sync {
    /// Up to `limit` of those that match, from after the id `after` on, oldest first; each as JSON with its `id`.
    ///
    /// # Errors
    /// They cannot be read: for people.
    fn list(&self, which: &LetterFilter, after: i64, limit: u32) -> Result<Vec<Map<String, Value>>, String>;

    /// The `limit` newest of those that match, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    fn newest(&self, which: &LetterFilter, limit: u32) -> Result<Vec<Map<String, Value>>, String>;

    /// How many match.
    ///
    /// # Errors
    /// They cannot be read.
    fn count(&self, which: &LetterFilter) -> Result<u64, String>;

    /// One of them.
    ///
    /// # Errors
    /// They cannot be read.
    fn get(&self, id: i64) -> Result<Option<Map<String, Value>>, String>;

    /// Asks for those to be put back among the messages; gives how many.
    ///
    /// # Errors
    /// They cannot be changed.
    fn replay(&self, which: &LetterChoice) -> Result<u64, String>;

    /// Takes that back for those that have not been put back yet; gives how many.
    ///
    /// # Errors
    /// They cannot be changed.
    fn cancel_replay(&self, which: &LetterChoice) -> Result<u64, String>;

    /// Gives the room of those that have gone back to the disk: what dies meanwhile waits.
    ///
    /// # Errors
    /// They cannot be changed, or there is no room to write them anew.
    fn compact(&self) -> Result<(), NotCompacted>;

    /// Deletes those for good; gives how many.
    ///
    /// # Errors
    /// They cannot be changed.
    fn purge(&self, which: &LetterChoice) -> Result<u64, String>;
}

/// Why room was not given back: for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCompacted {
    /// The disk has not room enough to write them anew.
    NoRoom(String),
    /// They cannot be changed.
    Failed(String),
}

/// Letters that agree with all that is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LetterFilter {
    /// The rule or sink that refused them.
    pub rule: Option<String>,
    /// The source they came from.
    pub source: Option<String>,
    /// Where they died.
    pub stage: Option<Stage>,
    /// Their topic.
    pub topic: Option<TopicFilter>,
    /// Died then or later: microseconds since 1970-01-01 UTC.
    pub since_us: Option<i64>,
    /// Died before then.
    pub until_us: Option<i64>,
    /// A part of the reason.
    pub reason: Option<String>,
    /// Only those that are to be put back.
    pub requested: bool,
}

/// Letters that something is to be done to.
#[derive(Clone, Debug, PartialEq)]
pub enum LetterChoice {
    /// This one.
    One(i64),
    /// All that match.
    Matching(LetterFilter),
}
