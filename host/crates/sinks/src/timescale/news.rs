//! What is new about series.

use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Books, Description, SeriesId};
use tokio_postgres::types::{ToSql, Type};

use super::fault::Fault;
use super::left::Left;
use super::schema::Tables;
use super::session::{Session, begin};
use super::template::{RowTemplate, cleaned};
use crate::json;

/// How many series are told of in one statement.
const AT_ONCE: usize = 5_000;

/// So often a series is told of again that was described anew meanwhile; what is so more often is told of with its next rows.
const ROUNDS: usize = 3;

/// Tells the database what is new about series, as the books have it now: a sink for late points may have looked long ago, and told of others before. What was
/// described anew while it was told is told again, or the slower of two sinks would have the last word with what is old.
pub(super) async fn tell_series(
    session: &Session,
    tables: &Tables,
    books: &Books,
    untold: &[SeriesId],
    timeout: Duration,
) -> Result<(), Fault> {
    let mut left = untold.to_vec();
    for _ in 0..ROUNDS {
        let news: Vec<New<'_>> = left.iter().filter_map(|&id| New::of(books, id)).collect();
        if news.is_empty() {
            break;
        }
        tell_all(session, tables, &news, timeout).await?;
        left = news.iter().filter(|new| new.is_old(books)).map(|new| new.id).collect();
    }
    Ok(())
}

/// Tells of these, each statement a transaction of its own, with fewer series where it takes too long. It comes before the
/// points, for tables that refer to it. What the table refuses is left out: a name that is too long for it, say, is no reason to store no points.
/// Where it refuses all of several, somebody has to look at it.
async fn tell_all(session: &Session, tables: &Tables, news: &[New<'_>], timeout: Duration) -> Result<(), Fault> {
    let (mut refused, mut left) = (0, Left::new(news.len(), AT_ONCE));
    let mut last = None;
    while let Some(range) = left.part() {
        let Err(fault) = tell(session, tables, &news[range.clone()], timeout).await else {
            left.passed();
            continue;
        };
        let too_many = fault.is_of_time() && range.len() > 1;
        if fault.of_data().is_none() && !too_many {
            let waits = format!("table {} is slow, or somebody has a lock on it (pg_locks)", tables.series);
            return Err(fault.of_table(&tables.series).waiting(&waits));
        }
        session.run("ROLLBACK").await?;
        if too_many {
            left.slower(range);
        } else if range.len() == 1 {
            refused += 1;
            last = Some((range.start, fault));
            left.refused();
        } else {
            left.again(range, None);
        }
    }
    let Some((at, fault)) = last else { return Ok(()) };
    if refused == news.len() && refused > 1 {
        return Err(fault.of_table(&tables.series));
    }
    let (table, why) = (&*tables.series, fault.of_data().map(|objection| objection.reason));
    tracing::error!(
        table,
        refused,
        one = news[at].topic,
        why,
        "units and labels of some series are not stored, their points are"
    );
    Ok(())
}

/// What is told of a series.
struct New<'a> {
    id: SeriesId,
    topic: &'a str,
    description: Arc<Description>,
    labels: String,
}

impl<'a> New<'a> {
    /// None of a series that no row can be stored of.
    fn of(books: &'a Books, id: SeriesId) -> Option<Self> {
        let (topic, description) = (books.series_topic(id), books.series(id)?.description.load_full());
        if RowTemplate::new(topic, &description).refused().is_some() {
            return None;
        }
        let clean = description.labels.iter().map(|(key, value)| (cleaned(key), cleaned(value)));
        let labels = json::labels(&clean.collect::<Vec<_>>());
        Some(Self { id, topic, description, labels })
    }

    /// Whether the series was described anew since.
    fn is_old(&self, books: &Books) -> bool {
        books.series(self.id).is_some_and(|series| !Arc::ptr_eq(&series.description.load(), &self.description))
    }
}

async fn tell(session: &Session, tables: &Tables, news: &[New<'_>], timeout: Duration) -> Result<(), Fault> {
    let topics: Vec<&str> = news.iter().map(|new| new.topic).collect();
    let units: Vec<Option<&str>> = news.iter().map(|new| new.description.unit.as_deref()).collect();
    let labels: Vec<&str> = news.iter().map(|new| &*new.labels).collect();
    // A lock is told apart from what takes long: to wait for it with fewer series would be for nothing.
    session.run(&format!("{} SET LOCAL lock_timeout = {};", begin(timeout), (timeout / 2).as_millis())).await?;
    // `execute_typed`: the statement has no name, so none is left behind in a pooled server.
    let telling = async {
        let columns: [(&(dyn ToSql + Sync), Type); 3] =
            [(&topics, Type::TEXT_ARRAY), (&units, Type::TEXT_ARRAY), (&labels, Type::TEXT_ARRAY)];
        session.client.execute_typed(&tables.upsert_series, &columns).await
    };
    session.answer(telling).await?;
    session.commit().await
}
