//! The dead letters for the API: what it asks, put to the file that the host keeps them in.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tidegate_admin::{LetterChoice, LetterFilter, Letters, NotCompacted};
use tidegate_sinks::Rfc3339;
use tidegate_sinks::dead_letters::{self, CompactError, Filter, Selection, Stored};
use tidegate_sinks::json::DeadLetterJson;

/// The file of dead letters.
pub struct LetterFile(pub PathBuf);

impl Letters for LetterFile {
    fn list(&self, which: &LetterFilter, after: i64, limit: u32) -> Result<Vec<Map<String, Value>>, String> {
        let found = dead_letters::list(&self.0, limit, after, &filter(which)).map_err(|error| error.to_string())?;
        found.iter().map(shown).collect()
    }

    fn newest(&self, which: &LetterFilter, limit: u32) -> Result<Vec<Map<String, Value>>, String> {
        let found = dead_letters::newest(&self.0, limit, &filter(which)).map_err(|error| error.to_string())?;
        found.iter().rev().map(shown).collect()
    }

    fn count(&self, which: &LetterFilter) -> Result<u64, String> {
        dead_letters::count(&self.0, &filter(which)).map_err(|error| error.to_string())
    }

    fn get(&self, id: i64) -> Result<Option<Map<String, Value>>, String> {
        let found = dead_letters::get(&self.0, id).map_err(|error| error.to_string())?;
        found.as_ref().map(shown).transpose()
    }

    fn replay(&self, which: &LetterChoice) -> Result<u64, String> {
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        dead_letters::request_replay(&self.0, &selection(which), now_us).map_err(|error| error.to_string())
    }

    fn cancel_replay(&self, which: &LetterChoice) -> Result<u64, String> {
        dead_letters::cancel_replay(&self.0, &selection(which)).map_err(|error| error.to_string())
    }

    fn compact(&self) -> Result<(), NotCompacted> {
        dead_letters::compact(&self.0).map_err(|error| match error {
            CompactError::NoRoom { .. } => NotCompacted::NoRoom(error.to_string()),
            CompactError::File(error) => NotCompacted::Failed(error.to_string()),
        })
    }

    fn purge(&self, which: &LetterChoice) -> Result<u64, String> {
        dead_letters::purge(&self.0, &selection(which)).map_err(|error| error.to_string())
    }
}

fn selection(which: &LetterChoice) -> Selection {
    match which {
        LetterChoice::One(id) => Selection::Ids(vec![*id]),
        LetterChoice::Matching(which) => Selection::Matching(filter(which)),
    }
}

fn filter(which: &LetterFilter) -> Filter {
    let LetterFilter { rule, source, stage, topic, since_us, until_us, reason, requested } = which.clone();
    Filter { source, topic, rule, stage, since_us, until_us, reason, requested }
}

/// As `tidegate dead-letters list --json` shows it.
fn shown(stored: &Stored) -> Result<Map<String, Value>, String> {
    let letter = serde_json::to_value(DeadLetterJson::from(&stored.letter)).map_err(|error| error.to_string())?;
    let Value::Object(letter) = letter else { return Err("a dead letter is no object".to_owned()) };
    let died = Rfc3339(stored.died_us).to_string();
    let mut all = Map::from_iter([
        ("id".to_owned(), stored.id.into()),
        ("died".to_owned(), died.into()),
        ("died_us".to_owned(), stored.died_us.into()),
        ("replay_requested".to_owned(), stored.requested.into()),
    ]);
    all.extend(letter);
    Ok(all)
}
