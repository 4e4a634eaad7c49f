//! `tidegate rule`: what somebody who makes modules does with them, without a host.

mod build;
mod look;
mod new;
mod sign;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use semver::Version;
use tidegate_config::{Name, RuleLimits, STACKS_KIB};
use tidegate_engine::{Stack, Terms, Wasi};

/// Make and look into modules; needs no running host.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a crate that is a rule, with a test case, ready to be built.
    New {
        /// What the rule is called, and its directory.
        #[arg(value_parser = name)]
        name: Name,
        /// What it does: a decoder makes points of messages, a processor points and alerts of points.
        #[arg(long, value_enum, default_value_t = new::Kind::Processor)]
        kind: new::Kind,
        /// Where it is written, if not to a directory of its name. It must not be there yet.
        #[arg(long, value_name = "DIRECTORY")]
        into: Option<PathBuf>,
        /// The sources of the crate `tidegate-rule`: `guest-sdk` in Tidegate's. Else those of the nearest Tidegate around.
        #[arg(long, value_name = "DIRECTORY")]
        sdk: Option<PathBuf>,
    },
    /// Build a rule's crate, and put its test cases into the module: a host runs them before the module serves.
    ///
    /// Needs Rust, with the target wasm32-unknown-unknown (`rustup target add`) or as Debian packages it. Writes `target/<rule>.wasm`.
    Build {
        /// The crate.
        #[arg(default_value = ".", value_name = "DIRECTORY")]
        directory: PathBuf,
        /// Where the module is written.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Run the test cases that a module carries, as a host does before the module serves. Exit code 1: one has failed.
    Test {
        /// The module, or a crate, which is built first.
        #[arg(default_value = ".", value_name = "WASM|DIRECTORY")]
        module: PathBuf,
        /// As where the rule's file says `wasi = true`.
        #[arg(long)]
        wasi: bool,
        /// As where the `[limits]` of the rule's file say `stack_kib`.
        #[arg(long, value_name = "KIB", default_value_t = RuleLimits::default().stack_kib, value_parser = stack_kib)]
        stack_kib: u32,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show what a module says of itself, imports and carries.
    Inspect {
        #[arg(value_name = "WASM")]
        module: PathBuf,
        /// As where the rule's file says `wasi = true`.
        #[arg(long)]
        wasi: bool,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Make a key to sign modules with, and print what makes it known to hosts.
    Keygen {
        /// What hosts will call it.
        #[arg(long, value_parser = name)]
        name: Name,
        /// Where the private key is written (PEM, PKCS #8, for its owner only). It must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Sign modules: writes `<module>.wasm.sig` beside each.
    ///
    /// Hosts take no version that is lower than one they have had under the same name: to go back to old bytes, sign them with a higher
    /// version than the one to be replaced.
    #[command(disable_version_flag = true)]
    Sign {
        #[arg(required = true, value_name = "WASM")]
        modules: Vec<PathBuf>,
        /// The private key (PEM), as `tidegate rule keygen` or `openssl genpkey -algorithm ed25519` write it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The modules' version: semantic.
        #[arg(long, value_parser = |text: &str| text.parse::<Version>())]
        version: Version,
        /// What the module is called; else as its file is.
        #[arg(long, value_parser = name)]
        name: Option<Name>,
        /// For how many days it may be loaded.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Check modules against the `<module>.wasm.sig` beside them. Exit code 1: one of them is not vouched for.
    ///
    /// Which versions a host has had is not known here.
    Verify {
        #[arg(required = true, value_name = "WASM")]
        modules: Vec<PathBuf>,
        /// A public key, in 64 hexadecimal digits; may be given several times.
        #[arg(long = "key", value_name = "HEX", required_unless_present = "config")]
        keys: Vec<String>,
        /// A host's configuration: the keys that it names.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

fn name(text: &str) -> Result<Name, tidegate_config::NameError> {
    text.parse()
}

fn stack_kib(text: &str) -> Result<u32, String> {
    let choice = || STACKS_KIB.map(|kib| kib.to_string()).join(", ");
    let given = text.parse().ok().filter(|kib| STACKS_KIB.contains(kib));
    given.ok_or_else(|| format!("choose from {}", choice()))
}

/// Exit codes as in the help.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::New { name, kind, into, sdk } => new::new(name, *kind, into.as_deref(), sdk.as_deref()),
        Action::Build { directory, out, json } => build::build(directory, out.as_deref(), *json),
        Action::Test { module, wasi, stack_kib, json } => {
            let terms = Terms { wasi: Wasi::allowed(*wasi), stack: Stack::of_kib(*stack_kib) };
            look::test(module, terms, *json)
        }
        Action::Inspect { module, wasi, json } => {
            look::inspect(module, Terms::of_no_rule(Wasi::allowed(*wasi)), *json)
        }
        Action::Keygen { name, out, json } => sign::keygen(name, out, *json),
        Action::Sign { modules, key, version, name, days } => sign::sign(modules, key, version, name.as_ref(), *days),
        Action::Verify { modules, keys, config } => sign::verify(modules, keys, config.as_deref()),
    }
}
