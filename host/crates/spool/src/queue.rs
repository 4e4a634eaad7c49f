//! The spool as the pipeline sees it: calls that are done by the file's own thread.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tidegate_config::SpoolSettings;
use tidegate_model::{Books, Clock, Delivery, RecordId, Spool, SpoolError, SpoolOrder, SpoolTotals, Spooled, Wants};
use tokio::sync::{mpsc, oneshot};

use crate::account::Account;
use crate::file::{self, SpoolFile};

/// Calls waiting for the thread: one appends while another drains.
const WORK_QUEUE: usize = 4;

type Work = Box<dyn FnOnce(&mut SpoolFile) + Send>;

/// A spool in a SQLite file.
#[derive(Debug)]
pub struct SpoolQueue {
    settings: SpoolSettings,
    account: Arc<Account>,
    /// None once closed.
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    work: mpsc::Sender<Work>,
    thread: JoinHandle<()>,
}

impl SpoolQueue {
    /// The spool of the sink `name`, which takes `wants`, under `data_dir`. The file is opened by the first call.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(
        data_dir: &Path,
        name: &str,
        settings: SpoolSettings,
        wants: Wants,
        books: Arc<Books>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let mut file = SpoolFile::new(file::path(data_dir, name), settings, wants, books, clock);
        let account = file.account.clone();
        let (work, mut receiver) = mpsc::channel::<Work>(WORK_QUEUE);
        let thread = tidegate_telemetry::thread("spool", move || {
            while let Some(work) = receiver.blocking_recv() {
                work(&mut file);
            }
        })?;
        Ok(Self { settings, account, running: Mutex::new(Some(Running { work, thread })) })
    }

    fn sender(&self) -> Option<mpsc::Sender<Work>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(|running| running.work.clone())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SpoolFile) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let ended = || SpoolError::Unavailable("the spool's thread has ended".to_owned());
        let sender = self.sender();
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |file| {
            // Nobody listens when the call was given up; the work is done all the same: at least once.
            let _ = reply.send(work(file));
        });
        sender.ok_or_else(ended)?.send(work).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl Spool for SpoolQueue {
    async fn append(&self, deliveries: &[Arc<Delivery>]) -> Result<RecordId, SpoolError> {
        let deliveries = deliveries.to_vec();
        self.run(move |file| file.append(&deliveries)).await
    }

    async fn oldest(&self, rows: usize) -> Result<Vec<Spooled>, SpoolError> {
        self.run(move |file| file.oldest(rows)).await
    }

    async fn remove(&self, through: RecordId) -> Result<(), SpoolError> {
        self.run(move |file| file.remove(through)).await
    }

    fn totals(&self) -> SpoolTotals {
        self.account.totals(self.settings.max_bytes)
    }

    fn order(&self) -> SpoolOrder {
        self.settings.order
    }

    async fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { work, thread }) = running {
            drop(work);
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::error!("the thread of a spool panicked");
            }
        }
    }
}
