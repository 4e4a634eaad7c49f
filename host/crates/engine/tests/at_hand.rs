//! What takes long to be compiled holds up nobody else, and is not tried again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid, getpriority_process};
use tempfile::TempDir;
use tidegate_engine::{
    Admission, Cache, Compile, CompileLimits, Deploy, Engine, FirstLook, Generations, InProcess, LoadError,
    Precompiled, Registry, RegistryHandle, Rule, RuleState, Terms, Told, Wasi,
};

#[path = "stub/lanes.rs"]
mod lanes;
#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

use lanes::StubLanes;

/// What happens, in order.
type Events = Arc<Mutex<Vec<String>>>;

/// As `nice` counts: of this thread, or of the one that the process began with.
fn priority(of: Option<Pid>) -> i32 {
    getpriority_process(of).unwrap()
}

/// Lanes that note who serves. Successors are made ready here: beside lanes, by a thread that gives way to them.
fn noting(events: &Events) -> Box<dyn Deploy> {
    noting_beside(events, Arc::default())
}

/// The same; once the registry is known, they note how many others are seen to serve too.
fn noting_beside(events: &Events, registry: Arc<OnceLock<RegistryHandle>>) -> Box<dyn Deploy> {
    let events = events.clone();
    Box::new(StubLanes(move |rule: &Arc<Rule>| {
        assert_eq!(priority(None), (priority(Some(getpid())) + 5).min(19));
        let beside = registry.get().map(|registry| format!(" beside {}", registry.serving().len()));
        events.lock().unwrap().push(format!("{}{}", rule.name, beside.unwrap_or_default()));
        Ok(())
    }))
}

/// Compiles, but for so many bombs of those that come first.
struct Compiler {
    events: Events,
    bombs: Arc<AtomicUsize>,
}

impl Compile for Compiler {
    fn compile(&self, engine: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        self.events.lock().unwrap().push("compiled".into());
        let is_bomb = self.bombs.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_bomb {
            return Err(LoadError::CompileTime { limit: limits.time, told: Told::ByItsLimit });
        }
        InProcess.compile(engine, module, limits)
    }
}

/// A host that starts; gives what happened until it did.
fn start(directory: &Path, bombs: usize) -> (RegistryHandle, Vec<String>, Events) {
    let (events, bombs) = (Events::default(), Arc::new(AtomicUsize::new(bombs)));
    let compiler = Compiler { events: events.clone(), bombs };
    let cache = Cache::open(&directory.join("cache")).unwrap();
    let admission = Admission::new(Engine::new().unwrap(), Box::new(compiler), Some(cache));
    let lanes = noting(&events);
    let registry = Registry::start(admission, &directory.join("rules.d"), None, lanes).unwrap();
    let happened = std::mem::take(&mut *events.lock().unwrap());
    (registry, happened, events)
}

/// Guarantees: after a restart the rules serve first whose modules are compiled already; a module that took too much to be compiled is not compiled at a start
/// again, and is when somebody has it tried again: then it serves.
#[test]
fn what_is_compiled_already_serves_first() {
    let directory = TempDir::new().unwrap();
    let rules = directory.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    let put =
        |name: &str| std::fs::write(rules.join(format!("{name}.wasm")), wat_guest::wat_guest(name, &[])).unwrap();
    put("b");
    put("c");
    let (registry, happened, _) = start(directory.path(), 0);
    assert_eq!(happened, ["compiled", "b", "compiled", "c"]);
    registry.stop();
    put("a");
    let (registry, happened, _) = start(directory.path(), 1);
    assert_eq!(happened, ["b", "c", "compiled"], "a bomb, and behind the others");
    registry.stop();
    let (registry, happened, events) = start(directory.path(), 1);
    assert_eq!(happened, ["b", "c"], "it is not tried again");
    let said = registry.retry("a").unwrap_err().to_string();
    assert!(said.contains("to compile the module took longer"), "{said}");
    registry.retry("a").unwrap();
    assert_eq!(*events.lock().unwrap(), ["compiled", "compiled", "a"]);
    registry.stop();
}

/// A way to put a module into a file.
type Put<'a> = &'a dyn Fn(&[u8], &Path);

/// Notes which thread has a module compiled.
struct OnWhichThread(Events);

impl Compile for OnWhichThread {
    fn compile(&self, engine: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        self.0.lock().unwrap().push(std::thread::current().name().unwrap().to_owned());
        InProcess.compile(engine, module, limits)
    }
}

/// Guarantees: a module that comes into the directory of a host that runs is compiled while it is waited for that nothing more changes there, and once; be it
/// moved there or written. It does not count as one that was there.
#[test]
fn compiled_while_the_directory_settles() {
    let directory = TempDir::new().unwrap();
    let (rules, threads) = (directory.path().join("rules.d"), Events::default());
    let cache = Cache::open(&directory.path().join("cache")).unwrap();
    let compiler = Box::new(OnWhichThread(threads.clone()));
    let admission = Admission::new(Engine::new().unwrap(), compiler, Some(cache));
    let registry = Registry::start(admission, &rules, None, noting(&Events::default())).unwrap();
    let moved = |module: &[u8], to: &Path| {
        std::fs::write(directory.path().join("draft"), module).unwrap();
        std::fs::rename(directory.path().join("draft"), to).unwrap();
    };
    let written = |module: &[u8], to: &Path| std::fs::write(to, module).unwrap();
    let ways: [(&str, Put<'_>); 2] = [("moved", &moved), ("written", &written)];
    for (way, put) in ways {
        // A machine that is busy elsewhere may read the directory before the other thread has looked at the file.
        let ahead = (0..100).any(|number| {
            let name = format!("{way}-{number}");
            put(&wat_guest::wat_guest(&name, &[]), &rules.join(format!("{name}.wasm")));
            let deadline = Instant::now() + Duration::from_secs(180);
            while registry.rule(&name).is_none_or(|rule| rule.state != RuleState::Serving) {
                assert!(Instant::now() < deadline, "{name}: {:?}", registry.rule(&name));
                std::thread::sleep(Duration::from_millis(1));
            }
            let by = std::mem::take(&mut *threads.lock().unwrap());
            assert_eq!(by.len(), 1, "{name}: {by:?}");
            by == ["rules-ahead"]
        });
        assert!(ahead, "{way}");
    }
    let counts = registry.cache().unwrap();
    assert!(counts.ahead >= 2 && counts.hits == 0, "{counts:?}");
    registry.stop();
}

/// Compiles the first module at once, and each after it when it is told to.
struct Held {
    told: Mutex<Receiver<()>>,
    compiled: AtomicUsize,
}

impl Compile for Held {
    fn compile(&self, engine: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        if self.compiled.fetch_add(1, Relaxed) > 0 {
            self.told.lock().unwrap().recv().unwrap();
        }
        InProcess.compile(engine, module, limits)
    }
}

/// Guarantees: while a module is compiled at the first start, what serves is seen to serve, and the rule that waits to be on its way; who waits for the rules
/// goes on without it when nothing comes any more, and the rule serves when it is compiled.
#[test]
fn a_start_that_takes_long() {
    let directory = TempDir::new().unwrap();
    let rules = directory.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(rules.join(format!("{name}.wasm")), wat_guest::wat_guest(name, &[])).unwrap();
    }
    let (tell, told) = mpsc::channel();
    let compiler = Held { told: Mutex::new(told), compiled: AtomicUsize::new(0) };
    let cache = Cache::open(&directory.path().join("cache")).unwrap();
    let admission = Admission::new(Engine::new().unwrap(), Box::new(compiler), Some(cache));
    let lanes = noting(&Events::default());
    let registry = Registry::begin(admission, &rules, None, lanes).unwrap();
    let states = || registry.rules().into_iter().map(|rule| (rule.state, rule.problem_code)).collect::<Vec<_>>();
    let (serves, waits) = ((RuleState::Serving, None), (RuleState::Pending, Some("pending")));
    let deadline = Instant::now() + Duration::from_secs(60);
    while states() != [serves, waits, waits] {
        assert!(Instant::now() < deadline, "{:?}", states());
        std::thread::yield_now();
    }
    assert!(registry.is_starting());
    assert_eq!(registry.looked_over_or_stuck(Duration::ZERO), FirstLook::Stuck, "nothing comes any more");
    assert!(!registry.is_starting());
    tell.send(()).unwrap();
    tell.send(()).unwrap();
    assert!(registry.looked_over());
    assert_eq!(states(), [serves; 3]);
    assert_eq!(registry.looked_over_or_stuck(Duration::ZERO), FirstLook::Over);
    registry.stop();
}

fn decoder() -> Vec<u8> {
    let description = r#"{"name":"decoder","version":"1.0.0","summary":"","default-topics":["dev/#"],"scope":"none","config-schema":null}"#;
    let text =
        include_str!("../../../../tests/wat/decoder.wat").replace("{decode}", "").replace("{declare-topics}", "");
    wat_guest::of_world("plain-decoder", &text, description)
}

/// Guarantees: where nothing is compiled, as after an upgrade, a decoder and a rule that served before come before a new transform and are waited for
/// without patience, until they serve or are refused; the new transform is not.
#[test]
fn what_messages_must_not_pass_by() {
    let directory = TempDir::new().unwrap();
    let rules = directory.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(rules.join("served.wasm"), wat_guest::wat_guest("served", &[])).unwrap();
    let events = Events::default();
    let begin = |compiler: Box<dyn Compile>| {
        let generations = Generations::open(&directory.path().join("generations")).unwrap();
        let admission = Admission::new(Engine::new().unwrap(), compiler, None);
        Registry::begin(admission, &rules, Some(generations), noting(&events)).unwrap()
    };
    let registry = begin(Box::new(InProcess));
    assert!(registry.looked_over());
    registry.stop();
    std::fs::write(rules.join("a-new.wasm"), wat_guest::wat_guest("a-new", &[])).unwrap();
    std::fs::write(rules.join("decodes.wasm"), decoder()).unwrap();
    let (tell, told) = mpsc::channel();
    let registry = begin(Box::new(Held { told: Mutex::new(told), compiled: AtomicUsize::new(1) }));
    let (waiting, waits) = (registry.clone(), mpsc::channel());
    let host = std::thread::spawn(move || waits.0.send(waiting.looked_over_or_stuck(Duration::ZERO)).unwrap());
    tell.send(()).unwrap();
    let state = |name: &str| registry.rule(name).map(|rule| rule.state);
    let deadline = Instant::now() + Duration::from_secs(60);
    // The one is through, and the other is at its compiler.
    while state("decodes") != Some(RuleState::Serving) {
        assert!(Instant::now() < deadline, "{:?}", registry.rules());
        std::thread::yield_now();
    }
    assert!(waits.1.try_recv().is_err() && registry.is_starting(), "one that served before is not there yet");
    tell.send(()).unwrap();
    assert_eq!(waits.1.recv().unwrap(), FirstLook::Stuck);
    host.join().unwrap();
    assert_eq!((state("served"), state("a-new")), (Some(RuleState::Serving), Some(RuleState::Pending)));
    tell.send(()).unwrap();
    assert!(registry.looked_over());
    assert_eq!(*events.lock().unwrap(), ["served", "decodes", "served", "a-new"]);
    registry.stop();
}

/// Guarantees: rules whose module one of them has had compiled come without all of the rules being told anew before each of them.
#[test]
fn many_of_one_module() {
    let directory = TempDir::new().unwrap();
    for module in ["m", "z"] {
        std::fs::write(directory.path().join(format!("{module}.wasm")), wat_guest::wat_guest(module, &[])).unwrap();
    }
    for name in ["a", "b", "c"] {
        std::fs::write(directory.path().join(format!("{name}.toml")), "module = \"m.wasm\"\n").unwrap();
    }
    let (tell, told) = mpsc::channel();
    let compiler = Held { told: Mutex::new(told), compiled: AtomicUsize::new(1) };
    let admission = Admission::new(Engine::new().unwrap(), Box::new(compiler), None);
    let (events, known) = (Events::default(), Arc::<OnceLock<RegistryHandle>>::default());
    let lanes = noting_beside(&events, known.clone());
    let registry = Registry::begin(admission, directory.path(), None, lanes).unwrap();
    assert!(known.set(registry.clone()).is_ok());
    tell.send(()).unwrap();
    tell.send(()).unwrap();
    assert!(registry.looked_over());
    assert_eq!(*events.lock().unwrap(), ["a beside 0", "b beside 0", "c beside 0", "z beside 3"]);
    registry.stop();
}

/// Guarantees: a module that a rule serves with is not compiled, read from the cache or asked what it is again for who looks it over.
#[test]
fn what_serves_is_at_hand() {
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join("rules.d")).unwrap();
    let module = wat_guest::wat_guest("a", &[]);
    std::fs::write(directory.path().join("rules.d/a.wasm"), &module).unwrap();
    let (registry, ..) = start(directory.path(), 0);
    let admit = |terms: Terms| registry.admit(&module, None, terms).unwrap();
    let serving = registry.serving()[0].module.clone();
    assert!(Arc::ptr_eq(&admit(Terms::default()), &serving));
    assert!(!Arc::ptr_eq(&admit(Wasi::Empty.into()), &serving), "it may do less");
    assert!(!Arc::ptr_eq(&admit(Terms::of_no_rule(Wasi::Refused)), &serving), "it has less of a stack");
    registry.stop();
}
