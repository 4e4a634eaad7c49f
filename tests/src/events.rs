//! A reader of the API's event streams.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::Value;

use crate::http::in_words;
use crate::wait::DEADLINE;

/// An event stream that is being read.
#[derive(Debug)]
pub struct Events {
    lines: BufReader<TcpStream>,
    path: String,
}

impl Events {
    /// Begins to read. In HTTP/1.0, so that it comes in one piece.
    pub fn open(port: u16, path: &str) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(socket, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let mut events = Self { lines: BufReader::new(socket), path: path.to_owned() };
        let status = events.line().unwrap_or_default();
        assert!(status.contains(" 200 "), "{path}: {status}");
        while events.line().is_some_and(|line| !line.is_empty()) {}
        events
    }

    /// The data of the next event for which `wanted` holds, whatever comes before; fails at the deadline.
    pub fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(&str, &Value) -> bool) -> Value {
        let (deadline, mut last) = (Instant::now() + DEADLINE, None);
        while Instant::now() < deadline {
            let Some((name, data)) = self.next() else { break };
            if wanted(&name, &data) {
                return data;
            }
            last = Some((name, data));
        }
        panic!("{}: waited {DEADLINE:?} for {what}; the last event was {last:?}", self.path);
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let read = read.unwrap_or_else(|error| panic!("{}: {}", self.path, in_words(error)));
        (read > 0).then(|| line.trim_end().to_owned())
    }
}

impl Iterator for Events {
    type Item = (String, Value);

    /// The next event and its data; none at the end of the stream.
    fn next(&mut self) -> Option<Self::Item> {
        let mut name = String::new();
        loop {
            let line = self.line()?;
            if let Some(word) = line.strip_prefix("event: ") {
                name = word.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }
}
