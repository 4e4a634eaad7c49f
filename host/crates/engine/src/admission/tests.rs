//! From bytes to a module, and every way in which that ends otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::child::ChildProcess;
use super::*;
use crate::load_error::Told;
use crate::rule::{Limits, Rule};

pub(super) use crate::wat_guest::wat_guest;

fn rule(engine: &Engine, module: &[u8]) -> Result<Rule, LoadError> {
    Ok(Rule {
        name: "hostile".into(),
        generation: 1,
        module: Arc::new(Module::load(engine, module)?),
        config: "{}".into(),
        filters: vec!["hostile/#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: Default::default(),
        on_refused_state: Default::default(),
        limits: Limits::default(),
        signature_expires: None,
        stats: Arc::default(),
    })
}

/// What becomes of a module: the code of the refusal, with its sentence, or "serves".
fn fate(engine: &Engine, module: &[u8]) -> (&'static str, String) {
    match rule(engine, module).and_then(|rule| try_out(&rule)) {
        Ok(()) => ("serves", String::new()),
        Err(error) => (error.code(), error.to_string()),
    }
}

/// Guarantees: whatever a module does in whichever of its functions, it is refused with the reason, in the call it failed in, or it
/// serves; nothing else happens to this process.
#[test]
fn each_sin_has_its_reason() {
    let engine = Engine::new().unwrap();
    let spin = "(loop $for_ever (br $for_ever))";
    // A list of bytes at 16: address 0, as long as 1 GiB.
    let giant = "(i32.store (i32.const 20) (i32.const 0x40000000)) (return (i32.const 16))";
    let grow = "(loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable";
    for (place, words, code, said) in [
        ("process", "", "serves", ""),
        ("start", "unreachable", "fault", "trapped"),
        ("start", spin, "fault", "CPU time"),
        ("describe", "unreachable", "fault", "trapped"),
        ("describe", giant, "fault", "trapped"),
        ("describe", "(i32.store8 (i32.const 1280) (i32.const 255))", "fault", "trapped"),
        ("describe", "(i32.store8 (i32.const 1280) (i32.const 88))", "description", "no valid description"),
        ("configure", "unreachable", "fault", "trapped"),
        ("configure", "(i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 16))", "config", "refused"),
        ("configure", grow, "fault", "memory"),
        ("declare-series", "unreachable", "trial", "process"),
        ("process", "unreachable", "trial", "`process`, the rule trapped"),
        ("process", spin, "trial", "CPU time"),
        ("process", grow, "trial", "memory"),
        // `keep`, with a list that is longer than the memory; then one that names rows that are not there.
        (
            "process",
            "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 24) (i32.const 0x10000000)) (return (i32.const 16))",
            "trial",
            "trapped",
        ),
        (
            "process",
            "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 1)) (i32.store (i32.const 64) (i32.const 99)) (return (i32.const 16))",
            "trial",
            "contract forbids",
        ),
        // `values`, one too few.
        (
            "process",
            "(i32.store8 (i32.const 16) (i32.const 2)) (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 2)) (return (i32.const 16))",
            "trial",
            "where 3 are due",
        ),
        ("process", "(return (i32.const 3))", "trial", "trapped"),
        ("process", "(return (i32.const -8))", "trial", "trapped"),
        ("tick", "unreachable", "trial", "tick"),
        ("save", "unreachable", "trial", "save"),
        ("realloc", "(return (i32.const 1))", "trial", "not aligned"),
        ("realloc", "(return (i32.const -64))", "fault", "trapped"),
        ("realloc", "unreachable", "fault", "trapped"),
        // `more`, for ever.
        ("save", "(i32.store8 (i32.const 64) (i32.const 1)) (return (i32.const 0))", "trial", "save"),
    ] {
        let began = Instant::now();
        let (got, sentence) = fate(&engine, &wat_guest("hostile", &[(place, words)]));
        assert_eq!(got, code, "{place}: {words}: {sentence}");
        assert!(sentence.contains(said), "{place}: {words}: {sentence:?} does not say {said:?}");
        assert!(began.elapsed() < Duration::from_secs(180), "{place}: {words}");
    }
    // One byte of state of the first series, which a second instance is then given.
    let save = "(i32.store (i32.const 544) (i32.const 624)) (i32.store (i32.const 548) (i32.const 1))
        (i32.store (i32.const 552) (i32.const 628)) (i32.store (i32.const 556) (i32.const 1))
        (i32.store (i32.const 560) (i32.const 632)) (i32.store (i32.const 564) (i32.const 1))
        (i32.store (i32.const 628) (i32.const 1)) (return (i32.const 544))";
    let refuses = "(i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 16))";
    for (words, code, said) in [
        ("", "serves", ""),
        ("unreachable", "trial", "restore"),
        (spin, "trial", "CPU time"),
        (refuses, "state", "its own state"),
    ] {
        let (got, sentence) = fate(&engine, &wat_guest("hostile", &[("save", save), ("restore", words)]));
        assert_eq!(got, code, "restore: {words}: {sentence}");
        assert!(sentence.contains(said), "restore: {words}: {sentence:?} does not say {said:?}");
    }
}

/// Guarantees: recursion without end is a trap, on a thread as the lanes have.
#[test]
fn recursion_ends_in_a_trap() {
    let engine = Engine::new().unwrap();
    let module = wat_guest("deep", &[("retire", "(call $start)"), ("start", "(call $start)")]);
    let thread = tidegate_telemetry::thread("lane-0", move || fate(&engine, &module)).unwrap();
    let (code, sentence) = thread.join().unwrap();
    assert_eq!(code, "fault");
    assert!(sentence.contains("stack"), "{sentence}");
}

/// Guarantees: what is no module, or not one of ours, is refused with its reason.
#[test]
fn what_is_not_ours() {
    let engine = Engine::new().unwrap();
    let good = wat_guest("good", &[]);
    let code = |bytes: &[u8]| fate(&engine, bytes).0;
    assert_eq!(code(&good), "serves");
    assert_eq!(code(&good[..good.len() / 2]), "not_wasm");
    assert_eq!(code(b""), "not_wasm");
    assert_eq!(code(&wat::parse_str("(module)").unwrap()), "contract");
    assert_eq!(code(&wat::parse_str("(component)").unwrap()), "contract");
    assert_eq!(code(&wat::parse_str(r#"(module (import "env" "now" (func)))"#).unwrap()), "import");
    assert_eq!(code(&wat::parse_str("(module (memory i64 1))").unwrap()), "not_wasm");
    let (unsound, sentence) =
        fate(&engine, &wat_guest("unsound", &[("tick", "(drop (f32.add (i32.const 1) (i32.const 2)))")]));
    assert_eq!(unsound, "not_wasm");
    assert!(sentence.contains("type mismatch"), "{sentence}");
}

/// Counts how often it is asked.
#[derive(Clone, Default)]
struct Counting(Arc<std::sync::atomic::AtomicUsize>);

impl Compile for Counting {
    fn compile(&self, engine: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        InProcess.compile(engine, module, limits)
    }
}

/// Guarantees: a module is compiled once, also over restarts; an entry with a bit that has flipped is compiled again, and then is good
/// again.
#[test]
fn a_restart_compiles_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cache");
    let (engine, compiler) = (Engine::new().unwrap(), Counting::default());
    let compiled = || compiler.0.load(std::sync::atomic::Ordering::Relaxed);
    let start = || Admission::new(engine.clone(), Box::new(compiler.clone()), Some(Cache::open(&path).unwrap()));
    let module = wat_guest("good", &[]);
    drop(start().admit(&module, None, Wasi::Refused).unwrap());
    assert_eq!(compiled(), 1);
    let again = start();
    drop(again.admit(&module, None, Wasi::Refused).unwrap());
    assert_eq!((compiled(), again.cache().unwrap().hits), (1, 1));

    let file = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, bytes).unwrap();
    let damaged = start();
    drop(damaged.admit(&module, None, Wasi::Refused).unwrap());
    assert_eq!((compiled(), damaged.cache().unwrap().damaged), (2, 1));
    drop(start().admit(&module, None, Wasi::Refused).unwrap());
    assert_eq!(compiled(), 2);
}

/// A child that is some other program; the compiler's own arguments come after.
fn child(script: &str) -> ChildProcess {
    ChildProcess::of("/bin/sh".into(), &["-c", script])
}

fn compile(child: &ChildProcess, module: &[u8], time: Duration) -> Result<Precompiled, LoadError> {
    let engine = Engine::new().unwrap();
    child.compile(&engine, module, CompileLimits { memory_bytes: 1 << 30, time })
}

/// Guarantees: however a compiler ends, the host knows what that means, and it is gone: also one that never ends, never reads, or
/// answers without end.
#[test]
fn however_a_compiler_ends() {
    let (large, patience) = (vec![0; 4 << 20], Duration::from_secs(180));
    for (script, code, said) in [
        ("printf 'contract\\nit has no name'; exit 65", "contract", "it has no name"),
        ("printf 'not_wasm\\nhalf'; cat > /dev/null; exit 65", "not_wasm", "half"),
        ("echo 'memory allocation of 99 bytes failed' >&2; kill -ABRT $$", "compile_memory", "1024 MiB"),
        ("kill -KILL $$", "compile_memory", "1024 MiB"),
        ("kill -XCPU $$", "compile_time", "180 s"),
        ("echo 'has overflowed its stack' >&2; kill -SEGV $$", "compiler", "overflowed"),
        ("exit 1", "compiler", "said nothing"),
        // It is not listened to for ever.
        ("while :; do echo x >&2; done", "compiler", "SIGPIPE"),
    ] {
        let error = compile(&child(script), &large, patience).unwrap_err();
        assert_eq!(error.code(), code, "{script}: {error}");
        assert!(error.to_string().contains(said), "{script}: {error}");
        assert_eq!(error.machine_was_short().is_some(), script == "kill -KILL $$", "{error:?}");
    }
    for script in ["exec sleep 600", "exec cat /dev/zero > /dev/null", "exec 1>&- 2>&-; while :; do :; done"] {
        let began = Instant::now();
        let error = compile(&child(script), &large, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.code(), "compile_time", "{script}: {error}");
        assert!(began.elapsed() < Duration::from_secs(300), "{script}");
        // It did not even ask for a processor.
        assert!(script != "exec sleep 600" || error.machine_was_short().is_some(), "{error:?}");
    }
    let missing = ChildProcess::of("/nonexistent/tidegate".into(), &[]);
    assert_eq!(compile(&missing, b"", patience).unwrap_err().code(), "compiler");
    let answered = compile(&child("exec cat"), b"machine code", patience).unwrap();
    assert_eq!(answered.bytes(), Some(&b"machine code"[..]));
}

/// Guarantees: code that this engine has not made is refused by it, digest or not.
#[test]
fn foreign_code_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cache");
    let engine = Engine::new().unwrap();
    let admission = Admission::new(engine.clone(), Box::new(InProcess), Some(Cache::open(&path).unwrap()));
    let module = wat_guest("good", &[]);
    let sha256 = hex(&Sha256::digest(&module));
    let key = Key::new(&sha256, &admission.compiled_how);
    let foreign = Precompiled::vouched_for(b"\x7fELF and so on".to_vec());
    Cache::open(Path::new(&path)).unwrap().store(&key, &foreign).unwrap();
    drop(admission.admit(&module, None, Wasi::Refused).unwrap());
    assert_eq!(admission.cache().unwrap().damaged, 1);
}

/// Guarantees: what an engine with other settings has compiled is not found by this one, nor by the other what this one has.
#[test]
fn other_settings_have_other_keys() {
    let ours = crate::engine::settings;
    let how = |settings: &wasmtime::Config| compiled_how(&wasmtime::Engine::new(settings).unwrap());
    assert_eq!(how(&ours()), how(&ours()), "each start has the same");
    let others: [fn(&mut wasmtime::Config); 3] = [
        |settings| _ = settings.epoch_interruption(false),
        |settings| _ = settings.cranelift_nan_canonicalization(true),
        |settings| _ = settings.memory_may_move(true),
    ];
    let mut all = std::collections::BTreeSet::from([how(&ours())]);
    for change in others {
        let mut settings = ours();
        change(&mut settings);
        all.insert(how(&settings));
    }
    assert_eq!(all.len(), 1 + others.len());
    let directory = TempDir::new().unwrap();
    let cache = Cache::open(&directory.path().join("cache")).unwrap();
    let [one, other] = [0, 1].map(|at| Key::new("00", all.iter().nth(at).unwrap()));
    cache.store(&one, &Precompiled::vouched_for(b"code".to_vec())).unwrap();
    assert!(cache.load(&one).is_some() && cache.load(&other).is_none());
}

/// A compiler that says of each module that it takes too long, as it is told to, and counts how often it is asked.
#[derive(Clone)]
struct Refuses(Arc<AtomicUsize>, Told);

impl Compile for Refuses {
    fn compile(&self, _: &Engine, _: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        self.0.fetch_add(1, Relaxed);
        Err(LoadError::CompileTime { limit: limits.time, told: self.1 })
    }
}

/// Guarantees: a module that ran into a limit of its compiler is not compiled again, by this host or the next, until somebody asks for it, its limits are
/// wider, or the note is not whole; one that the machine had too little for is.
#[test]
fn what_takes_too_much_is_tried_once() {
    let (engine, module) = (Engine::new().unwrap(), wat_guest("dear", &[]));
    for (told, again) in [(Told::ByItsLimit, 0), (Told::ByTheMachine, 1)] {
        let directory = TempDir::new().unwrap();
        let (path, compiler) = (directory.path().join("cache"), Refuses(Arc::default(), told));
        let tried = |seconds| {
            let cache = Cache::open(&path).unwrap();
            let admission = Admission::new(engine.clone(), Box::new(compiler.clone()), Some(cache))
                .compiling_within(Duration::from_secs(seconds));
            let before = compiler.0.load(Relaxed);
            let error = admission.admit(&module, None, Wasi::Refused).unwrap_err();
            assert_eq!(error.code(), "compile_time");
            let tried = compiler.0.load(Relaxed) - before;
            assert_eq!(error.to_string().contains("retry"), tried == 0, "{error}");
            assert!(error.to_string().contains("raise `compile_timeout_s`"), "{error}");
            assert_eq!(admission.is_at_hand(&hex(&Sha256::digest(&module)), Wasi::Refused), again == 0);
            (tried, admission)
        };
        assert_eq!(tried(20).0, 1);
        assert_eq!(tried(20).0, again);
        let (first, admission) = tried(40);
        assert_eq!(first, 1, "it may take longer so");
        assert_eq!((tried(40).0, tried(20).0), (again, again));
        admission.forget_refusal(&hex(&Sha256::digest(&module)));
        assert_eq!((tried(20).0, tried(20).0), (1, again));
        let notes = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        for note in notes.filter(|path| path.extension().is_some_and(|ending| ending == "refused")) {
            let mut said = fs::read(&note).unwrap();
            said[20] ^= 1;
            fs::write(&note, said).unwrap();
        }
        assert_eq!(tried(20).0, 1, "a note that is not whole is none");
    }
}
