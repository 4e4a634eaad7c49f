//! What surrounds the file: variables and other files. A trait, so that tests bring their own.

use std::io::{self, Read};
use std::path::Path;

/// The largest file that is read: no configuration, secret or certificate bundle comes near it.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Environment variables and files.
pub trait Env {
    /// The value of an environment variable, if it is set and is text.
    fn var(&self, name: &str) -> Option<String>;

    /// The text of a file, at most 4 MiB.
    ///
    /// # Errors
    /// It is not there, may not be read, is larger, or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The variables of this process and the files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
        }
        Ok(text)
    }
}
