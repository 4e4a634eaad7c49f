//! `tidegate tail`: what passes through running hosts, as it passes.

use std::process::ExitCode;

use serde_json::{Value, json};
use url::form_urlencoded;

use crate::cli::api::{Nodes, field, visible};
use crate::cli::print::{Reader, print};
use crate::cli::time::shown;

/// Watch messages, points and alerts as they pass through running hosts.
///
/// A host shows so many rows a second and no more, evenly taken, and says how many it skipped; nothing waits for who looks on.
///
/// Examples:
///   tidegate tail --topic 'plant/+/temp'
///   tidegate tail --kind alert --node https://edge-1:8081 --node https://edge-2:8081 --json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Only what matches this MQTT topic filter.
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only these kinds; may be given several times.
    #[arg(long, value_enum, value_delimiter = ',')]
    kind: Vec<Kind>,
    /// The most rows a second of each host.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rows_per_s: u32,
    /// Ends after so many rows.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// As they came.
    Message,
    /// As they go to the sinks.
    Point,
    /// As they go to the sinks.
    Alert,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Point => "point",
            Kind::Alert => "alert",
        }
    }
}

/// Goes on until it is ended, `--count` rows were shown, or no host is left. Exit code 1: a host refused, or went away.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("rows_per_s", &args.rows_per_s.to_string());
    if let Some(topic) = &args.topic {
        query.append_pair("topic", topic);
    }
    let kinds: Vec<&str> = args.kind.iter().map(|kind| kind.as_str()).collect();
    if !kinds.is_empty() {
        query.append_pair("kind", &kinds.join(","));
    }
    let (mut shown, mut failed) = (0, false);
    let several = args.nodes.several();
    for event in args.nodes.events(&format!("tail?{}", query.finish()))? {
        let node = several.then_some(event.node.as_str());
        let (name, data) = match event.said {
            Ok(said) => said,
            Err(refusal) => {
                failed = true;
                if args.nodes.json() {
                    print(&format!(
                        "{}\n",
                        json!({ "node": event.node, "event": "refused", "data": refusal.json() })
                    ))?;
                } else {
                    eprintln!("tidegate: {}: {refusal}", event.node);
                }
                continue;
            }
        };
        let mut reader = Reader::There;
        if args.nodes.json() {
            let mut object = json!({ "event": name, "data": data });
            if let Some(node) = node {
                object["node"] = node.into();
            }
            reader = print(&format!("{object}\n"))?;
        } else if name == "skipped" {
            eprintln!("{}({} rows were skipped)", prefix(node), field(&data, "/rows"));
        } else if name != "open" {
            reader = print(&format!("{}{}\n", prefix(node), visible(&line(&name, &data))))?;
        }
        shown += u64::from(!matches!(name.as_str(), "open" | "skipped"));
        if reader == Reader::Gone || args.count.is_some_and(|count| shown >= count) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn prefix(node: Option<&str>) -> String {
    node.map_or_else(String::new, |node| format!("{node}  "))
}

/// An event for people, on one line.
fn line(name: &str, data: &Value) -> String {
    let time = shown(data, "/time_us");
    let optional = |key: &str| data[key].as_str().map_or_else(String::new, |text| format!(" {text}"));
    let rest = match name {
        "message" => {
            let payload = optional("payload") + &optional("payload_base64");
            let cut = if data["cut"] == true { " …" } else { "" };
            format!("{}{payload}{cut}", field(data, "/ended"))
        }
        "point" => {
            let value = if data["value"].is_null() { String::new() } else { format!(" {}", data["value"]) };
            format!("quality {}{value}{}{}", field(data, "/quality"), optional("unit"), optional("text"))
        }
        "alert" => {
            let (rule, transition, severity) =
                (field(data, "/rule"), field(data, "/transition"), field(data, "/severity"));
            format!("{rule} {transition} {severity}{}{}", optional("key"), optional("message"))
        }
        _ => data.to_string(),
    };
    format!("{time}  {name:<7}  {}  {rest}", field(data, "/topic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: each kind has its line, with what tells it apart.
    #[test]
    fn lines() {
        let point =
            json!({"topic": "dev/a/temp", "time_us": 0, "value": 1.5, "quality": 192, "unit": "°C", "text": null});
        assert_eq!(line("point", &point), "1970-01-01T00:00:00.000000Z  point    dev/a/temp  quality 192 1.5 °C");
        let message = json!({"topic": "dev/a/temp", "time_us": 0, "payload": "{}", "ended": "decoded", "cut": true});
        assert_eq!(line("message", &message), "1970-01-01T00:00:00.000000Z  message  dev/a/temp  decoded {} …");
        let alert = json!({"topic": "t", "time_us": 0, "rule": "hot", "transition": "raised", "severity": "warning", "message": "m"});
        assert_eq!(line("alert", &alert), "1970-01-01T00:00:00.000000Z  alert    t  hot raised warning m");
    }
}
