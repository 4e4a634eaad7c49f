//! As much of an HTTP client as asking a host takes: one request on one connection, plain or with TLS.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use url::{Host, Url};

use super::commands::in_commands;
use super::exchange::exchange;
use super::progress::{Passage, Telling};

/// How many addresses of a name are tried.
const MOST_ADDRESSES: usize = 8;
/// How long a host may take to be reached, at each of them.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long it may say nothing where it only tells something, or has something to tell from time to time.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take for anything else: many modules may be compiled first, lanes waited for, and others may come before.
const DONE_WITHIN: Duration = Duration::from_secs(600);
/// What the system trusts, on Debian and those like it.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One host, to be asked.
#[derive(Clone)]
pub struct Client {
    node: String,
    url: Url,
    token: Option<String>,
    tls: Option<Arc<ClientConfig>>,
    answer_within: Duration,
    done_within: Duration,
    telling: Telling,
}

/// A connection, plain or with TLS.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What is asked.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: &'static str,
    /// Below `/api/v1/`.
    pub path: String,
    pub body: Option<(&'static str, &'a [u8])>,
    pub if_match: Option<String>,
}

/// Why a host did not do it.
#[derive(Clone, Debug)]
pub struct Refusal(Value);

impl Client {
    /// # Errors
    /// The address is none; or the token would cross a network unencrypted, and `insecure` does not allow that.
    pub fn new(
        node: &str,
        token: Option<String>,
        tls: Option<Arc<ClientConfig>>,
        insecure: bool,
    ) -> anyhow::Result<Self> {
        let url: Url =
            node.parse().with_context(|| format!("{node:?} is no address of a host, as http://127.0.0.1:8081 is"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            bail!("{node:?} is no address of a host, as http://127.0.0.1:8081 is");
        }
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if token.is_some() && url.scheme() == "http" && !here && !insecure {
            bail!(
                "the token would cross the network to {node} in plain text; use https://, or --insecure where something else encrypts it"
            );
        }
        let (node, telling) = (node.to_owned(), Telling::Nothing);
        Ok(Self { node, url, token, tls, answer_within: ANSWER_WITHIN, done_within: DONE_WITHIN, telling })
    }

    /// The same, telling how far is what takes long.
    pub fn telling(self, telling: Telling) -> Self {
        Self { telling, ..self }
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    /// Asks for what is below `/api/v1/`.
    pub fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.send(&Request { method: "GET", path: path.to_owned(), body: None, if_match: None })
    }

    /// Asks; gives the answer's JSON.
    pub fn send(&self, request: &Request<'_>) -> Result<Value, Refusal> {
        self.send_with(request, self.telling)
    }

    /// The same where something else tells how far it is.
    pub fn send_untold(&self, request: &Request<'_>) -> Result<Value, Refusal> {
        self.send_with(request, Telling::Nothing)
    }

    fn send_with(&self, request: &Request<'_>, telling: Telling) -> Result<Value, Refusal> {
        let (status, body) = self.answer(request, telling)?;
        match status {
            204 => Ok(json!({ "status": status })),
            // Something else may listen there, and have a page for everybody.
            _ => serde_json::from_slice(&body).map_err(|_| not_a_host(status)),
        }
    }

    /// Asks for what is below `/api/v1/`, as it is.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        let request = Request { method: "GET", path: path.to_owned(), body: None, if_match: None };
        Ok(self.answer(&request, self.telling)?.1)
    }

    /// Status and body of what is no refusal.
    fn answer(&self, request: &Request<'_>, telling: Telling) -> Result<(u16, Vec<u8>), Refusal> {
        let asks = request.method == "GET";
        let within = if asks { self.answer_within } else { self.done_within };
        let stream = self.connect(within).map_err(|error| Refusal::unreachable(&format!("{error:#}")));
        let (head, body) = (self.head(request, "1.1"), request.body.map(|(_, bytes)| bytes));
        let exchanged = exchange(&mut stream?, &head, body, |what, all| Passage::new(telling, &self.node, what, all));
        let (status, body) = exchanged.map_err(|error| match (asks, timed_out(&error)) {
            // Nothing of the request was sent.
            _ if speaks_no_tls(&error) => Refusal::unreachable("it does not speak TLS; is it http:// there?"),
            (true, true) => Refusal::new(
                "no_answer",
                &format!("it has not answered within {} s; it may be busy", within.as_secs()),
            ),
            (true, false) => Refusal::unreachable(&format!("{error:#}")),
            (false, true) => Refusal::no_answer(&format!("it has not answered within {} s", within.as_secs())),
            (false, false) => Refusal::no_answer(&format!("{error:#}")),
        })?;
        if (200..=299).contains(&status) {
            return Ok((status, body));
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(problem) if problem.is_object() => Err(Refusal(problem)),
            _ => Err(not_a_host(status)),
        }
    }

    /// Asks for what goes on while there is news; gives what reads the answer, head and all. In HTTP/1.0, in which it comes as it is and
    /// not in chunks.
    pub fn open(&self, path: &str) -> anyhow::Result<impl Read + use<>> {
        let mut stream = self.connect(ANSWER_WITHIN)?;
        let request = Request { method: "GET", path: path.to_owned(), body: None, if_match: None };
        stream.write_all(self.head(&request, "1.0").as_bytes())?;
        stream.flush()?;
        Ok(stream)
    }

    fn connect(&self, within: Duration) -> anyhow::Result<Box<dyn Stream>> {
        let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or(80));
        // Brackets belong to the address in a URL, and not to the address.
        let name = host.trim_matches(['[', ']']);
        let addresses = (name, port).to_socket_addrs().context("its name cannot be resolved")?;
        let stream = reach(addresses.take(MOST_ADDRESSES))?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        if self.url.scheme() == "http" {
            return Ok(Box::new(stream));
        }
        let config = self.tls.clone().context("there are no certificates to trust; name some with --ca-file")?;
        let connection = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }

    fn head(&self, request: &Request<'_>, version: &str) -> String {
        let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or(80));
        let base = self.url.path().trim_end_matches('/');
        let mut head = format!(
            "{} {base}/api/v1/{} HTTP/{version}\r\nHost: {host}:{port}\r\nConnection: close\r\n",
            request.method, request.path
        );
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(tag) = &request.if_match {
            // A tag is quoted; who copies it from a table may have left that out.
            let quoted = tag.starts_with('"') || tag.starts_with("W/") || tag == "*";
            head += &if quoted { format!("If-Match: {tag}\r\n") } else { format!("If-Match: \"{tag}\"\r\n") };
        }
        let (kind, length) = request.body.map_or((None, 0), |(kind, bytes)| (Some(kind), bytes.len()));
        kind.into_iter().for_each(|kind| head += &format!("Content-Type: {kind}\r\n"));
        head + &format!("Content-Length: {length}\r\n\r\n")
    }
}

fn not_a_host(status: u16) -> Refusal {
    Refusal::unreachable(&format!("it answers {status}, and not as a Tidegate host does"))
}

/// A connection to the first address that takes one: `localhost` may be `::1` first, where a host on 127.0.0.1 does not listen.
fn reach(addresses: impl Iterator<Item = SocketAddr>) -> anyhow::Result<TcpStream> {
    let mut failed = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.context("its name has no address")?).context("it cannot be reached")
}

fn timed_out(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
}

fn speaks_no_tls(error: &anyhow::Error) -> bool {
    let tls = |error: &std::io::Error| error.get_ref()?.downcast_ref::<rustls::Error>().cloned();
    let told = error.chain().find_map(|cause| tls(cause.downcast_ref()?));
    matches!(told, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

/// What TLS connections trust and show; none if the system trusts nobody, which is an error only where TLS is spoken.
pub fn tls(authorities: Option<&Path>, own: Option<(&Path, &Path)>) -> anyhow::Result<Option<Arc<ClientConfig>>> {
    let file = authorities.unwrap_or(Path::new(SYSTEM_CERTIFICATES));
    let mut roots = RootCertStore::empty();
    match CertificateDer::pem_file_iter(file) {
        Ok(certificates) => drop(roots.add_parsable_certificates(certificates.filter_map(Result::ok))),
        Err(error) if authorities.is_some() => bail!("{} cannot be used: {error}", file.display()),
        Err(_) => {}
    }
    if roots.is_empty() {
        if authorities.is_some() {
            bail!("{} has no certificate", file.display());
        }
        return Ok(None);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
        }
    };
    Ok(Some(Arc::new(config)))
}

impl Refusal {
    /// What a host has said.
    pub fn of(problem: Value) -> Self {
        Self(problem)
    }

    /// What we say ourselves, in the same form.
    pub fn new(code: &str, detail: &str) -> Self {
        Self(json!({ "code": code, "detail": detail }))
    }

    pub fn unreachable(detail: &str) -> Self {
        Self::new("unreachable", detail)
    }

    /// What was asked for has reached the host, and nobody can tell what came of it.
    fn no_answer(why: &str) -> Self {
        Self::new(
            "no_answer",
            &format!(
                "{why}; what was to be done may be done all the same: `tidegate rules show` and `tidegate audit` tell"
            ),
        )
    }

    /// The word for it.
    pub fn code(&self) -> &str {
        self.0["code"].as_str().unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        self.0.clone()
    }
}

impl fmt::Display for Refusal {
    /// A line, and one more for each mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Value, key: &str| {
            in_commands(&value[key].as_str().unwrap_or_default().replace(char::is_control, " "))
        };
        f.write_str(&text(&self.0, "detail"))?;
        for mistake in self.0["errors"].as_array().into_iter().flatten() {
            let detail = text(mistake, "detail");
            match text(mistake, "pointer") {
                _ if detail == text(&self.0, "detail") => {}
                // Of the whole.
                pointer if pointer.is_empty() => write!(f, "\n  {detail}")?,
                pointer => write!(f, "\n  {pointer}: {detail}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
