//! Guests to try things on.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tidegate_engine::{Engine, Limits, Module, OnQuarantine, Rule};

#[path = "../../src/wat_guest.rs"]
mod wat_guest;

pub(crate) use wat_guest::wat_guest;

/// The one engine.
pub(crate) fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap()).clone()
}

/// A decoder that returns what stands at the beginning of its payloads.
pub(crate) fn wat_decoder() -> Vec<u8> {
    let description = r#"{"name":"decoder","version":"1.0.0","summary":"","default-topics":["dev/#"],"scope":"none","config-schema":null}"#;
    let decode = "(call $give_back) (return (i32.load offset=40 (local.get $at)))";
    let text = include_str!("../../wat/decoder.wat").replace("{decode}", decode).replace("{declare-topics}", "");
    wat_guest::of_world("plain-decoder", &text, description)
}

/// A rule of these bytes.
pub(crate) fn rule(bytes: &[u8], config: &str) -> Arc<Rule> {
    Arc::new(Rule {
        name: "fuzzed".into(),
        generation: 1,
        module: Arc::new(Module::load(&engine(), bytes).unwrap()),
        config: config.into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: Vec::new(),
        on_quarantine: OnQuarantine::default(),
        on_refused_state: Default::default(),
        limits: Limits::default(),
        signature_expires: None,
        stats: Arc::default(),
    })
}

/// A module of the library, as `make rules` builds it.
pub(crate) fn built(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/rules/{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; `make rules` builds it", file.display()))
}
