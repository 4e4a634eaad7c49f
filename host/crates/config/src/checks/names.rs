//! The name of this host, and the client ids made from it.

use std::path::Path;

use super::Checker;
use crate::document::Place;
use crate::settings::Name;

/// The longest client id: MQTT allows 65,535 bytes, brokers print them in every log line.
const LONGEST_CLIENT_ID: usize = 256;

impl Checker<'_> {
    /// The name of this host: from the file, TIDEGATE_NODE, HOSTNAME or `/etc/hostname`.
    pub(super) fn node_name(&mut self, root: &Place, written: Option<String>) -> Option<String> {
        if let Some(name) = written {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if !(1..=128).contains(&name.len()) || !name.chars().all(fits) {
                let what = format!("`{name}` is no name for a host");
                self.error(&root.key("node"), what, "use 1 to 128 letters, digits, `.`, `_` and `-`");
            }
            return Some(name);
        }
        let tame = |text: String| {
            let fits = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
            let name: String = text.trim().chars().filter(fits).take(128).collect();
            (!name.is_empty()).then_some(name)
        };
        if let Some(name) = self.env.var("TIDEGATE_NODE").and_then(tame) {
            return Some(name);
        }
        let found = self.env.var("HOSTNAME").and_then(tame);
        let found = found.or_else(|| self.env.read(Path::new("/etc/hostname")).ok().and_then(tame));
        if found.is_some() && self.env.var("KUBERNETES_SERVICE_HOST").is_some() {
            self.warn(
                root,
                "the name of this host is that of the pod, which changes when the pod is made anew; the sessions that \
                 brokers keep for it would be lost",
                "set TIDEGATE_NODE from spec.nodeName, or `node` here",
            );
        }
        found
    }

    /// `text` with the name of this host for `{node}`.
    pub(super) fn with_node(&mut self, at: &Place, text: String) -> String {
        match &self.node {
            _ if !text.contains("{node}") => text,
            Some(node) => text.replace("{node}", node),
            None => {
                let todo = "add node = \"edge-1\" at the top of the file, or set TIDEGATE_NODE";
                self.error(at, "this host has no name to stand for {node}", todo);
                text
            }
        }
    }

    /// The client id of an MQTT connection, with `{node}` filled in.
    ///
    /// A broker keeps the session, with all it has not delivered, under this id. One that is made up anew at each start
    /// leaves its session and messages behind, so what asks for such an id is refused.
    pub(super) fn client_id(&mut self, place: &Place, name: &Name, written: Option<String>, ending: &str) -> String {
        let at = place.key("client_id");
        let pattern = match written {
            Some(text) if text.trim().is_empty() => {
                self.error(
                    &at,
                    "an empty client id makes the broker invent one; the session under it, with the messages not yet \
                     delivered, is lost at each restart",
                    "remove the line for `tidegate-{node}-<name>`, or write an id that stays",
                );
                return String::new();
            }
            Some(text) => text,
            None => format!("tidegate-{{node}}-{name}{ending}"),
        };
        let mut id = pattern.clone();
        if pattern.contains("{node}") {
            match &self.node {
                Some(node) => id = pattern.replace("{node}", node),
                None => self.error(
                    &Place::default().key("node"),
                    "this host has no name to make MQTT client ids from",
                    "add node = \"edge-1\" at the top of the file, or set TIDEGATE_NODE",
                ),
            }
        }
        let lower = id.to_lowercase();
        if let Some(word) = ["random", "uuid", "rand", "timestamp", "pid"].into_iter().find(|word| {
            [format!("{{{word}}}"), format!("${word}"), format!("${{{word}}}"), format!("%{word}%")]
                .iter()
                .any(|form| lower.contains(form))
        }) {
            self.error(
                &at,
                format!("a {word} client id does not go with a persistent session: the broker would keep messages for an id that never returns"),
                "write an id that stays, such as \"tidegate-{node}\"",
            );
        } else if self.node.is_some() && (id.contains('{') || id.contains('}')) {
            let what = format!("`{pattern}` has braces that stand for nothing known");
            self.error(&at, what, "only {node} is filled in");
        }
        if id.len() > LONGEST_CLIENT_ID || id.chars().any(char::is_control) {
            let what = format!("the client id is longer than {LONGEST_CLIENT_ID} bytes or has control characters");
            self.error(&at, what, "write a shorter, plain one");
        }
        id
    }

    /// Notes that this host connects to a broker as `id`. A broker throws out the elder of two clients of one id, so two
    /// of ours would throw each other out for ever.
    pub(super) fn claim_client_id(&mut self, place: &Place, host: &str, port: u16, id: String) {
        let other = self.client_ids.insert((host.to_owned(), port, id.clone()), place.clone());
        if other.is_some() && !id.is_empty() {
            self.error(
                &place.key("client_id"),
                format!(
                    "two connections to {host}:{port} have the client id `{id}`: the broker would let only one stay"
                ),
                "give each its own `client_id`",
            );
        }
    }
}
