//! The unique indexes and defaults that the statements of a write lean on: without them each write would fail, or count wrongly.

use tidegate_config::TimescaleSink;

use super::super::fault::Fault;
use super::super::session::Session;
use super::{Tables, literal, quoted};

const POSITIONS_KEY: [&str; 4] = ["cluster", "consumer_group", "topic", "partition"];

/// What PostgreSQL shows of a default of nought.
const NOUGHT: [&str; 3] = ["0", "'0'::bigint", "(0)::bigint"];

/// Repeats can be told only by a unique index on topic and time.
pub(super) async fn of_points(session: &Session, settings: &TimescaleSink, tables: &Tables) -> Result<(), Fault> {
    let columns = &settings.names.columns;
    if is_unique(session, &tables.metrics, &[&columns.topic, &columns.time]).await? {
        return Ok(());
    }
    Err(Fault::Operator(format!(
        "dedupe = true needs a unique index on ({}, {}) of {}; make it with `tidegate migrate` or deploy/sql/004_index_once.sql",
        quoted(&columns.topic),
        quoted(&columns.time),
        tables.metrics
    )))
}

/// A series that is there is told by its topic.
pub(super) async fn of_series(session: &Session, tables: &Tables) -> Result<(), Fault> {
    if is_unique(session, &tables.series, &["topic"]).await? {
        return Ok(());
    }
    Err(Fault::Operator(format!(
        "table {} does not fit: it has no unique index on (topic); make its topic the primary key as in deploy/sql/006_series.sql, or name \
         another table",
        tables.series
    )))
}

/// A partition that is there is told by its names, and one that is new was stored up to nowhere.
pub(super) async fn of_positions(session: &Session, tables: &Tables) -> Result<(), Fault> {
    let mut wrong = Vec::new();
    if !is_unique(session, &tables.positions, &POSITIONS_KEY).await? {
        wrong.push(format!("it has no unique index on ({})", POSITIONS_KEY.join(", ")));
    }
    let query = format!(
        "SELECT coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attnotnull FROM pg_catalog.pg_attribute a \
         LEFT JOIN pg_catalog.pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum) \
         WHERE a.attrelid = to_regclass({}) AND a.attname = 'previous_offset'",
        literal(&tables.positions)
    );
    match session.rows(&query).await?.first().map(Vec::as_slice) {
        Some([default, _]) if NOUGHT.contains(&default.as_str()) => {}
        // Where there is none, it is taken for nought.
        Some([default, not_null]) if default.is_empty() && not_null == "f" => {}
        Some([default, _]) if !default.is_empty() => {
            wrong.push(format!("the default of previous_offset is {default} and must be 0"));
        }
        _ => wrong.push("previous_offset has no default and must have 0".to_owned()),
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Fault::Operator(format!(
        "table {} does not fit: {}; change it as in deploy/sql/011_source_positions.sql",
        tables.positions,
        wrong.join(", ")
    )))
}

/// Whether a table has a unique index on these columns alone, in any order, which ON CONFLICT can go by.
async fn is_unique(session: &Session, table: &str, columns: &[&str]) -> Result<bool, Fault> {
    let query = format!(
        "SELECT array_to_string(ARRAY(SELECT a.attname::text COLLATE \"C\" FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) ORDER BY 1), '/') \
         FROM pg_catalog.pg_index i WHERE i.indrelid = to_regclass({}) AND i.indisunique AND i.indisvalid AND i.indimmediate \
         AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = {}",
        literal(table),
        columns.len()
    );
    let mut wanted = columns.to_vec();
    wanted.sort_unstable();
    let wanted = wanted.join("/");
    Ok(session.rows(&query).await?.iter().flatten().any(|of| *of == wanted))
}
