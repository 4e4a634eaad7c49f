//! `[admin]`: no address that others can reach without credentials and TLS.

use std::time::{Duration, UNIX_EPOCH};

use super::{FakeEnv, SOURCE, parse_in};
use crate::{Admin, Changes, Scope};

/// The sha256 of nothing.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DIGEST: &str = "e3c1c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OPEN: &str = "listen = \"[::]:80\"";
const PROXY: &str = "insecure = \"yes, behind a proxy\"";

fn env() -> FakeEnv {
    let pem = "-----BEGIN CERTIFICATE-----";
    FakeEnv::new().file("/etc/tidegate/token", "0123456789abcdef\n").file("/etc/tidegate/a.pem", pem)
}

fn admin(lines: &str) -> Result<Admin, String> {
    admin_in(lines, &env())
}

fn admin_in(lines: &str, env: &FakeEnv) -> Result<Admin, String> {
    let text = format!("{SOURCE}[admin]\n{lines}\n");
    parse_in(&text, env).map(|config| config.admin).map_err(|errors| errors.to_string())
}

#[track_caller]
fn refused(lines: &str, why: &str) {
    let errors = admin(lines).unwrap_err();
    assert!(errors.contains(why), "{lines}\n{errors}");
}

/// Guarantees: without a word about it, nobody but this machine can reach the interface.
#[test]
fn this_machine_only() {
    let admin = admin("").unwrap();
    assert!(admin.listen.ip().is_loopback() && admin.probes.is_none() && admin.tls.is_none(), "{admin:?}");
}

/// Guarantees: an address that others can reach is refused without credentials, without TLS, or with a token that can be
/// guessed; each of the ways that are sound is taken.
#[test]
fn other_addresses() {
    refused(
        &format!("{OPEN}\n{PROXY}"),
        "t.toml:5:10: [::]:80 can be reached from other machines, and there is no token",
    );
    refused(&format!("{OPEN}\ntoken_file = \"token\""), "tokens would cross the network in plain text");
    refused(&format!("{OPEN}\ninsecure = \"yes\"\ntoken_file = \"token\""), "insecure = \"yes, behind a proxy\"");
    // A certificate that permits nothing is no credential.
    let tls = "cert_file = \"a.pem\"\nkey_file = \"a.pem\"";
    refused(&format!("{OPEN}\n{tls}\nclient_ca_file = \"a.pem\""), "there is no token");

    let token = format!("[admin.tokens.ops]\nsha256 = \"{DIGEST}\"\nscopes = [\"read\"]");
    for sound in [
        format!("{OPEN}\n{PROXY}\n{token}"),
        format!("{OPEN}\n{PROXY}\ntoken_file = \"token\""),
        format!("{OPEN}\n{tls}\n{token}"),
        format!("{OPEN}\n{tls}\nclient_ca_file = \"a.pem\"\nclient_scopes = [\"rules\"]"),
    ] {
        admin(&sound).unwrap_or_else(|errors| panic!("{errors}\n{sound}"));
    }
    let short = FakeEnv::new().file("/etc/tidegate/token", "short\n");
    let errors = admin_in(&format!("{OPEN}\n{PROXY}\ntoken_file = \"token\""), &short).unwrap_err();
    assert!(errors.contains("shorter than 16 characters, so it can be guessed"), "{errors}");
    let missing = admin_in(&format!("{OPEN}\n{PROXY}\ntoken_file = \"token\""), &FakeEnv::new()).unwrap_err();
    assert!(missing.contains("/etc/tidegate/token cannot be read: no such file"), "{missing}");
}

/// Guarantees: tokens have what is written of them, and nothing is made of what is not meant.
#[test]
fn tokens() {
    let admin_of = |lines: &str| admin(&format!("readonly = true\n[admin.tokens.ops]\n{lines}"));
    let sound =
        admin_of(&format!("sha256 = \"{DIGEST}\"\nscopes = [\"read\", \"data\"]\nexpires = \"2100-01-01\"")).unwrap();
    assert_eq!(sound.changes, Changes::Refused);
    let token = &sound.tokens[0];
    assert_eq!((token.name.as_str(), token.sha256[0], token.sha256[31]), ("ops", 0xe3, 0x55));
    let permits: Vec<bool> = Scope::ALL.iter().map(|&scope| token.scopes.permit(scope)).collect();
    assert_eq!(permits, [true, false, true, false]);
    assert_eq!(token.expires, Some(UNIX_EPOCH + Duration::from_secs(4_102_444_800)));

    for (lines, why) in [
        (format!("sha256 = \"{DIGEST}\""), "`scopes` is missing"),
        (format!("sha256 = \"{DIGEST}\"\nscopes = []"), "no scope is named"),
        (format!("sha256 = \"{DIGEST}\"\nscopes = [\"write\"]"), "t.toml:8:11: `write` is no scope"),
        (format!("sha256 = \"{DIGEST}\"\nscopes = [\"read\"]\nexpires = \"soon\""), "`soon` is no time"),
        ("scopes = [\"read\"]".to_owned(), "`sha256` is missing"),
        (format!("sha256 = \"{OF_NOTHING}\"\nscopes = [\"read\"]"), "of an empty token"),
        // Somebody wrote the token itself: it is not repeated.
        ("sha256 = \"hunter2\"\nscopes = [\"read\"]".to_owned(), "`sha256` is no sha256"),
    ] {
        let errors = admin_of(&lines).unwrap_err();
        assert!(errors.contains(why) && !errors.contains("hunter2"), "{lines}\n{errors}");
    }
    refused("[admin.tokens.Ops]\nsha256 = \"\"\nscopes = [\"read\"]", "`Ops` is no name");
    // Its rights would be those of either.
    let named = |name: &str| format!("[admin.tokens.{name}]\nsha256 = \"{DIGEST}\"\nscopes = [\"read\"]\n");
    refused(&(named("a") + &named("b")), "the token `b` is `a` as well");
}

/// Guarantees: what only makes sense together is asked for together.
#[test]
fn what_goes_together() {
    refused("cert_file = \"a.pem\"", "`cert_file` needs `key_file`");
    refused("client_ca_file = \"a.pem\"", "`client_ca_file` needs `cert_file` and `key_file`");
    refused("client_scopes = [\"read\"]", "`client_scopes` needs `client_ca_file`");
    let locked = "cert_file = \"a.pem\"\nkey_file = \"a.pem\"\nclient_ca_file = \"a.pem\"";
    refused(locked, "nobody may ask for anything; say by `client_scopes` what they permit");
    admin(&format!("{locked}\nclient_scopes = [\"read\"]")).unwrap();
    admin(&format!("{locked}\ntoken_file = \"token\"")).unwrap();
    refused("probes_listen = \"127.0.0.1:8081\"", "choose another port");
    refused("listen = \"8081\"", "`8081` is no address to listen on; write an IP address and a port");
}

/// Guarantees: a token that is valid no more is no mistake, since a host must not stay down for it; it is told.
#[test]
fn an_expired_token_is_a_warning() {
    let text =
        format!("{SOURCE}[admin.tokens.old]\nsha256 = \"{DIGEST}\"\nscopes = [\"read\"]\nexpires = \"2020-01-01\"\n");
    let warnings = parse_in(&text, &env()).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("`old` is valid no more"), "{warnings:?}");
}
