//! The test cases that a module ships, as they stand in its section: read, and run on a guest that lets everything pass. They are refused, pass or
//! fail, with a reason that people can read; nothing else may come of them.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tidegate_cases::{MAX_CASES, MAX_NAME_BYTES, Suite, pack};
use tidegate_engine::{Examination, Module};

use crate::guest::{engine, wat_guest};

pub(super) fn run(data: &[u8]) {
    static MODULE: OnceLock<Arc<Module>> = OnceLock::new();
    let module = MODULE.get_or_init(|| Arc::new(Module::load(&engine(), &wat_guest("cased", &[])).unwrap()));
    let cases = match Suite::read(data) {
        Ok(cases) => cases,
        Err(error) => return short(&error.to_string()),
    };
    assert!(cases.cases.len() <= MAX_CASES);
    assert!(cases.cases.iter().all(|case| (1..=MAX_NAME_BYTES).contains(&case.name.len())));
    let examined = Examination { module: module.clone(), cases, imports: Vec::new(), sections: Vec::new() };
    for (_, ended) in examined.try_cases() {
        if let Err(error) = ended {
            assert!(["test_case_failed", "test_cases_time", "busy"].contains(&error.code()), "{error}");
            short(&error.to_string());
        }
    }
}

fn short(reason: &str) {
    assert!(!reason.is_empty() && reason.len() < 4 << 10, "{} bytes: {reason}", reason.len());
}

/// Those of the rule library.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let families =
        ["decoders/json-reading", "decoders/json-fields", "transforms/scale", "alerts/threshold", "alerts/absence"];
    families.iter().map(|rule| pack(&rules.join(rule).join("testcases")).unwrap().unwrap()).collect()
}
