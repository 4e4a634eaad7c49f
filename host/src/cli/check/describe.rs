//! A configuration in a few lines for people, without its secrets.

use std::fmt::Write as _;

use tidegate_config::{
    Admin, Changes, Config, Journal, KafkaSource, MqttEndpoint, MqttSource, MqttVersion, Offsets, Qos, Repeats,
    ShareBy, SinkSettings, SourceSettings,
};

use tidegate_sinks::Timescale;

use super::count;

/// What would run; `rules` are a line each.
pub(super) fn describe(config: &Config, rules: &[String], out: &mut String) -> std::fmt::Result {
    match config.lanes {
        Some(lanes) => writeln!(out, "lanes    {lanes}")?,
        None => {
            let lanes = std::thread::available_parallelism().map_or(1, usize::from);
            writeln!(out, "lanes    {lanes}, as the CPUs of this machine give")?;
        }
    }
    writeln!(out, "limits   {} rows a batch, {} series", config.batch_rows, config.max_series)?;
    writeln!(out, "data     {}", config.data_dir.display())?;
    let (mib, days) = (config.dead_letters.max_bytes >> 20, config.dead_letters.max_age.as_secs() / 86_400);
    writeln!(out, "letters  dead ones are kept for {}, in {mib} MiB at most", count(days as usize, "day"))?;
    writeln!(out, "admin    {}", admin(&config.admin))?;
    writeln!(out, "\nsources")?;
    for (name, source) in &config.sources {
        let line = match source {
            SourceSettings::Mqtt(source) => mqtt_source(source),
            SourceSettings::Kafka(source) => kafka_source(source),
        };
        writeln!(out, "  {:<16} {line}", name.as_str())?;
    }
    writeln!(out, "\nsinks")?;
    for (name, sink) in &config.sinks {
        writeln!(out, "  {:<16} {}", name.as_str(), describe_sink(sink))?;
    }
    writeln!(out, "\nrules    in {}", config.rules_dir.display())?;
    rules.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

/// Where the API is, and who may use it.
fn admin(admin: &Admin) -> String {
    let scheme = if admin.tls.is_some() { "https" } else { "http" };
    let tokens = admin.tokens.len() + usize::from(admin.token.is_some());
    let certificates = admin.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    let who = match (tokens, certificates) {
        (0, false) => "without a token, from this machine only".to_owned(),
        (0, true) => "with a client's certificate".to_owned(),
        (n, false) => format!("with one of {}", count(n, "token")),
        (n, true) => format!("with one of {}, or a client's certificate", count(n, "token")),
    };
    let readonly = if admin.changes == Changes::Refused { "; it changes no rules" } else { "" };
    let probes = admin.probes.map(|at| format!("; health and metrics on {at}")).unwrap_or_default();
    format!("{scheme}://{}, {who}{readonly}{probes}", admin.listen)
}

fn broker(endpoint: &MqttEndpoint) -> String {
    let version = match endpoint.version {
        MqttVersion::V3 => "3.1.1",
        MqttVersion::V5 => "5",
    };
    let scheme = if endpoint.tls.is_some() { "mqtts" } else { "mqtt" };
    let MqttEndpoint { host, port, client_id, .. } = endpoint;
    format!("MQTT {version}  {scheme}://{host}:{port}  as {client_id}")
}

fn mqtt_source(source: &MqttSource) -> String {
    let filters = source.subscriptions.iter().map(|s| {
        let qos = if s.qos == Qos::AtLeastOnce { 1 } else { 0 };
        format!("{} (QoS {qos})", s.filter)
    });
    let mut line = format!("{}  {}", broker(&source.endpoint), filters.collect::<Vec<_>>().join(", "));
    if let Some(group) = &source.share {
        let by = match source.share_by {
            ShareBy::Unknown => "",
            ShareBy::Topic => " by topic",
            ShareBy::OneHost => " with no other host",
        };
        let _ = write!(line, "  shared in `{group}`{by}, {}", count(source.connections.into(), "connection"));
    }
    if let Some(stale_after) = source.stale_after {
        let _ = write!(line, "  made anew after {} s of silence", stale_after.as_secs());
    }
    line += journal(source.journal);
    line
}

fn kafka_source(source: &KafkaSource) -> String {
    let lanes = match source.offsets {
        Offsets::Group => "",
        Offsets::WithPoints => "  exactly once: each partition on one lane and one connection",
    };
    let journal = journal(source.journal);
    format!("Kafka  {}  group {}  {}{lanes}{journal}", source.brokers, source.group, source.topics.join(", "))
}

fn journal(journal: Journal) -> &'static str {
    match journal {
        Journal::Off => "",
        Journal::On => "  journal: the state of rules has each message once",
    }
}

fn describe_sink(sink: &SinkSettings) -> String {
    match sink {
        SinkSettings::Sqlite(sink) => format!("SQLite  {}", sink.path.display()),
        // The URL holds the password.
        SinkSettings::Timescale(sink) => {
            let make = if sink.manage_schema { "makes what is missing" } else { "makes nothing" };
            let once = if sink.repeats == Repeats::Dropped { ", each topic and time once" } else { "" };
            let once = match sink.offsets {
                Offsets::Group => once.to_owned(),
                Offsets::WithPoints => format!("{once}, what comes from Kafka exactly once"),
            };
            let (table, connections) = (&sink.names.table, count(sink.connections, "connection"));
            let late = Timescale::for_late_points(sink)
                .map_or_else(String::new, |late| format!(", {} more for late points", late.connections));
            format!("TimescaleDB or PostgreSQL  table {table}{once}, {make}, {connections}{late}")
        }
        SinkSettings::Mqtt(sink) => {
            let mut line = format!("{}  alerts on {}/<rule>/<topic>", broker(&sink.endpoint), sink.prefix);
            if let Some(topic) = &sink.status_topic {
                let _ = write!(line, "  status on {topic}");
            }
            if let Some(levels) = &sink.dead_letters {
                let _ = write!(line, "  dead letters on {levels}/<topic>");
            }
            line
        }
        SinkSettings::Kafka(sink) => {
            let messages = sink.messages.as_ref().map(|messages| messages.topic.clone());
            let parts = [
                ("messages", &messages),
                ("points", &sink.points),
                ("alerts", &sink.alerts),
                ("dead letters", &sink.dead_letters),
            ];
            let on = parts.iter().filter_map(|(what, topic)| Some(format!("{what} on {}", topic.as_ref()?)));
            format!("Kafka at {}  {}", sink.brokers, on.collect::<Vec<_>>().join(", "))
        }
        SinkSettings::Ndjson(sink) => {
            let kinds = [(sink.points, "points"), (sink.alerts, "alerts"), (sink.dead_letters, "dead letters")];
            let kinds: Vec<&str> = kinds.into_iter().filter_map(|(on, kind)| on.then_some(kind)).collect();
            let to = sink.path.as_ref().map_or("standard output".to_owned(), |path| path.display().to_string());
            format!("NDJSON  {} to {to}", kinds.join(", "))
        }
        SinkSettings::Discard => "discard  counts and forgets".to_owned(),
    }
}
