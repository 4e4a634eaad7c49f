//! `tidegate rule`: what somebody who makes modules does with them, without a host.

mod sign;

use std::path::PathBuf;
use std::process::ExitCode;

use semver::Version;
use tidegate_config::Name;

/// Make and look into modules; needs no running host.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
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

/// Exit codes as in the help.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Keygen { name, out, json } => sign::keygen(name, out, *json),
        Action::Sign { modules, key, version, name, days } => sign::sign(modules, key, version, name.as_ref(), *days),
        Action::Verify { modules, keys, config } => sign::verify(modules, keys, config.as_deref()),
    }
}
