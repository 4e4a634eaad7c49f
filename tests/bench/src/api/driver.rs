//! A process that asks an API again and again, at a pace, over many connections that it keeps: on one thread, with requests written beforehand and answers
//! that are read and thrown away, so that it takes as little as it can of the cores that it shares with what it asks.
//!
//! It says `ready` when each connection has been answered once and it has begun to ask, goes on until a line comes on standard input, and then says how often
//! it was to ask until then, how often it asked, and how often the answer was 200. A connection stands for its caller before it is taken in: what that costs is
//! not of the pace that is asked at.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::measure::Slot;
use crate::mqtt::process::Process;

pub const CONNECTIONS: usize = 1_000;
const REQUESTS_PER_S: usize = 500;
/// What is asked for, in turn.
pub const PATHS: [&str; 6] =
    ["/api/v1/rules", "/api/v1/ledger", "/api/v1/alerts", "/api/v1/lanes", "/readyz", "/api/v1/series?limit=10"];
/// The most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Of the questions that were due, so many must have been asked, and of those so many answered: what is missing would be load that only the figure's name
/// speaks of.
const ENOUGH: f64 = 0.98;
/// How long the last answers are waited for, when nothing is asked any more.
const LAST_WITHIN: Duration = Duration::from_secs(5);
/// What callers show: the API of the bench has a token, as one on a network has.
pub const TOKEN: &str = "bench-bench-bench-bench-bench-bench-bench-bench";

/// What the process is called with.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Ask {
    /// The API's port on 127.0.0.1.
    #[arg(long)]
    port: u16,
}

/// A process that asks.
pub struct Asking(Process);

impl Asking {
    /// Begins to ask, over all connections.
    pub fn begin(port: u16) -> Result<Self> {
        let process = Process::start(&["ask", "--port", &port.to_string()])?;
        process.says("ready")?;
        Ok(Self(process))
    }

    /// Ends it; an error unless it was answered as often as it asked. That it has not asked as often as was due is no word on who answers: a
    /// question waits for no other's answer, but for that of two seconds before over the same connection.
    pub fn end(mut self) -> Result<Slot<()>> {
        self.0.go()?;
        let line = self.0.line()?;
        let counts: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let &[due, asked, answered] = &counts[..] else { bail!("who asks said {line:?}") };
        ensure!(answered as f64 >= asked as f64 * ENOUGH, "{asked} questions were asked, {answered} answered");
        let behind = || Slot::Disturbed(format!("{due} questions were due, {asked} asked"));
        Ok(if asked as f64 >= due as f64 * ENOUGH { Slot::Seen(()) } else { behind() })
    }
}

/// Files and sockets that this process may have open: as many as it is allowed to allow itself.
pub fn many_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("this process may not have so many connections")
}

/// Asks until it is told to end.
pub fn run(ask: Ask) -> Result<()> {
    many_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = LocalSet::new();
    all.block_on(&runtime, async {
        let counts = Rc::new(Counts::default());
        let (mut streams, mut answer) = (Vec::with_capacity(CONNECTIONS), Vec::new());
        for number in 0..CONNECTIONS {
            let mut stream =
                TcpStream::connect(("127.0.0.1", ask.port)).await.context("the API cannot be reached")?;
            stream.set_nodelay(true)?;
            stream.write_all(request(path_of(number), ask.port).as_bytes()).await?;
            let status = read(&mut stream, &mut answer).await?;
            ensure!(status == 200, "{} was answered with {status}", path_of(number));
            streams.push(stream);
        }
        let each = Duration::from_secs_f64(CONNECTIONS as f64 / REQUESTS_PER_S as f64);
        let began = Instant::now();
        for (number, stream) in streams.into_iter().enumerate() {
            let first = began + each.mul_f64(number as f64 / CONNECTIONS as f64);
            let request = request(path_of(number), ask.port);
            tokio::task::spawn_local(again(stream, request, first, each, counts.clone()));
        }
        let end = enough();
        println!("ready");
        end.await.context("its thread ended")?;
        counts.over.set(true);
        let due = (began.elapsed().as_secs_f64() * REQUESTS_PER_S as f64) as u64;
        let last = Instant::now() + LAST_WITHIN;
        while counts.answered.get() < counts.asked.get() && Instant::now() < last {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("{due} {} {}", counts.asked.get(), counts.answered.get());
        Ok(())
    })
}

/// How far all connections are.
#[derive(Default)]
struct Counts {
    asked: Cell<u64>,
    answered: Cell<u64>,
    /// Nothing is to be asked any more.
    over: Cell<bool>,
}

/// What is asked for over a connection.
fn path_of(connection: usize) -> &'static str {
    PATHS[connection % PATHS.len()]
}

/// Resolves when who started this process says that it is enough, or has gone.
pub fn enough() -> oneshot::Receiver<()> {
    let (told, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = told.send(());
    });
    end
}

pub fn request(path: &str, port: u16) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
}

/// Asks over one connection, until it breaks: then there are fewer answers than are due.
async fn again(mut stream: TcpStream, request: String, mut at: Instant, each: Duration, counts: Rc<Counts>) {
    let mut answer = Vec::new();
    loop {
        tokio::time::sleep_until(at).await;
        at += each;
        if counts.over.get() {
            return;
        }
        counts.asked.set(counts.asked.get() + 1);
        if stream.write_all(request.as_bytes()).await.is_err() {
            return;
        }
        match read(&mut stream, &mut answer).await {
            Ok(200) => counts.answered.set(counts.answered.get() + 1),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Reads an answer, which says how long it is; gives its status.
pub async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<u16> {
    answer.clear();
    loop {
        ensure!(stream.read_buf(answer).await? > 0, "it hung up");
        let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        let length: usize = length.context("an answer without a length")?;
        ensure!(length <= MAX_ANSWER_BYTES, "an answer of {length} bytes");
        while answer.len() < head + 4 + length {
            ensure!(stream.read_buf(answer).await? > 0, "it hung up");
        }
        return text.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status");
    }
}
