//! Results on standard output. That their reader has seen enough, as `head` has, is no error of whoever prints them.

use std::io::{self, Write};

/// Whether somebody reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    There,
    Gone,
}

/// Prints text as it is.
///
/// # Errors
/// It cannot be written, as to a full disk.
pub fn print(text: &str) -> io::Result<Reader> {
    write(io::stdout(), text.as_bytes())
}

/// The same for bytes.
///
/// # Errors
/// As for [`print`].
pub fn print_bytes(bytes: &[u8]) -> io::Result<Reader> {
    write(io::stdout(), bytes)
}

fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<Reader> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a reader who has gone is told from a disk that is full.
    #[test]
    fn gone_and_full() {
        struct Refuses(io::ErrorKind);
        impl Write for Refuses {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(write(Refuses(io::ErrorKind::BrokenPipe), b"x").ok(), Some(Reader::Gone));
        assert!(write(Refuses(io::ErrorKind::StorageFull), b"x").is_err());
        assert_eq!(write(Vec::new(), b"x").ok(), Some(Reader::There));
    }
}
