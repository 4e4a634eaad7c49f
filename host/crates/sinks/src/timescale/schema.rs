//! The tables: what there is, what is missing, and making it.
//!
//! What exists is never changed, only looked at: a table that an operator made is used as it is if its columns fit.

use tidegate_config::TimescaleSink;
use tokio_postgres::SimpleQueryMessage;

use super::fault::Fault;
use super::session::Session;

const METRICS: &str = include_str!("../../../../../deploy/sql/001_metrics.sql");
const HYPERTABLE: &str = include_str!("../../../../../deploy/sql/002_hypertable.sql");
const ALERTS: &str = include_str!("../../../../../deploy/sql/003_alerts.sql");
const SERIES: &str = include_str!("../../../../../deploy/sql/004_series.sql");

/// Any number, the same in all hosts: so that two that start together do not make the same table twice.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7438201948375)";

const TEXT: &[&str] = &["text", "character varying", "citext"];
const TIME: &[&str] = &["timestamp with time zone"];
const NUMBER: &[&str] = &["double precision"];

/// A column's name and the types whose binary form is the one that is sent.
type Column = (&'static str, &'static [&'static str]);

const METRICS_COLUMNS: &[Column] = &[
    ("time", TIME),
    ("topic", TEXT),
    ("value", NUMBER),
    ("value_str", TEXT),
    ("quality", &["smallint"]),
    ("unit", TEXT),
];

const ALERTS_COLUMNS: &[Column] = &[
    ("time", TIME),
    ("rule", TEXT),
    ("topic", TEXT),
    ("key", TEXT),
    ("transition", TEXT),
    ("severity", TEXT),
    ("value", NUMBER),
    ("message", TEXT),
];

const SERIES_COLUMNS: &[Column] = &[("topic", TEXT), ("unit", TEXT), ("labels", &["jsonb"])];

/// The names of the tables, quoted for SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) metrics: String,
    pub(super) alerts: String,
    pub(super) series: String,
    /// The name of the index on metrics: without schema, since an index lives in its table's.
    index: String,
}

impl Tables {
    /// The tables for a `table` of the settings: `name` or `schema.name`; the others stand in the same schema.
    pub(super) fn new(table: &str) -> Self {
        let (schema, name) = match table.split_once('.') {
            Some((schema, name)) => (format!("{}.", quoted(schema)), name),
            None => (String::new(), table),
        };
        Self {
            metrics: format!("{schema}{}", quoted(name)),
            alerts: format!("{schema}{}", quoted("alerts")),
            series: format!("{schema}{}", quoted("series")),
            index: quoted(&format!("{name}_topic_time")),
        }
    }

    /// A file of deploy/sql for these names: psql's own lines (`\…`) left out, its variables put in.
    fn fill_in(&self, sql: &str) -> String {
        let lines: Vec<&str> = sql.lines().filter(|line| !line.starts_with('\\')).collect();
        lines
            .join("\n")
            .replace(":metrics_index", &self.index)
            .replace(":'metrics'", &literal(&self.metrics))
            .replace(":metrics", &self.metrics)
            .replace(":alerts", &self.alerts)
            .replace(":series", &self.series)
    }
}

/// Which of the tables that can be done without are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Without it, descriptions of series are not stored.
    pub(super) series: bool,
}

/// Whether TimescaleDB has been asked for and refused in this process: it is asked for once.
pub(super) type ExtensionTried = bool;

/// Looks at the tables, makes what is missing if `manage_schema`, and says what somebody has to do about the rest.
pub(super) async fn prepare(
    session: &Session,
    settings: &TimescaleSink,
    tables: &Tables,
    extension_tried: &mut ExtensionTried,
) -> Result<Found, Fault> {
    let mut columns = look_up(session, tables).await?;
    let missing = columns.iter().any(Vec::is_empty);
    if missing && settings.manage_schema {
        make(session, tables, &columns, extension_tried).await?;
        columns = look_up(session, tables).await?;
    }
    let [metrics, alerts, series] = &columns;
    if metrics.is_empty() {
        return Err(Fault::Operator(format!(
            "there is no table {}; make it with deploy/sql, or set manage_schema = true",
            tables.metrics
        )));
    }
    fits(&tables.metrics, METRICS_COLUMNS, metrics)?;
    if !alerts.is_empty() {
        fits(&tables.alerts, ALERTS_COLUMNS, alerts)?;
    }
    if series.is_empty() {
        tracing::warn!(table = tables.series, "there is no such table: units and labels of series are not stored");
    } else {
        fits(&tables.series, SERIES_COLUMNS, series)?;
    }
    Ok(Found { series: !series.is_empty() })
}

/// Names and types of the columns of metrics, alerts and series; none for a table that is not there.
async fn look_up(session: &Session, tables: &Tables) -> Result<[Vec<(String, String)>; 3], Fault> {
    let query = format!(
        "SELECT t.i, a.attname, format_type(a.atttypid, NULL) \
         FROM (VALUES (0, to_regclass({})), (1, to_regclass({})), (2, to_regclass({}))) AS t (i, oid) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped",
        literal(&tables.metrics),
        literal(&tables.alerts),
        literal(&tables.series),
    );
    let mut columns = [Vec::new(), Vec::new(), Vec::new()];
    for row in rows(session, &query).await? {
        let [table, name, kind] = row.as_slice() else { continue };
        if let Some(of_table) = table.parse().ok().and_then(|i: usize| columns.get_mut(i)) {
            of_table.push((name.clone(), kind.clone()));
        }
    }
    Ok(columns)
}

async fn make(
    session: &Session,
    tables: &Tables,
    [metrics, alerts, series]: &[Vec<(String, String)>; 3],
    extension_tried: &mut ExtensionTried,
) -> Result<(), Fault> {
    let mut sql = format!("BEGIN; {LOCK};\n");
    if metrics.is_empty() {
        sql.push_str(&tables.fill_in(METRICS));
        if timescaledb(session, extension_tried).await? {
            sql.push_str(&tables.fill_in(HYPERTABLE));
        }
    }
    if alerts.is_empty() {
        sql.push_str(&tables.fill_in(ALERTS));
    }
    if series.is_empty() {
        sql.push_str(&tables.fill_in(SERIES));
    }
    sql.push_str("\nCOMMIT;");
    session.answer(session.client.batch_execute(&sql)).await?;
    tracing::info!(
        metrics = metrics.is_empty(),
        alerts = alerts.is_empty(),
        series = series.is_empty(),
        "made the missing tables"
    );
    Ok(())
}

/// Whether TimescaleDB is installed in this database, after trying to install it where the server has it.
async fn timescaledb(session: &Session, tried: &mut ExtensionTried) -> Result<bool, Fault> {
    let query =
        "SELECT installed_version IS NOT NULL FROM pg_catalog.pg_available_extensions WHERE name = 'timescaledb'";
    let state = rows(session, query).await?.first().and_then(|row| row.first()).map(|installed| installed == "t");
    match state {
        Some(true) => Ok(true),
        None => {
            tracing::warn!(
                "this PostgreSQL has no TimescaleDB: metrics is a plain table, without chunks, compression and retention"
            );
            Ok(false)
        }
        Some(false) if *tried => Ok(false),
        Some(false) => {
            *tried = true;
            // May end the connection: TimescaleDB refuses so when it is not preloaded. Then the next try goes on without it.
            match session.answer(session.client.batch_execute("CREATE EXTENSION IF NOT EXISTS timescaledb")).await {
                Ok(()) => Ok(true),
                Err(fault) => {
                    let why = fault.into_sink_error("CREATE EXTENSION timescaledb").to_string();
                    tracing::warn!(
                        why,
                        "TimescaleDB is there but could not be installed: metrics is a plain table; for a hypertable let a \
                         superuser run CREATE EXTENSION timescaledb and then deploy/sql/002_hypertable.sql"
                    );
                    if session.is_closed() {
                        return Err(Fault::Passing("TimescaleDB could not be installed".to_owned()));
                    }
                    Ok(false)
                }
            }
        }
    }
}

async fn rows(session: &Session, query: &str) -> Result<Vec<Vec<String>>, Fault> {
    let messages = session.answer(session.client.simple_query(query)).await?;
    let texts = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    });
    Ok(texts.collect())
}

fn fits(table: &str, wanted: &[Column], there: &[(String, String)]) -> Result<(), Fault> {
    let mut wrong = Vec::new();
    for (name, types) in wanted {
        match there.iter().find(|(column, _)| column == name) {
            Some((_, kind)) if types.contains(&kind.as_str()) => {}
            Some((_, kind)) => wrong.push(format!("{name} is {kind} and must be {}", types[0])),
            None => wrong.push(format!("{name} {} is missing", types[0])),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong = wrong.join(", ");
    Err(Fault::Operator(format!(
        "table {table} does not fit: {wrong}; change it as in deploy/sql, or name another table"
    )))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: names are quoted whatever they are, all tables share a schema, and no psql syntax is left in what is sent.
    #[test]
    fn names_are_put_in() {
        let tables = Tables::new("plant.Me\"trics");
        assert_eq!(tables.metrics, "\"plant\".\"Me\"\"trics\"");
        assert_eq!(tables.alerts, "\"plant\".\"alerts\"");
        assert_eq!(Tables::new("metrics").series, "\"series\"");
        for file in [METRICS, HYPERTABLE, ALERTS, SERIES] {
            let sql = tables.fill_in(file);
            assert!(
                !sql.contains('\\') && !sql.contains(":m") && !sql.contains(":a") && !sql.contains(":s"),
                "{sql}"
            );
        }
        assert!(tables.fill_in(HYPERTABLE).contains("'\"plant\".\"Me\"\"trics\"'"));
    }
}
