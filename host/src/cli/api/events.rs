//! Event streams of hosts: server-sent events, read as they come.

use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, bail};
use serde_json::Value;

use super::client::{Client, Refusal};

/// The longest line that is read.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Events of all hosts that wait to be shown.
const WAITING: usize = 256;

/// An event of a host, or why none come from it any more.
pub struct Event {
    pub node: String,
    pub said: Result<(String, Value), Refusal>,
}

/// Reads the event streams of all hosts, each beginning anew when a host ends it after its time. Ends when none is left.
pub fn events(clients: Vec<Client>, path: &str) -> anyhow::Result<Receiver<Event>> {
    let (to, events) = sync_channel(WAITING);
    for client in clients {
        let (to, path) = (to.clone(), path.to_owned());
        let read = move || {
            if let Err(refusal) = stream(&client, &path, &to) {
                // If nobody wants to know, the command is over.
                let _ = to.send(Event { node: client.node().to_owned(), said: Err(refusal) });
            }
        };
        std::thread::Builder::new().name("events".to_owned()).spawn(read).context("no thread for a host")?;
    }
    Ok(events)
}

/// One stream, to its end.
fn stream(client: &Client, path: &str, to: &SyncSender<Event>) -> Result<(), Refusal> {
    follow(client, path, |name, data| {
        let event = Event { node: client.node().to_owned(), said: Ok((name, data)) };
        if to.send(event).is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// Reads the events of one host until `each` has had enough of them. A stream that the host ends after its time begins anew.
pub fn follow<T>(
    client: &Client,
    path: &str,
    mut each: impl FnMut(String, Value) -> ControlFlow<T>,
) -> Result<T, Refusal> {
    loop {
        let answer = client.open(path).map_err(|error| Refusal::unreachable(&format!("{error:#}")))?;
        let mut lines = BufReader::new(answer);
        begin(&mut lines)?;
        let mut name = String::new();
        loop {
            let line = line(&mut lines).map_err(|error| Refusal::unreachable(&format!("{error:#}")))?;
            if let Some(word) = line.strip_prefix("event: ") {
                word.clone_into(&mut name);
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if name == "end" {
                break;
            }
            let data = serde_json::from_str(data).unwrap_or_default();
            if let ControlFlow::Break(enough) = each(std::mem::take(&mut name), data) {
                return Ok(enough);
            }
        }
    }
}

/// The head of an answer; what a host refuses is its body.
fn begin(lines: &mut BufReader<impl Read>) -> Result<(), Refusal> {
    let unreachable = |error: anyhow::Error| Refusal::unreachable(&format!("{error:#}"));
    let status = line(lines).map_err(unreachable)?;
    while !line(lines).map_err(unreachable)?.is_empty() {}
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let mut body = Vec::new();
    // What there is of it.
    let _ = lines.take(MAX_LINE_BYTES).read_to_end(&mut body);
    match serde_json::from_slice::<Value>(&body) {
        Ok(problem) if problem.is_object() => Err(Refusal::of(problem)),
        _ => Err(Refusal::unreachable(&format!("it answers {status:?}, and not as a Tidegate host does"))),
    }
}

fn line(lines: &mut BufReader<impl Read>) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = lines.take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).context("it went away")?;
    if read == 0 || bytes.pop() != Some(b'\n') {
        bail!("it went away");
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
