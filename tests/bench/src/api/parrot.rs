//! A process that answers what an API has answered: it asks once each thing that [`driver`](super::driver) asks, and then says the same to whoever asks that,
//! without a look at anything. The baseline's server: connections, requests, answers and their bytes are as many as ours, and nothing is behind them.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::driver::{PATHS, enough, many_files, read, request};
use crate::mqtt::process::Process;

/// The most of a request.
const MAX_REQUEST_BYTES: usize = 4 << 10;

/// What the process is called with.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Parrot {
    /// The API's port on 127.0.0.1.
    #[arg(long)]
    like: u16,
}

/// A process that answers, until it is dropped.
pub struct Parroting {
    _process: Process,
    port: u16,
}

impl Parroting {
    /// Answers as the API at this port does.
    pub fn start(like: u16) -> Result<Self> {
        let process = Process::start(&["parrot", "--like", &like.to_string()])?;
        let line = process.line()?;
        let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok());
        Ok(Self { port: port.with_context(|| format!("who answers said {line:?}"))?, _process: process })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Answers until who started it has gone.
pub fn run(parrot: Parrot) -> Result<()> {
    many_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut learnt = Vec::new();
        for path in PATHS {
            let mut stream = TcpStream::connect(("127.0.0.1", parrot.like)).await?;
            stream.write_all(request(path, parrot.like).as_bytes()).await?;
            let mut answer = Vec::new();
            let status = read(&mut stream, &mut answer).await?;
            ensure!(status == 200, "{path} was answered with {status}");
            learnt.push((format!("GET {path} "), answer));
        }
        let learnt = Arc::new(learnt);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("listening {}", listener.local_addr()?.port());
        let mut end = enough();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    stream.set_nodelay(true)?;
                    // A connection that breaks has no answer, which is noticed where the answers are counted.
                    tokio::spawn(answer(stream, learnt.clone()));
                }
                _ = &mut end => return Ok(()),
            }
        }
    })
}

async fn answer(mut stream: TcpStream, learnt: Arc<Vec<(String, Vec<u8>)>>) -> Result<()> {
    let mut asked = Vec::new();
    loop {
        while !asked.ends_with(b"\r\n\r\n") {
            ensure!(asked.len() < MAX_REQUEST_BYTES && stream.read_buf(&mut asked).await? > 0, "no request");
        }
        let known = learnt.iter().find(|(request, _)| asked.starts_with(request.as_bytes()));
        let (_, answer) = known.context("nobody asks for that")?;
        stream.write_all(answer).await?;
        asked.clear();
    }
}
