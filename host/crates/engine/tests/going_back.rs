//! To go back to a generation that is kept takes no compiling.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tidegate_engine::{
    Admission, Cache, Compile, CompileLimits, Engine, Generations, InProcess, LoadError, Precompiled, Registry,
    RegistryHandle, RuleState, RuleStatus, Told, Wasi,
};

#[path = "stub/lanes.rs"]
mod lanes;
#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

use lanes::StubLanes;

/// Which threads have had something compiled.
type Compiled = Arc<Mutex<Vec<String>>>;

/// Counts, and says of so many of those that come first that the machine has too little for them.
struct Compiler {
    compiled: Compiled,
    short: AtomicUsize,
}

impl Compile for Compiler {
    fn compile(&self, engine: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        self.compiled.lock().unwrap().push(std::thread::current().name().unwrap().to_owned());
        if self.short.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(LoadError::CompileTime { limit: Duration::from_secs(3), told: Told::ByTheMachine });
        }
        InProcess.compile(engine, module, limits)
    }
}

struct Host {
    registry: RegistryHandle,
    compiled: Compiled,
}

impl Host {
    fn start(directory: &Path, cache_bytes: u64, short: usize) -> Self {
        let compiled = Compiled::default();
        let cache = Cache::open(&directory.join("cache")).unwrap().of_bytes(cache_bytes);
        let compiler = Compiler { compiled: compiled.clone(), short: AtomicUsize::new(short) };
        let admission = Admission::new(Engine::new().unwrap(), Box::new(compiler), Some(cache));
        let generations = Generations::open(&directory.join("generations")).unwrap();
        let registry = Registry::start(
            admission,
            &directory.join("rules.d"),
            Some(generations),
            Box::new(StubLanes(|_: &_| Ok(()))),
        )
        .unwrap();
        Self { registry, compiled }
    }

    /// What has been compiled since this was last asked.
    fn compiled(&self) -> Vec<String> {
        std::mem::take(&mut *self.compiled.lock().unwrap())
    }

    fn wait(&self, rule: &str, done: impl Fn(&RuleStatus) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while !self.registry.rule(rule).is_some_and(|rule| done(&rule)) {
            assert!(Instant::now() < deadline, "{:?}", self.registry.rule(rule));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn serves(version: &[u8]) -> impl Fn(&RuleStatus) -> bool {
    let sha256 = format!("{:x}", Sha256::digest(version));
    move |rule| rule.state == RuleState::Serving && rule.problem.is_none() && rule.sha256.as_ref() == Some(&sha256)
}

/// Another version of a rule.
fn version(number: u32) -> Vec<u8> {
    wat_guest::wat_guest(&format!("v{number:03}"), &[])
}

fn put(directory: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(directory.join("rules.d").join(name), bytes).unwrap();
}

/// Sizes of the compiled modules.
fn cached(directory: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(directory.join("cache")).unwrap().map(|entry| entry.unwrap());
    let compiled = files.filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".aot"));
    compiled.map(|entry| entry.metadata().unwrap().len()).collect()
}

/// A host with two generations of a rule, and one of another that is switched off; gives what one of them has compiled.
fn three_generations(directory: &Path) -> u64 {
    std::fs::create_dir(directory.join("rules.d")).unwrap();
    put(directory, "hot.wasm", &version(1));
    put(directory, "off.wasm", &version(3));
    let host = Host::start(directory, u64::MAX, 0);
    put(directory, "hot.wasm", &version(2));
    put(directory, "off.toml", b"module = \"off.wasm\"\nenabled = false\n");
    host.registry.rescan().unwrap();
    host.wait("hot", serves(&version(2)));
    host.wait("off", |rule| rule.state == RuleState::Disabled);
    host.registry.stop();
    cached(directory)[0]
}

/// Guarantees: however many other modules were compiled meanwhile, in a cache that has no room for them, a rule goes back to a generation that is kept, and one
/// that was switched off comes back, without anything being compiled.
#[test]
fn nothing_is_compiled_to_go_back() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let one = three_generations(directory);
    let host = Host::start(directory, one * 9 / 2, 0);
    for other in 10..15 {
        host.registry.admit(&version(other), None, Wasi::Refused).unwrap();
    }
    assert_eq!((host.compiled().len(), host.registry.cache().unwrap().evicted), (5, 4));
    put(directory, "hot.wasm", &version(1));
    put(directory, "off.toml", b"module = \"off.wasm\"\n");
    host.registry.rescan().unwrap();
    host.wait("hot", serves(&version(1)));
    host.wait("off", serves(&version(3)));
    assert_eq!(host.compiled(), Vec::<String>::new());
    host.registry.stop();
}

/// Guarantees: where nothing is compiled, as after an upgrade, what serves is compiled first, and then, beside, what can be gone back to.
#[test]
fn after_an_upgrade() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    three_generations(directory);
    std::fs::remove_dir_all(directory.join("cache")).unwrap();
    let host = Host::start(directory, u64::MAX, 0);
    let deadline = Instant::now() + Duration::from_secs(180);
    while cached(directory).len() < 3 {
        assert!(Instant::now() < deadline, "{:?}", host.compiled());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(host.compiled(), ["rules", "rules-ahead", "rules-ahead"]);
    put(directory, "hot.wasm", &version(1));
    host.registry.rescan().unwrap();
    host.wait("hot", serves(&version(1)));
    assert_eq!(host.compiled(), Vec::<String>::new());
    host.registry.stop();
}

/// Guarantees: a module for which the machine had too little when the host started is not compiled once more for each generation that could serve in its
/// place, and is tried again by itself: nobody has to do anything.
#[test]
fn a_busy_machine() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    three_generations(directory);
    std::fs::remove_dir_all(directory.join("cache")).unwrap();
    // The rule's own, and all that are to be compiled beside.
    let host = Host::start(directory, u64::MAX, 4);
    let first = host.registry.rule("hot").unwrap();
    assert_eq!((first.state, first.problem_code), (RuleState::Failed, Some("compile_time")));
    assert!(first.problem.as_ref().unwrap().ends_with("it is tried again in 3 s"), "{first:?}");
    assert_eq!(host.compiled().iter().filter(|by| *by == "rules").count(), 1);
    host.wait("hot", serves(&version(2)));
    host.registry.stop();
}
