//! `[sinks.timescale.…]`.

use std::net::IpAddr;
use std::time::Duration;

use url::Url;

use super::Checker;
use crate::document::Place;
use crate::nearest::suggest;
use crate::raw::{RawColumns, RawExactlyOnce, RawRefreshes, RawTimescaleSink};
use crate::settings::{Aggregates, Columns, Offsets, Refresh, Repeats, Secret, TableNames, TimescaleSink, Upkeep};

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

const NAME_RULE: &str = "use up to 63 letters, digits and `_`, not beginning with a digit";

/// See deploy/sql.
const POSITIONS_TABLE: &str = "source_positions";

const EXAMPLE: &str = "\"postgres://tidegate@127.0.0.1:5432/plant\"";

impl Checker<'_> {
    pub(super) fn timescale_sink(&mut self, place: &Place, mut raw: RawTimescaleSink) -> TimescaleSink {
        let at = place.key("url");
        let password = self.secret(place, "password", raw.password_file.take(), raw.password_env.take());
        let has_files = raw.ca_file.is_some() || raw.cert_file.is_some() || raw.key_file.is_some();
        let tls = self.tls(place, raw.ca_file.take(), raw.cert_file.take(), raw.key_file.take());
        let text = self.required(place, "url", raw.url.take(), EXAMPLE);
        let hosts = Hosts::of(&text);
        // The text is not repeated in errors: a password may stand in it.
        let url = match Url::parse(&hosts.with_one(&text)) {
            _ if text.is_empty() => Secret::new(""),
            Ok(url) => hosts.with_all(self.database_url(&at, url, password, has_files)),
            Err(error) => {
                self.error(&at, format!("this is no URL: {error}"), format!("write url = {EXAMPLE}"));
                Secret::new("")
            }
        };
        for other in hosts.others() {
            if host_of(other).is_some() {
                continue;
            }
            self.error(&at, format!("`{other}` is no host"), "write host1:5432,host2:5432 with nothing else between");
        }
        if !has_files {
            self.wants_tls(&at, &text, &hosts);
        }
        let mut sink = TimescaleSink::new(url);
        sink.tls = tls;
        sink.names = self.table_names(place, &raw);
        sink.upkeep = self.upkeep(place, &raw);
        sink.manage_schema = raw.manage_schema.unwrap_or(sink.manage_schema);
        if raw.dedupe == Some(true) {
            sink.repeats = Repeats::Dropped;
        }
        if let Some(RawExactlyOnce::Kafka) = raw.exactly_once {
            sink.offsets = Offsets::WithPoints;
        }
        sink.connections = self.number(place, "connections", raw.connections, sink.connections, 1..=20);
        let rows = self.number(place, "max_rows", raw.max_rows, sink.copy_rows(), 1..=100_000);
        sink.max_rows = raw.max_rows.map(|_| rows);
        let timeout_s = sink.statement_timeout.as_secs();
        sink.statement_timeout =
            self.seconds(place, "statement_timeout_s", raw.statement_timeout_s, timeout_s, 1..=600);
        let ahead_h = sink.ahead.map_or(0, |ahead| ahead.as_secs() / 3600);
        let hours: u64 = self.number(place, "ahead_hours", raw.ahead_hours, ahead_h, 0..=876_000);
        let days: u64 = self.number(place, "behind_days", raw.behind_days, 0, 0..=36_500);
        let bound = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        (sink.ahead, sink.behind) = (bound(hours * 3600), bound(days * 24 * 3600));
        sink
    }

    /// Warns of a connection over a network that is not encrypted, unless the URL says that it shall not be.
    fn wants_tls(&mut self, at: &Place, text: &str, hosts: &Hosts) {
        let Ok(url) = Url::parse(&hosts.with_one(text)) else { return };
        let of_key = |wanted: &str| {
            let values = url.query_pairs().filter(|(key, _)| key == wanted).map(|(_, value)| value.into_owned());
            values.collect::<Vec<_>>()
        };
        if !of_key("sslmode").is_empty() {
            return;
        }
        let named: Vec<String> = [of_key("host"), of_key("hostaddr")].concat();
        let mut all = named.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect::<Vec<_>>();
        all.extend(url.host_str().map(str::to_owned));
        all.extend(hosts.others().filter_map(host_of));
        if let Some(far) = all.iter().find(|host| !is_local(host)) {
            self.warn(
                at,
                format!("what goes to `{far}` is not encrypted: TLS is used with sslmode=require only"),
                "add ?sslmode=require, or ?sslmode=disable where the network may be trusted",
            );
        }
    }

    fn table_names(&mut self, place: &Place, raw: &RawTimescaleSink) -> TableNames {
        let mut names = TableNames::default();
        if let Some(table) = &raw.table {
            if !is_table(table) {
                let todo = format!("{NAME_RULE}; `schema.table` if need be");
                self.error(&place.key("table"), format!("`{table}` is no name of a table"), todo);
            }
            names.table.clone_from(table);
        }
        let none = RawColumns::default();
        let columns = raw.columns.as_ref().unwrap_or(&none);
        let at = place.key("columns");
        let mut take = |place: &Place, key: &str, raw: &Option<String>, name: &mut String| {
            let Some(text) = raw else { return };
            if !is_name(text) {
                self.error(&place.key(key), format!("`{text}` is no name"), NAME_RULE);
            }
            name.clone_from(text);
        };
        take(place, "alerts_table", &raw.alerts_table, &mut names.alerts);
        take(place, "series_table", &raw.series_table, &mut names.series);
        let mut ours = Columns::default();
        take(&at, "time", &columns.time, &mut ours.time);
        take(&at, "topic", &columns.topic, &mut ours.topic);
        take(&at, "value", &columns.value, &mut ours.value);
        take(&at, "value_str", &columns.value_str, &mut ours.value_str);
        take(&at, "quality", &columns.quality, &mut ours.quality);
        take(&at, "unit", &columns.unit, &mut ours.unit);
        let all = ours.all();
        if let Some(twice) = all.iter().enumerate().find(|(i, name)| all[..*i].contains(name)) {
            self.error(&at, format!("two columns are called `{}`", twice.1), "give each a name of its own");
        }
        names.columns = ours;
        let table = names.table.rsplit('.').next().unwrap_or_default();
        if table == names.alerts || table == names.series || names.alerts == names.series {
            self.error(place, "two tables have the same name", "give points, alerts and series a table each");
        }
        if [table, &names.alerts, &names.series].contains(&POSITIONS_TABLE) {
            let what = format!("`{POSITIONS_TABLE}` is the table of Kafka offsets");
            self.error(place, what, "choose another name");
        }
        names
    }

    fn upkeep(&mut self, place: &Place, raw: &RawTimescaleSink) -> Upkeep {
        let Upkeep { chunk_hours, compress_after_days, retain_days, aggregates, .. } = Upkeep::default();
        let mut days = |key, value, default: Option<u32>| {
            let days = self.number(place, key, value, default.unwrap_or(0), 0..=36_500);
            (days > 0).then_some(days)
        };
        let compress_after_days = days("compress_after_days", raw.compress_after_days, compress_after_days);
        let retain_days = days("retain_days", raw.retain_days, retain_days);
        if let (Some(compress), Some(retain), Some(_)) = (compress_after_days, retain_days, raw.compress_after_days)
            && compress >= retain
        {
            self.warn(
                &place.key("compress_after_days"),
                "chunks are dropped before they would be compressed",
                "choose less than `retain_days`, or 0",
            );
        }
        Upkeep {
            chunk_hours: self.number(place, "chunk_hours", raw.chunk_hours, chunk_hours, 1..=8_784),
            compress_after_days,
            retain_days,
            aggregates: match raw.aggregates {
                None => aggregates,
                Some(true) => Aggregates::Kept,
                Some(false) => Aggregates::Absent,
            },
            refresh: self.refreshes(place, raw.refresh.as_ref(), retain_days),
        }
    }

    fn refreshes(&mut self, place: &Place, raw: Option<&RawRefreshes>, retain_days: Option<u32>) -> [Refresh; 3] {
        let each = [
            ("minute", raw.and_then(|raw| raw.minute.as_ref())),
            ("hour", raw.and_then(|raw| raw.hour.as_ref())),
            ("day", raw.and_then(|raw| raw.day.as_ref())),
        ];
        let mut all = Refresh::USUAL;
        for ((refresh, minutes), (name, raw)) in all.iter_mut().zip(Refresh::BUCKET_MINUTES).zip(each) {
            let Some(raw) = raw else { continue };
            let at = place.key("refresh").key(name);
            let Refresh { window_days, every_minutes, behind_minutes } = *refresh;
            *refresh = Refresh {
                window_days: self.number(&at, "window_days", raw.window_days, window_days, 1..=36_500),
                every_minutes: self.number(&at, "every_minutes", raw.every_minutes, every_minutes, 1..=525_600),
                behind_minutes: self.number(&at, "behind_minutes", raw.behind_minutes, behind_minutes, 0..=525_600),
            };
            if !refresh.has_room(minutes, None) {
                let what = format!("between `behind_minutes` and `window_days` there are no two buckets of a {name}");
                self.error(&at, what, "raise `window_days`, or lower `behind_minutes`");
            } else if name == "minute" && !refresh.has_room(minutes, retain_days) {
                // The others are made of it, and it is not dropped.
                let what = format!("between `behind_minutes` and `retain_days` there are no two buckets of a {name}");
                self.error(&at, what, "raise `retain_days`, or lower `behind_minutes`");
            }
        }
        all
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
            None | Some("disable") if has_files => {
                self.error(at, "there are TLS files, but the URL does not ask for TLS", "add ?sslmode=require");
            }
            None | Some("disable" | "require") => {}
            Some("prefer" | "allow") => self.error(
                at,
                "whoever stands between could switch the TLS of this sslmode off, so it is not taken",
                "write sslmode=require, or sslmode=disable where the network may be trusted",
            ),
            Some("verify-ca" | "verify-full") => self.error(
                at,
                "this sslmode is not taken",
                "write sslmode=require: the certificate and the host's name are checked with it, always",
            ),
            Some(other) => {
                self.error(at, format!("there is no sslmode `{other}`"), suggest(other, &["disable", "require"]));
            }
        }
        let inside = url.password().is_some() || find("password").is_some();
        match password {
            Some(_) if inside => {
                self.error(at, "the password is given twice: in `url` and by its own key", "take it out of the URL");
            }
            // Without a host in its authority (a Unix socket) a URL takes no password there. Encoded by us, since the URL would leave a `%` as it is.
            Some(password) if url.set_password(Some(&encoded(password.reveal()))).is_err() => {
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

/// The hosts of a URL that may name several, as PostgreSQL's own clients take it: `host1:5432,host2:5432`.
struct Hosts {
    /// As they stand in the URL.
    all: String,
}

impl Hosts {
    fn of(url: &str) -> Self {
        let authority =
            url.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or("");
        let hosts = authority.rsplit('@').next().unwrap_or("");
        Self { all: if hosts.contains(',') { hosts.to_owned() } else { String::new() } }
    }

    fn others(&self) -> impl Iterator<Item = &str> {
        self.all.split(',').skip(1)
    }

    /// The URL as any other: with the first host alone.
    fn with_one(&self, url: &str) -> String {
        match self.all.split_once(',') {
            Some((first, _)) => url.replacen(&self.all, first, 1),
            None => url.to_owned(),
        }
    }

    /// Puts the others back in, after the host that ends where the path begins.
    fn with_all(&self, url: Secret) -> Secret {
        let Some((_, others)) = self.all.split_once(',') else { return url };
        let text = url.reveal();
        let after = text.find("://").map_or(0, |at| at + 3);
        let end = text[after..].find(['/', '?']).map_or(text.len(), |at| after + at);
        Secret::new(format!("{},{others}{}", &text[..end], &text[end..]))
    }
}

/// The host of `host:port`.
fn host_of(text: &str) -> Option<String> {
    let url = Url::parse(&format!("postgres://{text}")).ok()?;
    url.host_str().filter(|host| !host.is_empty()).map(str::to_owned)
}

/// Whether a host is this machine: by its name, its address, or as a socket's directory; none is nothing far.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |ip: IpAddr| ip.is_loopback();
    host.is_empty()
        || host.eq_ignore_ascii_case("localhost")
        || host.starts_with('/')
        || host.to_ascii_lowercase().starts_with("%2f")
        || host.parse().is_ok_and(is_loopback)
}

/// Whether `text` can stand in SQL as the name of a table, with a schema before it or not.
fn is_table(text: &str) -> bool {
    text.split('.').count() <= 2 && text.split('.').all(is_name)
}

/// Whether `text` can stand in SQL as a name: `^[A-Za-z_][A-Za-z0-9_]{0,62}$`.
fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `text` with everything but letters and digits as `%xx`.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
