//! History that comes in by a request: NDJSON, read as it comes. What is not read yet waits with its sender: nothing is kept on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use tidegate_engine::Kind;
use tidegate_model::{Books, HistoryError, Page, Past, Span};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

use super::lines::Lines;
use crate::problem::Problem;

/// How many pieces may wait to be read.
const PIECES: usize = 4;
/// The longest line.
const MAX_LINE_BYTES: usize = 1 << 20;
/// A page has no more lines; nor fewer, while there are more and it has room for their bytes.
const PAGE_LINES: usize = 2_000;
/// How long pieces may wait in all for a job that does not read on, be it that it is not its turn. With the time that they may take to come it is less than the
/// longest life of a connection, so that this is said.
const READ_WITHIN: Duration = Duration::from_secs(540);

/// What is said of one that was given up.
const NOT_READ: &str = "the upload has waited for too long: other backtests run before this one, or its rule takes long; ask for it anew later, or with fewer rows";

/// Where pieces go.
pub(crate) struct Pieces {
    to: mpsc::Sender<Option<Bytes>>,
    /// How long they may wait still.
    patience: Mutex<Duration>,
    waited: Arc<AtomicBool>,
}

/// Where they come out.
pub(super) struct Upload {
    pieces: mpsc::Receiver<Option<Bytes>>,
    /// How many bytes will come, if that is known.
    whole: Option<u64>,
    cancelled: Arc<AtomicBool>,
    /// It was given up since nobody read it.
    waited: Arc<AtomicBool>,
}

/// Wakes who waits for a piece.
pub(super) struct Waker(mpsc::WeakSender<Option<Bytes>>);

/// Whoever sets `cancelled` wakes the reader afterwards.
pub(super) fn pair(whole: Option<u64>, cancelled: Arc<AtomicBool>) -> (Pieces, Upload, Waker) {
    let (sender, pieces) = mpsc::channel(PIECES);
    let (waker, waited) = (Waker(sender.downgrade()), Arc::<AtomicBool>::default());
    let to = Pieces { to: sender, patience: Mutex::new(READ_WITHIN), waited: waited.clone() };
    (to, Upload { pieces, whole, cancelled, waited }, waker)
}

impl Waker {
    pub fn wake(&self) {
        let Some(pieces) = self.0.upgrade() else { return };
        // Where there is no room for it, there is something to be read, and nobody waits.
        let _ = pieces.try_send(Some(Bytes::new()));
    }
}

impl Pieces {
    /// Hands a piece over; none at the end. Waits until there is room for it, but not for ever.
    pub async fn push(&self, piece: Option<Bytes>) -> Result<(), Problem> {
        let (mut patience, began) = (self.patience.lock().await, Instant::now());
        let sent = timeout(*patience, self.to.send(piece)).await;
        *patience = patience.saturating_sub(began.elapsed());
        let gone = "the backtest is over: it has failed, or was cancelled";
        sent.map_err(|_| {
            self.waited.store(true, SeqCst);
            Problem::busy(NOT_READ)
        })?
        .map_err(|_| Problem::conflict("over", gone))
    }
}

impl Upload {
    pub fn open(self, span: Span, kind: Kind, books: Arc<Books>) -> Reading {
        let Upload { pieces, whole, cancelled, waited } = self;
        let lines = Lines::new(span, kind, books);
        Reading { pieces, whole, cancelled, waited, rest: Vec::new(), at: 0, read: 0, ended: false, lines }
    }
}

/// An upload as it is read.
pub(super) struct Reading {
    pieces: mpsc::Receiver<Option<Bytes>>,
    /// What has come in; up to `at` it has been read.
    rest: Vec<u8>,
    at: usize,
    /// Bytes read in all.
    read: u64,
    whole: Option<u64>,
    cancelled: Arc<AtomicBool>,
    waited: Arc<AtomicBool>,
    ended: bool,
    lines: Lines,
}

impl Past for Reading {
    fn next_page(&mut self) -> Result<Option<Page>, HistoryError> {
        let mut page = Page::default();
        while page.looked_at < PAGE_LINES as u64 && !page.is_full() {
            if !self.line(&mut page)? && !self.receive()? {
                // What stands after the last line's end is a line as well.
                let last = self.rest.split_off(self.at);
                self.rest.clear();
                self.at = 0;
                self.lines.take(&last, &mut page);
                return Ok((page.looked_at > 0).then_some(page));
            }
        }
        page.done = self.whole.filter(|&whole| whole > 0).map(|whole| (self.read as f64 / whole as f64).min(1.0));
        Ok(Some(page))
    }
}

impl Reading {
    /// Reads a whole line, if there is one.
    fn line(&mut self, page: &mut Page) -> Result<bool, HistoryError> {
        let waits = self.rest.get(self.at..).unwrap_or_default();
        let Some(length) = waits.iter().position(|&byte| byte == b'\n') else {
            if waits.len() > MAX_LINE_BYTES {
                return Err(HistoryError(format!("a line has more than {MAX_LINE_BYTES} bytes")));
            }
            return Ok(false);
        };
        self.lines.take(waits.get(..length).unwrap_or_default(), page);
        self.at += length + 1;
        self.read += length as u64 + 1;
        Ok(true)
    }

    /// Waits for a piece; gives whether there was one.
    fn receive(&mut self) -> Result<bool, HistoryError> {
        if self.ended {
            return Ok(false);
        }
        self.rest.drain(..self.at);
        self.at = 0;
        let cancelled = || HistoryError("it was cancelled".to_owned());
        // Set before we wait: we do not. Set later: we are woken.
        if self.cancelled.load(SeqCst) {
            return Err(cancelled());
        }
        let piece = self.pieces.blocking_recv();
        if self.cancelled.load(SeqCst) {
            return Err(cancelled());
        }
        match piece {
            Some(Some(piece)) => self.rest.extend_from_slice(&piece),
            Some(None) => self.ended = true,
            None if self.waited.load(SeqCst) => return Err(HistoryError(NOT_READ.to_owned())),
            None => return Err(HistoryError("the upload was broken off".to_owned())),
        }
        Ok(!self.ended)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(pieces: &[&str], whole: bool) -> Result<Page, HistoryError> {
        let (sender, receiver) = mpsc::channel(pieces.len() + 1);
        for piece in pieces {
            sender.try_send(Some(Bytes::copy_from_slice(piece.as_bytes()))).unwrap();
        }
        if whole {
            sender.try_send(None).unwrap();
        }
        drop(sender);
        let upload = Upload { pieces: receiver, whole: None, cancelled: Arc::default(), waited: Arc::default() };
        let mut reading = upload.open(Span::default(), Kind::Processor, Arc::new(Books::new(9)));
        let mut all = Page::default();
        while let Some(page) = reading.next_page()? {
            all.points.append(&page.points);
            all.unreadable.extend(page.unreadable);
        }
        Ok(all)
    }

    /// Guarantees: lines come out whole however they were cut, also the last one without an end.
    #[test]
    fn lines_in_pieces() {
        let line = r#"{"topic":"a","time_us":1,"value":2.5}"#;
        let text = format!("{line}\n\n{line}\n{line}");
        for cut in 1..text.len() {
            let (one, two) = text.split_at(cut);
            let all = read(&[one, two], true).unwrap();
            assert_eq!((all.points.value, all.unreadable), (vec![2.5; 3], vec![]), "cut after {cut} bytes");
        }
    }

    /// Guarantees: a page ends by the bytes of its texts long before it has all the lines it may have; no line is lost by that.
    #[test]
    fn pages_end_by_bytes() {
        let text = "x".repeat(MAX_LINE_BYTES - 100);
        let line = format!("{{\"topic\":\"a\",\"time_us\":1,\"text\":\"{text}\"}}\n");
        let (sender, pieces) = mpsc::channel(20);
        for piece in std::iter::repeat_n(Some(Bytes::from(line)), 12).chain([None]) {
            sender.try_send(piece).unwrap();
        }
        let upload = Upload { pieces, whole: None, cancelled: Arc::default(), waited: Arc::default() };
        let mut reading = upload.open(Span::default(), Kind::Processor, Arc::new(Books::new(9)));
        let mut rows = Vec::new();
        while let Some(page) = reading.next_page().unwrap() {
            rows.push(page.points.len());
        }
        assert_eq!(rows, [5, 5, 2]);
    }

    /// Guarantees: who waits for a piece that does not come hears at once that it is over; and so does who begins to wait afterwards, also with
    /// pieces left to be read.
    #[test]
    fn cancelled() {
        for pieces in [0, PIECES] {
            let cancelled = Arc::<AtomicBool>::default();
            let (sender, upload, waker) = pair(None, cancelled.clone());
            (0..pieces).for_each(|_| sender.to.try_send(Some(Bytes::from_static(b"{}"))).unwrap());
            let reader = std::thread::spawn(move || {
                upload.open(Span::default(), Kind::Processor, Arc::new(Books::new(9))).next_page()
            });
            cancelled.store(true, SeqCst);
            waker.wake();
            assert!(reader.join().unwrap().unwrap_err().to_string().contains("cancelled"), "{pieces} pieces");
            drop(sender);
        }
    }

    /// Guarantees: who sends pieces that nobody reads is not kept for ever, and is told why; so is whoever reads on later.
    #[tokio::test]
    async fn not_read() {
        let (sender, upload, _waker) = pair(None, Arc::default());
        *sender.patience.lock().await = Duration::ZERO;
        let piece = || Some(Bytes::from_static(b"\n"));
        for _ in 0..PIECES {
            sender.push(piece()).await.unwrap();
        }
        assert_eq!(sender.push(piece()).await.unwrap_err().code(), "busy");
        drop(sender);
        let read = std::thread::spawn(move || {
            upload.open(Span::default(), Kind::Processor, Arc::new(Books::new(9))).next_page()
        });
        assert_eq!(read.join().unwrap().unwrap_err().to_string(), NOT_READ);
    }

    /// Guarantees: an upload that breaks off is an error, and so is a line without end.
    #[test]
    fn broken_off() {
        assert!(read(&["{\"topic\""], false).unwrap_err().to_string().contains("broken off"));
        let endless = "x".repeat(MAX_LINE_BYTES + 1);
        assert!(read(&[&endless], true).unwrap_err().to_string().contains("more than"));
    }
}
