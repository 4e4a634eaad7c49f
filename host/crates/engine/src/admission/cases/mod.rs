//! The test cases that a module ships, run before it serves: what its author says it does, it does on this host too.
//!
//! A case brings its own configuration and runs on an instance with books of its own, so that what comes of it depends on the module and this
//! version of the host alone: it is run once, and noted in the cache; that a machine is busy is no fault of the module. Its limits are the widest that a rule's file can set, for that file is
//! not known here; what all cases take together is bounded. What a case says may come from anybody ([`tidegate_cases::Suite::read`]).

mod lines;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_cases::{Case, Comparison, Difference, Message, Reading, Step, Suite};
use tidegate_model::{Books, Description, Marks, Messages, Points, StateBook};

use crate::context::thread_cpu;
use crate::fault::Fault;
use crate::instance::{Cells, Instance, Voice};
use crate::load_error::LoadError;
use crate::module::{Kind, Module};
use crate::rule::{Limits, Rule};
use crate::words::cut;

/// Series that a case may know.
const SERIES: usize = 5_000;
/// CPU time of one call.
const CALL_CPU: Duration = Duration::from_millis(500);
/// CPU time of all cases of a module together.
const ALL_CPU: Duration = Duration::from_secs(5);
/// How long they may last by the wall. With the 20 s of a compiler that gets its processors a module is refused within 30 s; on a machine that is busy
/// elsewhere within 90 s, and one with WASI within 190 s (`admission/child.rs`): the registry takes up no other change before.
const ALL_WALL: Duration = Duration::from_secs(8);
/// The most linear memory that a rule's file can give.
const MEMORY_BYTES: usize = 64 << 20;
/// The most bytes kept of what a guest says.
const MAX_WORDS_BYTES: usize = 1_000;

/// What is left of the time that a module's cases have together.
pub(crate) struct Allowance {
    cpu: Duration,
    wall: Duration,
    cpu_began: Duration,
    wall_began: Instant,
}

impl Allowance {
    pub fn of_a_module() -> Self {
        Self::of(ALL_CPU, ALL_WALL)
    }

    fn of(cpu: Duration, wall: Duration) -> Self {
        Self { cpu, wall, cpu_began: thread_cpu(), wall_began: Instant::now() }
    }

    /// Whether the time by the wall has run out and that of the CPU has not: others had it.
    fn is_starved(&self) -> bool {
        self.wall_began.elapsed() >= self.wall && !self.is_used_up()
    }

    fn is_used_up(&self) -> bool {
        thread_cpu().saturating_sub(self.cpu_began) >= self.cpu
    }

    fn busy(&self) -> LoadError {
        LoadError::Busy(format!(
            "this machine had no {} s of CPU time for its test cases within {} s: they are tried again",
            self.cpu.as_secs(),
            self.wall.as_secs()
        ))
    }

    /// What is left by the wall.
    fn left(&self) -> Result<Duration, LoadError> {
        let left = self.wall.saturating_sub(self.wall_began.elapsed());
        if left.is_zero() || self.is_used_up() {
            return Err(LoadError::TestCasesTime { cpu: self.cpu, wall: self.wall });
        }
        Ok(left)
    }
}

/// Runs all cases, on this thread, until one fails. [`LoadError::Busy`] where this machine had no time for them: that says nothing of the module.
pub(super) fn run_all(module: &Arc<Module>, suite: &Suite) -> Result<(), LoadError> {
    let allowance = Allowance::of_a_module();
    let ended = suite.cases.iter().try_for_each(|case| run(module, case, &allowance));
    ended.map_err(|error| if allowance.is_starved() { allowance.busy() } else { error })
}

/// Runs one case, on this thread.
pub(crate) fn run(module: &Arc<Module>, case: &Case, allowance: &Allowance) -> Result<(), LoadError> {
    let wall = allowance.left()?;
    let limits = Limits {
        memory_bytes: MEMORY_BYTES,
        batch_cpu: CALL_CPU,
        batch_wall: wall,
        lifecycle_cpu: CALL_CPU,
        lifecycle_wall: wall,
        ..Limits::default()
    };
    let rule = Rule {
        name: "testcase".into(),
        generation: 0,
        module: module.clone(),
        config: case.config.clone(),
        filters: Vec::new(),
        order: 0,
        commands: Vec::new(),
        on_quarantine: Default::default(),
        on_refused_state: Default::default(),
        limits,
        signature_expires: None,
        stats: Arc::default(),
    };
    Stage::new(case, rule, allowance)?.play()
}

/// A case that runs.
struct Stage<'a> {
    case: &'a Case,
    rule: Arc<Rule>,
    books: Arc<Books>,
    instance: Instance,
    comparison: Comparison<'a>,
    allowance: &'a Allowance,
    /// Rows of all batches before the running one.
    rows: usize,
}

impl<'a> Stage<'a> {
    fn new(case: &'a Case, rule: Rule, allowance: &'a Allowance) -> Result<Self, LoadError> {
        let (rule, books) = (Arc::new(rule), Arc::new(Books::new(SERIES)));
        let instance = Instance::new(rule.clone(), books.clone(), Voice::Silent)
            .map_err(|error| failed(case, "it takes its configuration", error.to_string()))?;
        Ok(Self { case, rule, books, instance, comparison: Comparison::new(&case.expected), allowance, rows: 0 })
    }

    fn play(mut self) -> Result<(), LoadError> {
        for step in &self.case.steps {
            self.allowance.left()?;
            match step {
                Step::Decode { now_us, rows } => self.decode(*now_us, rows)?,
                Step::Process { now_us, rows } => self.process(*now_us, rows)?,
                Step::Tick(now_us) => {
                    let emitted = self.instance.tick(*now_us).map_err(|fault| self.fault("tick", &fault))?;
                    lines::emitted(&self.books, &emitted, &mut |line| self.comparison.saw(&line))
                        .map_err(|difference| differs(self.case, difference))?;
                }
                Step::Restart => self.restart()?,
            }
        }
        self.comparison.end().map_err(|difference| differs(self.case, difference))
    }

    fn decode(&mut self, now_us: i64, rows: &[Message]) -> Result<(), LoadError> {
        self.is_for(Kind::Decoder)?;
        let mut batch = Messages::default();
        for row in rows {
            let topic = self.books.intern_topic(&row.topic, &row.topic).map_err(|full| self.full(&full))?;
            let at = batch.push(topic, row.received_us, Marks::default(), &row.payload);
            for (name, value) in &row.properties {
                batch.properties.push(at, name, value.as_bytes());
            }
        }
        let decoded = self.instance.decode(now_us, &batch).map_err(|fault| self.fault("decode", &fault))?;
        let first = self.rows;
        self.rows += rows.len();
        lines::decoded(&self.books, first, rows.len(), &decoded, &mut |line| self.comparison.saw(&line))
            .map_err(|difference| differs(self.case, difference))
    }

    fn process(&mut self, now_us: i64, rows: &[Reading]) -> Result<(), LoadError> {
        self.is_for(Kind::Processor)?;
        let mut batch = Points::default();
        for (at, row) in rows.iter().enumerate() {
            // What a rule has told of a series since stands, as behind any other rule.
            let known = self.books.all_series().find(&row.topic).map(tidegate_model::SeriesId);
            let series = match known {
                Some(series) => series,
                None => {
                    let description = Description { unit: row.unit.as_deref().map(Into::into), labels: Vec::new() };
                    let partition = self.books.intern_partition(&row.topic).map_err(|full| self.full(&full))?;
                    let series = self.books.intern_series(&row.topic, partition, description);
                    series.map_err(|full| self.full(&full))?
                }
            };
            batch.push(series, row.time_us, row.value, row.quality);
            if let Some(text) = &row.text {
                batch.texts.push(at as u32, text.as_bytes());
            }
        }
        let processed = self.instance.process(now_us, &batch).map_err(|fault| self.fault("process", &fault))?;
        let first = self.rows;
        self.rows += rows.len();
        lines::processed(&self.books, first, &batch, &processed, &mut |line| self.comparison.saw(&line))
            .map_err(|difference| differs(self.case, difference))
    }

    /// What a swap does: a fresh instance goes on with the state of this one.
    fn restart(&mut self) -> Result<(), LoadError> {
        let mut state = StateBook::default();
        state.take(self.instance.save(Cells::All).map_err(|fault| self.fault("save", &fault))?);
        let refused = |error: LoadError| failed(self.case, "it takes its own state", error.to_string());
        let mut fresh = Instance::new(self.rule.clone(), self.books.clone(), Voice::Silent).map_err(refused)?;
        fresh.restore(&self.rule.module.description().version, &state).map_err(refused)?;
        self.instance = fresh;
        Ok(())
    }

    fn is_for(&self, kind: Kind) -> Result<(), LoadError> {
        match (kind == self.rule.kind(), kind) {
            (true, _) => Ok(()),
            (false, Kind::Decoder) => Err(failed(self.case, "messages, as a decoder gets", "a processor".into())),
            (false, Kind::Processor) => Err(failed(self.case, "readings, as a processor gets", "a decoder".into())),
        }
    }

    fn fault(&self, call: &str, fault: &Fault) -> LoadError {
        failed(self.case, &format!("`{call}` returns"), fault.to_string())
    }

    fn full(&self, full: &tidegate_model::Full) -> LoadError {
        failed(self.case, "a case of fewer topics", full.to_string())
    }
}

/// Takes lines of output as they are made, until one is wrong.
type Saw<'a> = dyn FnMut(Value) -> Result<(), Difference> + 'a;

fn failed(case: &Case, expected: &str, mut got: String) -> LoadError {
    cut(&mut got, MAX_WORDS_BYTES);
    LoadError::TestCaseFailed { case: case.name.clone(), line: None, expected: expected.to_owned(), got }
}

fn differs(case: &Case, difference: Difference) -> LoadError {
    let nothing = || "nothing more".to_owned();
    LoadError::TestCaseFailed {
        case: case.name.clone(),
        line: Some(difference.line),
        expected: difference.expected.unwrap_or_else(nothing),
        got: difference.got.unwrap_or_else(nothing),
    }
}

#[cfg(test)]
mod tests;
