//! The highest version of each name that has served on this host, kept in `signatures.json` under `data_dir`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use semver::Version;
use tidegate_config::Name;

/// The file's name.
const NAME: &str = "signatures.json";
/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 20;
/// The most names: as many as there can be rules.
const MAX_NAMES: usize = 10_000;

/// What has served.
#[derive(Debug)]
pub(super) struct Floors {
    path: PathBuf,
    highest: BTreeMap<String, Version>,
}

/// Why it cannot be told, or not be kept, which versions have served.
#[derive(Debug, thiserror::Error)]
pub enum FloorsError {
    /// It cannot be read or written.
    #[error("{0}, which says which versions of signed modules have served, cannot be used: {1}")]
    Io(PathBuf, io::Error),
    /// It is damaged.
    #[error(
        "{0}, which says which versions of signed modules have served, is damaged ({1}): bring it back, or delete it, after which older \
         versions would be taken again"
    )]
    Damaged(PathBuf, String),
    /// Too many names.
    #[error(
        "modules of more than {MAX_NAMES} names have served, and no more are remembered: delete what is gone from {0}"
    )]
    Full(PathBuf),
}

impl Floors {
    /// Reads what is remembered; nothing if there is no file.
    pub fn open(data_dir: &Path) -> Result<Self, FloorsError> {
        let path = data_dir.join(NAME);
        let mut text = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, highest: BTreeMap::new() });
            }
            Err(error) => return Err(FloorsError::Io(path, error)),
            Ok(_) => {}
        }
        let damaged = |why: String| FloorsError::Damaged(path.clone(), why);
        let read: BTreeMap<String, String> =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let parsed = read.into_iter().map(|(name, version)| Version::parse(&version).map(|version| (name, version)));
        let highest = parsed.collect::<Result<_, _>>().map_err(|error| damaged(error.to_string()))?;
        Ok(Self { path, highest })
    }

    /// The highest that has served.
    pub fn of(&self, name: &Name) -> Option<&Version> {
        self.highest.get(name.as_str())
    }

    /// `version` serves. It holds at once, and is on disk when this returns.
    pub fn raise(&mut self, name: &Name, version: &Version) -> Result<(), FloorsError> {
        if self.of(name).is_some_and(|floor| version.cmp_precedence(floor).is_le()) {
            return Ok(());
        }
        if self.highest.len() >= MAX_NAMES && !self.highest.contains_key(name.as_str()) {
            return Err(FloorsError::Full(self.path.clone()));
        }
        self.highest.insert(name.to_string(), version.clone());
        self.write().map_err(|error| FloorsError::Io(self.path.clone(), error))
    }

    /// Whole, or not at all.
    fn write(&self) -> io::Result<()> {
        let texts: BTreeMap<&String, String> =
            self.highest.iter().map(|(name, version)| (name, version.to_string())).collect();
        let beside = self.path.with_extension("json.new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(&texts)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}
