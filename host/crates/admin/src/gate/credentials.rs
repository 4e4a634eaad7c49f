//! Who is asking, and what that permits.
//!
//! A token is 256 random bits, so its sha256 is as good to keep as anything slow: what protects a password that a person chose (a
//! salt, argon2) protects it from being guessed, and this cannot be guessed. What is shown is digested, and digests are compared in
//! constant time with every token there is, so that time tells nothing of which comes close.

use std::net::IpAddr;
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tidegate_config::{Admin as Settings, Scope, Scopes};

use crate::gate::pace::Payer;
use crate::problem::Problem;

/// From whom a request came, as far as the connection tells.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub address: std::net::SocketAddr,
    /// The sha256 of the certificate it has shown, in hex; TLS has found it signed by an authority of ours.
    pub certificate: Option<String>,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// For the audit log: the token's name, never the token.
    pub who: String,
    pub scopes: Scopes,
    pub payer: Payer,
}

/// Who is known.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    tokens: Vec<Known>,
    /// What a certificate permits by itself.
    certificates: Scopes,
    /// Nobody needs any: this machine only, and none were set.
    open: bool,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    sha256: [u8; 32],
    scopes: Scopes,
    expires: Option<SystemTime>,
}

/// Why a caller is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    Missing,
    Wrong,
    Expired,
    /// It expires at some time, and nobody knows what time it is.
    Untimely,
}

impl Credentials {
    pub fn of(settings: &Settings) -> Self {
        let own = settings.token.as_ref().map(|token| Known {
            name: "token".to_owned(),
            sha256: Sha256::digest(token.reveal().as_bytes()).into(),
            scopes: Scopes::all(),
            expires: None,
        });
        let named = settings.tokens.iter().map(|token| Known {
            name: token.name.to_string(),
            sha256: token.sha256,
            scopes: token.scopes,
            expires: token.expires,
        });
        let tokens: Vec<Known> = own.into_iter().chain(named).collect();
        let authority = settings.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        let certificates = settings.tls.as_ref().map_or(Scopes::NONE, |tls| tls.client_scopes);
        let open = tokens.is_empty() && !authority && settings.listen.ip().is_loopback();
        Self { tokens, certificates, open }
    }

    /// How many callers there can be.
    pub fn payers(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nobody needs any: this machine only, and none were set.
    pub fn are_none(&self) -> bool {
        self.open
    }

    /// Refuses what a page of somebody else's has a browser send. `local`: it listens on this machine only. `reads`: it changes nothing.
    ///
    /// Where credentials are needed no name of this host matters: a page that has a name of its own lead here has none to show.
    pub fn refuse_foreign_pages(&self, headers: &HeaderMap, local: bool, reads: bool) -> Result<(), Problem> {
        refuse_foreign_pages(headers, local && self.open, reads && !self.open)
    }

    /// Who is asking, at the time `now`.
    pub fn caller(&self, headers: &HeaderMap, peer: &Peer, now: SystemTime) -> Result<Caller, Unknown> {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        match (shown.next(), shown.next()) {
            (Some(one), None) => self.holder(one.as_bytes(), now),
            (Some(_), Some(_)) => Err(Unknown::Wrong),
            (None, _) => match &peer.certificate {
                Some(sha256) if !self.certificates.is_empty() => {
                    let who = format!("certificate {}", sha256.get(..16).unwrap_or(sha256));
                    Ok(Caller { who, scopes: self.certificates, payer: Payer::Certificate(sha256.clone()) })
                }
                _ if self.open => {
                    Ok(Caller { who: "this machine".to_owned(), scopes: Scopes::all(), payer: Payer::Anybody })
                }
                _ => Err(Unknown::Missing),
            },
        }
    }

    fn holder(&self, authorization: &[u8], now: SystemTime) -> Result<Caller, Unknown> {
        let (scheme, token) = authorization.split_at_checked(7).ok_or(Unknown::Wrong)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Err(Unknown::Wrong);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (i, known) in self.tokens.iter().enumerate() {
            if bool::from(known.sha256.ct_eq(&digest)) {
                found = Some((i, known));
            }
        }
        let (i, known) = found.ok_or(Unknown::Wrong)?;
        match known.expires {
            Some(_) if !tidegate_model::is_set(now) => return Err(Unknown::Untimely),
            Some(expires) if expires <= now => return Err(Unknown::Expired),
            _ => {}
        }
        Ok(Caller { who: known.name.clone(), scopes: known.scopes, payer: Payer::Token(i) })
    }
}

impl Unknown {
    /// The word for it in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unknown::Missing => "nobody",
            Unknown::Wrong => "unknown",
            Unknown::Expired => "expired",
            Unknown::Untimely => "untimely",
        }
    }

    /// The answer. It does not tell an expired token from one that never was.
    pub fn problem(self) -> Problem {
        let (detail, challenge) = match self {
            Unknown::Missing => ("show a token: `Authorization: Bearer …`", "Bearer realm=\"tidegate\""),
            Unknown::Wrong | Unknown::Expired => (
                "this token is not valid, or no more; `tidegate token new` makes one",
                "Bearer realm=\"tidegate\", error=\"invalid_token\"",
            ),
            Unknown::Untimely => (
                "this token expires some day, and the clock of this host has not been set yet, so nobody can tell whether it has: set the clock",
                "Bearer realm=\"tidegate\", error=\"invalid_token\"",
            ),
        };
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).with(header::WWW_AUTHENTICATE, challenge)
    }
}

impl Caller {
    /// Refuses unless it has `scope`.
    pub fn allow(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.permit(scope) {
            return Ok(());
        }
        let challenge = format!("Bearer realm=\"tidegate\", error=\"insufficient_scope\", scope=\"{scope}\"");
        let detail = format!("this needs the scope `{scope}`, which {} has not", self.who);
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with(header::WWW_AUTHENTICATE, &challenge))
    }
}

/// Browsers say from which page a request comes; and against DNS rebinding, by which a name of an attacker's resolves to 127.0.0.1, the
/// Host header says which name was asked for. `harmless` is a read that a foreign page may cause, since it shows no credentials by itself
/// and so gets nothing; where none are needed, no request is.
fn refuse_foreign_pages(headers: &HeaderMap, local: bool, harmless: bool) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if local && text(header::HOST).is_some_and(|host| !names_this_machine(host)) {
        let detail = "the Host header names another machine; use 127.0.0.1 or localhost";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign_host", detail));
    }
    if harmless {
        return Ok(());
    }
    let own = match text(header::ORIGIN) {
        Some(origin) => {
            let host = text(header::HOST).unwrap_or_default();
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
        }
        // An image or a script, which have no origin. Who follows a link sees the answer himself.
        None => {
            let site = text(HeaderName::from_static("sec-fetch-site")).unwrap_or("none");
            let followed = text(HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
            matches!(site, "none" | "same-origin") || followed
        }
    };
    if own {
        return Ok(());
    }
    let detail = "a page of another origin may not ask for anything here";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", detail))
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    // An address, which no attacker's name server can make another of.
    name == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse::<HeaderName>().unwrap(), v.parse().unwrap())).collect()
    }

    fn known(name: &str, token: &str, scopes: &[Scope], expires: Option<SystemTime>) -> Known {
        let sha256 = Sha256::digest(token.as_bytes()).into();
        Known { name: name.to_owned(), sha256, scopes: scopes.iter().copied().collect(), expires }
    }

    fn peer(certificate: Option<&str>) -> Peer {
        Peer { address: ([127, 0, 0, 1], 9).into(), certificate: certificate.map(str::to_owned) }
    }

    /// Guarantees: of several tokens each is told by itself, and by nothing that comes close; an expired one is worth nothing.
    #[test]
    fn tokens_are_told_apart() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let credentials = Credentials {
            tokens: vec![
                known("a", "one", &[Scope::Read], None),
                known("b", "two", &[Scope::Rules], Some(now + Duration::from_secs(1))),
                known("c", "three", &[Scope::Admin], Some(now)),
            ],
            certificates: Scopes::NONE,
            open: false,
        };
        let who =
            |value: &str| credentials.caller(&headers(&[("authorization", value)]), &peer(None), now).map(|c| c.who);
        assert_eq!(who("Bearer one"), Ok("a".to_owned()));
        assert_eq!(who("bearer two"), Ok("b".to_owned()));
        assert_eq!(who("Bearer three"), Err(Unknown::Expired));
        for wrong in ["Bearer on", "Bearer one ", "Bearer  one", "Bearer ", "Basic one", "one", ""] {
            assert_eq!(who(wrong), Err(Unknown::Wrong), "{wrong:?}");
        }
        let twice = headers(&[("authorization", "Bearer one"), ("authorization", "Bearer two")]);
        assert_eq!(credentials.caller(&twice, &peer(None), now), Err(Unknown::Wrong));
        assert_eq!(credentials.caller(&headers(&[]), &peer(Some("ab")), now), Err(Unknown::Missing));
    }

    /// Guarantees: as long as the clock has not been set no token is good that expires at some time, and every other is.
    #[test]
    fn an_unset_clock() {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        let tokens = vec![known("a", "one", &[Scope::Read], None), known("b", "two", &[Scope::Read], Some(expires))];
        let credentials = Credentials { tokens, certificates: Scopes::NONE, open: false };
        let who = |value: &str, now| {
            credentials.caller(&headers(&[("authorization", value)]), &peer(None), now).map(|caller| caller.who)
        };
        let unset = SystemTime::UNIX_EPOCH + Duration::from_secs(77);
        assert_eq!(
            (who("Bearer one", unset), who("Bearer two", unset)),
            (Ok("a".to_owned()), Err(Unknown::Untimely))
        );
        assert_eq!(who("Bearer two", expires - Duration::from_secs(1)), Ok("b".to_owned()));
        assert_eq!(who("Bearer two", expires), Err(Unknown::Expired));
    }

    /// Guarantees: a certificate permits what is set for certificates; a wrong token beside it is not made good by it.
    #[test]
    fn certificates() {
        let now = SystemTime::UNIX_EPOCH;
        let credentials =
            Credentials { tokens: Vec::new(), certificates: [Scope::Read].into_iter().collect(), open: false };
        let caller = credentials.caller(&headers(&[]), &peer(Some("0123456789abcdef99")), now).unwrap();
        assert_eq!(caller.who, "certificate 0123456789abcdef");
        let other = credentials.caller(&headers(&[]), &peer(Some("0123456789abcdef00")), now).unwrap();
        assert_ne!(caller.payer, other.payer, "each has an account of its own");
        assert!(caller.allow(Scope::Read).is_ok() && caller.allow(Scope::Rules).is_err());
        let wrong = headers(&[("authorization", "Bearer x")]);
        assert_eq!(credentials.caller(&wrong, &peer(Some("ab")), now), Err(Unknown::Wrong));
        assert_eq!(credentials.caller(&headers(&[]), &peer(None), now), Err(Unknown::Missing));
    }

    /// Guarantees: no page that a browser on this machine happens to show can change anything, or read under a name of its own.
    #[test]
    fn pages_of_others() {
        let local =
            |pairs: &[(&'static str, &str)], harmless| refuse_foreign_pages(&headers(pairs), true, harmless).is_ok();
        assert!(local(&[("host", "127.0.0.1:8081")], false));
        assert!(local(&[("host", "[::1]:8081")], true));
        assert!(local(&[("host", "127.0.0.2:8081")], true), "it may listen there");
        assert!(!local(&[("host", "10.0.0.1:8081")], true) && !local(&[("host", "127.0.0.1.:80")], true));
        assert!(!local(&[("host", "evil.example")], true));
        assert!(!local(&[("host", "127.0.0.1.evil.example:80")], true));
        assert!(!local(&[("host", "127.0.0.1:8081"), ("origin", "http://evil.example")], false));
        assert!(!local(&[("host", "127.0.0.1:8081"), ("origin", "null")], false));
        assert!(local(&[("host", "127.0.0.1:8081"), ("origin", "http://127.0.0.1:8081")], false));
        assert!(local(&[("host", "127.0.0.1:8081"), ("origin", "http://evil.example")], true));
        for (site, mode, taken) in [
            ("cross-site", "no-cors", false),
            ("same-site", "no-cors", false),
            ("cross-site", "navigate", true),
            ("same-origin", "cors", true),
            ("none", "navigate", true),
        ] {
            let from = [("host", "127.0.0.1:8081"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            assert_eq!(local(&from, false), taken, "{site} {mode}");
        }
        let reached = headers(&[("host", "edge-1.plant:8081"), ("origin", "https://edge-1.plant:8081")]);
        assert!(refuse_foreign_pages(&reached, false, false).is_ok());
        // A proxy on this machine that passes on the name it was asked for: of use where credentials are needed.
        for open in [true, false] {
            let credentials = Credentials { tokens: Vec::new(), certificates: Scopes::NONE, open };
            assert_eq!(credentials.refuse_foreign_pages(&reached, true, false).is_ok(), !open);
        }
    }
}
