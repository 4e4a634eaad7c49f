//! Rules for the benches, made of the modules under `target/rules`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tidegate_engine::{Engine, Limits, Module, Rule, RuleStats};

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
    pub filter: &'static str,
    /// Where it stands in the chain.
    pub order: i32,
}

impl Setup {
    /// The decoder of the workload.
    pub fn json_reading() -> Self {
        Self { name: "json-reading".into(), module: "json-reading", config: "{}".into(), filter: "dev/#", order: 0 }
    }

    /// The alert that watches the workload.
    pub fn threshold() -> Self {
        Self { name: "threshold".into(), module: "threshold", config: threshold_config(), filter: "#", order: 100 }
    }
}

/// What the threshold rule is told, in WebAssembly and natively.
pub fn threshold_config() -> String {
    serde_json::json!({ "above": LIMIT }).to_string()
}

/// Compiles the module.
pub fn module(engine: &Engine, name: &str) -> Result<Arc<Module>> {
    let path = root()?.join("target/rules").join(format!("{name}.wasm"));
    let bytes = std::fs::read(&path).with_context(|| {
        format!(
            "there is no module target/rules/{name}.wasm; build it with `deploy/dev/build-rules.sh` and \
             `deploy/dev/build-rules.sh tests/bench/guests/empty`"
        )
    })?;
    Ok(Arc::new(Module::load(engine, &bytes).with_context(|| format!("the module {name} cannot be used"))?))
}

/// A rule of a compiled module.
pub fn rule(setup: &Setup, module: &Arc<Module>) -> Result<Arc<Rule>> {
    Ok(Arc::new(Rule {
        name: setup.name.as_str().into(),
        generation: 1,
        module: module.clone(),
        config: setup.config.clone(),
        filters: vec![setup.filter.parse()?],
        order: setup.order,
        commands: Vec::new(),
        limits: Limits::default(),
        stats: Arc::new(RuleStats::default()),
    }))
}
