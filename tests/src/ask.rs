//! Requests with everything that can be in one: methods, headers, bodies, and what is no request at all.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::http::{PATIENCE, in_words};

/// A request on a connection of its own.
#[derive(Clone, Debug)]
pub struct Ask {
    port: u16,
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The headers as they were written.
    pub headers: String,
    /// The body.
    pub body: String,
}

impl Ask {
    /// `path` goes out as it is, however odd.
    pub fn new(port: u16, method: &str, path: &str) -> Self {
        Self { port, line: format!("{method} {path} HTTP/1.1"), headers: Vec::new(), body: Vec::new() }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    /// With a body of that type.
    pub fn body(mut self, kind: &str, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Type", kind)
    }

    /// Sends it, and reads the answer to its end.
    pub fn send(self) -> Answer {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!(
            "{}\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.line,
            self.body.len()
        );
        self.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        // Who is refused early may find the connection closed before all is sent; the answer is there all the same.
        let _ = socket.write_all(&[head.as_bytes(), b"\r\n", &self.body].concat());
        Answer::read(&mut socket).unwrap_or_else(|error| panic!("{}: {}", self.line, in_words(error)))
    }
}

impl Answer {
    /// Reads an answer from a connection that is closed after it.
    pub fn read(socket: &mut TcpStream) -> std::io::Result<Self> {
        let (mut bytes, mut piece) = (Vec::new(), [0; 16 << 10]);
        loop {
            match socket.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => {
                    bytes.extend_from_slice(&piece[..n]);
                    // Such an answer goes on while there is news: that it began is all there is to be read here.
                    if is_stream(&bytes) {
                        break;
                    }
                }
                // Reset, since not all that was sent has been read: what came before counts.
                Err(_) if !bytes.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let parts = text.split_once("\r\n\r\n");
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        match (parts, code) {
            (Some((head, body)), Some(code)) => Ok(Self { code, headers: head.to_owned(), body: body.to_owned() }),
            _ => Err(std::io::Error::other(format!("no HTTP answer: {text:?}"))),
        }
    }

    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Fails unless it has this code; gives its JSON.
    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Fails unless it refuses with this code and this word, in the form that all refusals have; gives it.
    #[track_caller]
    pub fn expect_problem(&self, code: u16, word: &str) -> Value {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["code"].as_str()),
            (Some(code.into()), Some(word)),
            "{problem}"
        );
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        problem
    }
}

/// Whether the head of an answer has come, and says that events follow.
fn is_stream(answer: &[u8]) -> bool {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = end.map(|end| String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase());
    head.is_some_and(|head| head.contains("\r\ncontent-type: text/event-stream"))
}
