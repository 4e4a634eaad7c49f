//! How far is what takes long, on standard error: over one line where a person looks on, line by line where `--progress` asks for it, and else not at all.

use std::io::{IsTerminal, Write};

/// What takes no time is not told of.
const TOLD_FROM_BYTES: u64 = 64 << 10;
/// What is behind the line that is written anew.
const CLEAR: &str = "\r\x1b[K";

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    Nothing,
    /// Over the line before.
    Over,
    /// A line each time.
    Lines,
}

impl Telling {
    /// Of so many hosts. Those of several would write over each other.
    pub fn of(asked_for: bool, hosts: usize) -> Self {
        match (std::io::stderr().is_terminal(), hosts) {
            (true, 1) => Telling::Over,
            (true, _) => Telling::Lines,
            (false, _) if asked_for => Telling::Lines,
            (false, _) => Telling::Nothing,
        }
    }

    /// Tells how far a host is.
    pub fn tell(self, node: &str, text: &str) {
        match self {
            Telling::Nothing => {}
            Telling::Over => put(&format!("{CLEAR}{text}")),
            Telling::Lines => put(&format!("tidegate: {node}: {text}\n")),
        }
    }

    /// What was told is over.
    pub fn end(self) {
        if self == Telling::Over {
            put(CLEAR);
        }
    }
}

/// Who does not see it misses nothing that is not told at the end.
fn put(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Bytes on their way to a host, or from it.
pub struct Passage<'a> {
    telling: Telling,
    node: &'a str,
    what: &'static str,
    all: u64,
    done: u64,
    /// The last step that was told, of a hundred.
    told: Option<u64>,
}

impl<'a> Passage<'a> {
    /// `what` has become of those that have passed; there are `all` of them.
    pub fn new(telling: Telling, node: &'a str, what: &'static str, all: u64) -> Self {
        let telling = if all < TOLD_FROM_BYTES { Telling::Nothing } else { telling };
        Self { telling, node, what, all, done: 0, told: None }
    }

    /// So many more have passed.
    pub fn passed(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if let Some(text) = self.news() {
            self.telling.tell(self.node, &text);
        }
    }

    /// What is to be told now, if anything: each percent, or each tenth where every one takes a line.
    fn news(&mut self) -> Option<String> {
        let percent = (self.done * 100 / self.all.max(1)).min(100);
        let step = match self.telling {
            Telling::Nothing => return None,
            Telling::Over => percent,
            Telling::Lines => percent - percent % 10,
        };
        if self.told.replace(step) == Some(step) {
            return None;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Some(format!("{percent:3} % of {:.1} MiB {}", mib(self.all), self.what))
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.told.is_some() {
            self.telling.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: each step is told once, the last one too, however many bytes come at a time; what is small, and what nobody asked for, is not told.
    #[test]
    fn each_step_once() {
        let told = |telling: Telling, all: u64, piece: usize| {
            let mut passage = Passage { telling, ..Passage::new(telling, "a", "sent", all) };
            let pieces = (all as usize).div_ceil(piece);
            let mut texts = Vec::new();
            for _ in 0..pieces {
                passage.done += piece as u64;
                texts.extend(passage.news());
            }
            passage.told = None;
            texts
        };
        let lines = told(Telling::Lines, 10 << 20, 1 << 10);
        assert_eq!((lines.len(), lines[0].as_str()), (11, "  0 % of 10.0 MiB sent"));
        assert_eq!(lines.last().map(String::as_str), Some("100 % of 10.0 MiB sent"));
        assert_eq!(told(Telling::Over, 10 << 20, 1 << 10).len(), 101);
        assert_eq!(told(Telling::Lines, 10 << 20, 20 << 20), ["100 % of 10.0 MiB sent"]);
        assert!(told(Telling::Nothing, 10 << 20, 1 << 10).is_empty());
        assert_eq!(Passage::new(Telling::Lines, "a", "sent", TOLD_FROM_BYTES - 1).telling, Telling::Nothing);
    }
}
