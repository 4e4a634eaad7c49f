//! What was stored or sent once, read again page by page: for backtests.
//!
//! A [`History`] is a place that can be read; a [`Past`] is one reading of a part of it. Both block, and are for a thread that may
//! be blocked; a page is bounded, so that who reads can stop between two of them.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::{Books, Description, Messages, Points, SeriesId, TopicFilter, TopicId};

/// A page ends once it has so many bytes of payloads and texts: one row may exceed it.
pub const PAGE_BYTES: usize = 4 << 20;
/// The most bytes of names and units that one reading keeps: a history is no more to be trusted than what it was made of.
const MAX_NAME_BYTES: usize = 16 << 20;

/// Which part of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Topics that match one of these; all topics if there is none.
    pub topics: Vec<TopicFilter>,
    /// From this time on: microseconds since 1970-01-01 UTC.
    pub from_us: Option<i64>,
    /// Before this time.
    pub until_us: Option<i64>,
}

/// Rows read together, in the order of the history.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Points, by the ids of the books that the reading was opened with.
    pub points: Points,
    /// Messages, where the history is one of messages.
    pub messages: Messages,
    /// Rows looked at, also those that are not of the span.
    pub looked_at: u64,
    /// Rows left out since the books have no place for another name.
    pub nameless: u64,
    /// What of it could not be read, each for people.
    pub unreadable: Vec<String>,
    /// How much of the whole has been read by now, from 0 to 1, where that is known.
    pub done: Option<f64>,
}

impl Page {
    /// Whether it has as many bytes as a page is to have.
    pub fn is_full(&self) -> bool {
        self.messages.bytes() + self.points.texts.text.bytes.len() >= PAGE_BYTES
    }
}

/// A place that can be read again.
pub trait History: Send + Sync {
    /// Begins to read a part of it; names are entered into `books`. Blocks.
    ///
    /// # Errors
    /// It cannot be reached or read.
    fn open(&self, span: Span, books: Arc<Books>) -> Result<Box<dyn Past>, HistoryError>;
}

/// Logs of messages that can be read again, such as the topics of a Kafka cluster.
pub trait Logs: Send + Sync {
    /// The part of a log from one place to the first that is not of it any more, both in the words of such logs. Without a name it is the log that
    /// there is, if it is one. Nothing is read yet.
    ///
    /// # Errors
    /// There is no such log, or no such place.
    fn part(&self, log: Option<&str>, from: &str, to: &str) -> Result<Arc<dyn History>, HistoryError>;
}

/// A reading under way.
pub trait Past: Send {
    /// The next page, which may have no row; none at the end. Blocks.
    ///
    /// # Errors
    /// It cannot be read any further.
    fn next_page(&mut self) -> Result<Option<Page>, HistoryError>;
}

/// Why a history cannot be read: for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HistoryError(pub String);

impl Span {
    /// Whether rows of this topic are of it.
    pub fn has_topic(&self, topic: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|filter| filter.matches(topic))
    }
}

/// Names of a history to the ids of books; a name costs a lock once. How many bytes they have in all is bounded.
#[derive(Debug)]
pub struct Names {
    books: Arc<Books>,
    known: HashMap<String, Known>,
    /// Bytes that names and units may still have.
    room: usize,
}

#[derive(Debug)]
struct Known {
    id: SeriesId,
    unit: Option<Arc<str>>,
}

impl Names {
    /// For these books.
    pub fn new(books: Arc<Books>) -> Self {
        Self { books, known: HashMap::new(), room: MAX_NAME_BYTES }
    }

    /// The id of a topic; none if there is no room for it. Each is a partition of its own.
    pub fn topic(&mut self, topic: &str) -> Option<TopicId> {
        let new = self.books.all_topics().find(topic).is_none();
        let left = self.room.checked_sub(if new { topic.len() } else { 0 })?;
        let id = self.books.intern_topic(topic, topic).ok()?;
        self.room = left;
        Some(id)
    }

    /// The id of a series, described with `unit`; none if there is no room for it. Each topic is a partition of its own.
    pub fn series(&mut self, topic: &str, unit: Option<&str>) -> Option<SeriesId> {
        if let Some(known) = self.known.get(topic)
            && known.unit.as_deref() == unit
        {
            return Some(known.id);
        }
        // A unit that has changed makes room for the new one.
        let known = self.known.get(topic).map(|known| topic.len() + known.unit.as_deref().map_or(0, str::len));
        let needed = topic.len() + unit.map_or(0, str::len);
        let left = (self.room + known.unwrap_or(0)).checked_sub(needed)?;
        let unit: Option<Arc<str>> = unit.map(Into::into);
        let partition = self.books.intern_partition(topic).ok()?;
        let description = Description { unit: unit.clone(), labels: Vec::new() };
        let id = self.books.intern_series(topic, partition, description).ok()?;
        self.known.insert(topic.to_owned(), Known { id, unit });
        self.room = left;
        Some(id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: a series keeps its id when its unit changes, the change is told, and a full book refuses new names only.
    #[test]
    fn names_are_given_ids() {
        let books = Arc::new(Books::new(1));
        let mut names = Names::new(books.clone());
        let id = names.series("a", Some("C")).unwrap();
        assert_eq!(names.series("a", Some("K")), Some(id));
        assert_eq!(books.series(id).unwrap().description.load().unit.as_deref(), Some("K"));
        assert_eq!((names.series("b", None), names.series("a", None)), (None, Some(id)));
    }

    /// Guarantees: names and units have so many bytes in all, of topics and series alike; what is known stays known, and a shorter unit
    /// makes room.
    #[test]
    fn bytes_of_names_are_bounded() {
        let mut names = Names::new(Arc::new(Books::new(9)));
        let half = "x".repeat(MAX_NAME_BYTES / 2);
        let id = names.series("a", Some(&half)).unwrap();
        let topic = names.topic("t").unwrap();
        assert_eq!((names.series("b", Some(&half)), names.topic(&half)), (None, None));
        assert_eq!((names.series("a", Some(&half)), names.topic("t")), (Some(id), Some(topic)));
        assert_eq!(names.series("a", None), Some(id));
        assert!(names.series("b", Some(&half)).is_some());
    }

    /// Guarantees: a page is full by the bytes of its payloads or its texts.
    #[test]
    fn a_page_is_full() {
        let (books, mut page) = (Arc::new(Books::new(9)), Page::default());
        let mut names = Names::new(books);
        let half = vec![b'x'; PAGE_BYTES / 2];
        page.points.push(names.series("a", None).unwrap(), 1, f64::NAN, 192);
        page.points.texts.push(0, &half);
        assert!(!page.is_full());
        page.messages.push(names.topic("a").unwrap(), 1, crate::Marks::default(), &half);
        assert!(page.is_full());
    }

    /// Guarantees: no filter is every topic; several are any of them.
    #[test]
    fn spans_by_topic() {
        let span = |filters: &[&str]| Span {
            topics: filters.iter().map(|filter| filter.parse().unwrap()).collect(),
            ..Span::default()
        };
        assert!(span(&[]).has_topic("a/b"));
        assert!(span(&["x", "a/#"]).has_topic("a/b") && !span(&["x", "a/+"]).has_topic("a/b/c"));
    }
}
