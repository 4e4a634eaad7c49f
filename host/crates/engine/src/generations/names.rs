//! What the files of the directory are called.

use tidegate_config::Name;

/// What a file of the directory is.
pub(super) enum FileName {
    Generation(String, u64),
    Serving(String),
    Module,
}

impl FileName {
    pub fn of(name: &str) -> Option<Self> {
        let (stem, ending) = name.rsplit_once('.')?;
        let rule = |rule: &str| rule.parse::<Name>().ok().map(|_| rule.to_owned());
        match ending {
            "generation" => {
                let (name, number) = stem.split_once('.')?;
                Some(Self::Generation(rule(name)?, number.parse().ok()?))
            }
            "serving" => rule(stem).map(Self::Serving),
            "wasm" => Some(Self::Module),
            _ => None,
        }
    }
}

pub(super) fn generation_name(rule: &str, number: u64) -> String {
    format!("{rule}.{number}.generation")
}

pub(super) fn serving_name(rule: &str) -> String {
    format!("{rule}.serving")
}

pub(super) fn module_name(sha256: &str) -> String {
    format!("{sha256}.wasm")
}
