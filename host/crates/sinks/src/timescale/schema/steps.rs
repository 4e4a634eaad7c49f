//! The files of deploy/sql, what each needs, and running those that fit the database.

use std::ops::RangeInclusive;

use tidegate_config::{Aggregates, Refresh, Repeats, TimescaleSink, Upkeep};

use super::super::fault::Fault;
use super::super::session::{self, GRACE, Session};
use super::names::{Tables, literal};

/// Any number, the same in all hosts: so that two that start together do not make the same table twice.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7438201948375)";

/// One file of deploy/sql.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    makes: &'static str,
    needs: RangeInclusive<Level>,
    pub(super) of: Part,
}

/// What a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Points,
    Index(Repeats),
    Alerts,
    Series,
    Positions,
    Compression,
    Retention,
    Aggregates,
    /// Those that others are made of elsewhere.
    AggregatesOfPoints,
}

/// What a database can do; each can what those before it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// PostgreSQL without TimescaleDB.
    Plain,
    /// TimescaleDB under its Apache licence.
    Apache,
    /// TimescaleDB under its Community licence.
    Community,
    /// 2.7 or later, where what is summed up can be chosen by row.
    Filters,
    /// 2.9 or later, where an aggregate can be made of an aggregate.
    Hierarchies,
}

macro_rules! file {
    ($name:literal, $makes:expr, $needs:expr, $of:expr) => {
        file!($name, $makes, $needs, Level::Hierarchies, $of)
    };
    ($name:literal, $makes:expr, $needs:expr, $until:expr, $of:expr) => {
        File {
            name: $name,
            sql: include_str!(concat!("../../../../../../deploy/sql/", $name)),
            makes: $makes,
            needs: $needs..=$until,
            of: $of,
        }
    };
}

/// What either of two files makes, as the version has it.
const LONGER: &str = "the aggregates by hour and day";

/// In the order in which they are run.
pub(super) const FILES: [File; 12] = [
    file!("001_metrics.sql", "the table of the points", Level::Plain, Part::Points),
    file!("002_hypertable.sql", "chunks by time", Level::Apache, Part::Points),
    file!("003_index.sql", "the index on topic and time", Level::Plain, Part::Index(Repeats::Stored)),
    file!("004_index_once.sql", "the unique index on topic and time", Level::Plain, Part::Index(Repeats::Dropped)),
    file!("005_alerts.sql", "the table of the alerts", Level::Plain, Part::Alerts),
    file!("006_series.sql", "the table of the series", Level::Plain, Part::Series),
    file!("007_compression.sql", "compression", Level::Community, Part::Compression),
    file!("008_retention.sql", "retention", Level::Community, Part::Retention),
    file!("009_aggregate_minute.sql", "the aggregate by minute", Level::Filters, Part::Aggregates),
    file!("010_aggregates_longer.sql", LONGER, Level::Hierarchies, Part::Aggregates),
    file!("011_source_positions.sql", "the table of Kafka offsets", Level::Plain, Part::Positions),
    file!("012_aggregates_of_points.sql", LONGER, Level::Filters, Level::Filters, Part::AggregatesOfPoints),
];

/// What was done, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// What the files that were run make.
    pub(super) done: Vec<&'static str>,
    /// What this database cannot do.
    pub(super) missing: Vec<&'static str>,
    /// Why not.
    pub(super) because: &'static str,
}

/// Whether the settings ask for a file.
pub(super) fn is_wanted(file: &File, settings: &TimescaleSink) -> bool {
    match file.of {
        Part::Points | Part::Alerts | Part::Series | Part::Positions => true,
        Part::Index(repeats) => settings.repeats == repeats,
        Part::Compression => settings.upkeep.compress_after_days.is_some(),
        Part::Retention => settings.upkeep.retain_days.is_some(),
        Part::Aggregates | Part::AggregatesOfPoints => settings.upkeep.aggregates == Aggregates::Kept,
    }
}

/// Whether what a file makes can be refreshed from what retention leaves.
fn has_room(file: &File, upkeep: &Upkeep) -> bool {
    let fits = |(refresh, minutes): (&Refresh, u32)| refresh.has_room(minutes, upkeep.retain_days);
    file.of != Part::AggregatesOfPoints || upkeep.refresh.iter().zip(Refresh::BUCKET_MINUTES).all(fits)
}

/// What the files chosen say for these settings, for people.
pub(super) fn text(tables: &Tables, settings: &TimescaleSink, schema: &str) -> String {
    let wanted = FILES.iter().filter(|file| is_wanted(file, settings) && file.needs.contains(&Level::Hierarchies));
    wanted.map(|file| format!("-- {}\n{}\n", file.name, tables.fill_in(file, schema, settings).trim())).collect()
}

/// How long making may take.
pub(super) enum Making<'a> {
    /// No longer than an answer may: it is tried again, and a sink has other things to do than wait for another host's lock.
    Bounded,
    /// As long as it takes, since somebody has asked for it: an index of a large table takes hours. That the server is still there, TCP
    /// keepalives tell. Each file is told of before it is run.
    Patient(Progress<'a>),
}

/// Hears of each step before it is taken.
pub type Progress<'a> = &'a mut (dyn FnMut(MigrationStep<'_>) + Send);

/// What a migration comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationStep<'a> {
    /// It has reached this database, told without secrets.
    Reached(&'a str),
    /// It runs a file of deploy/sql.
    Runs {
        /// The file.
        file: &'static str,
        /// What it makes.
        makes: &'static str,
    },
}

/// Runs the files that are wanted, fit the database, and that `choose` picks: all in one transaction.
pub(super) async fn apply(
    session: &Session,
    tables: &Tables,
    settings: &TimescaleSink,
    level: Level,
    choose: impl Fn(Part) -> bool,
    making: Making<'_>,
) -> Result<Report, Fault> {
    let schema = schema(session, tables).await?;
    let mut report = Report { because: why(level), ..Report::default() };
    let mut files = Vec::new();
    for file in FILES.iter().filter(|file| is_wanted(file, settings) && choose(file.of)) {
        if file.needs.contains(&level) && has_room(file, &settings.upkeep) {
            files.push((file, tables.fill_in(file, &schema, settings)));
            report.done.push(file.makes);
        } else if !report.missing.contains(&file.makes) {
            report.missing.push(file.makes);
        }
    }
    let Report { done, missing, .. } = &mut report;
    // Another file has made it.
    missing.retain(|makes| !done.contains(makes));
    if files.is_empty() {
        return Ok(report);
    }
    // Notices of what is there already are not for the log.
    let locked = |begin: &str| format!("{begin} SET LOCAL client_min_messages = warning; {LOCK};");
    match making {
        Making::Bounded => {
            // The server gives up before we do: a connection that waits for a lock does not see that we are gone, and each try would leave one.
            let begin = session::begin(settings.statement_timeout.max(GRACE));
            let making = async {
                session.run(&locked(&begin)).await?;
                for (_, sql) in files {
                    session.run(&sql).await?;
                }
                session.commit().await
            };
            making
                .await
                .map_err(|fault: Fault| fault.waiting("tables are not made yet; `tidegate migrate` may be at it"))?;
        }
        Making::Patient(progress) => {
            // Before the lock, which another one may hold as long.
            session.run_long(&locked("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;")).await?;
            for (file, sql) in files {
                progress(MigrationStep::Runs { file: file.name, makes: file.makes });
                session.run_long(&sql).await?;
            }
            session.run_long("COMMIT").await?;
        }
    }
    Ok(report)
}

fn why(level: Level) -> &'static str {
    match level {
        Level::Plain => "this PostgreSQL has no TimescaleDB",
        Level::Apache => "this TimescaleDB runs under its Apache licence",
        Level::Community => "this TimescaleDB is older than 2.7",
        Level::Filters => "this TimescaleDB is older than 2.9, and `retain_days` leaves no two buckets to refresh",
        Level::Hierarchies => "",
    }
}

/// Where the points' table stands, or would stand.
async fn schema(session: &Session, tables: &Tables) -> Result<String, Fault> {
    if let Some(schema) = tables.names.schema() {
        return Ok(schema.to_owned());
    }
    let query = format!(
        "SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = to_regclass({})), current_schema())",
        literal(&tables.metrics)
    );
    let found = session.rows(&query).await?;
    match found.into_iter().flatten().next().filter(|schema| !schema.is_empty()) {
        Some(schema) => Ok(schema),
        None => {
            Err(Fault::Operator("there is no schema to make tables in; write table = \"schema.table\"".to_owned()))
        }
    }
}

/// What the database can do, after trying to install TimescaleDB where the server has it.
pub(super) async fn level(session: &Session, tried: &mut bool) -> Result<Level, Fault> {
    const EXTENSION: &str = "SELECT installed_version, current_setting('timescaledb.license', true) \
        FROM pg_catalog.pg_available_extensions WHERE name = 'timescaledb'";
    for _ in 0..2 {
        let found = session.rows(EXTENSION).await?;
        let Some([version, licence]) = found.first().map(Vec::as_slice) else { return Ok(Level::Plain) };
        if !version.is_empty() {
            return Ok(match licence.as_str() {
                "apache" => Level::Apache,
                _ if at_least(version, (2, 9)) => Level::Hierarchies,
                _ if at_least(version, (2, 7)) => Level::Filters,
                _ => Level::Community,
            });
        }
        if *tried {
            return Ok(Level::Plain);
        }
        *tried = true;
        install(session).await?;
    }
    Ok(Level::Plain)
}

async fn install(session: &Session) -> Result<(), Fault> {
    let Err(fault) = session.run("CREATE EXTENSION IF NOT EXISTS timescaledb").await else { return Ok(()) };
    let why = fault.into_sink_error("CREATE EXTENSION timescaledb").to_string();
    tracing::warn!(
        why,
        "TimescaleDB is there but could not be installed: the points' table is a plain one; let a superuser run \
         CREATE EXTENSION timescaledb and then `tidegate migrate`"
    );
    // TimescaleDB ends the connection when it is not preloaded. Then the next try goes on without it.
    if session.is_closed() {
        return Err(Fault::Passing("TimescaleDB could not be installed".to_owned()));
    }
    Ok(())
}

fn at_least(version: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: aggregates by hour and day are not made of points that retention drops before two buckets are full; those of others are.
    #[test]
    fn aggregates_need_points() {
        let longer = FILES.iter().filter(|file| file.makes == LONGER);
        let made = |retain_days| -> Vec<&str> {
            let upkeep = Upkeep { retain_days, ..Upkeep::default() };
            longer.clone().filter(|file| has_room(file, &upkeep)).map(|file| file.name).collect()
        };
        for retain_days in [Some(1), Some(2), Some(3)] {
            assert_eq!(made(retain_days), ["010_aggregates_longer.sql"]);
        }
        for retain_days in [Some(4), None] {
            assert_eq!(made(retain_days).len(), 2);
        }
    }

    /// Guarantees: versions are compared as numbers, with whatever stands after them.
    #[test]
    fn versions() {
        for (version, enough) in [("2.9.0", true), ("2.23.0-dev", true), ("3.0", true), ("2.8.1", false), ("", false)]
        {
            assert_eq!(at_least(version, (2, 9)), enough, "{version}");
        }
    }
}
