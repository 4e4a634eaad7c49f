//! `[sources.mqtt.…]` and `[sinks.mqtt.…]`.

use tidegate_model::TopicFilter;
use url::Url;

use super::Checker;
use crate::document::Place;
use crate::raw::{RawMqttSink, RawMqttSource, RawMqttVersion, RawShareBy, TopicEntry};
use crate::settings::{
    Journal, LaneBy, MqttEndpoint, MqttSink, MqttSource, MqttVersion, Name, Qos, Secret, ShareBy, Subscription, Tls,
};

/// Topics have few levels; `lane_by` copies the named ones out of each new topic.
const DEEPEST_LEVEL: i64 = 63;
const MOST_SUBSCRIPTIONS: usize = 1000;

/// What source and sink have in common.
struct Connection {
    url: Option<String>,
    version: Option<RawMqttVersion>,
    username: Option<String>,
    password: Option<Secret>,
    keep_alive_s: Option<i64>,
    max_packet_bytes: Option<i64>,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
}

impl Checker<'_> {
    pub(super) fn mqtt_source(&mut self, place: &Place, name: &Name, raw: RawMqttSource) -> MqttSource {
        let client_id = self.client_id(place, name, raw.client_id, "");
        let password = self.secret(place, "password", raw.password_file, raw.password_env);
        let version = raw.version;
        let connection = Connection {
            url: raw.url,
            version,
            username: raw.username,
            password,
            keep_alive_s: raw.keep_alive_s,
            max_packet_bytes: raw.max_packet_bytes,
            ca_file: raw.ca_file,
            cert_file: raw.cert_file,
            key_file: raw.key_file,
        };
        let endpoint = self.endpoint(place, client_id, connection);
        let connections = self.number(place, "connections", raw.connections, 1, 1..=64);
        let share = raw.share.map(|group| self.name(&place.key("share"), &group));
        if connections > 1 && share.is_none() {
            self.error(
                &place.key("connections"),
                format!("{connections} connections without `share` would each get every message"),
                "add share = \"tidegate\", or remove `connections`",
            );
        }
        let share_by = match raw.share_by {
            None | Some(RawShareBy::Unknown) => ShareBy::Unknown,
            Some(RawShareBy::Topic) => ShareBy::Topic,
            Some(RawShareBy::OneHost) => ShareBy::OneHost,
        };
        if raw.share_by.is_some() && share.is_none() {
            self.warn(&place.key("share_by"), "`share_by` does nothing without `share`", "remove it, or add `share`");
        }
        if endpoint.version == MqttVersion::V3 {
            if share.is_some() {
                self.warn(
                    &place.key("share"),
                    "MQTT 3.1.1 does not define shared subscriptions; a broker without them delivers nothing",
                    "mosquitto, EMQX and HiveMQ have them; else use version = \"5\"",
                );
            }
            for (key, given) in [
                ("receive_maximum", raw.receive_maximum.is_some()),
                ("session_expiry_s", raw.session_expiry_s.is_some()),
            ] {
                if given {
                    let what = format!("`{key}` does nothing in MQTT 3.1.1");
                    self.warn(&place.key(key), what, "set it in the broker, or use version = \"5\"");
                }
            }
        }
        for n in 1..=connections {
            let id = &endpoint.client_id;
            let id = if connections == 1 { id.clone() } else { format!("{id}-{n}") };
            self.claim_client_id(place, &endpoint.host, endpoint.port, id);
        }
        let qos = self.qos(&place.key("qos"), raw.qos, Qos::AtLeastOnce);
        MqttSource {
            endpoint,
            subscriptions: self.subscriptions(place, raw.topics, qos),
            share,
            share_by,
            connections,
            receive_maximum: self.number(place, "receive_maximum", raw.receive_maximum, 1000, 1..=u16::MAX),
            session_expiry: self.seconds(
                place,
                "session_expiry_s",
                raw.session_expiry_s,
                86_400,
                0..=u32::MAX.into(),
            ),
            journal: if raw.journal == Some(true) { Journal::On } else { Journal::Off },
            stale_after: raw.stale_after_s.map(|n| self.seconds(place, "stale_after_s", Some(n), 60, 1..=86_400)),
        }
    }

    pub(super) fn mqtt_sink(&mut self, place: &Place, name: &Name, raw: RawMqttSink) -> MqttSink {
        let client_id = self.client_id(place, name, raw.client_id, "-out");
        let password = self.secret(place, "password", raw.password_file, raw.password_env);
        let connection = Connection {
            url: raw.url,
            version: raw.version,
            username: raw.username,
            password,
            keep_alive_s: raw.keep_alive_s,
            max_packet_bytes: raw.max_packet_bytes,
            ca_file: raw.ca_file,
            cert_file: raw.cert_file,
            key_file: raw.key_file,
        };
        let endpoint = self.endpoint(place, client_id, connection);
        self.claim_client_id(place, &endpoint.host, endpoint.port, endpoint.client_id.clone());
        let prefix = raw.prefix.unwrap_or_else(|| "alerts".to_owned());
        self.levels(&place.key("prefix"), &prefix, "\"alerts\" or \"site/alerts\"");
        if let Some(levels) = &raw.dead_letters {
            self.levels(&place.key("dead_letters"), levels, "\"dead-letters\"");
        }
        let status_topic = raw.status_topic.map(|topic| {
            let at = place.key("status_topic");
            let topic = self.with_node(&at, topic);
            self.levels(&at, &topic, "\"tidegate/{node}/status\"");
            topic
        });
        let qos = self.qos(&place.key("qos"), raw.qos, Qos::AtLeastOnce);
        let retain = raw.retain.unwrap_or(false);
        MqttSink { endpoint, prefix, qos, retain, dead_letters: raw.dead_letters, status_topic }
    }

    /// Notes what cannot be a topic that is published to, or its first levels.
    fn levels(&mut self, at: &Place, text: &str, example: &str) {
        let whole = text.split('/').all(|level| !level.is_empty());
        if !whole || text.contains(['+', '#', '\0']) || text.starts_with('$') || text.len() > 1024 {
            let what = format!("`{text}` cannot begin a topic");
            let todo = format!("write levels without `+` and `#`, not beginning with `$`, as in {example}");
            self.error(at, what, todo);
        }
    }

    fn endpoint(&mut self, place: &Place, client_id: String, raw: Connection) -> MqttEndpoint {
        let at = place.key("url");
        let text = self.required(place, "url", raw.url, "\"mqtt://127.0.0.1:1883\"");
        let tls = self.tls(place, raw.ca_file, raw.cert_file, raw.key_file);
        let mut endpoint = MqttEndpoint {
            host: String::new(),
            port: 1883,
            tls: None,
            version: if raw.version == Some(RawMqttVersion::V3) { MqttVersion::V3 } else { MqttVersion::V5 },
            client_id,
            username: raw.username,
            password: raw.password,
            keep_alive: self.seconds(place, "keep_alive_s", raw.keep_alive_s, 30, 5..=3600),
            max_packet_bytes: self.number(
                place,
                "max_packet_bytes",
                raw.max_packet_bytes,
                1 << 20,
                1024..=268_435_455_u32,
            ),
        };
        if text.is_empty() {
            return endpoint;
        }
        // The text is not repeated in these errors: a password may stand in it.
        let example = "write mqtt://host:1883, or mqtts://host:8883 for TLS";
        match Url::parse(&text) {
            Ok(url) => self.apply_url(&at, &url, tls, &mut endpoint),
            Err(error) => self.error(&at, format!("this is no URL: {error}"), example),
        }
        if endpoint.password.is_some() && endpoint.username.is_none() {
            self.error(place, "there is a password but no user name", "add username = \"…\"");
        }
        endpoint
    }

    fn apply_url(&mut self, at: &Place, url: &Url, tls: Tls, endpoint: &mut MqttEndpoint) {
        let has_files = tls.ca_file.is_some() || tls.cert_file.is_some() || tls.key_file.is_some();
        match url.scheme() {
            "mqtts" => (endpoint.tls, endpoint.port) = (Some(tls), 8883),
            "mqtt" if has_files => self.error(at, "there are TLS files, but mqtt:// is without TLS", "use mqtts://"),
            "mqtt" => {}
            other => {
                let todo = match other {
                    "tcp" => "write mqtt:// instead",
                    "ssl" | "tls" => "write mqtts:// instead",
                    "ws" | "wss" => "WebSockets are not spoken: use the broker's plain port with mqtt:// or mqtts://",
                    _ => "write mqtt://host:1883, or mqtts://host:8883 for TLS",
                };
                return self.error(at, format!("`{other}` is no way to reach an MQTT broker"), todo);
            }
        }
        match url.host_str() {
            // A literal IPv6 address stands in brackets in a URL, and without them everywhere else.
            Some(host) if !host.is_empty() => host.trim_matches(['[', ']']).clone_into(&mut endpoint.host),
            _ => self.error(at, "the URL names no host", "write mqtt://host:1883"),
        }
        if let Some(port) = url.port() {
            endpoint.port = port;
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            self.error(
                at,
                "the URL has more than a host and a port",
                "topics go into `topics`, the rest into keys of their own",
            );
        }
        if !url.username().is_empty() {
            if endpoint.username.is_some() {
                self.error(at, "the user name is given twice: in `url` and by `username`", "keep one of them");
            }
            endpoint.username = Some(decoded(url.username()));
        }
        if let Some(password) = url.password() {
            if endpoint.password.is_some() {
                self.error(at, "the password is given twice: in `url` and by its own key", "take it out of the URL");
            }
            self.warn(
                at,
                "a password stands in the URL",
                "keep it apart: `username` and `password_file` or `password_env`",
            );
            endpoint.password = Some(Secret::new(decoded(password)));
        }
    }

    fn qos(&mut self, at: &Place, value: Option<i64>, default: Qos) -> Qos {
        match value {
            None => default,
            Some(0) => Qos::AtMostOnce,
            Some(1) => Qos::AtLeastOnce,
            Some(2) => {
                self.error(
                    at,
                    "QoS 2 is not taken: a message is acknowledged only when it is stored, which its handshake of four \
                     packets does not wait for, and a restart can deliver it again all the same",
                    "use qos = 1, at least once",
                );
                default
            }
            Some(other) => {
                self.error(at, format!("there is no QoS {other}"), "use 0 (at most once) or 1 (at least once)");
                default
            }
        }
    }

    fn subscriptions(&mut self, place: &Place, entries: Option<Vec<TopicEntry>>, qos: Qos) -> Vec<Subscription> {
        let at = place.key("topics");
        let Some(entries) = entries else {
            self.missing(place, "topics", "[\"dev/#\"]");
            return Vec::new();
        };
        if entries.is_empty() || entries.len() > MOST_SUBSCRIPTIONS {
            let what = format!("`topics` has {} filters", entries.len());
            self.error(&at, what, format!("name from 1 to {MOST_SUBSCRIPTIONS}, as in [\"dev/#\"]"));
        }
        let mut subscriptions: Vec<Subscription> = Vec::new();
        for (i, entry) in entries.into_iter().take(MOST_SUBSCRIPTIONS).enumerate() {
            let item = at.item(i);
            let (filter_at, text, qos, lane_by) = match entry {
                TopicEntry::Filter(text) => (item, Some(text), qos, LaneBy::Topic),
                TopicEntry::Detailed(raw) => {
                    if raw.filter.is_none() {
                        self.missing(&item, "filter", "\"dev/#\"");
                    }
                    let qos = self.qos(&item.key("qos"), raw.qos, qos);
                    let lane_by = self.lane_by(&item, raw.lane_by);
                    (item.key("filter"), raw.filter, qos, lane_by)
                }
            };
            let Some(filter) = text.and_then(|text| self.filter(&filter_at, &text)) else { continue };
            if subscriptions.iter().any(|s| s.filter == filter) {
                self.error(&filter_at, format!("`{filter}` is subscribed to twice"), "remove one of them");
                continue;
            }
            subscriptions.push(Subscription { filter, qos, lane_by });
        }
        subscriptions
    }

    pub(crate) fn filter(&mut self, at: &Place, text: &str) -> Option<TopicFilter> {
        if text.starts_with("$share/") {
            self.error(
                at,
                format!("`{text}` is a shared subscription"),
                "write share = \"<group>\" and the filter alone",
            );
            return None;
        }
        text.parse()
            .map_err(|e: tidegate_model::FilterError| self.error(at, e.to_string(), "correct the filter"))
            .ok()
    }

    pub(super) fn lane_by(&mut self, place: &Place, levels: Option<Vec<i64>>) -> LaneBy {
        let at = place.key("lane_by");
        let Some(levels) = levels else { return LaneBy::Topic };
        let bad = levels.iter().find(|level| !(0..=DEEPEST_LEVEL).contains(level));
        if let Some(bad) = bad {
            self.error(
                &at,
                format!("there is no topic level {bad}"),
                format!("levels count from 0 to {DEEPEST_LEVEL}"),
            );
        } else if levels.is_empty() || levels.len() > 16 {
            self.error(
                &at,
                "`lane_by` names no level, or more than 16",
                "name the levels, as in [1, 3], or remove it",
            );
        }
        LaneBy::Levels(levels.into_iter().filter_map(|level| usize::try_from(level).ok()).collect())
    }
}

/// A part of a URL without its `%xx`.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |byte: u8| (byte as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                bytes.push(high << 4 | low);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
