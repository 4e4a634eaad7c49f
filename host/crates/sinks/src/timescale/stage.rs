//! Where points wait that must not be stored twice: a temporary table, from which only those are moved over whose topic and time are not
//! there yet.
//!
//! The table belongs to the server's session and is empty between transactions. It is asked for in each of them, since PgBouncer may
//! give each another session; making it anew each time would swell the system catalogs.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::chunks::Age;
use super::fault::Fault;
use super::schema::Tables;
use super::session::Session;

/// The same shape whatever the real table's columns are called, so that hosts with different names can share a pooled session.
pub(super) const MAKE: &str = "SET LOCAL client_min_messages = warning; \
    CREATE TEMPORARY TABLE IF NOT EXISTS tidegate_stage (time timestamptz, topic text, value double precision, \
    value_str text, quality smallint, unit text) ON COMMIT DELETE ROWS;";

/// What COPY fills.
pub(super) const COLUMNS: &str = "pg_temp.tidegate_stage (time, topic, value, value_str, quality, unit)";

const NONE: &[(&(dyn ToSql + Sync), Type)] = &[];

/// Between two parts of one transaction.
pub(super) const EMPTY: &str = "DELETE FROM pg_temp.tidegate_stage";

/// Moves all rows that wait to the real table; gives how many were not there. It may be said before COPY's answer has come: what fails there fails
/// this too.
pub(super) async fn move_over(client: &Client, tables: &Tables) -> Result<u64, tokio_postgres::Error> {
    // `…_typed`: statements without a name, so that none is left behind in a pooled server.
    client.execute_typed(&tables.move_over, NONE).await
}

/// Of `rows` that waited, of which so many were moved: how many were there already, or twice in the stage, and how many of those bear another value
/// than the one stored.
pub(super) async fn left_out(
    session: &Session,
    tables: &Tables,
    age: Age,
    rows: usize,
    moved: u64,
) -> Result<(u64, u64), Fault> {
    let repeats = (rows as u64).saturating_sub(moved);
    if repeats == 0 {
        return Ok((0, 0));
    }
    // What was not moved is there already, but where chunks are compressed: TimescaleDB 2.17.2 could pass new rows by there.
    if age == Age::Late {
        let counted = session.answer(session.client.query_typed(&tables.count_absent, NONE)).await?;
        let absent: i64 = counted.first().map_or(0, |row| row.get(0));
        if absent > 0 {
            return Err(Fault::Operator(format!(
                "{absent} of {rows} rows for compressed chunks of {} were not inserted, though no such rows are there; nothing of them is \
                 lost, and they are tried again; TimescaleDB 2.17.2 does so (its issue 7672): upgrade it, or look at the triggers of the table",
                tables.metrics
            )));
        }
    }
    let counted = session.answer(session.client.query_typed(&tables.count_differing, NONE)).await?;
    let differing: i64 = counted.first().map_or(0, |row| row.get(0));
    Ok((repeats, differing.unsigned_abs()))
}
