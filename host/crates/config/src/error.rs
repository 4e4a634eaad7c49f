//! What is wrong with a file: where, what, and what to do.

use std::fmt;

/// A place in a file, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One mistake. Its text never holds a secret: values are shown only where they cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named to us.
    pub file: String,
    /// Where in the file; none if it cannot be read at all.
    pub position: Option<Position>,
    /// What it is about: a JSON pointer (RFC 6901) into the file's content, as in `/limits/cpu_ms`; empty for all of it.
    pub pointer: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub todo: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}; {}", self.what, self.todo)
    }
}

impl std::error::Error for ConfigError {}

/// All mistakes of a file that can be told at once, by their place; never empty. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The given mistakes in the order of the file, if there are any.
    pub(crate) fn none_of(mut errors: Vec<ConfigError>) -> Result<(), Self> {
        errors.sort_by_key(|e| e.position);
        errors.dedup();
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// The file cannot be read at all.
    pub(crate) fn unreadable(file: &str, what: String, todo: &str) -> Self {
        Self(vec![ConfigError {
            file: file.to_owned(),
            position: None,
            pointer: String::new(),
            what,
            todo: todo.to_owned(),
        }])
    }

    /// The same of a file that nobody has seen: it was made from something else.
    pub(crate) fn without_positions(mut self) -> Self {
        self.0.iter_mut().for_each(|error| error.position = None);
        self
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// How many there are, from 1.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
