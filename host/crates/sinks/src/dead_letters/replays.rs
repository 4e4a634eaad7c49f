//! The file as the source of replayed messages sees it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_model::{DeadLetter, DeadLetterAccount, Replays};

use super::file::{FileError, change, delete, read, step};
use super::read::letter;

/// Past so many bytes of payload no more letters are read at a time.
const MOST_BYTES: usize = 8 << 20;

/// The letters that are to be replayed.
#[derive(Debug)]
pub struct ReplayFile {
    pub(super) path: PathBuf,
    pub(super) account: Arc<DeadLetterAccount>,
}

impl Replays for ReplayFile {
    fn requested(&self, except: &BTreeSet<i64>, most: usize) -> Result<Vec<(i64, DeadLetter)>, String> {
        let found = read(&self.path, Vec::new(), |connection| {
            let mut statement =
                connection.prepare("SELECT dead_letter FROM dead_letter_replays ORDER BY dead_letter LIMIT ?1")?;
            let ids = statement.query_map([(most + except.len()) as i64], |row| row.get::<_, i64>(0))?;
            let (mut letters, mut bytes) = (Vec::new(), 0);
            for id in ids {
                let id = id?;
                if letters.len() >= most || bytes >= MOST_BYTES {
                    break;
                }
                if let Some(stored) = letter(connection, id)?.filter(|_| !except.contains(&id)) {
                    bytes += stored.letter.payload.len();
                    letters.push((id, stored.letter));
                }
            }
            Ok(letters)
        });
        found.map_err(|error: FileError| error.to_string())
    }

    fn settled(&self, ids: &[i64]) -> Result<(), String> {
        let gone = change(&self.path, 0, |connection| step(connection, ids, delete));
        gone.map(|gone| self.account.replayed(gone)).map_err(|error| error.to_string())
    }
}
