//! A pipeline fed from memory with the registry and the API beside it, as the host has them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tidegate_admin::{Admin, LetterChoice, LetterFilter, Letters, NotCompacted, View};
use tidegate_config::{Changes, Scopes, Token};
use tidegate_engine::{Admission, Cache, ChildProcess, Confined, Engine, Registry, RegistryHandle, RuleState};

use super::driver::{TOKEN, many_files};
use crate::line::Line;
use crate::rules;
use crate::timed::{self, Arrivals};
use crate::workload::LIMIT;

/// Twice of what one address may have, and some.
const CONNECTIONS: usize = 4_096;
const REQUESTS_PER_S: u32 = 100_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// It runs until it is closed.
pub struct House {
    pub line: Line,
    pub arrivals: Arrivals,
    admin: Admin,
    registry: RegistryHandle,
    _directory: TempDir,
}

/// No dead letters are kept here.
struct NoLetters;

impl Letters for NoLetters {
    fn list(&self, _: &LetterFilter, _: i64, _: u32) -> Result<Vec<Map<String, Value>>, String> {
        Ok(Vec::new())
    }

    fn newest(&self, _: &LetterFilter, _: u32) -> Result<Vec<Map<String, Value>>, String> {
        Ok(Vec::new())
    }

    fn count(&self, _: &LetterFilter) -> Result<u64, String> {
        Ok(0)
    }

    fn get(&self, _: i64) -> Result<Option<Map<String, Value>>, String> {
        Ok(None)
    }

    fn replay(&self, _: &LetterChoice) -> Result<u64, String> {
        Ok(0)
    }

    fn cancel_replay(&self, _: &LetterChoice) -> Result<u64, String> {
        Ok(0)
    }

    fn compact(&self) -> Result<(), NotCompacted> {
        Ok(())
    }

    fn purge(&self, _: &LetterChoice) -> Result<u64, String> {
        Ok(0)
    }
}

impl House {
    /// With the two rules of the workload, on a lane a CPU.
    pub fn start(topics: usize) -> Result<Self> {
        many_files()?;
        let directory = tempfile::tempdir()?;
        let rules_dir = directory.path().join("rules.d");
        furnish(&rules_dir)?;
        let (line, arrivals) =
            timed::line(std::thread::available_parallelism().map_or(1, Into::into), 2 * topics + 100)?;
        let cache = Cache::open(&directory.path().join("cache"))?;
        let compiler = ChildProcess::of_this_binary(&["compile"]);
        let admission = Admission::new(Engine::new()?, Box::new(compiler), Some(cache));
        let registry = Registry::start(admission, &rules_dir, None, Box::new(line.deploy()))?;
        let serving = registry.rules().iter().all(|rule| rule.state == RuleState::Serving);
        ensure!(serving, "not all rules serve: {:?}", registry.rules());
        let view = View {
            pipeline: line.pipeline().clone(),
            registry: registry.clone(),
            dead_letters: Arc::default(),
            books: line.books().clone(),
            letters: Arc::new(NoLetters),
            histories: BTreeMap::new(),
            logs: BTreeMap::new(),
            rules_dir,
            data_dir: directory.path().to_owned(),
            schemas: Confined::of_this_binary(&["validate"]),
            configuration: "".into(),
            started: Instant::now(),
        };
        let settings = tidegate_config::Admin {
            listen: ([127, 0, 0, 1], 0).into(),
            token: None,
            tokens: vec![Token {
                name: "bench".parse()?,
                sha256: Sha256::digest(TOKEN).into(),
                scopes: Scopes::all(),
                expires: None,
            }],
            tls: None,
            changes: Changes::Allowed,
            probes: None,
            max_connections: CONNECTIONS,
            requests_per_s: REQUESTS_PER_S,
        };
        let admin = Admin::start(&settings, view)?;
        Ok(Self { line, arrivals, admin, registry, _directory: directory })
    }

    /// Where the API listens.
    pub fn port(&self) -> u16 {
        self.admin.address().port()
    }

    /// Points that the sink has confirmed.
    pub fn stored(&self) -> u64 {
        self.line.pipeline().status().points.stored
    }

    /// Changes the limit of the threshold rule, by the API; it serves when this returns.
    pub fn change_threshold(&self, above: f64) -> Result<()> {
        let body = json!({ "module": "threshold.wasm", "topics": ["#"], "config": { "above": above } }).to_string();
        let mut socket = TcpStream::connect(("127.0.0.1", self.port()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            socket,
            "PUT /api/v1/rules/threshold HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).context("the API did not answer")?;
        let serves = answer.starts_with("HTTP/1.1 200") && answer.contains("\"state\":\"serving\"");
        ensure!(serves, "the rule was not changed: {answer}");
        Ok(())
    }

    /// Ends it in order.
    pub fn close(self) -> Result<()> {
        let Self { line, admin, registry, .. } = self;
        drop(admin);
        registry.stop();
        line.close()
    }
}

fn furnish(rules_dir: &Path) -> Result<()> {
    std::fs::create_dir(rules_dir)?;
    for (name, topics, config) in
        [("json-reading", "dev/#", String::new()), ("threshold", "#", format!("[config]\nabove = {LIMIT:.1}\n"))]
    {
        std::fs::write(rules_dir.join(format!("{name}.wasm")), rules::file(name)?)?;
        let text = format!("module = \"{name}.wasm\"\ntopics = [\"{topics}\"]\n{config}");
        std::fs::write(rules_dir.join(format!("{name}.toml")), text)?;
    }
    Ok(())
}
