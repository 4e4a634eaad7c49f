//! The tables: what there is, what is missing, and making it.
//!
//! What exists is never changed at the start of a host, only looked at: a table that an operator made is used as it is if its columns
//! fit, and the difference is told if not. [`migrate`], which somebody has asked for, runs every step that is wanted.

mod keys;
mod names;
mod steps;

use tidegate_config::{Offsets, Repeats, TimescaleSink};
use tidegate_model::SinkError;

use super::chunks::{Chunks, Unpacking};
use super::dial::LastHost;
use super::fault::Fault;
use super::session::{self, Session};
use steps::{Making, Part, Report};

pub(super) use names::{Tables, literal, quoted};
pub use steps::{MigrationStep, Progress};

const TEXT: &[&str] = &["text", "character varying", "citext"];
const TIME: &[&str] = &["timestamp with time zone"];
const NUMBER: &[&str] = &["double precision"];

/// A column's name and the types whose binary form is the one that is sent.
type Column<'a> = (&'a str, &'static [&'static str]);

/// The types of the points' columns, in the order of [`tidegate_config::Columns::all`].
const METRICS_TYPES: [&[&str]; 6] = [TIME, TEXT, NUMBER, TEXT, &["smallint"], TEXT];

const ALERTS_COLUMNS: &[Column<'_>] = &[
    ("time", TIME),
    ("rule", TEXT),
    ("topic", TEXT),
    ("key", TEXT),
    ("transition", TEXT),
    ("severity", TEXT),
    ("value", NUMBER),
    ("message", TEXT),
];

const POSITIONS_COLUMNS: &[Column<'_>] = &[
    ("cluster", TEXT),
    ("consumer_group", TEXT),
    ("topic", TEXT),
    ("partition", &["integer"]),
    ("next_offset", &["bigint"]),
    ("previous_offset", &["bigint"]),
    ("updated_at", TIME),
];

const SERIES_COLUMNS: &[Column<'_>] = &[("topic", TEXT), ("unit", TEXT), ("labels", &["jsonb"])];

/// A column that a table has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct There {
    name: String,
    kind: String,
    /// A row without it is refused, whatever the row.
    must_be_given: bool,
}

/// What is there of what can be done without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Without it, descriptions of series are not stored.
    pub(super) series: bool,
    /// Those of the points' table, where it has any.
    pub(super) chunks: Option<Chunks>,
    pub(super) unpacking: Unpacking,
}

/// Whether TimescaleDB has been asked for and refused in this process: it is asked for once.
pub(super) type ExtensionTried = bool;

/// What [`migrate`] could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// What this database cannot have.
    pub missing: Vec<&'static str>,
    /// Why it cannot.
    pub because: &'static str,
}

/// Makes tables, hypertable, policies and aggregates as the settings want them, where they are missing. Running it again changes
/// nothing; what was made with other intervals keeps them. It takes as long as it takes: `progress` hears of each step before it is taken.
///
/// # Errors
/// The database cannot be reached, does not permit it, or has tables that do not fit.
pub async fn migrate(settings: &TimescaleSink, progress: Progress<'_>) -> Result<Migrated, SinkError> {
    let database = session::address(settings);
    let tables = Tables::new(settings);
    let run = async {
        let last = LastHost::default();
        let mut session = Session::open(settings, &last).await?;
        let mut tried = false;
        let level = match steps::level(&session, &mut tried).await {
            // That ended the connection; it was tried, so it is not tried again.
            Err(Fault::Passing(_)) => {
                session = Session::open(settings, &last).await?;
                steps::level(&session, &mut tried).await?
            }
            level => level?,
        };
        progress(MigrationStep::Reached(&database));
        let making = Making::Patient(progress);
        let report = steps::apply(&session, &tables, settings, level, |_| true, making).await?;
        look_over(&session, settings, &tables, &look_up(&session, &tables).await?).await?;
        Ok(report)
    };
    match run.await {
        Ok(Report { missing, because, .. }) => Ok(Migrated { missing, because }),
        Err(fault) => {
            let fault: Fault = fault;
            Err(fault.into_sink_error(&database))
        }
    }
}

/// The SQL that [`migrate`] would run on a database that can do everything.
pub fn migration(settings: &TimescaleSink) -> String {
    let schema = settings.names.schema().unwrap_or("public");
    steps::text(&Tables::new(settings), settings, schema)
}

/// Looks at the tables, makes what is missing if `manage_schema`, and says what somebody has to do about the rest.
pub(super) async fn prepare(
    session: &Session,
    settings: &TimescaleSink,
    tables: &Tables,
    extension_tried: &mut ExtensionTried,
) -> Result<Found, Fault> {
    let mut columns = look_up(session, tables).await?;
    let [no_metrics, no_alerts, no_series, no_positions] = [0, 1, 2, 3].map(|i| columns[i].is_empty());
    let no_positions = no_positions && (no_metrics || settings.offsets == Offsets::WithPoints);
    if settings.manage_schema && (no_metrics || no_alerts || no_series || no_positions) {
        let level = steps::level(session, extension_tried).await?;
        let is_missing = |part| match part {
            Part::Alerts => no_alerts,
            Part::Series => no_series,
            Part::Positions => no_positions,
            _ => no_metrics,
        };
        let report = steps::apply(session, tables, settings, level, is_missing, Making::Bounded).await?;
        tracing::info!(made = report.done.join(", "), "made what was missing in the database");
        if !report.missing.is_empty() {
            let missing = report.missing.join(", ");
            tracing::warn!(missing, "{}, so some of it is not to be had", report.because);
        }
        columns = look_up(session, tables).await?;
    }
    look_over(session, settings, tables, &columns).await
}

/// Whether what is there fits.
async fn look_over(
    session: &Session,
    settings: &TimescaleSink,
    tables: &Tables,
    [metrics, alerts, series, positions]: &[Vec<There>; 4],
) -> Result<Found, Fault> {
    if metrics.is_empty() {
        return Err(Fault::Operator(format!(
            "there is no table {}; make it with `tidegate migrate` or deploy/sql, or set manage_schema = true",
            tables.metrics
        )));
    }
    let wanted: Vec<Column<'_>> = settings.names.columns.all().into_iter().zip(METRICS_TYPES).collect();
    fits(&tables.metrics, &wanted, metrics)?;
    may_be_left(&tables.metrics, &wanted, metrics)?;
    if !alerts.is_empty() {
        fits(&tables.alerts, ALERTS_COLUMNS, alerts)?;
        may_be_left(&tables.alerts, ALERTS_COLUMNS, alerts)?;
    }
    if series.is_empty() {
        tracing::warn!(table = tables.series, "there is no such table: units and labels of series are not stored");
    } else {
        fits(&tables.series, SERIES_COLUMNS, series)?;
        may_be_left(&tables.series, SERIES_COLUMNS, series)?;
        keys::of_series(session, tables).await?;
    }
    if settings.offsets == Offsets::WithPoints {
        if positions.is_empty() {
            return Err(Fault::Operator(format!(
                "exactly_once needs the table {}; make it with `tidegate migrate` or deploy/sql/011_source_positions.sql",
                tables.positions
            )));
        }
        fits(&tables.positions, POSITIONS_COLUMNS, positions)?;
        keys::of_positions(session, tables).await?;
    }
    if settings.repeats == Repeats::Dropped {
        keys::of_points(session, settings, tables).await?;
    }
    let chunks = Chunks::find(session, tables).await?;
    let unpacking = Unpacking::find(session).await?;
    Ok(Found { series: !series.is_empty(), chunks, unpacking })
}

/// The columns of metrics, alerts, series and positions; none for a table that is not there. One that a trigger of somebody's may fill in need not
/// be given; TimescaleDB's own trigger fills nothing in.
async fn look_up(session: &Session, tables: &Tables) -> Result<[Vec<There>; 4], Fault> {
    let query = format!(
        "SELECT t.i, a.attname, format_type(a.atttypid, NULL), \
         a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '' AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g \
         WHERE g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgname <> 'ts_insert_blocker' AND g.tgtype & 7 = 7) \
         FROM (VALUES (0, to_regclass({})), (1, to_regclass({})), (2, to_regclass({})), (3, to_regclass({}))) AS t (i, oid) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped",
        literal(&tables.metrics),
        literal(&tables.alerts),
        literal(&tables.series),
        literal(&tables.positions),
    );
    let mut columns = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for row in session.rows(&query).await? {
        let [table, name, kind, must] = row.as_slice() else { continue };
        if let Some(of_table) = table.parse().ok().and_then(|i: usize| columns.get_mut(i)) {
            of_table.push(There { name: name.clone(), kind: kind.clone(), must_be_given: must == "t" });
        }
    }
    Ok(columns)
}

fn fits(table: &str, wanted: &[Column<'_>], there: &[There]) -> Result<(), Fault> {
    let mut wrong = Vec::new();
    for (name, types) in wanted {
        match there.iter().find(|column| column.name == *name) {
            Some(There { kind, .. }) if types.contains(&kind.as_str()) => {}
            Some(There { kind, .. }) => wrong.push(format!("{name} is {kind} and must be {}", types[0])),
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

/// A table may have more columns than are written, but none that must be given.
fn may_be_left(table: &str, given: &[Column<'_>], there: &[There]) -> Result<(), Fault> {
    let others = there.iter().filter(|column| !given.iter().any(|(name, _)| *name == column.name));
    let wanting: Vec<&str> = others.filter(|column| column.must_be_given).map(|column| &*column.name).collect();
    if wanting.is_empty() {
        return Ok(());
    }
    Err(Fault::Operator(format!(
        "table {table} does not fit: each row must have {}, which Tidegate does not give: give it a default, or let it be NULL",
        wanting.join(" and ")
    )))
}
