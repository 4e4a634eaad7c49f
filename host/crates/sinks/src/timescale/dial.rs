//! Reaching the database: host by host and address by address, each in bounded time.
//!
//! tokio-postgres goes over the hosts of a URL by itself, but bounds only the making of a TCP connection: a host that takes one and
//! then says nothing (a frozen machine, a load balancer with nothing behind it) would keep it from the next host. So each address is
//! given to it alone, with one limit for all that comes before the first statement: the connection, TLS, the password, and whether
//! the server takes writes.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tidegate_config::TimescaleSink;
use tidegate_model::SinkError;
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::{Fault, with_causes};
use crate::tls;

/// How long the only address may take, unless the URL says `connect_timeout`.
const ONLY_LIMIT: Duration = Duration::from_secs(10);
/// The same where others wait to be tried.
const EACH_LIMIT: Duration = Duration::from_secs(5);
/// More addresses of one name are not tried.
const MOST_ADDRESSES: usize = 8;
/// A peer that is gone without a word is noticed in idle + interval × retries = 25 s, and at once when data stays unacknowledged as long.
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
pub(super) const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(25);

/// A connection, and the task that moves its bytes, which ends with it and then tells why.
pub(super) type Dialled = (Client, JoinHandle<Option<String>>);

/// Which host of a URL was reached last, by its place in it: the next connection tries that one first, and waits for none that was away before.
#[derive(Debug, Default)]
pub(super) struct LastHost(AtomicUsize);

impl LastHost {
    /// So many hosts in the order of the URL, but for this one at the beginning.
    fn first_of(&self, hosts: usize) -> Vec<usize> {
        let last = self.0.load(Relaxed);
        let mut order: Vec<usize> = (0..hosts).collect();
        // The order among the others stays, since it may be meant.
        order.sort_by_key(|&host| host != last);
        order
    }
}

/// One address of a host.
struct Address {
    /// For messages.
    called: String,
    config: Config,
}

/// A connection to the first address that answers, lets us in, and takes writes where there are several hosts; `last` is asked where to begin, and
/// told which host it was.
pub(super) async fn dial(settings: &TimescaleSink, last: &LastHost) -> Result<Dialled, Fault> {
    let config = config(settings)?;
    let tls = match config.get_ssl_mode() {
        SslMode::Require => {
            let tls = tls::client(&settings.tls).map_err(|error| Fault::Operator(error.to_string()))?;
            Some(MakeRustlsConnect::new(tls))
        }
        _ => None,
    };
    let mut order = last.first_of(hosts(&config)?);
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        fastrand::shuffle(&mut order);
    }
    let others = order.len() > 1;
    let mut tried = Vec::new();
    for host in order {
        let addresses = match addresses(&config, host).await {
            Ok(addresses) => addresses,
            Err(fault) => {
                tried.push((called(&config, host), fault));
                continue;
            }
        };
        let several = others || addresses.len() > 1;
        let usual = if several { EACH_LIMIT } else { ONLY_LIMIT };
        let limit = config.get_connect_timeout().copied().unwrap_or(usual);
        for Address { called, config } in addresses {
            let config = takes_writes(config, several);
            let opened = match &tls {
                Some(tls) => open(&config, tls.clone(), limit).await,
                None => open(&config, NoTls, limit).await,
            };
            match opened {
                Ok(dialled) => {
                    last.0.store(host, Relaxed);
                    return Ok(dialled);
                }
                Err(fault) => tried.push((called, fault)),
            }
        }
    }
    Err(of_all(tried))
}

/// Of several hosts, or addresses of one name, the one that takes writes, unless the URL says otherwise.
fn takes_writes(mut config: Config, several: bool) -> Config {
    if several && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config
}

async fn open<T>(config: &Config, tls: T, limit: Duration) -> Result<Dialled, Fault>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let opened = timeout(limit, config.connect(tls)).await.map_err(|_| Fault::Silent(limit))?;
    let (client, connection) = opened?;
    let carrier = tidegate_telemetry::spawn("database-connection", async move {
        connection.await.err().map(|error| with_causes(&error))
    });
    Ok((client, carrier))
}

/// What the URL says, and what we want where it says nothing.
fn config(settings: &TimescaleSink) -> Result<Config, Fault> {
    let url = settings.url.reveal();
    // The error is not shown: it could quote the URL, and with it the password.
    let mut config = Config::from_str(url).map_err(|_| {
        Fault::Operator("its URL is not understood: give postgres://user@host:port/database?sslmode=…".to_owned())
    })?;
    if config.get_application_name().is_none() {
        config.application_name("tidegate");
    }
    // This one has a default, which cannot be told from the same number written.
    if !url.contains("keepalives_idle") {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    Ok(config)
}

/// How many hosts are named.
fn hosts(config: &Config) -> Result<usize, Fault> {
    let (names, addresses, ports) =
        (config.get_hosts().len(), config.get_hostaddrs().len(), config.get_ports().len());
    let hosts = names.max(addresses);
    if hosts == 0 || (names > 0 && addresses > 0 && names != addresses) || (ports > 1 && ports != hosts) {
        return Err(Fault::Operator(format!(
            "its URL names {names} hosts, {addresses} addresses and {ports} ports: give one at least, and as many of each"
        )));
    }
    Ok(hosts)
}

fn port(config: &Config, host: usize) -> u16 {
    let ports = config.get_ports();
    // One port may stand for all hosts.
    ports.get(host).or(ports.first()).copied().unwrap_or(5432)
}

fn called(config: &Config, host: usize) -> String {
    let name = match (config.get_hosts().get(host), config.get_hostaddrs().get(host)) {
        (Some(Host::Tcp(name)), _) => name.clone(),
        #[cfg(unix)]
        (Some(Host::Unix(path)), _) => path.display().to_string(),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => String::new(),
    };
    format!("{name}:{}", port(config, host))
}

/// The addresses of a host, each as if it were the only one of the URL.
async fn addresses(config: &Config, host: usize) -> Result<Vec<Address>, Fault> {
    let called = called(config, host);
    let ips = match (config.get_hostaddrs().get(host), config.get_hosts().get(host)) {
        (Some(&ip), _) => vec![Some(ip)],
        (None, Some(Host::Tcp(name))) => {
            let limit = config.get_connect_timeout().copied().unwrap_or(EACH_LIMIT);
            let found = timeout(limit, lookup_host((name.as_str(), port(config, host)))).await;
            let found =
                found.map_err(|_| Fault::Passing("the name of the host cannot be looked up now".to_owned()))?;
            let found = found.map_err(|error| Fault::Passing(format!("error connecting to server: {error}")))?;
            found.take(MOST_ADDRESSES).map(|address| Some(address.ip())).collect()
        }
        (None, _) => vec![None],
    };
    if ips.is_empty() {
        return Err(Fault::Passing("the name of the host has no address".to_owned()));
    }
    let several = ips.len() > 1;
    let address = |ip: Option<IpAddr>| {
        let called = match ip {
            Some(ip) if several => format!("{called} ({ip})"),
            _ => called.clone(),
        };
        Address { called, config: alone(config, host, ip) }
    };
    Ok(ips.into_iter().map(address).collect())
}

/// `of` with this host alone, at this address.
fn alone(of: &Config, host: usize, ip: Option<IpAddr>) -> Config {
    let mut one = Config::new();
    match of.get_hosts().get(host) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        #[cfg(unix)]
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(ip) = ip {
        one.hostaddr(ip);
    }
    one.port(port(of, host));
    if let Some(user) = of.get_user() {
        one.user(user);
    }
    if let Some(password) = of.get_password() {
        one.password(password);
    }
    if let Some(database) = of.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = of.get_options() {
        one.options(options);
    }
    if let Some(name) = of.get_application_name() {
        one.application_name(name);
    }
    if let Some(limit) = of.get_connect_timeout() {
        one.connect_timeout(*limit);
    }
    if let Some(limit) = of.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    if let Some(interval) = of.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = of.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(of.get_keepalives())
        .keepalives_idle(of.get_keepalives_idle())
        .ssl_mode(of.get_ssl_mode())
        .ssl_negotiation(of.get_ssl_negotiation())
        .channel_binding(of.get_channel_binding())
        .target_session_attrs(of.get_target_session_attrs());
    one
}

/// What is said when no address would do: all of it, or what somebody has to act on.
fn of_all(mut tried: Vec<(String, Fault)>) -> Fault {
    if tried.len() == 1
        && let Some((_, fault)) = tried.pop()
    {
        return fault;
    }
    let mut said = Vec::new();
    for (called, fault) in tried {
        match fault.into_sink_error(&called) {
            SinkError::NeedsOperator(text) => return Fault::Operator(text),
            SinkError::Retry(text) | SinkError::WentBack(text) => said.push(text),
        }
    }
    Fault::Passing(said.join("; "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tidegate_config::Secret;

    fn of(url: &str) -> Config {
        config(&TimescaleSink::new(Secret::new(url))).unwrap()
    }

    /// Guarantees: an address that is tried alone is asked for all that the URL says, but for the other hosts; compared by what a `Config` shows
    /// of itself, so also for keys that a later version of the driver brings.
    #[test]
    fn alone_is_the_same() {
        let keys = "options=-c%20x%3D1&application_name=a&sslmode=require&sslnegotiation=direct&connect_timeout=3&tcp_user_timeout=4\
                    &keepalives=0&keepalives_idle=5&keepalives_interval=6&keepalives_retries=7&target_session_attrs=read-only&channel_binding=require";
        let one = of(&format!("postgres://u:p@b:2/d?{keys}"));
        let several = of(&format!("postgres://u:p@a:1,b:2/d?{keys}"));
        assert_eq!(format!("{:?}", alone(&several, 1, None)), format!("{one:?}"));
        assert_eq!(alone(&several, 1, None), one);
    }

    /// Guarantees: the host that was reached last comes first, and the others in the order of the URL.
    #[test]
    fn the_last_one_first() {
        let last = LastHost::default();
        assert_eq!(last.first_of(3), [0, 1, 2]);
        last.0.store(2, Relaxed);
        assert_eq!(last.first_of(3), [2, 0, 1]);
    }

    /// Guarantees: of several hosts or addresses one that takes writes is asked for, and what the URL says stays.
    #[test]
    fn one_that_takes_writes() {
        let asked = |url: &str, several| takes_writes(of(url), several).get_target_session_attrs();
        assert_eq!(asked("postgres://u@h/d", true), TargetSessionAttrs::ReadWrite);
        assert_eq!(asked("postgres://u@h/d", false), TargetSessionAttrs::Any);
        assert_eq!(asked("postgres://u@h/d?target_session_attrs=read-only", true), TargetSessionAttrs::ReadOnly);
    }

    /// Guarantees: what the URL says of keepalives stays, and what it does not say is ours.
    #[test]
    fn keepalives_of_the_url() {
        let said = of("postgres://u@h/d?keepalives_idle=7200&keepalives_retries=9");
        assert_eq!((said.get_keepalives_idle().as_secs(), said.get_keepalives_retries()), (7_200, Some(9)));
        assert_eq!(said.get_keepalives_interval(), Some(KEEPALIVE_INTERVAL));
        assert_eq!(of("postgres://u@h/d").get_keepalives_idle(), KEEPALIVE_IDLE);
    }

    /// Guarantees: of several hosts that fail it is told what each said, or what somebody has to act on.
    #[test]
    fn what_all_said() {
        let silent = || ("a:1".to_owned(), Fault::Silent(Duration::from_secs(5)));
        let text = of_all(vec![silent(), ("b:2".to_owned(), Fault::Passing("refused".to_owned()))]);
        let both = "db: a:1 has not answered for 5 s; b:2: refused";
        assert_eq!(text.into_sink_error("db"), SinkError::Retry(both.to_owned()));
        let text = of_all(vec![silent(), ("b:2".to_owned(), Fault::Operator("no such user".to_owned()))]);
        assert_eq!(text.into_sink_error("db"), SinkError::NeedsOperator("db: b:2: no such user".to_owned()));
    }
}
