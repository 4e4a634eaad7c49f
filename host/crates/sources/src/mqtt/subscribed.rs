//! What each of our sessions is subscribed to, in a file: a broker keeps a subscription until it is told otherwise, and tells nobody which there are.
//!
//! Without it, a filter that is no longer configured would go on for as long as its session, and one that was put under `share` would come twice.
//!
//! Guarantees: a filter is in the file before a broker hears of it, and goes only when the broker has said that it is gone. So what a crash leaves in
//! between is at most taken back once more, which does no harm. The file is replaced as a whole, and bounded. Sessions are known by their client id: what
//! another host is subscribed to, under its own, is not ours to take back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// A longer file is not ours; what would make one longer is not written.
const MAX_BYTES: u64 = 16 << 20;
/// The most sessions that are remembered: those longest not connected go first.
const MAX_SESSIONS: usize = 256;

/// The sessions of one source.
#[derive(Debug)]
pub(super) struct Subscribed {
    source: Arc<str>,
    path: PathBuf,
    sessions: Mutex<Sessions>,
    /// That the file cannot be written was said.
    said: AtomicBool,
}

/// As it stands in the file: the last connected last.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Session {
    client_id: String,
    /// As they went into SUBSCRIBE.
    filters: BTreeSet<String>,
}

impl Sessions {
    fn bound(&mut self) {
        let surplus = self.sessions.len().saturating_sub(MAX_SESSIONS);
        self.sessions.drain(..surplus);
    }
}

impl Subscribed {
    /// Of this source, as the file below `data_dir` has it. One that cannot be read counts as none, and that is said.
    pub(super) fn open(data_dir: &Path, source: &Arc<str>) -> Self {
        let path = data_dir.join("mqtt").join(format!("{source}.json"));
        let sessions = read(&path).unwrap_or_else(|error| {
            tracing::warn!(
                %source, path = %path.display(),
                "what this source was subscribed to cannot be read: {error}; subscriptions of earlier settings may go on at the broker: if so, set another client_id"
            );
            Sessions::default()
        });
        Self { source: source.clone(), path, sessions: Mutex::new(sessions), said: AtomicBool::new(false) }
    }

    /// Notes that a session is about to be subscribed to `filters`; gives what else it may be subscribed to. Of one that nothing is known of, that is
    /// what `guess` says. Blocks for the disk.
    pub(super) fn begins(
        &self,
        client_id: &str,
        filters: &BTreeSet<String>,
        guess: impl FnOnce() -> BTreeSet<String>,
    ) -> Vec<String> {
        let mut all = self.locked();
        let at = all.sessions.iter().position(|session| session.client_id == client_id);
        let mut session = match at {
            Some(at) => all.sessions.remove(at),
            None => Session { client_id: client_id.to_owned(), filters: guess() },
        };
        let others = session.filters.difference(filters).cloned().collect();
        let known = session.filters.len();
        session.filters.extend(filters.iter().cloned());
        let news = at.is_none() || session.filters.len() > known;
        all.sessions.push(session);
        all.bound();
        if news {
            self.write(&all);
        }
        others
    }

    /// The broker has said that a session is subscribed to `filters` and nothing else. Blocks for the disk.
    pub(super) fn stands(&self, client_id: &str, filters: BTreeSet<String>) {
        let mut all = self.locked();
        if let Some(session) = all.sessions.iter_mut().find(|session| session.client_id == client_id)
            && session.filters != filters
        {
            session.filters = filters;
            self.write(&all);
        }
    }

    /// A session is subscribed to nothing, and nothing is kept in it. Blocks for the disk.
    pub(super) fn ended(&self, client_id: &str) {
        let mut all = self.locked();
        let before = all.sessions.len();
        all.sessions.retain(|session| session.client_id != client_id);
        if all.sessions.len() < before {
            self.write(&all);
        }
    }

    /// The client ids of all sessions.
    pub(super) fn client_ids(&self) -> Vec<String> {
        self.locked().sessions.iter().map(|session| session.client_id.clone()).collect()
    }

    fn locked(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source goes on without the file: telemetry is worth more than a subscription that may go on.
    fn write(&self, sessions: &Sessions) {
        let written = replace(&self.path, sessions);
        match written {
            Ok(()) => self.said.store(false, Ordering::Relaxed),
            Err(error) if !self.said.swap(true, Ordering::Relaxed) => tracing::warn!(
                source = %self.source, path = %self.path.display(),
                "what this source is subscribed to cannot be written: {error}; see to the disk of data_dir, or filters that are removed later may go on at the broker"
            ),
            Err(_said) => {}
        }
    }
}

fn read(path: &Path) -> io::Result<Sessions> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sessions::default()),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {MAX_BYTES} bytes")));
    }
    let mut sessions: Sessions = serde_json::from_slice(&text)?;
    sessions.bound();
    Ok(sessions)
}

/// The file is the old one or the new one, whatever happens meanwhile.
fn replace(path: &Path, sessions: &Sessions) -> io::Result<()> {
    let text = serde_json::to_vec(sessions)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it would have more than {MAX_BYTES} bytes")));
    }
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn set(filters: &[&str]) -> BTreeSet<String> {
        filters.iter().map(|&filter| filter.to_owned()).collect()
    }

    fn open(directory: &tempfile::TempDir) -> Subscribed {
        Subscribed::open(directory.path(), &"plant".into())
    }

    fn begins(sessions: &Subscribed, client_id: &str, filters: &[&str]) -> Vec<String> {
        sessions.begins(client_id, &set(filters), BTreeSet::new)
    }

    /// Guarantees: wherever a crash comes between what is asked and what is answered, the next process knows of all that the broker may have been asked
    /// for; what is answered is all there is; each session has its own.
    #[test]
    fn over_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let guessed = open(&directory).begins("a", &set(&["$share/g/dev/#"]), || set(&["dev/#"]));
        assert_eq!(guessed, ["dev/#"]);
        // Died before an answer, and again with other settings each.
        assert_eq!(begins(&open(&directory), "a", &["b/#"]), ["$share/g/dev/#", "dev/#"]);
        let third = open(&directory);
        assert_eq!(begins(&third, "a", &["c/#"]), ["$share/g/dev/#", "b/#", "dev/#"]);
        assert!(begins(&third, "b", &["c/#"]).is_empty());
        third.stands("a", set(&["c/#"]));
        let fourth = open(&directory);
        assert!(begins(&fourth, "a", &["c/#"]).is_empty());
        fourth.ended("a");
        assert_eq!(open(&directory).client_ids(), ["b"]);
    }

    /// Guarantees: a file that is damaged, of somebody else or too long stops nothing, and is written anew; where none can be written, what was
    /// asked for is known as long as the process lives.
    #[test]
    fn files_that_will_not_do() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("mqtt")).unwrap();
        let path = directory.path().join("mqtt/plant.json");
        for text in [&b"{\"sessions\":[{\"client"[..], b"\xFF", b"7", &vec![b' '; MAX_BYTES as usize + 1]] {
            fs::write(&path, text).unwrap();
            assert!(begins(&open(&directory), "a", &["dev/#"]).is_empty());
            assert_eq!(begins(&open(&directory), "a", &[]), ["dev/#"]);
        }
        fs::remove_dir_all(directory.path().join("mqtt")).unwrap();
        fs::write(directory.path().join("mqtt"), "in the way").unwrap();
        let unwritten = open(&directory);
        assert!(begins(&unwritten, "a", &["dev/#"]).is_empty());
        assert_eq!(begins(&unwritten, "a", &["b/#"]), ["dev/#"]);
    }

    /// Guarantees: a host whose client id is another at each start does not fill the file; a session that is connected stays.
    #[test]
    fn bounded() {
        let directory = tempfile::tempdir().unwrap();
        let sessions = open(&directory);
        for n in 0..MAX_SESSIONS + 10 {
            begins(&sessions, "stays", &["dev/#"]);
            begins(&sessions, &format!("pod-{n}"), &["dev/#"]);
        }
        let ids = sessions.client_ids();
        assert_eq!(ids.len(), MAX_SESSIONS);
        assert!(ids.contains(&"stays".to_owned()) && !ids.contains(&"pod-0".to_owned()));
    }
}
