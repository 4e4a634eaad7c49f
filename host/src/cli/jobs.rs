//! What hosts do for a command over a longer time. When the command is interrupted nobody waits for it any more, and it would hold a place of few: it is taken back.

use std::process::exit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::api::{Client, Request};
use crate::cli::shutdown_signal::INTERRUPTED;

/// Jobs of this command.
#[derive(Clone)]
pub struct Jobs(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    interrupted: bool,
    under_way: Vec<Job>,
}

/// A job of a host, by its path below `/api/v1/`.
#[derive(Clone)]
struct Job {
    client: Client,
    path: String,
}

/// A job that is under way until this is dropped.
pub struct UnderWay<'a> {
    jobs: &'a Jobs,
    node: &'a str,
    path: &'a str,
}

impl Jobs {
    /// From now on Ctrl-C and SIGTERM take back what is under way; whoever waits for it hears that it is over. Where nothing is, and at the second
    /// time, the process ends.
    pub fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let (mut interrupt, mut terminate) = {
            let _within = runtime.enter();
            let awaited = |kind| signal(kind).context("Ctrl-C cannot be awaited");
            (awaited(SignalKind::interrupt())?, awaited(SignalKind::terminate())?)
        };
        let jobs = Self(Arc::default());
        let all = jobs.clone();
        let listen = move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    all.interrupted();
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context("no thread for Ctrl-C")?;
        Ok(jobs)
    }

    /// One more is under way.
    pub fn begun<'a>(&'a self, client: &'a Client, path: &'a str) -> UnderWay<'a> {
        let job = Job { client: client.clone(), path: path.to_owned() };
        let mut inner = self.lock();
        inner.under_way.push(job.clone());
        let late = inner.interrupted;
        drop(inner);
        if late {
            job.take_back();
        }
        UnderWay { jobs: self, node: client.node(), path }
    }

    pub fn is_interrupted(&self) -> bool {
        self.lock().interrupted
    }

    fn interrupted(&self) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.interrupted, true) || inner.under_way.is_empty() {
            exit(INTERRUPTED.into());
        }
        for job in inner.under_way.clone() {
            // This thread goes on to listen.
            let taken_back =
                std::thread::Builder::new().name("interrupted".to_owned()).spawn(move || job.take_back());
            if taken_back.is_err() {
                exit(INTERRUPTED.into());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.jobs.lock().under_way.retain(|job| job.client.node() != self.node || job.path != self.path);
    }
}

impl Job {
    fn take_back(&self) {
        let (node, path) = (self.client.node(), &self.path);
        eprintln!("tidegate: {node}: interrupted, so {path} is taken back; Ctrl-C once more does not wait for that");
        let delete = Request { method: "DELETE", path: path.clone(), body: None, if_match: None };
        if let Err(refusal) = self.client.send_untold(&delete)
            // Else it was over at that moment.
            && refusal.code() != "not_found"
        {
            eprintln!("tidegate: {node}: {path} may go on: {refusal}");
        }
    }
}
