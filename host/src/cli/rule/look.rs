//! `tidegate rule test` and `tidegate rule inspect`: into a module, with the host's own engine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tidegate_engine::{Examination, MAX_WASI_MODULE_BYTES, Manifest, Terms};

use super::build;
use crate::cli::api::visible;
use crate::wiring::{self, manifest_path};

/// How one case has ended; why, if it has failed, by a code and a sentence.
struct Ended {
    case: String,
    failure: Option<(&'static str, String)>,
}

pub(super) fn test(place: &Path, terms: Terms, json: bool) -> anyhow::Result<ExitCode> {
    // A crate is built first: what is tested is what it is now.
    let path = if place.is_dir() { build::make(place, None)?.path } else { place.to_owned() };
    let (bytes, examined) = open(&path, terms)?;
    let sha256 = tidegate_admin::digest(&bytes);
    let ended = ended(&examined);
    let failed = ended.iter().filter(|case| case.failure.is_some()).count();
    if json {
        let cases: Vec<Value> = ended.iter().map(Ended::json).collect();
        let told = json!({ "module": path, "sha256": sha256, "cases": cases, "passed": ended.len() - failed, "failed": failed });
        println!("{told}");
    } else if ended.is_empty() {
        println!("{} carries no test cases", path.display());
    } else {
        let width = ended.iter().map(|case| case.case.chars().count()).max().unwrap_or(0);
        for case in &ended {
            match &case.failure {
                None => println!("{:width$}  passed", case.case),
                Some((_, why)) => println!("{:width$}  failed  {}", case.case, lines(why)),
            }
        }
        println!("{} passed, {failed} failed", ended.len() - failed);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn inspect(path: &Path, terms: Terms, json: bool) -> anyhow::Result<ExitCode> {
    let (bytes, examined) = open(path, terms)?;
    let manifest = std::fs::read(manifest_path(path)).ok();
    let manifest = manifest.map(|bytes| Manifest::read(&bytes)).transpose().context("its signature")?;
    let signed = manifest.map(|manifest| {
        let whose = if manifest.sha256 == **examined.module.sha256() { "not verified" } else { "OF ANOTHER MODULE" };
        format!("{manifest}, until {} ({whose}: see `tidegate rule verify`)", manifest.expires)
    });
    let (module, said) = (&examined.module, examined.module.description());
    let cases: Vec<&str> = examined.cases.cases.iter().map(|case| case.name.as_str()).collect();
    let sections: Vec<Value> =
        examined.sections.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
    let told = [
        ("module", json!(path)),
        ("name", json!(said.name)),
        ("version", json!(said.version)),
        ("kind", json!(module.kind().as_str())),
        ("summary", json!(said.summary)),
        ("topics", json!(said.default_topics)),
        ("scope", json!(said.scope.as_str())),
        ("tick_ms", json!(said.tick_ms)),
        ("wants_properties", json!(said.wants_properties)),
        ("imports", json!(examined.imports)),
        ("bytes", json!(bytes.len())),
        ("sha256", json!(**module.sha256())),
        ("cases", json!(cases)),
        ("sections", json!(sections)),
        ("signature", json!(signed)),
        ("config_schema", said.config_schema.clone()),
    ];
    if json {
        println!("{}", told.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>());
    } else {
        told.iter().for_each(|(key, value)| println!("{:16}  {}", key.replace('_', " "), visible(&plain(value))));
    }
    Ok(ExitCode::SUCCESS)
}

fn open(path: &Path, terms: Terms) -> anyhow::Result<(Vec<u8>, Examination)> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if bytes.len() > MAX_WASI_MODULE_BYTES {
        bail!("{} is larger than any module that a host takes", path.display());
    }
    let examined = wiring::examine(&bytes, terms).with_context(|| PathBuf::from(path).display().to_string())?;
    Ok((bytes, examined))
}

fn ended(examined: &Examination) -> Vec<Ended> {
    let each = examined.try_cases().into_iter();
    each.map(|(case, end)| Ended {
        case: case.to_owned(),
        failure: end.err().map(|error| (error.code(), error.to_string())),
    })
    .collect()
}

impl Ended {
    fn json(&self) -> Value {
        match &self.failure {
            None => json!({ "case": self.case, "passed": true }),
            Some((code, why)) => json!({ "case": self.case, "passed": false, "reason": code, "detail": why }),
        }
    }
}

/// Line by line, without what would steer a terminal: a module says what it likes.
fn lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

/// For people: lists in a line, nothing as a dash.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "-".to_owned(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(section) if section.len() == 2 && section.contains_key("bytes") => {
            format!("{} ({} bytes)", plain(&section["name"]), section["bytes"])
        }
        other => other.to_string(),
    }
}
