//! `tidegate rule build`: from a crate to a module that carries its test cases.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;
use tidegate_cases::{Suite, embed, pack};

use super::toolchain::{TARGET, Toolchain};

/// What was built.
pub(super) struct Built {
    pub path: PathBuf,
    bytes: usize,
    sha256: String,
    cases: usize,
}

/// What `cargo metadata` says that matters here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

pub(super) fn build(directory: &Path, out: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let built = make(directory, out)?;
    let Built { path, bytes, sha256, cases } = &built;
    if json {
        println!("{}", json!({ "module": path, "bytes": bytes, "sha256": sha256, "cases": cases }));
    } else {
        println!("{}: {bytes} bytes, {cases} test cases, sha256 {sha256}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the crate in `directory`. What cargo says goes where it always goes.
pub(super) fn make(directory: &Path, out: Option<&Path>) -> anyhow::Result<Built> {
    let directory = fs::canonicalize(directory).with_context(|| directory.display().to_string())?;
    let metadata = metadata(&directory)?;
    let manifest = directory.join("Cargo.toml");
    let package = metadata.packages.iter().find(|package| package.manifest_path == manifest);
    let package = package.with_context(|| format!("{} is no crate", directory.display()))?;
    let library = package.targets.iter().find(|target| target.crate_types.iter().any(|it| it == "cdylib"));
    let library = library.with_context(|| {
        format!(
            "{} makes no module: its Cargo.toml needs `crate-type = [\"cdylib\", \"rlib\"]` under [lib]",
            package.name
        )
    })?;
    // Before the compiler is asked, which takes longer.
    let testcases = directory.join("testcases");
    let cases = pack(&testcases).with_context(|| testcases.display().to_string())?;
    let status = Toolchain::find()?
        .build()?
        .args(["--package", &package.name])
        .current_dir(&directory)
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        bail!("{} does not build ({status})", package.name);
    }
    let folder = metadata.target_directory.join(TARGET).join("rule");
    let made = folder.join(format!("{}.wasm", library.name.replace('-', "_")));
    let mut module = fs::read(&made).with_context(|| format!("{} cannot be read", made.display()))?;
    if let Some(document) = &cases {
        module = embed(&module, document);
    }
    let name = package.name.strip_prefix("rule-").unwrap_or(&package.name);
    let path = out.map_or_else(|| metadata.target_directory.join(format!("{name}.wasm")), Path::to_owned);
    place(&path, &module).with_context(|| format!("{} cannot be written", path.display()))?;
    let cases = cases.map(|document| Suite::read(&document)).transpose()?.map_or(0, |suite| suite.cases.len());
    Ok(Built { sha256: tidegate_admin::digest(&module), bytes: module.len(), path, cases })
}

fn metadata(directory: &Path) -> anyhow::Result<Metadata> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(directory)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started: a rule is built with Rust, from https://rustup.rs")?;
    if !output.status.success() {
        bail!("{} is no crate that cargo can read", directory.display());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

/// Whole or not at all: it may be a directory that a host watches.
fn place(path: &Path, module: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(directory)?;
    beside.write_all(module)?;
    beside.as_file().set_permissions(Permissions::from_mode(0o644))?;
    beside.persist(path)?;
    Ok(())
}
