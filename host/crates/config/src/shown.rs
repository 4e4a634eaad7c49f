//! A configuration that can be shown: without what is secret in it.
//!
//! Secrets proper are in files and variables of their own, which the configuration only names. What people write into it all the same is in
//! URLs, or among the free settings of a client library.

use toml::{Table, Value};

/// What stands where a secret was.
const HIDDEN: &str = "HIDDEN";
/// A key with one of these in it has a secret for its value, unless it says where that is.
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "secret", "token", "credential"];
/// How keys end that say where a secret is.
const ELSEWHERE: [&str; 2] = ["_file", "_env"];

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
        Value::String(text) => {
            let lower = key.to_ascii_lowercase();
            let secret = SECRET_WORDS.iter().any(|word| lower.contains(word));
            if secret && !ELSEWHERE.iter().any(|end| lower.ends_with(end)) {
                *text = HIDDEN.to_owned();
            } else {
                *text = without_password(text);
            }
        }
        _ => {}
    }
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
        Some((name, _)) if SECRET_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word)) => {
            format!("{name}={HIDDEN}")
        }
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
            "sasl.username" = "fleet"
        "#;
        let told = shown(text);
        assert!(!told.contains("hunter2"), "{told}");
        for kept in [
            "edge-1",
            "e3b0",
            "mqtt://plant:HIDDEN@broker:1883",
            "mqtt.password",
            "postgres://u:HIDDEN@a,b/telemetry?sslmode=require&password=HIDDEN",
            "fleet",
        ] {
            assert!(told.contains(kept), "{kept} is gone: {told}");
        }
        assert_eq!(shown("= no"), "");
        assert_eq!(shown("a = \"x://y\"\n"), "a = \"x://y\"\n");
    }
}
