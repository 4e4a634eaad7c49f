//! A TCP line that can be broken on purpose: between host and broker, host and database.
//!
//! It knows no protocol. A [`Tap`] may listen to what passes, for tests that want to know what was said.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::machine::runtime;

/// The most bytes taken at a time.
const CHUNK: usize = 16 << 10;

/// The longest words that are found in two parts.
const MOST_WORDS: usize = 63;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From whoever connected to the server behind the proxy.
    ToServer,
    /// Back.
    ToClient,
}

/// What is wrong with the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Connections are closed, and new ones as soon as they are made: nobody seems to be there.
    Refused,
    /// Connections stand and nothing passes: nobody learns of it but by waiting.
    Stalled,
    /// Whatever is read waits for so long before it is passed on.
    Delayed(Duration),
    /// One byte at a time, with so much time between.
    Trickling(Duration),
    /// What the client says arrives, and it hears nothing in answer.
    Unanswered,
}

/// Hears what passes one connection, before it is passed on; what is never passed on included.
pub type Tap = Box<dyn FnMut(Way, &[u8]) + Send>;

/// A line from a port of its own to a server.
pub struct Proxy {
    line: Arc<Line>,
    port: u16,
    accepting: tokio::task::JoinHandle<()>,
}

struct Line {
    /// Host and port.
    target: String,
    state: watch::Sender<State>,
    /// A cut that waits for its byte.
    armed: Mutex<Option<Armed>>,
    /// Words to the server that break the line.
    trap: Mutex<Option<Trap>>,
    connections: AtomicU64,
    taps: Option<Box<dyn Fn() -> Tap + Send + Sync>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    fault: Fault,
    cuts: u64,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    way: Way,
    left: usize,
}

/// What happens when a client says these words, whichever connection it says them by.
#[derive(Clone, Debug)]
struct Trap {
    words: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    /// All connections are closed when so many bytes more have passed.
    Cut(usize),
    /// The words arrive, and no answer does: [`Fault::Unanswered`].
    Silence,
}

impl Proxy {
    /// A line without fault to `target`, a port of 127.0.0.1 where a server need not be yet.
    pub fn start(target: u16) -> Self {
        Self::to(here(target))
    }

    /// The same to a server anywhere: host and port.
    pub fn to(target: String) -> Self {
        Self::with(target, None)
    }

    /// The same; `taps` makes one [`Tap`] for each connection.
    pub fn tapped(target: u16, taps: impl Fn() -> Tap + Send + Sync + 'static) -> Self {
        Self::with(here(target), Some(Box::new(taps)))
    }

    fn with(target: String, taps: Option<Box<dyn Fn() -> Tap + Send + Sync>>) -> Self {
        let listener = runtime().block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port of 127.0.0.1");
        let port = listener.local_addr().unwrap().port();
        let state = watch::Sender::new(State { fault: Fault::None, cuts: 0 });
        let (armed, trap) = (Mutex::default(), Mutex::default());
        let line = Arc::new(Line { target, state, armed, trap, connections: AtomicU64::new(0), taps });
        let accepting = runtime().spawn(accept(listener, line.clone()));
        Self { line, port, accepting }
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the line is so, for connections that stand and for new ones.
    pub fn set(&self, fault: Fault) {
        self.line.state.send_modify(|state| {
            state.fault = fault;
            state.cuts += u64::from(fault == Fault::Refused);
        });
    }

    /// Closes all connections that stand; new ones are welcome.
    pub fn cut(&self) {
        self.line.cut();
    }

    /// Closes all connections as soon as `bytes` more have passed this way: in the middle of whatever is being said.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        *locked(&self.line.armed) = Some(Armed { way, left: bytes });
    }

    /// Closes all connections as soon as `bytes` more have passed to the server after a client said `words`.
    pub fn cut_behind(&self, words: &[u8], bytes: usize) {
        *locked(&self.line.trap) = Some(Trap { words: words.to_vec(), then: Then::Cut(bytes) });
    }

    /// From the next time on that a client says `words`, the line is [`Fault::Unanswered`]: they arrive, and no answer comes back.
    pub fn leave_unanswered(&self, words: &[u8]) {
        *locked(&self.line.trap) = Some(Trap { words: words.to_vec(), then: Then::Silence });
    }

    /// Whether a cut waits for its byte, or a fault for its words.
    pub fn armed(&self) -> bool {
        locked(&self.line.armed).is_some() || locked(&self.line.trap).is_some()
    }

    /// How many connections there ever were to the server.
    pub fn connections(&self) -> u64 {
        self.line.connections.load(SeqCst)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { target, state, armed, connections, .. } = &*self.line;
        let (state, armed) = (*state.borrow(), *locked(armed));
        write!(f, "Proxy({} to {target}: {state:?}, {armed:?}, {connections:?} connections)", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.line.cut();
    }
}

impl Line {
    fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Springs the trap if a client says its words: they end within `said`, behind the first `known` bytes, which passed before.
    fn listen(&self, said: &[u8], known: usize) {
        let mut trap = locked(&self.trap);
        let Some(Trap { words, then }) = &*trap else { return };
        let from = (known + 1).saturating_sub(words.len());
        let Some(at) = said[from..].windows(words.len()).position(|some| some == words) else { return };
        match *then {
            Then::Cut(bytes) => {
                let left = from + at + words.len() + bytes - known;
                *locked(&self.armed) = Some(Armed { way: Way::ToServer, left });
            }
            Then::Silence => self.state.send_modify(|state| state.fault = Fault::Unanswered),
        }
        *trap = None;
    }

    /// How much of `length` bytes may still pass before an armed cut falls; None where none does.
    fn last_bytes(&self, way: Way, length: usize) -> Option<usize> {
        let mut armed = locked(&self.armed);
        let cut = armed.as_mut().filter(|cut| cut.way == way)?;
        if cut.left > length {
            cut.left -= length;
            return None;
        }
        let left = cut.left;
        *armed = None;
        Some(left)
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn here(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        // Taken before the fault is looked at, so that no cut can fall between.
        let state = line.state.subscribe();
        let now = *state.borrow();
        if now.fault != Fault::Refused {
            tokio::spawn(carry(client, state, now.cuts, line.clone()));
        }
    }
}

/// One connection, until either side closes it or it is cut.
async fn carry(client: TcpStream, mut state: watch::Receiver<State>, cuts: u64, line: Arc<Line>) {
    let Ok(server) = TcpStream::connect(&*line.target).await else { return };
    // Without it small packets would be held back, and a test would measure that.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    line.connections.fetch_add(1, SeqCst);
    let tap = line.taps.as_ref().map(|taps| Mutex::new(taps()));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let pump = |from, to, way| Pump { from, to, way, state: state.clone(), line: &line, tap: tap.as_ref() };
    let (up, down) = (pump(from_client, to_server, Way::ToServer), pump(from_server, to_client, Way::ToClient));
    tokio::select! {
        // What has arrived when a connection is cut must not pass any more.
        biased;
        _ = state.wait_for(|state| state.cuts != cuts) => {}
        () = up.run() => {}
        () = down.run() => {}
    }
}

struct Pump<'a> {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    way: Way,
    state: watch::Receiver<State>,
    line: &'a Line,
    tap: Option<&'a Mutex<Tap>>,
}

impl Pump<'_> {
    /// Until either end closes, or an armed cut falls.
    async fn run(mut self) {
        let mut buffer = vec![0; CHUNK];
        // The end of what has passed before: words may come in two parts.
        let mut before = Vec::new();
        while let Ok(length @ 1..) = self.from.read(&mut buffer).await {
            let bytes = &buffer[..length];
            if let Some(tap) = self.tap {
                locked(tap)(self.way, bytes);
            }
            if self.way == Way::ToServer {
                let known = before.len();
                before.extend_from_slice(bytes);
                self.line.listen(&before, known);
                before.drain(..before.len().saturating_sub(MOST_WORDS));
            }
            let last = self.line.last_bytes(self.way, length);
            if self.pass(&bytes[..last.unwrap_or(length)]).await.is_err() {
                return;
            }
            if last.is_some() {
                self.line.cut();
                return;
            }
        }
    }

    async fn pass(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let fault = self.state.borrow_and_update().fault;
            match fault {
                Fault::None => return self.to.write_all(bytes).await,
                Fault::Unanswered if self.way == Way::ToServer => return self.to.write_all(bytes).await,
                // A closed channel is a proxy that has been dropped.
                Fault::Stalled | Fault::Refused | Fault::Unanswered => {
                    self.state.changed().await.map_err(std::io::Error::other)?;
                }
                Fault::Delayed(time) => {
                    tokio::time::sleep(time).await;
                    return self.to.write_all(bytes).await;
                }
                Fault::Trickling(pause) => {
                    self.to.write_all(&bytes[..1]).await?;
                    bytes = &bytes[1..];
                    tokio::time::sleep(pause).await;
                }
            }
        }
        Ok(())
    }
}
