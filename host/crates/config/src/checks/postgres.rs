//! `[sinks.timescale.…]`.

use url::Url;

use super::Checker;
use crate::document::Place;
use crate::nearest::suggest;
use crate::raw::RawTimescaleSink;
use crate::settings::{Secret, TimescaleSink};

/// What tokio-postgres 0.7 takes after the `?` of a URL (`tokio_postgres::Config`, "Keys").
const PARAMETERS: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

const EXAMPLE: &str = "\"postgres://tidegate@127.0.0.1:5432/plant\"";

impl Checker<'_> {
    pub(super) fn timescale_sink(&mut self, place: &Place, raw: RawTimescaleSink) -> TimescaleSink {
        let at = place.key("url");
        let password = self.secret(place, "password", raw.password_file, raw.password_env);
        let has_files = raw.ca_file.is_some() || raw.cert_file.is_some() || raw.key_file.is_some();
        let tls = self.tls(place, raw.ca_file, raw.cert_file, raw.key_file);
        let text = self.required(place, "url", raw.url, EXAMPLE);
        // The text is not repeated in errors: a password may stand in it.
        let url = match Url::parse(&text) {
            _ if text.is_empty() => Secret::new(""),
            Ok(url) => self.database_url(&at, url, password, has_files),
            Err(error) => {
                self.error(&at, format!("this is no URL: {error}"), format!("write url = {EXAMPLE}"));
                Secret::new("")
            }
        };
        let table = raw.table.unwrap_or_else(|| "metrics".to_owned());
        if !is_table(&table) {
            self.error(
                &place.key("table"),
                format!("`{table}` is no name of a table"),
                "use up to 63 letters, digits and `_`, not beginning with a digit; `schema.table` if need be",
            );
        }
        TimescaleSink {
            url,
            tls,
            table,
            manage_schema: raw.manage_schema.unwrap_or(true),
            max_rows: self.number(place, "max_rows", raw.max_rows, 5000, 1..=100_000),
            statement_timeout: self.seconds(place, "statement_timeout_s", raw.statement_timeout_s, 30, 1..=600),
        }
    }

    fn database_url(&mut self, at: &Place, mut url: Url, password: Option<Secret>, has_files: bool) -> Secret {
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            let what = format!("`{}` is no way to reach PostgreSQL", url.scheme());
            self.error(at, what, format!("write url = {EXAMPLE}"));
            return Secret::new("");
        }
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let find = |name: &str| parameters.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        for (key, _) in parameters.iter().filter(|(key, _)| !PARAMETERS.contains(&key.as_str())) {
            self.error(at, format!("`{key}` is no parameter of the URL"), suggest(key, PARAMETERS));
        }
        if url.host_str().is_none_or(str::is_empty) && find("host").is_none() && find("hostaddr").is_none() {
            self.error(at, "the URL names no host", format!("write url = {EXAMPLE}"));
        }
        if url.path().len() < 2 && find("dbname").is_none() {
            self.error(at, "the URL names no database", format!("write url = {EXAMPLE}"));
        }
        if url.username().is_empty() && find("user").is_none() {
            self.error(at, "the URL names no user", format!("write url = {EXAMPLE}"));
        }
        match find("sslmode").as_deref() {
            None | Some("disable" | "prefer") if has_files => {
                self.error(at, "there are TLS files, but the URL does not ask for TLS", "add ?sslmode=require");
            }
            None | Some("disable" | "prefer" | "require") => {}
            Some("verify-ca" | "verify-full") => self.error(
                at,
                "this sslmode is not taken",
                "write sslmode=require: the certificate and the host's name are checked with it, always",
            ),
            Some(other) => {
                self.error(
                    at,
                    format!("there is no sslmode `{other}`"),
                    suggest(other, &["disable", "prefer", "require"]),
                );
            }
        }
        let inside = url.password().is_some() || find("password").is_some();
        match password {
            Some(_) if inside => {
                self.error(at, "the password is given twice: in `url` and by its own key", "take it out of the URL");
            }
            // Without a host in its authority (a Unix socket) a URL takes no password there.
            Some(password) if url.set_password(Some(password.reveal())).is_err() => {
                let joint = if url.query().is_some() { '&' } else { '?' };
                return Secret::new(format!("{url}{joint}password={}", encoded(password.reveal())));
            }
            Some(_) => {}
            None if inside => {
                self.warn(at, "a password stands in the URL", "keep it apart: `password_file` or `password_env`");
            }
            None => {}
        }
        Secret::new(url)
    }
}

/// Whether `text` can stand in SQL as the name of a table: `^[A-Za-z_][A-Za-z0-9_]{0,62}$`, with a schema before it or not.
fn is_table(text: &str) -> bool {
    let is_part = |part: &str| {
        part.len() <= 63
            && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.split('.').count() <= 2 && text.split('.').all(is_part)
}

/// `text` with everything but letters and digits as `%xx`.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
