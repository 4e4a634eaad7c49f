//! Why test cases cannot be used.

use std::io;
use std::path::PathBuf;

use crate::{MAX_BYTES, MAX_CASES, MAX_NAME_BYTES, VERSION};

/// The most bytes kept of what a parser says: it repeats words of the document, and those can be as long as that.
const MAX_WORDS_BYTES: usize = 300;

/// Why test cases cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// Past [`MAX_BYTES`].
    #[error("they have {0} bytes, where {MAX_BYTES} are the most: keep fewer or shorter ones in `testcases`")]
    TooLarge(usize),
    /// Past [`MAX_CASES`].
    #[error("there are {0} of them, where {MAX_CASES} are the most")]
    TooMany(usize),
    /// No JSON, or not of this form.
    #[error("they are not what a build writes: {0}")]
    Malformed(String),
    /// Made by a later version.
    #[error(
        "they are of format {0}, and this version knows format {VERSION} only: build the module with its own version"
    )]
    Version(u32),
    /// A case has no name, one that is too long or bears control characters, or that of another.
    #[error("a case's name is empty, longer than {MAX_NAME_BYTES} bytes, no plain text or there twice: {0:?}")]
    Name(String),
    /// A line says nothing that can be done.
    #[error("case `{case}`, line {line} of {file}: {why}")]
    Line {
        /// The case's name.
        case: String,
        /// Which of its files, as it is called in the folder.
        file: &'static str,
        /// Counted from 1; of the lines that are there in the module.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A file of a case cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CasesError {
    pub(crate) fn malformed(error: &serde_json::Error) -> Self {
        CasesError::Malformed(words(error))
    }
}

/// What a parser says, cut to what people read.
pub(crate) fn words(error: &serde_json::Error) -> String {
    cut(error.to_string(), MAX_WORDS_BYTES)
}

pub(crate) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}
