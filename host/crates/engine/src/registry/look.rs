//! A rules directory, looked over once, as `tidegate check` does: by the same scanner that a host has, so that both see the same rules in it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tidegate_config::RuleFile;

use crate::admission::{Admission, try_out};
use crate::load_error::LoadError;
use crate::module::Module;
use crate::registry::scan::{Scanner, Wanted};
use crate::rule::Rule;

/// A rule that a directory asks for.
#[derive(Debug)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// Its settings; none where its file cannot be read.
    pub file: Option<RuleFile>,
    /// Whether nobody has written them: a module that no file names runs by its defaults.
    pub by_default: bool,
    /// It, tried on scratch instances; or why it cannot serve.
    pub rule: Result<Rule, LoadError>,
}

/// All rules that a directory asks for, by name. Compiles their modules and blocks for as long as that takes.
///
/// # Errors
/// The directory cannot be read.
pub fn look_over(directory: &Path, admission: Admission) -> io::Result<Vec<Asked>> {
    let mut scanner = Scanner::new(directory.to_owned(), Arc::new(admission), None);
    let wanted = scanner.scan()?;
    Ok(wanted.into_iter().map(|(name, wanted)| asked(&mut scanner, name, wanted)).collect())
}

fn asked(scanner: &mut Scanner, name: String, wanted: Wanted) -> Asked {
    let by_default = scanner.runs_by_default(&name);
    let (file, rule) = match wanted.file {
        Ok(file) => {
            let module = scanner.module(&file, wanted.manifest.as_deref());
            let rule = module.and_then(|module| tried(&name, &file, module));
            (Some(file), rule)
        }
        Err(why) => (None, Err(LoadError::File(why))),
    };
    Asked { name, file, by_default, rule }
}

/// What `file` makes of a module, tried on scratch instances; it serves nowhere.
pub(super) fn tried(name: &str, file: &RuleFile, module: Arc<Module>) -> Result<Rule, LoadError> {
    let rule = Rule::of_file(name, file, module, Arc::default(), 0)?;
    try_out(&rule)?;
    Ok(rule)
}
