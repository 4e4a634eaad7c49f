//! `tidegate token new`: a token, and what makes it known to a host.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tidegate_config::{Name, Scope};
use tidegate_sinks::Rfc3339;

/// Make tokens for the API of a host.
///
/// The token is printed once and kept nowhere: what is printed with it goes into the host's configuration, and tells the token by
/// its sha256. A host can know any number of them at once, so a new one is made known before an old one is removed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make one.
    New {
        /// Who will hold it: stands in the audit log.
        #[arg(long, value_parser = |text: &str| text.parse::<Name>())]
        name: Name,
        /// What it permits: of read (see how all is), rules (change rules), data (see messages, replay, purge), admin (all of it).
        #[arg(long, value_delimiter = ',', default_value = "read", value_parser = |word: &str| word.parse::<Scope>())]
        scopes: Vec<Scope>,
        /// How many days it is valid; for ever if not given.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Prints the token on standard output, and nothing else there that is secret.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Action::New { name, scopes, days, json } = &args.action;
    let token = token()?;
    let sha256 = tidegate_admin::digest(token.as_bytes());
    let expires = days.map(|days| expiry(SystemTime::now(), days)).transpose()?;
    let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    if *json {
        let made = serde_json::json!({
            "name": name.as_str(), "token": token, "sha256": sha256, "scopes": words, "expires": expires
        });
        println!("{made}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut section = format!("[admin.tokens.{name}]\nsha256 = \"{sha256}\"\nscopes = {words:?}\n");
    if let Some(expires) = expires {
        writeln!(section, "expires = \"{expires}\"")?;
    }
    println!("{token}");
    eprintln!(
        "\nThis is the token: give it to {name}; it cannot be shown again. Put this into the host's tidegate.toml:\n\n{section}"
    );
    Ok(ExitCode::SUCCESS)
}

/// 256 bits from the system's source of randomness, in hex, with a word before them by which leaks are found.
fn token() -> anyhow::Result<String> {
    random()?.iter().try_fold("tidegate-".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}")?;
        Ok(text)
    })
}

/// From the system's source of randomness.
pub fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut bytes).ok().context("the system gives no random numbers")?;
    Ok(bytes)
}

fn expiry(now: SystemTime, days: u32) -> anyhow::Result<String> {
    let then = now.checked_add(Duration::from_secs(u64::from(days) * 86_400)).context("that is too far away")?;
    let since = then.duration_since(SystemTime::UNIX_EPOCH).context("the clock stands before 1970")?;
    let whole = Rfc3339(since.as_secs() as i64 * 1_000_000).to_string();
    Ok(whole)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: tokens have 256 bits, and no two are alike.
    #[test]
    fn tokens_differ() {
        let (one, two) = (token().unwrap(), token().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), "tidegate-".len() + 64);
    }

    /// Guarantees: the day it ends is written as the configuration reads it.
    #[test]
    fn expiries() {
        let text = expiry(SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_396_800), 1).unwrap();
        assert!(text.starts_with("2027-02-01T12:00:00") && text.ends_with('Z'), "{text}");
    }
}
