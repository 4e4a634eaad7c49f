//! Compiling in a child process of this very binary ([`crate::confined`]): what a hostile module does to the compiler, it does not do to the
//! host. A refusal is its code, a line feed, and the sentence.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::admission::compile::{Compile, CompileLimits, translate};
use crate::admission::native::Precompiled;
use crate::confined::{Bounds, Confined, Ended, ShortOf, Stopped, serve_and_exit};
use crate::engine::{Engine, settings};
use crate::load_error::{LoadError, Told};
use crate::module::MAX_WASI_MODULE_BYTES;

/// Machine code is some ten times as large as what it was made of; beyond this it is not taken.
const MAX_CODE_BYTES: u64 = 1 << 30;

/// Compiles in a child process.
#[derive(Clone, Debug)]
pub struct ChildProcess(Confined);

impl ChildProcess {
    /// A child of this binary, called with `arguments`, under which it must call [`compile_and_exit`].
    pub fn of_this_binary(arguments: &[&str]) -> Self {
        Self(Confined::of_this_binary(arguments))
    }

    /// A child of another binary, which does the same: for tests that are not that binary.
    pub fn of(program: std::path::PathBuf, arguments: &[&str]) -> Self {
        Self(Confined::of(program, arguments))
    }
}

impl Compile for ChildProcess {
    fn compile(&self, _: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        let CompileLimits { memory_bytes, time } = limits;
        let (cpu, patience, began) = (time * 8, patience(time), Instant::now());
        match self.0.run(module, Bounds { memory_bytes, cpu, wall: time, patience, answer_bytes: MAX_CODE_BYTES }) {
            Ended::Answered(code) => Ok(Precompiled::vouched_for(code)),
            Ended::Refused(answer) => {
                let answer = String::from_utf8_lossy(&answer);
                let (code, sentence) = answer.split_once('\n').unwrap_or(("", &answer));
                Err(refusal(code, sentence, limits))
            }
            Ended::ShortOfMemory(ShortOf { bytes, container_bytes, by }) => {
                let own = container_bytes.is_none() && by == Stopped::ByItsLimit;
                let told = if own { Told::ByItsLimit } else { Told::ByTheMachine };
                Err(LoadError::CompileMemory { limit_bytes: bytes, container_bytes, told })
            }
            Ended::OutOfTime => {
                // One that is waited for to the very end has not had the processor.
                let told = if began.elapsed() < patience { Told::ByItsLimit } else { Told::ByTheMachine };
                Err(LoadError::CompileTime { limit: time, told })
            }
            Ended::Broken(how) => Err(LoadError::Compiler(how)),
        }
    }
}

/// How long one is waited for that gets no processor. The registry waits with it: who disables a rule meanwhile does, too.
fn patience(time: Duration) -> Duration {
    time + time / 10
}

fn refusal(code: &str, sentence: &str, limits: CompileLimits) -> LoadError {
    let sentence = sentence.to_owned();
    match code {
        "not_wasm" => LoadError::NotWasm(sentence),
        "contract" => LoadError::Contract(sentence),
        "compile_memory" => LoadError::CompileMemory {
            limit_bytes: limits.memory_bytes,
            container_bytes: None,
            told: Told::ByItsLimit,
        },
        _ => LoadError::Compiler(sentence),
    }
}

/// The child's side: compiles what stands on standard input. `memory_bytes` and `seconds` are the last two arguments it was called with.
pub fn compile_and_exit(memory_bytes: u64, seconds: u64) -> ExitCode {
    serve_and_exit(memory_bytes, seconds, MAX_WASI_MODULE_BYTES as u64 + 1, |module| {
        let engine = wasmtime::Engine::new(&settings()).map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(translate(&engine, module).map_err(|error| {
            let sentence = match &error {
                LoadError::NotWasm(sentence) | LoadError::Contract(sentence) => sentence.clone(),
                other => other.to_string(),
            };
            format!("{}\n{sentence}", error.code()).into_bytes()
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a module that takes too long is refused within half a minute by the wall, also where its compiler is kept waiting, though it was tried ahead
    /// before, which the directory can have waited for as long as it may.
    #[test]
    fn within_half_a_minute() {
        let time = CompileLimits::DEFAULT_TIME;
        let most = crate::registry::RESTLESS + patience(CompileLimits::ahead(time).time) + patience(time);
        // A machine that is so busy takes a while for all else too.
        assert!(most < Duration::from_secs(27), "{most:?}");
        assert!(patience(time) > time, "one that is kept waiting has longer");
    }
}
