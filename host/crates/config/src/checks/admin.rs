//! `[admin]`: nobody from elsewhere may change anything by an oversight.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Checker;
use crate::document::Place;
use crate::raw::{RawAdmin, RawToken};
use crate::settings::{Admin, AdminTls, Changes, Scopes, Token, unhex};

/// A token in plain text on an address that others can reach is no shorter; below it, it can be guessed.
const LEAST_TOKEN: usize = 16;
/// Each is compared at each request.
const MOST_TOKENS: usize = 1_000;
/// The words by which somebody says that they know what they do.
const BEHIND_A_PROXY: &str = "yes, behind a proxy";
/// The sha256 of no bytes: an empty variable in a script that makes tokens.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Checker<'_> {
    pub(super) fn admin(&mut self, place: &Place, mut raw: RawAdmin) -> Admin {
        let listen = self.address(place, "listen", raw.listen.take());
        let listen = listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)));
        let probes = self.address(place, "probes_listen", raw.probes_listen.take());
        if probes.is_some_and(|probes| probes == listen && probes.port() != 0) {
            let what = format!("`probes_listen` is {listen}, which is what `listen` is");
            self.error(&place.key("probes_listen"), what, "choose another port, or remove the line");
        }
        let insecure = self.insecure(place, raw.insecure.as_deref());
        let named = raw.token_file.is_some() || raw.token_env.is_some();
        let token = self.secret(place, "token", raw.token_file.take(), raw.token_env.take());
        let written = !raw.tokens.is_empty();
        if raw.tokens.len() > MOST_TOKENS {
            let what = format!("there are {} tokens", raw.tokens.len());
            self.error(&place.key("tokens"), what, format!("keep no more than {MOST_TOKENS}"));
        }
        let at = place.key("tokens");
        let tokens: Vec<Token> = std::mem::take(&mut raw.tokens)
            .into_iter()
            .take(MOST_TOKENS)
            .filter_map(|(name, token)| self.token(&at.key(&name), &name, token))
            .collect();
        for (i, token) in tokens.iter().enumerate() {
            let Some(same) = tokens.iter().take(i).find(|other| other.sha256 == token.sha256) else { continue };
            let what = format!(
                "the token `{}` is `{}` as well, so nobody can say whose rights it has",
                token.name, same.name
            );
            self.error(
                &at.key(token.name.as_str()).key("sha256"),
                what,
                "make another with `tidegate token new`, or remove one of them",
            );
        }
        let wants_tls = raw.cert_file.is_some() || raw.key_file.is_some() || raw.client_ca_file.is_some();
        let tls = self.admin_tls(place, &mut raw);
        if !listen.ip().is_loopback() {
            let at = place.key("listen");
            let certificates = tls.as_ref().is_some_and(|tls| !tls.client_scopes.is_empty());
            match &token {
                None if !named && !written && !certificates => self.error(
                    &at,
                    format!("{listen} can be reached from other machines, and there is no token"),
                    "make one with `tidegate token new`, or listen on 127.0.0.1",
                ),
                Some(token) if token.reveal().len() < LEAST_TOKEN => self.error(
                    &at,
                    format!("the token is shorter than {LEAST_TOKEN} characters, so it can be guessed"),
                    "make one with `openssl rand -hex 32`",
                ),
                _ => {}
            }
            if !wants_tls && !insecure {
                self.error(
                    &at,
                    format!("{listen} can be reached from other machines, and tokens would cross the network in plain text"),
                    format!("set `cert_file` and `key_file`; or, if a proxy in front has TLS, insecure = \"{BEHIND_A_PROXY}\""),
                );
            }
        }
        let nobody = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some() && tls.client_scopes.is_empty());
        if nobody && listen.ip().is_loopback() && !named && !written {
            self.error(
                &place.key("client_ca_file"),
                "callers' certificates permit nothing by themselves, and there is no token, so nobody may ask for anything",
                "say by `client_scopes` what they permit, or make a token with `tidegate token new`",
            );
        }
        Admin {
            listen,
            token,
            tokens,
            tls,
            changes: if raw.readonly.unwrap_or(false) { Changes::Refused } else { Changes::Allowed },
            probes,
            max_connections: self.number(place, "max_connections", raw.max_connections, 1024, 1..=65_536),
            requests_per_s: self.number(place, "requests_per_s", raw.requests_per_s, 500, 1..=100_000),
        }
    }

    fn address(&mut self, place: &Place, key: &str, text: Option<String>) -> Option<SocketAddr> {
        let text = text?;
        let address = text.replace("localhost:", "127.0.0.1:").parse().ok();
        if address.is_none() {
            self.error(
                &place.key(key),
                format!("`{text}` is no address to listen on"),
                "write an IP address and a port, as in \"127.0.0.1:8081\" or \"[::1]:8081\"",
            );
        }
        address
    }

    fn insecure(&mut self, place: &Place, words: Option<&str>) -> bool {
        if words.is_some_and(|words| words != BEHIND_A_PROXY) {
            let todo = format!("write insecure = \"{BEHIND_A_PROXY}\" if that is so, or remove the line");
            self.error(&place.key("insecure"), "`insecure` says something else than it can", todo);
        }
        words.is_some()
    }

    fn token(&mut self, place: &Place, name: &str, raw: RawToken) -> Option<Token> {
        let name = self.name(place, name);
        let sha256 = self.required(place, "sha256", raw.sha256, "\"…\", as `tidegate token new` prints it");
        let digest = unhex(&sha256);
        if digest.is_none() && !sha256.is_empty() {
            let todo = "make one with `tidegate token new`, which prints what to write here; the token itself does not belong here";
            self.error(&place.key("sha256"), "`sha256` is no sha256 in 64 hexadecimal digits", todo);
        }
        if sha256.eq_ignore_ascii_case(OF_NOTHING) {
            let todo = "make one with `tidegate token new`, which prints what to write here";
            self.error(&place.key("sha256"), "`sha256` is that of an empty token, which is no secret", todo);
        }
        let scopes = match raw.scopes {
            Some(words) => self.scopes(&place.key("scopes"), &words),
            None => {
                self.missing(place, "scopes", "[\"read\"]");
                Scopes::NONE
            }
        };
        let expires = raw.expires.and_then(|text| {
            let time = instant(&text);
            if time.is_none() {
                let todo = "write a day or a time, UTC, as in \"2027-01-31\" or \"2027-01-31T12:00:00Z\"";
                self.error(&place.key("expires"), format!("`{text}` is no time"), todo);
            }
            time
        });
        if expires.is_some_and(|time| time <= SystemTime::now()) {
            let what = format!("the token `{name}` is valid no more");
            self.warn(place, what, "remove it, or make another with `tidegate token new`");
        }
        Some(Token { name, sha256: digest?, scopes, expires })
    }

    fn scopes(&mut self, place: &Place, words: &[String]) -> Scopes {
        if words.is_empty() {
            self.error(
                place,
                "no scope is named, so nothing would be permitted",
                "name some of read, rules, data and admin",
            );
        }
        let mut scopes = Vec::new();
        for (i, word) in words.iter().enumerate() {
            match word.parse() {
                Ok(scope) => scopes.push(scope),
                Err(_) => {
                    self.error(
                        &place.item(i),
                        format!("`{word}` is no scope"),
                        "choose of read, rules, data and admin",
                    );
                }
            }
        }
        scopes.into_iter().collect()
    }

    fn admin_tls(&mut self, place: &Place, raw: &mut RawAdmin) -> Option<AdminTls> {
        if raw.client_ca_file.is_some() && raw.cert_file.is_none() && raw.key_file.is_none() {
            let todo = "name both files: callers' certificates are asked for within TLS";
            self.error(&place.key("client_ca_file"), "`client_ca_file` needs `cert_file` and `key_file`", todo);
        }
        let client_scopes = match raw.client_scopes.take() {
            Some(words) => {
                if raw.client_ca_file.is_none() {
                    let what = "`client_scopes` needs `client_ca_file`: no caller's certificate would be asked for";
                    self.error(&place.key("client_scopes"), what, "name the authority, or remove the line");
                }
                self.scopes(&place.key("client_scopes"), &words)
            }
            None => Scopes::NONE,
        };
        let files = self.tls(place, None, raw.cert_file.take(), raw.key_file.take());
        let authority = raw.client_ca_file.take().and_then(|file| self.pem(&place.key("client_ca_file"), &file));
        Some(AdminTls {
            cert_file: files.cert_file?,
            key_file: files.key_file?,
            client_ca_file: authority,
            client_scopes,
        })
    }
}

/// A day (its beginning) or a time with its offset.
fn instant(text: &str) -> Option<SystemTime> {
    let parsed: toml::value::Datetime = text.parse().ok()?;
    let date = parsed.date?;
    let seconds = match (parsed.time, parsed.offset) {
        (None, _) => 0,
        (Some(time), Some(offset)) => {
            let minutes = match offset {
                toml::value::Offset::Z => 0,
                toml::value::Offset::Custom { minutes } => i64::from(minutes),
            };
            i64::from(time.hour) * 3600 + (i64::from(time.minute) - minutes) * 60 + i64::from(time.second)
        }
        (Some(_), None) => return None,
    };
    let since = days(date.year.into(), date.month.into(), date.day.into()) * 86_400 + seconds;
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(since).ok()?))
}

/// Days since 1970-01-01 of a day in the Gregorian calendar: years counted from March, in eras of 400 of them.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: days and times are read as they are meant, and nothing that is open to question.
    #[test]
    fn instants() {
        let seconds = |text| instant(text).and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs());
        assert_eq!(seconds("1970-01-01"), Some(0));
        assert_eq!(seconds("2024-02-29"), Some(1_709_164_800));
        assert_eq!(seconds("2027-01-31T12:00:00Z"), Some(1_801_396_800));
        assert_eq!(seconds("2027-01-31T14:00:00+02:00"), Some(1_801_396_800));
        for text in ["2027-01-31T12:00:00", "12:00:00", "2027-13-01", "soon", "", "1969-12-31"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
