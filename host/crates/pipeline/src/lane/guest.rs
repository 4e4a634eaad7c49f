//! A rule of a few words of WebAssembly text, for the tests of what a lane does with one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use tidegate_engine::{Engine, Limits, Module, OnQuarantine, OnRefusedState, Rule};

#[path = "../../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// Whose module is the honest guest with these instructions.
pub(crate) fn rule(instructions: &[(&str, &str)]) -> Arc<Rule> {
    let module = wat_guest::wat_guest("guest", instructions);
    Arc::new(Rule {
        name: "guest".into(),
        generation: 1,
        module: Arc::new(Module::load(&Engine::new().unwrap(), &module).unwrap()),
        config: "{}".into(),
        filters: vec!["#".parse().unwrap()],
        order: 0,
        commands: vec![],
        on_quarantine: OnQuarantine::default(),
        on_refused_state: OnRefusedState::Refuse,
        limits: Limits::default(),
        signature_expires: None,
        stats: Arc::default(),
    })
}
