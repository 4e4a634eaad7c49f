//! Cases as folders of files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::VERSION;
use crate::case::{RawCase, RawSuite, Suite};
use crate::error::{CasesError, words};

/// What lies in one folder.
struct Files {
    name: String,
    config: Option<String>,
    input: String,
    expected: String,
}

/// The document of all cases below `folder`, in the order of their names; none if there are none. What it gives can be read again.
///
/// # Errors
/// A file cannot be read, or the cases would be refused as they are.
pub fn pack(folder: &Path) -> Result<Option<Vec<u8>>, CasesError> {
    let all = folders(folder)?.iter().map(|case| Files::read(case)).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() {
        return Ok(None);
    }
    let cases = all.iter().map(Files::raw).collect::<Result<_, _>>()?;
    let raw = RawSuite { version: VERSION, cases };
    let document = serde_json::to_vec(&raw).map_err(|error| CasesError::malformed(&error))?;
    Suite::read(&document)?;
    Ok(Some(document))
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, CasesError> {
    let cannot = |source| CasesError::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(cannot)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Files {
    fn read(folder: &Path) -> Result<Self, CasesError> {
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).map_err(|source| CasesError::File { path, source })
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let config = if folder.join("config.json").exists() { Some(read("config.json")?) } else { None };
        Ok(Self { name, config, input: read("input.ndjson")?, expected: read("expected.ndjson")? })
    }

    fn raw(&self) -> Result<RawCase<'_>, CasesError> {
        let expected = self.lines("expected.ndjson", &self.expected)?;
        Ok(RawCase {
            name: self.name.as_str().into(),
            config: self.config.as_deref().map(|text| self.json("config.json", 0, text)).transpose()?,
            input: self.lines("input.ndjson", &self.input)?,
            expected: expected.into_iter().flatten().collect(),
        })
    }

    /// None for an empty line.
    fn lines<'a>(&self, file: &'static str, text: &'a str) -> Result<Vec<Option<&'a RawValue>>, CasesError> {
        let lines = text.lines().enumerate();
        lines.map(|(at, line)| (!line.trim().is_empty()).then(|| self.json(file, at, line)).transpose()).collect()
    }

    fn json<'a>(&self, file: &'static str, at: usize, text: &'a str) -> Result<&'a RawValue, CasesError> {
        serde_json::from_str(text).map_err(|error| CasesError::Line {
            case: self.name.clone(),
            file,
            line: at + 1,
            why: words(&error),
        })
    }
}
