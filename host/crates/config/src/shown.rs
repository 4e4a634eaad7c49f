//! A configuration that can be shown: without what is secret in it.
//!
//! Secrets proper are in files and variables of their own, which the configuration only names. What people write into it all the same is in
//! URLs, or among the free settings of a client library. Which keys name a secret is said here, for what is shown and for what is warned of.

use toml::{Table, Value};

/// What stands where a secret was.
const HIDDEN: &str = "HIDDEN";
/// A key with one of these in it has a secret for its value, unless it says where that is. The last four are librdkafka's.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "key.pem",
    "private.key",
    "sasl.jaas",
    "oauthbearer.config",
];
/// How keys end that say where a secret is, or whose: with `_` they are ours, with `.` librdkafka's.
const ELSEWHERE: [&str; 6] = ["_file", "_env", ".file", ".location", ".url", ".client.id"];

/// Whether the value of a setting of this name is a secret. However it is written: librdkafka's names are in small letters, and a key in
/// others that it refuses has a secret in it all the same.
pub(crate) fn names_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word)) && !ELSEWHERE.iter().any(|end| lower.ends_with(end))
}

/// `text` as it can be shown, without its comments; empty if it is no TOML.
pub(crate) fn shown(text: &str) -> String {
    let Ok(mut table) = text.parse::<Table>() else { return String::new() };
    table.iter_mut().for_each(|(key, value)| hide(key, value));
    toml::to_string(&table).unwrap_or_default()
}

fn hide(key: &str, value: &mut Value) {
    match value {
        // A token under [admin.tokens] is a table of its own, and has a digest only.
        Value::Table(table) => table.iter_mut().for_each(|(key, value)| hide(key, value)),
        Value::Array(items) => items.iter_mut().for_each(|value| hide(key, value)),
        Value::String(text) if names_secret(key) || is_private_key(text) => *text = HIDDEN.to_owned(),
        Value::String(text) => *text = without_password(text),
        // A password of digits needs no quotes.
        Value::Integer(_) | Value::Float(_) if names_secret(key) => *value = HIDDEN.into(),
        _ => {}
    }
}

/// Whether this is a key in PEM (RFC 7468), whatever it is called.
fn is_private_key(text: &str) -> bool {
    text.contains("-----BEGIN") && text.contains("PRIVATE KEY")
}

/// A URL without its password: before the host, or among its parameters.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
        Some((Some((user, _)), host)) => format!("{user}:{HIDDEN}@{host}"),
        _ => authority.to_owned(),
    };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let parameter = |one: &str| match one.split_once('=') {
        Some((name, _)) if names_secret(name) => format!("{name}={HIDDEN}"),
        _ => one.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(parameter).collect::<Vec<_>>().join("&"));
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    format!("{scheme}://{authority}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: no password is shown, wherever people put one; what says where a secret is, and everything else, is.
    #[test]
    fn no_secret_is_shown() {
        let text = r#"
            node = "edge-1"
            [admin.tokens.ops]
            sha256 = "e3b0"
            [sources.mqtt.plant]
            url = "mqtt://plant:hunter2@broker:1883"
            password_file = "mqtt.password"
            [sources.mqtt.other]
            url = "mqtt://plant:p@ss:hunter2@broker:1883"
            [sinks.timescale.db]
            url = "postgres://u:hunter2@a,b/telemetry?sslmode=require&password=hunter2"
            [sources.kafka.fleet.client]
            "sasl.password" = "hunter2"
            "ssl.key.Password" = "hunter2"
            "ssl.key.pem" = "hunter2"
            "sasl.jaas.config" = "username=fleet hunter2"
            "sasl.oauthbearer.config" = "principal=fleet hunter2"
            "sasl.oauthbearer.client.secret" = "hunter2"
            "sasl.oauthbearer.assertion.private.key.passphrase" = "hunter2"
            "some.option" = """-----BEGIN EC PRIVATE KEY-----
            hunter2
            -----END EC PRIVATE KEY-----"""
            "ssl.keystore.password" = 8472653
            "ssl.key.location" = "kept/key"
            "sasl.oauthbearer.token.endpoint.url" = "https://idp:hunter2@idp.example/token"
            "ssl.certificate.pem" = "-----BEGIN CERTIFICATE----- kept"
            "sasl.oauthbearer.assertion.private.key.file" = "kept/assertion"
            "sasl.username" = "fleet"
        "#;
        let told = shown(text);
        assert!(!told.contains("hunter2") && !told.contains("8472653"), "{told}");
        for kept in [
            "edge-1",
            "e3b0",
            "mqtt://plant:HIDDEN@broker:1883",
            "mqtt.password",
            "postgres://u:HIDDEN@a,b/telemetry?sslmode=require&password=HIDDEN",
            "fleet",
            "kept/key",
            "https://idp:HIDDEN@idp.example/token",
            "-----BEGIN CERTIFICATE----- kept",
            "kept/assertion",
        ] {
            assert!(told.contains(kept), "{kept} is gone: {told}");
        }
        assert_eq!(shown("= no"), "");
        assert_eq!(shown("a = \"x://y\"\n"), "a = \"x://y\"\n");
    }
}
