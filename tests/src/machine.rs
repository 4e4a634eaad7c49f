//! What this machine has: programs, ports, the binary under test, a runtime.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};

use crate::servers_run::missing;

/// Below the range that the kernel takes ports of outgoing connections from, so that none of those gets in our way.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The directory of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `target/<profile>` of this program, which is a test in `deps/` there or a binary.
fn profile() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let directory = program.parent().unwrap();
    if directory.ends_with("deps") { directory.parent().unwrap().to_owned() } else { directory.to_owned() }
}

/// The `tidegate` binary of the profile this test was built with.
pub fn binary() -> PathBuf {
    let binary = profile().join("tidegate");
    assert!(
        binary.exists(),
        "the binary is not built; run `cargo build -p tidegate` (with --release for a release test), or `make test`"
    );
    binary
}

/// `target/rules/<name>.wasm`.
pub fn built_module(name: &str) -> Vec<u8> {
    module("rules", name, "make rules")
}

/// `target/guests/<name>.wasm`: a rule from `tests/guests`.
pub fn guest_module(name: &str) -> Vec<u8> {
    module("guests", name, "TIDEGATE_MODULES=target/guests deploy/dev/build-rules.sh tests/guests/*/")
}

fn module(directory: &str, name: &str, command: &str) -> Vec<u8> {
    let path = profile().parent().unwrap().join(directory).join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `{command}`", path.display()))
}

/// A port of 127.0.0.1 that nobody has and that this process has not given before. Another process can still take it in
/// the moment before its server listens: whoever starts a server tries again with another one.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..10_000 {
        let port = fastrand::u16(PORTS);
        if given.insert(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 127.0.0.1 is free in {PORTS:?}");
}

/// The first of these programs that is there; without any, None, loudly, or a failure where the environment demands it.
pub(crate) fn program(name: &str, package: &str, places: &[&str]) -> Option<PathBuf> {
    if let Some(found) = places.iter().map(PathBuf::from).find(|path| path.exists()) {
        return Some(found);
    }
    missing(name, &format!("not installed, apt-get install {package}"));
    None
}

/// Whether a program is on the PATH; if not, says so as loudly as for a server.
pub fn installed(name: &str, package: &str) -> bool {
    let places = on_path(name);
    program(name, package, &places.iter().map(String::as_str).collect::<Vec<_>>()).is_some()
}

/// Whether a program is on the PATH, without a word where it is not.
pub(crate) fn has(name: &str) -> bool {
    on_path(name).iter().any(|place| Path::new(place).exists())
}

fn on_path(name: &str) -> Vec<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').map(|directory| format!("{directory}/{name}")).collect()
}

/// `schemathesis`, which `deploy/dev/setup.sh test` puts into target/dev.
pub fn schemathesis() -> Option<PathBuf> {
    by_pip("schemathesis")
}

/// `componentize-py`, which makes a component of Python; from the same place.
pub fn componentize_py() -> Option<PathBuf> {
    by_pip("componentize-py")
}

fn by_pip(name: &str) -> Option<PathBuf> {
    let place = root().join(format!("target/dev/{name}/bin/{name}"));
    program(name, "python3-venv, then run deploy/dev/setup.sh test", &[&place.to_string_lossy()])
}

/// The directories in which Debian keeps PostgreSQL's programs, newest first.
pub(crate) fn postgresql_directories() -> Vec<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, String)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_string_lossy().parse().ok()?;
            Some((version, entry.path().join("bin").to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Whether this process may do everything, and so should not.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// User and group ids of an account.
pub(crate) fn account(name: &str) -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The runtime of all clients in this process; tests themselves are plain threads.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// The files below `directory`, relative to it, in order: what is built and what git keeps for itself left out.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap().flatten() {
            let (path, kind, name) = (entry.path(), entry.file_type().unwrap(), entry.file_name());
            if kind.is_dir() && name != "target" && name != ".git" {
                open.push(path);
            } else if kind.is_file() {
                found.push(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
