//! A module laid open: what it says of itself, what it brings along, and how its test cases end.

use std::sync::Arc;

use tidegate_cases::Suite;

use crate::admission::cases::{Allowance, run};
use crate::load_error::LoadError;
use crate::module::Module;

/// A module that could serve, as far as can be told without its test cases.
#[derive(Debug)]
pub struct Examination {
    /// The module.
    pub module: Arc<Module>,
    /// Its test cases; none if it ships none.
    pub cases: Suite,
    /// What it imports, at most a hundred names.
    pub imports: Vec<String>,
    /// Its custom sections with their sizes in bytes, at most a hundred.
    pub sections: Vec<(String, usize)>,
}

impl Examination {
    /// Runs each of its test cases as admission does, on this thread, within the time that they have together; and goes on when one fails.
    pub fn try_cases(&self) -> Vec<(&str, Result<(), LoadError>)> {
        let allowance = Allowance::of_a_module();
        let each = self.cases.cases.iter();
        each.map(|case| (case.name.as_str(), run(&self.module, case, &allowance))).collect()
    }
}
