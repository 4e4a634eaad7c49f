//! What builds a rule on this machine: a cargo, and what it must be told to build for WebAssembly.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// What rules are built for.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";
/// The profile of rules, as in Tidegate's own workspace: small and fast.
const PROFILE: [&str; 6] = [
    "profile.rule.inherits=\"release\"",
    "profile.rule.opt-level=3",
    "profile.rule.lto=\"fat\"",
    "profile.rule.codegen-units=1",
    "profile.rule.panic=\"abort\"",
    "profile.rule.strip=\"debuginfo\"",
];

/// Whose Rust it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Toolchain {
    /// One that has the target: rustup's, or a distribution's.
    Ready,
    /// Debian's, with the sources of its standard library, which is built along.
    Debian,
}

impl Toolchain {
    /// The first that works; `TIDEGATE_WASM` (`rustup` or `debian`) chooses.
    pub fn find() -> anyhow::Result<Self> {
        let wanted = std::env::var("TIDEGATE_WASM").unwrap_or_default();
        match wanted.as_str() {
            "rustup" => Ok(Self::Ready),
            "debian" => Ok(Self::Debian),
            "" if has_target() => Ok(Self::Ready),
            "" if has_debian() => Ok(Self::Debian),
            "" => bail!(
                "no Rust here builds for {TARGET}. Either: rustup target add {TARGET}. Or, on Debian: apt-get install rustc-web cargo-web \
                 rust-web-src lld-22, and link /usr/lib/rustlib/src/rust to /usr/src/rustc-<version>"
            ),
            other => bail!("TIDEGATE_WASM is {other:?}; it can be rustup or debian"),
        }
    }

    /// `cargo build` for a rule, to be told which.
    pub fn build(self) -> anyhow::Result<Command> {
        let mut cargo = match self {
            Self::Ready => {
                let mut cargo = Command::new("cargo");
                cargo.arg("build");
                cargo
            }
            Self::Debian => {
                let linker = wasm_ld().context("Debian's lld (/usr/lib/llvm-*/bin/wasm-ld) is missing")?;
                let mut cargo = Command::new("/usr/bin/cargo");
                // Its standard library may be built along by an unlocked compiler only.
                cargo
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTDOC", "/usr/bin/rustdoc")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                    .args(["build", "-Z", "build-std=std,panic_abort"]);
                cargo
            }
        };
        for setting in PROFILE {
            cargo.args(["--config", setting]);
        }
        cargo.args(["--profile", "rule", "--target", TARGET]);
        Ok(cargo)
    }
}

fn has_target() -> bool {
    let Ok(printed) = Command::new("rustc").args(["--print", "sysroot"]).output() else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    let libraries = sysroot.join(format!("lib/rustlib/{TARGET}/lib"));
    names(&libraries).iter().any(|name| name.starts_with("libcore-"))
}

fn has_debian() -> bool {
    Path::new("/usr/bin/cargo").exists()
        && Path::new("/usr/bin/rustc").exists()
        && Path::new("/usr/lib/rustlib/src/rust/library/Cargo.lock").exists()
        && wasm_ld().is_some()
}

/// Debian has no rust-lld; its LLVM's linker is the same program by its own name. The newest counts.
fn wasm_ld() -> Option<PathBuf> {
    let version = |name: &str| name.strip_prefix("llvm-")?.parse::<u32>().ok();
    let mut versions: Vec<u32> = names(Path::new("/usr/lib")).iter().filter_map(|name| version(name)).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let linkers = versions.iter().map(|version| PathBuf::from(format!("/usr/lib/llvm-{version}/bin/wasm-ld")));
    linkers.into_iter().find(|linker| linker.exists())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
