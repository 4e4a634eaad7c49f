//! Reading `tidegate.toml`: from a path or a text to a [`Config`], and the JSON Schema of the file.

use std::path::Path;

use crate::checks::Checker;
use crate::document::Document;
use crate::env::Env;
use crate::error::ConfigErrors;
use crate::raw::RawConfig;
use crate::settings::Config;
use crate::shown::shown;

/// A configuration with every kind of source and sink, commented; `tidegate check --print-example` prints it.
pub const EXAMPLE: &str = include_str!("../../../../deploy/tidegate.example.toml");

impl Config {
    /// Reads and checks the file at `path`. Connects to nothing, and writes nothing.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it that can be told at once.
    pub fn load(path: &Path, env: &dyn Env) -> Result<Config, ConfigErrors> {
        let file = path.display().to_string();
        match env.read(path) {
            Ok(text) => Self::parse(&text, &file, env),
            Err(error) => Err(ConfigErrors::unreadable(
                &file,
                format!("cannot be read: {error}"),
                "name another with --config, or write one: `tidegate check --print-example > tidegate.toml`",
            )),
        }
    }

    /// Checks `text`, the content of a file called `file_name`; relative paths in it are relative to that file.
    ///
    /// # Errors
    /// Every mistake that can be told at once.
    pub fn parse(text: &str, file_name: &str, env: &dyn Env) -> Result<Config, ConfigErrors> {
        let (document, raw, errors) = Document::read::<RawConfig>(text, file_name)?;
        let mut checker = Checker::new(&document, file_name, env, errors);
        let config = checker.config(raw);
        checker.finish(Config { shown: shown(text), ..config })
    }

    /// The JSON Schema (2020-12) of the file, for editors: every key with its description, bounds and default.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(RawConfig).to_value()
    }
}
