//! Modules: looked over, compiled, asked what they are. Nothing but a module or a reason may come of it.

use std::sync::OnceLock;

use tidegate_engine::{Admission, Wasi};

use crate::guest::{engine, wat_guest};

pub(super) fn run(data: &[u8]) {
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
    vec![wat_guest("sound", &[]), wat_guest("trapping", &[("describe", "unreachable")])]
}
