//! From a file to a rule that serves, and what a rule that stands there takes.
//!
//! - `loading/module-cold`, `loading/module-cached`: milliseconds from the rules directory being opened to its one rule, a threshold, serving on
//!   all lanes: the file read, looked over, compiled in a child process (cold) or taken from the cache of compiled modules (cached),
//!   tried on a scratch instance, installed. **Out**: the quiet that a running host waits for before it reads a directory that changes.
//! - `loading/restart-50-rules-cached`: the same of fifty rules, each with a module of its own.
//! - `loading/dropped-cold`, `loading/dropped-cached`: milliseconds from a decoder's file coming into the directory of a host that runs, in one step and
//!   without a rule's file, to its being seen to serve; kept on disk to go back to by then. The baseline is the quiet that is waited for first,
//!   while the compiler works already: what is judged is the rest.
//! - `loading/memory-…`: KiB of memory that a rule adds on one lane and that only this process has (`RssAnon`), linear memory included: what of it
//!   is touched. Measured in a process of its own that loads a hundred rules: of one module, and each of its own.
//! - `loading/mapped-…`: KiB beside that of files, mapped and touched (`RssFile`): machine code, which is read from the cache again when it is
//!   called, so that the kernel takes it back when memory is short.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_engine::{
    Admission, Cache, ChildProcess, Deploy, Engine, Generations, Registry, RuleState, RuleStatus, Wasi,
    compile_and_exit,
};
use tidegate_model::Books;
use tidegate_pipeline::SinkSetup;
use tidegate_sinks::Discard;

use crate::line::{Line, LineSetup};
use crate::measure::{Effort, Sample, alone};
use crate::mqtt::process::Process;
use crate::report::Progress;
use crate::resident::{self, Pages};
use crate::rules::{self, Setup};

const REPETITIONS: usize = 9;
/// For how long nothing must change in the directory of a host that runs before it is read: milliseconds.
const QUIET_MS: f64 = 100.0;
/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
const WEIGHINGS: usize = 3;
/// Rules that are weighed together.
const WEIGHED: usize = 100;
/// The same where each has a module to be compiled.
const WEIGHED_WITH_MODULES: usize = 25;

/// Whether the compiled modules are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiled {
    Not,
    Before,
}

/// Whose modules the rules use that are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Modules {
    Shared,
    Own,
}

impl Modules {
    const fn word(self) -> &'static str {
        match self {
            Modules::Shared => "shared",
            Modules::Own => "own",
        }
    }
}

/// What a child process of the engine or of the API is called with: bounds that it sets itself.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Bounds {
    memory_bytes: u64,
    seconds: u64,
}

/// The compiler's child process.
pub fn compile(bounds: Bounds) -> std::process::ExitCode {
    compile_and_exit(bounds.memory_bytes, bounds.seconds)
}

/// The API's child process, for schemas.
pub fn validate(bounds: Bounds) -> std::process::ExitCode {
    tidegate_admin::validate_and_exit(bounds.memory_bytes, bounds.seconds)
}

/// Milliseconds until so many rules serve.
pub fn measure(modules: u32, compiled: Compiled, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let directory = tempfile::tempdir()?;
    let (rules, cache) = (directory.path().join("rules.d"), directory.path().join("cache"));
    std::fs::create_dir(&rules)?;
    let threshold = rules::file("threshold")?;
    for number in 0..modules {
        std::fs::write(rules.join(format!("rule-{number}.wasm")), rules::variant(&threshold, number))?;
        let file = format!("module = \"rule-{number}.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 100\n");
        std::fs::write(rules.join(format!("rule-{number}.toml")), file)?;
    }
    alone(effort.repetitions(REPETITIONS), progress, || {
        if compiled == Compiled::Not && cache.exists() {
            std::fs::remove_dir_all(&cache)?;
        }
        serve(&rules, &cache, modules)
    })
}

/// Opens the directory, waits until all serves, and ends everything.
fn serve(rules: &Path, cache: &Path, due: u32) -> Result<f64> {
    let line = line(std::thread::available_parallelism().map_or(1, Into::into))?;
    let compiler = ChildProcess::of_this_binary(&["compile"]);
    let admission = Admission::new(Engine::new()?, Box::new(compiler), Some(Cache::open(cache)?));
    let began = Instant::now();
    let registry = Registry::start(admission, rules, None, Box::new(line.deploy()))?;
    let took = began.elapsed();
    let serving = registry.rules().iter().filter(|rule| rule.state == RuleState::Serving).count();
    ensure!(serving == due as usize, "{serving} of {due} rules serve: {:?}", registry.rules());
    registry.stop();
    line.close()?;
    Ok(millis(took))
}

/// Milliseconds until a module that comes into the directory serves.
pub fn dropped(compiled: Compiled, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let directory = tempfile::tempdir()?;
    let in_it = |name: &str| directory.path().join(name);
    let (rules, draft) = (in_it("rules.d"), in_it("draft"));
    let line = line(std::thread::available_parallelism().map_or(1, Into::into))?;
    let compiler = ChildProcess::of_this_binary(&["compile"]);
    let admission = Admission::new(Engine::new()?, Box::new(compiler), Some(Cache::open(&in_it("cache"))?));
    let generations = Generations::open(&in_it("generations"))?;
    let registry = Registry::start(admission, &rules, Some(generations), Box::new(line.deploy()))?;
    let decoder = rules::file("json-reading")?;
    let mut number = 0;
    let samples = alone(effort.repetitions(REPETITIONS), progress, || {
        number += 1;
        let (name, mark) = (format!("rule-{number}"), if compiled == Compiled::Not { number } else { 0 });
        std::fs::write(&draft, rules::variant(&decoder, mark))?;
        let (file, began) = (rules.join(format!("{name}.wasm")), Instant::now());
        std::fs::rename(&draft, &file)?;
        let serves = |rule: RuleStatus| rule.state == RuleState::Serving;
        until(|| registry.rule(&name).is_some_and(serves))?;
        let took = began.elapsed();
        std::fs::remove_file(&file)?;
        until(|| registry.rule(&name).is_none())?;
        Ok(millis(took))
    })?;
    registry.stop();
    line.close()?;
    Ok(samples.into_iter().map(|sample| Sample { baseline: Some(QUIET_MS), ..sample }).collect())
}

fn until(mut it_is: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !it_is() {
        ensure!(Instant::now() < deadline, "the rules were not read anew within {PATIENCE:?}");
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

fn line(lanes: usize) -> Result<Line> {
    Line::start(LineSetup {
        lanes,
        batch_rows: None,
        books: std::sync::Arc::new(Books::new(1_000)),
        sinks: vec![SinkSetup::new("discard", Box::new(Discard::new()))],
        letters: Box::new(Discard::new()),
    })
}

/// What a process is called with that loads rules and says what they weigh.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Weigh {
    #[arg(long)]
    modules: Modules,
    #[arg(long)]
    pages: Pages,
}

/// KiB a rule.
pub fn memory(modules: Modules, pages: Pages, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    alone(effort.repetitions(WEIGHINGS), progress, || {
        let process = Process::start(&["weigh", "--modules", modules.word(), "--pages", pages.word()])?;
        let line = process.line()?;
        line.parse().with_context(|| format!("a process was to say a weight and said {line:?}"))
    })
}

/// Loads a rule, and then many more, and says how many KiB each of those took.
pub fn weigh(what: Weigh) -> Result<()> {
    let engine = Engine::new()?;
    let line = line(1)?;
    let file = rules::file("threshold")?;
    // In a child process and with a cache, as the host does it: what a compiler leaves behind is no rule's.
    let directory = tempfile::tempdir()?;
    let cache = Cache::open(&directory.path().join("cache"))?;
    let admission = Admission::new(engine, Box::new(ChildProcess::of_this_binary(&["compile"])), Some(cache));
    let shared = admission.admit(&file, None, Wasi::Refused)?;
    let mut deploy = line.deploy();
    let weighed = match what.modules {
        Modules::Shared => WEIGHED,
        Modules::Own => WEIGHED_WITH_MODULES,
    };
    let mut before = 0;
    for number in 0..=weighed {
        let module = match what.modules {
            Modules::Shared => shared.clone(),
            Modules::Own => {
                let bytes = rules::variant(&file, number as u32);
                admission.admit(&bytes, None, Wasi::Refused)?
            }
        };
        deploy.install(&rules::rule(&Setup { name: format!("rule-{number}"), ..Setup::threshold() }, &module)?)?;
        if number == 0 {
            before = resident::kib(what.pages)?;
        }
    }
    println!("{}", resident::kib(what.pages)?.saturating_sub(before) as f64 / weighed as f64);
    line.close()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
