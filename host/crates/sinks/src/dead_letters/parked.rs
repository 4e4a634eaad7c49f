//! Parked letters: rows that a rule was not called for, asked for again once it is.

use std::path::Path;

use rusqlite::Connection;

use super::edit::request;
use super::file::{FileError, change, read, step};

/// Which of a rule's parked letters are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked<'a> {
    /// The rule that was not called for them.
    pub rule: &'a str,
    /// From after this id on.
    pub after: i64,
    /// So many at most.
    pub most: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Of so many the replay has been asked for now.
    pub requested: u64,
    /// The id of the last one looked at; what it was if there was none.
    pub to: i64,
}

/// Asks for the replay of parked letters, in the order they died, but for those on topics that are not `wanted` for their rule; gives what came of
/// each of `looks`. The file is opened once for all of them.
///
/// # Errors
/// The file cannot be read or changed; what was asked for by then stays asked for.
pub fn request_parked(
    path: &Path,
    looks: &[Parked<'_>],
    now_us: i64,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<Vec<Looked>, FileError> {
    // The condition on `stage` is word for word that of the index.
    const PARKED: &str = "SELECT id, topic FROM dead_letters
        WHERE rule = ?1 AND id > ?2 AND stage = 'parked' ORDER BY id LIMIT ?3";
    let nothing = Vec::new();
    let found: Vec<Vec<(i64, String)>> = read(path, nothing, |connection| {
        let mut statement = connection.prepare(PARKED)?;
        let mut each = |look: &Parked<'_>| {
            let most = i64::try_from(look.most).unwrap_or(i64::MAX);
            let rows = statement.query_map((look.rule, look.after, most), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        looks.iter().map(&mut each).collect()
    })?;
    let mut found = found.into_iter();
    looks
        .iter()
        .map(|look| {
            let found = found.next().unwrap_or_default();
            let to = found.last().map_or(look.after, |(id, _)| *id);
            let ids: Vec<i64> =
                found.into_iter().filter(|(_, topic)| wanted(look.rule, topic)).map(|(id, _)| id).collect();
            let ask = |connection: &Connection, id| request(connection, id, now_us);
            let requested = match ids[..] {
                [] => 0,
                _ => change(path, 0, |connection| step(connection, &ids, ask))?,
            };
            Ok(Looked { requested, to })
        })
        .collect()
}
