//! Tasks and threads with a name.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::task::JoinHandle;
use tracing::{Instrument, error_span};

/// Starts `future` on the current tokio runtime. Its log lines carry `task=<name>`; a panic is logged, and then is what the handle
/// gives, as with [`tokio::spawn`].
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(named(name, future))
}

/// `future` with the same name and the same word on a panic, for a set of tasks that starts it.
pub fn named<F>(name: &'static str, future: F) -> impl Future<Output = F::Output> + Send
where
    F: Future<Output: Send> + Send,
{
    let mut future = Box::pin(future);
    // Unwind safety: after a panic the future is not polled again, and what it shares sees what any task's panic leaves.
    let watched = poll_fn(move |context| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .unwrap_or_else(|panic| log_and_resume(name, panic))
    });
    watched.instrument(error_span!("task", task = name))
}

/// The stack of each thread: bytes, of which the system gives only what is touched. Said here, so that no environment (`RUST_MIN_STACK`) makes it smaller: a
/// guest may use the most of it. Runtimes whose threads may come to a guest are to be told of it, too.
pub const THREAD_STACK: usize = 6 << 20;

/// Starts a thread called `name` (Linux shows the first 15 bytes). Its log lines carry `thread=<name>`; a panic is logged, and then
/// is what the handle gives.
///
/// # Errors
/// The system gives no more threads.
pub fn thread<F, T>(name: &str, f: F) -> io::Result<std::thread::JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let owned = name.to_owned();
    std::thread::Builder::new().name(name.to_owned()).stack_size(THREAD_STACK).spawn(move || {
        let _in_span = error_span!("thread", thread = owned.as_str()).entered();
        catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| log_and_resume(&owned, panic))
    })
}

/// By how much who works beside the lanes gives way to all others, as `nice` counts.
const BESIDE_LANES: i32 = 5;

/// Has this thread, and those that it starts from now on, give way to all others: for work of milliseconds and more beside the lanes, as compiling and making
/// ready. For good: a thread may not take its priority back.
pub fn give_way() {
    // On Linux this is the priority of a thread.
    if let Err(error) = rustix::process::nice(BESIDE_LANES) {
        tracing::info!("what is done beside the lanes is done at their priority: {error}");
    }
}

/// Runs `f` on this thread, for who has to clean up when it panics, and goes on: the panic is logged under `name`. What `f` has borrowed may be
/// half changed then.
///
/// # Errors
/// The text of the panic.
pub fn caught<T>(name: &str, f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| log(name, &*panic).to_owned())
}

fn log_and_resume(name: &str, panic: Box<dyn Any + Send>) -> ! {
    log(name, &*panic);
    resume_unwind(panic)
}

/// Gives the text.
fn log<'p>(name: &str, panic: &'p (dyn Any + Send)) -> &'p str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without text");
    tracing::error!(
        name,
        panic = text,
        "ended by a panic, which is a mistake in Tidegate: please report it with the lines above"
    );
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Guarantees: the lines of tasks carry their name, the panics of tasks and threads are logged with their text, and the handle gives
    /// the panic. One test: a panic on a thread without a subscriber, at the same moment, can make `tracing` take the line for one
    /// that nobody wants.
    #[test]
    fn panics_are_logged_and_given() {
        a_task_that_panics();
        a_thread_that_panics();
    }

    fn a_task_that_panics() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        with_default(subscriber, || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                assert_eq!(spawn("adder", async { 1 + 1 }).await.unwrap(), 2);
                let ended = spawn("flusher", async {
                    tracing::info!("at work");
                    tokio::task::yield_now().await;
                    panic!("disk {}", "gone")
                });
                assert!(ended.await.unwrap_err().is_panic());
            });
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("task{task=\"flusher\"}") && text.contains("at work"), "{text}");
        assert!(text.contains("name=\"flusher\" panic=\"disk gone\""), "{text}");
    }

    fn a_thread_that_panics() {
        let named = thread("lane-0", || std::thread::current().name().map(str::to_owned)).unwrap();
        assert_eq!(named.join().unwrap().as_deref(), Some("lane-0"));
        assert!(thread("lane-1", || panic!("gone")).unwrap().join().is_err());
        assert_eq!(caught("reader", || 1), Ok(1));
        assert_eq!(caught("reader", || -> i32 { panic!("no {}", "end") }), Err("no end".to_owned()));
    }
}
