//! The commands that ask hosts by their API: which hosts, as whom, and how what they say is shown.

mod client;
mod commands;
mod events;
mod exchange;
mod progress;
mod remote;
mod rollout;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::Receiver;

use anyhow::Context;
use serde_json::Value;

use crate::cli::print::{Reader, print};

pub use client::{Client, Refusal, Request};
pub use commands::in_commands;
pub use events::{Event, follow};
pub use progress::Telling;
pub use remote::{Hosts, Remote};
pub use rollout::Rollout;
pub use table::{Column, Table, field, joined, visible};

/// Who is asked where nobody is named.
const HERE: &str = "http://127.0.0.1:8081";
/// The most hosts that are asked at once.
const AT_ONCE: usize = 32;

/// Which hosts, and as whom.
#[derive(Debug, clap::Args)]
pub struct Nodes {
    /// A host's address; may be given several times, and all are asked at once. TIDEGATE_NODES can name them too, with commas between.
    #[arg(
        long = "node",
        value_name = "URL",
        global = true,
        env = "TIDEGATE_NODES",
        value_delimiter = ',',
        default_value = HERE
    )]
    nodes: Vec<String>,
    #[command(flatten)]
    access: Access,
    /// What hosts say, as JSON: one object a line, with the host's address as `node` where several are asked.
    #[arg(long, global = true)]
    json: bool,
}

/// As whom hosts are asked, and who is trusted to be one.
#[derive(Clone, Debug, clap::Args)]
pub struct Access {
    /// A file that holds the token to show; TIDEGATE_TOKEN can hold the token itself.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Who is trusted to sign hosts' certificates (PEM); those that the system trusts if not given.
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// Our own certificate (PEM), where hosts ask for one.
    #[arg(long, value_name = "FILE", global = true, requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", global = true, requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Sends the token also where nothing encrypts it on its way.
    #[arg(long, global = true)]
    insecure: bool,
    /// Say on standard error how far is what takes long, a line each time. On a terminal that is said in any case.
    #[arg(long, global = true)]
    progress: bool,
}

/// What one host has answered.
pub struct Said {
    pub node: String,
    pub answer: Result<Value, Refusal>,
}

impl Nodes {
    /// Asks all hosts, `ask` each; shows what they say; gives 1 if any of them refused or could not be reached.
    pub fn ask<A>(&self, show: &Table, ask: A) -> anyhow::Result<ExitCode>
    where
        A: Fn(&Client) -> Result<Value, Refusal> + Sync,
    {
        self.ask_for(std::slice::from_ref(show), ask)
    }

    /// The same, where several parts of what they say are shown, each as a table.
    pub fn ask_for<A>(&self, show: &[Table], ask: A) -> anyhow::Result<ExitCode>
    where
        A: Fn(&Client) -> Result<Value, Refusal> + Sync,
    {
        self.look(show, ask).map(|(code, _)| code)
    }

    /// The same; says, too, whether somebody reads on.
    pub fn look<A>(&self, show: &[Table], ask: A) -> anyhow::Result<(ExitCode, Reader)>
    where
        A: Fn(&Client) -> Result<Value, Refusal> + Sync,
    {
        let clients = self.clients()?;
        let mut all: Vec<Said> = Vec::new();
        for some in clients.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let asked: Vec<_> = some.iter().map(|client| (client, scope.spawn(|| ask(client)))).collect();
                all.extend(asked.into_iter().map(|(client, answer)| {
                    let answer = answer.join().unwrap_or_else(|_| Err(Refusal::unreachable("asking it failed")));
                    Said { node: client.node().to_owned(), answer }
                }));
            });
        }
        self.show(show, &all)
    }

    /// Asks one host after the other until one gives what is wanted, which is given with its address; else shows why none did.
    pub fn first<T>(&self, ask: impl Fn(&Client) -> Result<T, Refusal>) -> anyhow::Result<Option<(String, T)>> {
        let mut refused: Vec<Said> = Vec::new();
        for client in self.clients()? {
            let node = client.node().to_owned();
            match ask(&client) {
                Ok(found) => return Ok(Some((node, found))),
                Err(refusal) => refused.push(Said { node, answer: Err(refusal) }),
            }
        }
        self.show(&[], &refused)?;
        Ok(None)
    }

    /// Shows what hosts have said; gives 1 if any of them refused or could not be reached.
    fn show(&self, show: &[Table], all: &[Said]) -> anyhow::Result<(ExitCode, Reader)> {
        let failed = all.iter().filter(|said| said.answer.is_err()).count();
        let text: String = if self.json {
            all.iter().map(|said| format!("{}\n", said.json(self.several()))).collect()
        } else {
            show.iter().map(|table| table.text(all)).collect()
        };
        let reader = print(&text)?;
        for said in all.iter().filter(|_| !self.json) {
            if let Err(refusal) = &said.answer {
                eprintln!("tidegate: {}: {refusal}{}", said.node, self.hint(refusal));
            }
        }
        Ok((if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }, reader))
    }

    /// What to do about it at the command line.
    fn hint(&self, refusal: &Refusal) -> &'static str {
        match refusal.code() {
            "unreachable" if self.nodes == [HERE] => {
                "; is a host running here? --node or TIDEGATE_NODES name another"
            }
            "unauthorized" => "; TIDEGATE_TOKEN holds one, or the file that --token-file names",
            _ => "",
        }
    }

    /// How it is told how far something is.
    pub fn telling(&self) -> Telling {
        Telling::of(self.access.progress, self.nodes.len())
    }

    /// Reads what all hosts have to say at `path` for as long as they go on.
    pub fn events(&self, path: &str) -> anyhow::Result<Receiver<Event>> {
        events::events(self.clients()?, path)
    }

    /// Whether several hosts are asked.
    pub fn several(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Whether a script reads what is shown.
    pub fn json(&self) -> bool {
        self.json
    }

    fn clients(&self) -> anyhow::Result<Vec<Client>> {
        let Access { token_file, ca_file, cert_file, key_file, insecure, progress: _ } = &self.access;
        let token = match token_file {
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
                Some(text.trim().to_owned())
            }
            // Nothing is what is left of a variable of a variable that is not set.
            None => std::env::var("TIDEGATE_TOKEN")
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|token| !token.is_empty()),
        };
        let tls = client::tls(ca_file.as_deref(), cert_file.as_deref().zip(key_file.as_deref()))?;
        let telling = self.telling();
        let client = |node: &String| Client::new(node, token.clone(), tls.clone(), *insecure);
        self.nodes.iter().map(|node| client(node).map(|client| client.telling(telling))).collect()
    }
}

impl Said {
    /// The answer over several lines, below the host's name if there are several; none if there is none.
    fn told(&self, with_node: bool, tell: impl Fn(&Value) -> String) -> Option<String> {
        let answer = self.answer.as_ref().ok().map(tell)?;
        let head = if with_node { format!("{}\n", self.node) } else { String::new() };
        Some(head + &answer)
    }

    fn json(&self, with_node: bool) -> Value {
        let answer = match &self.answer {
            Ok(answer) => answer.clone(),
            Err(refusal) => refusal.json(),
        };
        if with_node {
            serde_json::json!({ "node": self.node, "answer": answer, "ok": self.answer.is_ok() })
        } else {
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Asks {
        #[command(flatten)]
        nodes: Nodes,
    }

    /// Guarantees: who may not have meant this machine hears how to name another, and who shows no token where to put it; for others there is no more to say.
    #[test]
    fn hints() {
        let asks = |node: &str| Asks::parse_from(["asks", "--node", node]).nodes;
        let (away, refused) = (Refusal::unreachable("it is away"), Refusal::new("in_use", "it is used"));
        assert!(asks(HERE).hint(&away).contains("TIDEGATE_NODES"));
        assert!(asks(HERE).hint(&Refusal::new("unauthorized", "")).contains("--token-file"));
        assert_eq!((asks(HERE).hint(&refused), asks("http://127.0.0.1:1").hint(&away)), ("", ""));
    }
}
