//! Which servers the tests ran against, and which they went without: a line for each test and server in the file that `TIDEGATE_SERVERS_RUN` names, if
//! it names one. What a test prints that passes is kept by libtest; `deploy/dev/test.sh` says what stands in that file at its end.
//!
//! Needs nothing of the harness: tests inside of crates take this file in by its path.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many lines are of no test's name.
static NAMELESS: AtomicU32 = AtomicU32::new(0);

/// This test runs against `server`.
pub(crate) fn used(server: &str) {
    println!("{server}");
    note(server);
}

/// This test goes without `server`: said aloud, and a failure where `TIDEGATE_REQUIRE_SERVERS` demands it.
pub(crate) fn missing(server: &str, why: &str) {
    assert!(!required(), "{server}: {why}; TIDEGATE_REQUIRE_SERVERS=1 demands it");
    skipped(server, why);
}

/// The same where no machine has to have it.
pub(crate) fn skipped(server: &str, why: &str) {
    eprintln!("SKIPPED: {server}: {why}; nothing was tested against it");
    note(&format!("SKIPPED: {server}: {why}"));
}

fn required() -> bool {
    std::env::var_os("TIDEGATE_REQUIRE_SERVERS").is_some_and(|value| value == "1")
}

/// A line with the test's name, which is that of its thread; one of no such name counts as a test of its own. In one write to the end of the file: many processes have it open.
fn note(what: &str) {
    let Some(path) = std::env::var_os("TIDEGATE_SERVERS_RUN").filter(|path| !path.is_empty()) else { return };
    let thread = std::thread::current();
    let test = match thread.name() {
        // Where tests run one at a time, all of them do so on the main thread.
        None | Some("main") => format!("process {}, {}", std::process::id(), NAMELESS.fetch_add(1, Relaxed)),
        Some(name) => name.to_owned(),
    };
    let line = format!("{what}\t{test}\n");
    let file = std::fs::File::options().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    assert!(written.is_ok(), "TIDEGATE_SERVERS_RUN={}: {written:?}", path.display());
}
