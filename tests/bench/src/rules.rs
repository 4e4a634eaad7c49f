//! Rules for the benches, made of the modules under `target/rules` and, where only benches and tests use them, `target/guests`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tidegate_engine::{Engine, Limits, Module, OnQuarantine, Rule, RuleStats};

use crate::workload::LIMIT;

/// The workspace that this is run in: the nearest directory upwards that has the contract of rules.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("there is no current directory")?;
    let root = here.ancestors().find(|directory| directory.join("wit/rule.wit").exists());
    Ok(root.context("run the benches from the workspace: there is no wit/rule.wit upwards from here")?.to_owned())
}

/// How a rule is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name.
    pub name: String,
    /// The module's file, without `.wasm`.
    pub module: &'static str,
    /// JSON.
    pub config: String,
    /// A topic filter.
    pub filter: String,
    /// Where it stands in the chain.
    pub order: i32,
}

impl Setup {
    /// The decoder of the workload.
    pub fn json_reading() -> Self {
        Self {
            name: "json-reading".into(),
            module: "json-reading",
            config: "{}".into(),
            filter: "dev/#".into(),
            order: 0,
        }
    }

    /// The moving average, of the whole workload.
    pub fn ewma() -> Self {
        Self { name: "ewma".into(), module: "bench-ewma", config: "{}".into(), filter: "#".into(), order: 100 }
    }

    /// The alert that watches the workload.
    pub fn threshold() -> Self {
        Self {
            name: "threshold".into(),
            module: "threshold",
            config: threshold_config(),
            filter: "#".into(),
            order: 100,
        }
    }
}

/// What the threshold rule is told, in WebAssembly and natively.
pub fn threshold_config() -> String {
    serde_json::json!({ "above": LIMIT }).to_string()
}

/// The module's file.
pub fn file(name: &str) -> Result<Vec<u8>> {
    let directory = if name.starts_with("bench-") { "target/guests" } else { "target/rules" };
    let path = root()?.join(directory).join(format!("{name}.wasm"));
    std::fs::read(&path).with_context(|| {
        format!("there is no module {directory}/{name}.wasm; `make bench` builds it before it measures")
    })
}

/// Compiles the module.
pub fn module(engine: &Engine, name: &str) -> Result<Arc<Module>> {
    Ok(Arc::new(Module::load(engine, &file(name)?).with_context(|| format!("the module {name} cannot be used"))?))
}

/// The same module with another sha256: a custom section with `mark` in it stands at its end, which means nothing to anybody
/// (WebAssembly core specification, section 5.5.3).
pub fn variant(module: &[u8], mark: u32) -> Vec<u8> {
    let name = b"variant";
    let body = [&[name.len() as u8][..], name, &mark.to_le_bytes()].concat();
    [module, &[0, body.len() as u8], &body].concat()
}

/// An error if any of the rules has failed on anything: what it costs to begin again is in no figure.
pub fn sound(rules: &[Arc<Rule>]) -> Result<()> {
    for rule in rules {
        let faults: u64 = rule.stats.totals().faults.values().sum();
        ensure!(faults == 0, "the rule {} has failed {faults} times: {:?}", rule.name, rule.stats.totals());
    }
    Ok(())
}

/// A rule of a compiled module.
pub fn rule(setup: &Setup, module: &Arc<Module>) -> Result<Arc<Rule>> {
    generation(setup, module, 1)
}

/// The same with room for the names of 100,000 topics, which a decoder does not have in the memory that it gets when nothing is said.
pub fn roomy(setup: &Setup, module: &Arc<Module>) -> Result<Arc<Rule>> {
    with_limits(setup, module, 1, Limits { memory_bytes: 64 << 20, ..Limits::default() })
}

/// The rule's generation of that number.
pub fn generation(setup: &Setup, module: &Arc<Module>, number: u64) -> Result<Arc<Rule>> {
    with_limits(setup, module, number, Limits::default())
}

fn with_limits(setup: &Setup, module: &Arc<Module>, number: u64, limits: Limits) -> Result<Arc<Rule>> {
    Ok(Arc::new(Rule {
        name: setup.name.as_str().into(),
        generation: number,
        module: module.clone(),
        config: setup.config.clone(),
        filters: vec![setup.filter.parse()?],
        order: setup.order,
        commands: Vec::new(),
        on_quarantine: OnQuarantine::default(),
        on_refused_state: Default::default(),
        limits,
        signature_expires: None,
        stats: Arc::new(RuleStats::default()),
    }))
}
