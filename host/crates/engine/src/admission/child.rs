//! Compiling in a child process of this very binary: what a hostile module does to the compiler, it does not do to the host.
//!
//! The host writes the module to the child's standard input and reads machine code from its standard output: the child opens
//! no file and needs none. It limits its own memory, time and priority before it reads a byte, and tells the kernel that it
//! is the first to go when memory is short.
//!
//! | the child | means |
//! |---|---|
//! | ends with 0 | standard output is the machine code |
//! | ends with [`REFUSED`] | standard output is the refusal: its code, a line feed, the sentence |
//! | is killed, or says that memory is short | the module takes too much memory |
//! | is still there after its time | it is killed: the module takes too long |

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use crate::admission::compile::{Compile, CompileLimits, translate};
use crate::admission::native::Precompiled;
use crate::engine::Engine;
use crate::load_error::LoadError;
use crate::module::MAX_WASI_MODULE_BYTES;

/// The exit code of a child that refuses the module (`EX_DATAERR` of sysexits).
const REFUSED: u8 = 65;
/// Machine code is some ten times as large as what it was made of; beyond this it is not taken.
const MAX_CODE_BYTES: u64 = 1 << 30;
/// What is kept of what the child says.
const MAX_WORDS_BYTES: u64 = 64 << 10;
/// How much politer than the lanes, in steps of `nice`.
const POLITENESS: i32 = 10;

/// Compiles in a child process.
#[derive(Clone, Debug)]
pub struct ChildProcess {
    program: PathBuf,
    arguments: Vec<String>,
}

impl ChildProcess {
    /// A child of this binary, called with `arguments`, under which it must call [`compile_and_exit`].
    pub fn of_this_binary(arguments: &[&str]) -> Self {
        // Not its path: that may lead to another binary by now, or nowhere.
        Self::of("/proc/self/exe".into(), arguments)
    }

    pub(crate) fn of(program: PathBuf, arguments: &[&str]) -> Self {
        Self { program, arguments: arguments.iter().map(|&argument| argument.to_owned()).collect() }
    }
}

impl Compile for ChildProcess {
    fn compile(&self, _: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args([limits.memory_bytes.to_string(), limits.time.as_secs().to_string()])
            // Nothing in our environment is its business, passwords least of all.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| LoadError::Compiler(format!("it cannot be started: {error}")))?;
        let ended = converse(&mut child, module, Instant::now() + limits.time);
        // That it has ended already is as good; whatever it was about, it is gone when we return.
        let _ = child.kill();
        let status = child.wait().map_err(|error| LoadError::Compiler(error.to_string()))?;
        match ended {
            Ok(Some((answer, words))) => judge(status, answer, &words, limits),
            Ok(None) => Err(LoadError::CompileTime { limit: limits.time }),
            Err(error) => Err(LoadError::Compiler(format!("it cannot be talked to: {error}"))),
        }
    }
}

/// Gives the child its module, and takes what it answers and what it says beside; none if it has not ended by `deadline`.
fn converse(child: &mut Child, module: &[u8], deadline: Instant) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let taken = || io::Error::other("its pipes are gone");
    let mut input = child.stdin.take().ok_or_else(taken)?;
    let output = child.stdout.take().ok_or_else(taken)?;
    let words = child.stderr.take().ok_or_else(taken)?;
    scope(|scope| {
        let (done, answered) = mpsc::channel();
        let (said, heard) = mpsc::channel();
        Builder::new().name("compile-in".into()).spawn_scoped(scope, move || {
            // A child that ends before it has read all says why itself.
            let _ = input.write_all(module);
        })?;
        // If nobody listens any more, its time was over.
        Builder::new()
            .name("compile-out".into())
            .spawn_scoped(scope, move || done.send(read_to(output, MAX_CODE_BYTES)))?;
        Builder::new()
            .name("compile-say".into())
            .spawn_scoped(scope, move || said.send(read_to(words, MAX_WORDS_BYTES)))?;
        let left = || deadline.saturating_duration_since(Instant::now());
        let answer = answered.recv_timeout(left()).ok();
        let words = heard.recv_timeout(left()).ok();
        let ended = ends(child, deadline)?;
        match (answer, words) {
            (Some(answer), Some(words)) if ended => Ok(Some((answer?, words.unwrap_or_default()))),
            _ => {
                // Its pipes close, and so the threads end.
                child.kill()?;
                Ok(None)
            }
        }
    })
}

/// Waits until the child has ended, or for `deadline`; gives whether it has. It closes its pipes as it ends, so this is soon over.
fn ends(child: &mut Child, deadline: Instant) -> io::Result<bool> {
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

fn read_to(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the end of a child means.
fn judge(status: ExitStatus, answer: Vec<u8>, words: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
    let words = String::from_utf8_lossy(words);
    let short_of_memory = || LoadError::CompileMemory { limit_bytes: limits.memory_bytes };
    let killed_by = |signal: Signal| status.signal() == Some(signal.as_raw());
    match status.code() {
        Some(0) if answer.len() as u64 <= MAX_CODE_BYTES => Ok(Precompiled::vouched_for(answer)),
        Some(0) => Err(short_of_memory()),
        Some(code) if code == i32::from(REFUSED) => {
            let answer = String::from_utf8_lossy(&answer);
            let (code, sentence) = answer.split_once('\n').unwrap_or(("", &answer));
            Err(refusal(code, sentence, limits))
        }
        // The kernel ran short of memory, and took the first to go.
        _ if killed_by(Signal::KILL) => Err(short_of_memory()),
        _ if killed_by(Signal::XCPU) => Err(LoadError::CompileTime { limit: limits.time }),
        // So Rust says it before it aborts.
        _ if words.contains("memory allocation of") => Err(short_of_memory()),
        _ => {
            let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            Err(LoadError::Compiler(format!("{status}: {last}")))
        }
    }
}

fn refusal(code: &str, sentence: &str, limits: CompileLimits) -> LoadError {
    let sentence = sentence.to_owned();
    match code {
        "not_wasm" => LoadError::NotWasm(sentence),
        "contract" => LoadError::Contract(sentence),
        "compile_memory" => LoadError::CompileMemory { limit_bytes: limits.memory_bytes },
        _ => LoadError::Compiler(sentence),
    }
}

/// The child's side: limits itself, compiles what stands on standard input, and answers on standard output. `memory_bytes` and `seconds`
/// are the last two arguments it was called with.
pub fn compile_and_exit(memory_bytes: u64, seconds: u64) -> ExitCode {
    match confine(memory_bytes, seconds).and_then(|()| answer()) {
        Ok(code) => code,
        Err(error) => {
            // If nobody reads it, nobody wants to know.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> io::Result<ExitCode> {
    let mut module = Vec::new();
    io::stdin().take(MAX_WASI_MODULE_BYTES as u64 + 1).read_to_end(&mut module)?;
    let engine =
        wasmtime::Engine::new(&Engine::settings()).map_err(|error| io::Error::other(format!("{error:#}")))?;
    let mut output = io::stdout().lock();
    match translate(&engine, &module) {
        Ok(code) => {
            output.write_all(&code)?;
            output.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let sentence = match &error {
                LoadError::NotWasm(sentence) | LoadError::Contract(sentence) => sentence.clone(),
                other => other.to_string(),
            };
            write!(output, "{}\n{sentence}", error.code())?;
            output.flush()?;
            Ok(ExitCode::from(REFUSED))
        }
    }
}

/// Gives up what a compiler does not need.
fn confine(memory_bytes: u64, seconds: u64) -> io::Result<()> {
    let limit = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    // Where there is no such file there is no such killer.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Of what is written to, not of address space: that would count what allocators and threads only reserve.
    limit(Resource::Data, memory_bytes)?;
    // The host kills it by the wall's clock; should the host be gone, this ends it. Threads of several cores count together.
    limit(Resource::Cpu, seconds * 8)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::nice(POLITENESS)?;
    Ok(())
}
