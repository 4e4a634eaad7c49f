//! What is new about series.

use std::time::Duration;

use tidegate_model::Books;
use tokio_postgres::types::{ToSql, Type};

use super::fault::Fault;
use super::schema::Tables;
use super::session::Session;
use super::template::{RowTemplate, cleaned};
use crate::json;
use crate::series::SeriesCache;

/// Tells the database what is new about series: one statement, however many, and a transaction of its own. It comes before the
/// points, for tables that refer to it.
pub(super) async fn tell_series(
    session: &Session,
    tables: &Tables,
    books: &Books,
    series: &SeriesCache<RowTemplate>,
    timeout: Duration,
) -> Result<(), Fault> {
    let (mut topics, mut units, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for &id in series.untold() {
        let refused = series.get(id).and_then(RowTemplate::refused);
        if let (Some(description), None) = (series.description(id), refused) {
            topics.push(books.series_topic(id));
            units.push(description.unit.as_deref());
            let clean = description.labels.iter().map(|(key, value)| (cleaned(key), cleaned(value)));
            labels.push(json::labels(&clean.collect::<Vec<_>>()));
        }
    }
    session.run(&format!("BEGIN; SET LOCAL statement_timeout = {}", timeout.as_millis())).await?;
    // `execute_typed`: the statement has no name, so none is left behind in a pooled server.
    let telling = async {
        let columns: [(&(dyn ToSql + Sync), Type); 3] =
            [(&topics, Type::TEXT_ARRAY), (&units, Type::TEXT_ARRAY), (&labels, Type::TEXT_ARRAY)];
        session.client.execute_typed(&tables.upsert_series, &columns).await
    };
    session.answer(telling).await.map_err(|fault| fault.of_table(&tables.series))?;
    session.run("COMMIT").await
}
