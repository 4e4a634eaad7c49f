//! The checks, from the outside: text in, settings or mistakes out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod accepted;
mod admin;
mod exactly_once;
mod journal;
mod limits;
mod mistakes;
mod rule_files;
mod schema;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Config, ConfigErrors, Env};

/// Variables and files that exist for one test only.
#[derive(Default)]
struct FakeEnv {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
}

impl FakeEnv {
    /// A host called `edge-1`.
    fn new() -> Self {
        Self::default().var("TIDEGATE_NODE", "edge-1")
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.to_owned());
        self
    }
}

impl Env for FakeEnv {
    fn var(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

/// The shortest source that is right, to go before or after what a test is about.
const SOURCE: &str = "[sources.mqtt.plant]\nurl = \"mqtt://broker\"\ntopics = [\"dev/#\"]\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    parse_in(text, &FakeEnv::new())
}

fn parse_in(text: &str, env: &FakeEnv) -> Result<Config, ConfigErrors> {
    Config::parse(text, "/etc/tidegate/t.toml", env)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{errors}\n--- in\n{text}"))
}

/// The mistakes of `text`, one a line, without the directory of the file.
fn mistakes_in(text: &str, env: &FakeEnv) -> String {
    match parse_in(text, env) {
        Ok(_) => panic!("nothing wrong was found in\n{text}"),
        Err(errors) => errors.to_string().replace("/etc/tidegate/t.toml", "t.toml"),
    }
}
