//! As much of an HTTP client as asking the host takes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::wait::DEADLINE;

/// How long one answer may take: enabling a rule waits for its lanes, and a module may be compiled first.
pub(crate) const PATIENCE: Duration = DEADLINE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub code: u16,
    /// The body.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.body))
    }
}

/// Says of a time that was not enough that it was waited: how a slow machine is told from a wrong answer.
pub(crate) fn in_words(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            std::io::Error::new(ErrorKind::TimedOut, format!("waited {PATIENCE:?} for the answer"))
        }
        _ => error,
    }
}

/// One request on a connection of its own.
pub(crate) fn request(port: u16, method: &str, path: &str) -> std::io::Result<Response> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).map_err(in_words)?;
    let answer = String::from_utf8_lossy(&answer);
    let parts = answer.split_once("\r\n\r\n");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    match (parts, code) {
        (Some((_, body)), Some(code)) => Ok(Response { code, body: body.to_owned() }),
        _ => Err(std::io::Error::other(format!("no HTTP answer: {answer:?}"))),
    }
}
