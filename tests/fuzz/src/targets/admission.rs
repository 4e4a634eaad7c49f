//! Modules: looked over, compiled, asked what they are. Nothing but a module or a reason may come of it.
//!
//! A core module is compiled where the host compiles it, in a child process of its binary: to make a component of it is work that a compiler dies of
//! at times (wit-parser 0.263 calls itself without end where packages are said to depend on each other). A component is compiled in this process, whose
//! code libFuzzer sees.

use std::path::PathBuf;
use std::sync::OnceLock;

use tidegate_engine::{Admission, ChildProcess, Wasi};
use wit_component::ComponentEncoder;

use crate::guest::{engine, wat_guest};

/// How a component begins, where a core module has version 1, layer 0.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

pub(super) fn run(data: &[u8]) {
    static COMPONENTS: OnceLock<Admission> = OnceLock::new();
    static CORES: OnceLock<Admission> = OnceLock::new();
    let admission = if data.starts_with(&COMPONENT) {
        COMPONENTS.get_or_init(|| Admission::in_process(engine()))
    } else {
        CORES.get_or_init(|| Admission::new(engine(), Box::new(ChildProcess::of(binary(), &["compile"])), None))
    };
    match admission.admit(data, None, Wasi::Refused) {
        Ok(module) => {
            let description = module.description();
            assert!(description.default_topics.len() <= 1_000);
            assert!(description.config_schema.to_string().len() <= 64 << 10);
        }
        Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
    }
}

/// The host's binary, of the profile that this program was built with; this one is beside it, or a test in `deps/` there.
fn binary() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let directory = this.parent().unwrap();
    let directory = if directory.ends_with("deps") { directory.parent().unwrap() } else { directory };
    let binary = directory.join("tidegate");
    assert!(binary.exists(), "{} is not there; `make fuzz` builds it", binary.display());
    binary
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let component = |core: &[u8]| ComponentEncoder::default().module(core).unwrap().encode().unwrap();
    let cores = [wat_guest("sound", &[]), wat_guest("trapping", &[("describe", "unreachable")])];
    cores.iter().map(|core| component(core)).chain(cores.clone()).collect()
}
