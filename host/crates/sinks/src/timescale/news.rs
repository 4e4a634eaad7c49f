//! What is new about series.

use std::time::Duration;

use tidegate_model::Books;
use tokio_postgres::types::{ToSql, Type};

use super::fault::Fault;
use super::schema::Tables;
use super::session::{Session, begin};
use super::store::parts;
use super::template::{RowTemplate, cleaned};
use crate::json;
use crate::series::SeriesCache;

/// Tells the database what is new about series: one statement, however many, and a transaction of its own. It comes before the
/// points, for tables that refer to it. What the table refuses is left out: a name that is too long for it, say, is no reason to store no points.
/// Where it refuses all of several, somebody has to look at it.
pub(super) async fn tell_series(
    session: &Session,
    tables: &Tables,
    books: &Books,
    series: &SeriesCache<RowTemplate>,
    timeout: Duration,
) -> Result<(), Fault> {
    let mut news = Vec::new();
    for &id in series.untold() {
        let refused = series.get(id).and_then(RowTemplate::refused);
        if let (Some(description), None) = (series.description(id), refused) {
            let clean = description.labels.iter().map(|(key, value)| (cleaned(key), cleaned(value)));
            let labels = json::labels(&clean.collect::<Vec<_>>());
            news.push(New { topic: books.series_topic(id), unit: description.unit.as_deref(), labels });
        }
    }
    let (mut refused, mut left) = (0, parts(news.len(), news.len().max(1)));
    let mut last = None;
    while let Some(range) = left.pop() {
        let Err(fault) = tell(session, tables, &news[range.clone()], timeout).await else { continue };
        if fault.of_data().is_none() {
            return Err(fault.of_table(&tables.series));
        }
        session.run("ROLLBACK").await?;
        if range.len() == 1 {
            refused += 1;
            last = Some((range.start, fault));
        } else {
            let middle = range.start + range.len() / 2;
            left.extend([middle..range.end, range.start..middle]);
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
    topic: &'a str,
    unit: Option<&'a str>,
    labels: String,
}

async fn tell(session: &Session, tables: &Tables, news: &[New<'_>], timeout: Duration) -> Result<(), Fault> {
    let topics: Vec<&str> = news.iter().map(|new| new.topic).collect();
    let units: Vec<Option<&str>> = news.iter().map(|new| new.unit).collect();
    let labels: Vec<&str> = news.iter().map(|new| &*new.labels).collect();
    session.run(&begin(timeout)).await?;
    // `execute_typed`: the statement has no name, so none is left behind in a pooled server.
    let telling = async {
        let columns: [(&(dyn ToSql + Sync), Type); 3] =
            [(&topics, Type::TEXT_ARRAY), (&units, Type::TEXT_ARRAY), (&labels, Type::TEXT_ARRAY)];
        session.client.execute_typed(&tables.upsert_series, &columns).await
    };
    session.answer(telling).await?;
    session.commit().await
}
