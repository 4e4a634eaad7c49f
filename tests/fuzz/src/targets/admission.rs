//! Modules: looked over, compiled, asked what they are. Nothing but a module or a reason may come of it.
//!
//! Components only. To make one of a core module is the work of the compiler's child process, and it dies of some: wit-parser 0.263 calls itself
//! without end where packages are said to depend on each other. The host refuses such a module as its child dies; this process is no child.

use std::sync::OnceLock;

use tidegate_engine::{Admission, Wasi};
use wit_component::ComponentEncoder;

use crate::guest::{engine, wat_guest};

/// How a component begins, where a core module has version 1, layer 0.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

pub(super) fn run(data: &[u8]) {
    if !data.starts_with(&COMPONENT) {
        return;
    }
    static ADMISSION: OnceLock<Admission> = OnceLock::new();
    let admission = ADMISSION.get_or_init(|| Admission::in_process(engine()));
    match admission.admit(data, None, Wasi::Refused) {
        Ok(module) => {
            let description = module.description();
            assert!(description.default_topics.len() <= 1_000);
            assert!(description.config_schema.to_string().len() <= 64 << 10);
        }
        Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let component = |core: Vec<u8>| ComponentEncoder::default().module(&core).unwrap().encode().unwrap();
    vec![component(wat_guest("sound", &[])), component(wat_guest("trapping", &[("describe", "unreachable")]))]
}
