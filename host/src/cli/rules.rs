//! `tidegate rules`: what runs on which host, changed from afar.

mod change;
mod limits;
mod shadow;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tidegate_config::{Name, RuleFile};
use url::form_urlencoded;

use crate::cli::api::{Client, Nodes, Refusal, Request, Rollout, Table};
use crate::cli::modules::{give_to_try, manifest, upload};
use tables::{reset, rules, versions};

/// See and change the rules of running hosts.
///
/// A change answers when it holds: the rule serves on every lane, or is gone from all. What a host refuses leaves it as it was.
///
/// Examples:
///   tidegate rules list
///   tidegate rules put overheat overheat.toml --module threshold.wasm
///   tidegate rules change overheat --set config.above=85 --set limits.cpu_ms=20
///   tidegate rules limits overheat
///   tidegate rules rollback overheat
///   tidegate rules reset-state overheat --series dev/line1/temp
///   tidegate rules shadow start overheat candidate.toml && tidegate rules shadow diff overheat
///   tidegate rules disable overheat --node https://edge-1:8081 --node https://edge-2:8081
///   tidegate rules put overheat overheat.toml --rolling --soak 1m --node https://edge-1:8081 --node https://edge-2:8081
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    #[command(subcommand)]
    action: Action,
}

/// Run a candidate beside a rule, see what it would do otherwise, and let it serve or go: `tidegate rules shadow`.
///
/// Examples:
///   tidegate shadow start overheat candidate.toml --module stricter.wasm
///   tidegate shadow diff overheat --node https://edge-1:8081 --node https://edge-2:8081
///   tidegate shadow promote overheat --state own
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ShadowArgs {
    #[command(flatten)]
    nodes: Nodes,
    #[command(subcommand)]
    action: shadow::Shadow,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them.
    List,
    /// Print its file with every setting, to be changed and given to `put`.
    File {
        #[arg(value_parser = name)]
        rule: Name,
    },
    /// Show one, whole.
    Show {
        #[arg(value_parser = name)]
        rule: Name,
    },
    /// Make one, or make it anew, from a rule's file.
    Put {
        #[arg(value_parser = name)]
        rule: Name,
        /// The rule's file, as it would stand in `rules.d`.
        file: PathBuf,
        /// Upload this module first, and use it, whatever `module` the file names.
        #[arg(long, value_name = "WASM")]
        module: Option<PathBuf>,
        #[command(flatten)]
        only: Only,
    },
    /// Change its place in the chain.
    Order {
        #[arg(value_parser = name)]
        rule: Name,
        #[arg(allow_negative_numbers = true)]
        order: i32,
        #[command(flatten)]
        only: Only,
    },
    /// Change parts of its file, and leave the rest as it is on each host.
    Change(change::Args),
    Limits(limits::Args),
    /// Switch it on.
    Enable {
        #[arg(value_parser = name)]
        rule: Name,
        #[command(flatten)]
        only: Only,
    },
    /// Switch it off; what it raised is cleared.
    Disable {
        #[arg(value_parser = name)]
        rule: Name,
        #[command(flatten)]
        only: Only,
    },
    /// Let it out of quarantine.
    Retry {
        #[arg(value_parser = name)]
        rule: Name,
        #[command(flatten)]
        only: Only,
    },
    /// Let it forget its state, and clear the alerts that came of that; it goes on as if it had just begun.
    ResetState {
        #[arg(value_parser = name)]
        rule: Name,
        #[command(flatten)]
        of: Whose,
        #[command(flatten)]
        only: Only,
    },
    /// List the generations it can go back to.
    Versions {
        #[arg(value_parser = name)]
        rule: Name,
    },
    /// Go back to the generation before, or to another; it serves when this answers.
    Rollback {
        #[arg(value_parser = name)]
        rule: Name,
        /// The generation to go back to; `versions` lists them.
        #[arg(long, value_name = "GENERATION")]
        to: Option<u64>,
        #[command(flatten)]
        only: Only,
    },
    /// Run a candidate beside it, see what it would do otherwise, and let it serve or go.
    #[command(subcommand)]
    Shadow(shadow::Shadow),
    /// Take it away; its module stays.
    Delete {
        #[arg(value_parser = name)]
        rule: Name,
        #[command(flatten)]
        only: Only,
    },
    /// Try it on messages or points, and show all it would do; nothing is done.
    Test {
        #[arg(value_parser = name)]
        rule: Name,
        /// JSON: {"messages": [{"topic": …, "payload": …}]} for a decoder, {"points": [{"topic": …, "value": …}]} for another.
        input: PathBuf,
        /// Try what this rule's file says instead of the rule as it is; it need not be there yet.
        #[arg(long, value_name = "FILE")]
        definition: Option<PathBuf>,
        /// Try this module, whatever `module` the file names; the host writes it nowhere.
        #[arg(long, value_name = "WASM", requires = "definition")]
        module: Option<PathBuf>,
    },
}

/// What must hold for a change to be made, and in which order hosts make it.
#[derive(Debug, clap::Args)]
struct Only {
    /// Only if the rule has this ETag still, which `show` says.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    #[command(flatten)]
    rollout: Rollout,
}

/// Whose state is forgotten. Nothing said is not everything: that would be a slip that cannot be taken back.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// All of it.
    #[arg(long)]
    all: bool,
    /// That of one series: its topic.
    #[arg(long, value_name = "TOPIC")]
    series: Option<String>,
    /// That of one partition and its series.
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
}

impl Whose {
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("series", &self.series), ("partition", &self.partition)] {
            query.extend_pairs(value.iter().map(|value| (name, value)));
        }
        query.finish()
    }
}

fn name(text: &str) -> Result<Name, tidegate_config::NameError> {
    text.parse()
}

/// Exit code 1: a host refused, or could not be reached.
pub fn shadow(args: &ShadowArgs) -> anyhow::Result<ExitCode> {
    shadow::run(&args.nodes, &args.action)
}

/// Exit code 1: a host refused, or could not be reached.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let nodes = &args.nodes;
    let switch = |rule: &Name, what: &str, only: &Only| {
        let ask = |client: &Client| client.send(&post(rule, what, None, only.if_match.as_ref()));
        only.rollout.change(nodes, &rules(), ask, |client, _| known(client, rule))
    };
    match &args.action {
        Action::List => nodes.ask(&rules(), |client| client.get("rules")),
        Action::File { rule } => nodes.ask(&Table::told(toml), |client| {
            let file = client.get(&format!("rules/{rule}"))?["file"].take();
            let none = || Refusal::new("no_file", "the rule has no file that can be read");
            if file.is_null() { Err(none()) } else { Ok(file) }
        }),
        Action::Show { rule } => nodes.ask(&Table::whole(), |client| client.get(&format!("rules/{rule}"))),
        Action::Put { rule, file, module, only } => put(nodes, rule, file, module.as_deref(), only),
        Action::Order { rule, order, only } => change::patch(nodes, rule, &json!({ "order": order }), only),
        Action::Change(args) => change::run(nodes, args),
        Action::Limits(args) => limits::run(nodes, args),
        Action::Enable { rule, only } => switch(rule, "enable", only),
        Action::Disable { rule, only } => switch(rule, "disable", only),
        Action::Retry { rule, only } => switch(rule, "retry", only),
        Action::ResetState { rule, of, only } => {
            let what = format!("reset-state?{}", of.query());
            let ask = |client: &Client| client.send(&post(rule, &what, None, only.if_match.as_ref()));
            only.rollout.change(nodes, &reset(), ask, |client, _| known(client, rule))
        }
        Action::Versions { rule } => nodes.ask(&versions(), |client| client.get(&format!("rules/{rule}/versions"))),
        Action::Rollback { rule, to, only } => {
            let to = to.map_or_else(|| json!({}), |to| json!({ "generation": to })).to_string().into_bytes();
            let ask = |client: &Client| client.send(&post(rule, "rollback", Some(&to), only.if_match.as_ref()));
            only.rollout.change(nodes, &rules(), ask, |client, _| known(client, rule))
        }
        Action::Shadow(action) => shadow::run(nodes, action),
        Action::Delete { rule, only } => {
            let ask = |client: &Client| {
                let (path, if_match) = (format!("rules/{rule}"), only.if_match.clone());
                client.send(&Request { method: "DELETE", path, body: None, if_match })
            };
            only.rollout.change(nodes, &Table::nothing_but("deleted"), ask, |client, _| gone(client, rule))
        }
        Action::Test { rule, input, definition, module } => {
            let text = read(input)?;
            let input: Value =
                serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", input.display()))?;
            let definition =
                definition.as_deref().map(|file| Definition::read(file, module.as_deref())).transpose()?;
            nodes.ask(&Table::whole(), |client| {
                let (mut input, mut path) = (input.clone(), format!("rules/{rule}/test"));
                if let Some(definition) = &definition {
                    input["definition"] = definition.to_try(client)?;
                    "test".clone_into(&mut path);
                }
                let bytes = input.to_string().into_bytes();
                let body = Some(("application/json", bytes.as_slice()));
                client.send(&Request { method: "POST", path, body, if_match: None })
            })
        }
    }
}

fn put(nodes: &Nodes, rule: &Name, file: &Path, module: Option<&Path>, only: &Only) -> anyhow::Result<ExitCode> {
    let definition = Definition::read(file, module)?;
    let ask = |client: &Client| {
        let bytes = definition.with_module(client)?.to_string().into_bytes();
        let body = Some(("application/json", bytes.as_slice()));
        let (path, if_match) = (format!("rules/{rule}"), only.if_match.clone());
        client.send(&Request { method: "PUT", path, body, if_match })
    };
    only.rollout.change(nodes, &rules(), ask, |client, _| known(client, rule))
}

/// What is asked of a rule, with JSON if with anything.
fn post<'a>(rule: &Name, what: &str, body: Option<&'a [u8]>, if_match: Option<&String>) -> Request<'a> {
    let body = body.map(|json| ("application/json", json));
    Request { method: "POST", path: format!("rules/{rule}/{what}"), body, if_match: if_match.cloned() }
}

/// A rule as it is, for who watches a change.
fn known(client: &Client, rule: &Name) -> Result<Vec<Value>, Refusal> {
    Ok(vec![client.get(&format!("rules/{rule}"))?])
}

/// That there is no such rule any more.
fn gone(client: &Client, rule: &Name) -> Result<Vec<Value>, Refusal> {
    match client.get(&format!("rules/{rule}")) {
        Err(refusal) if refusal.code() == "not_found" => Ok(Vec::new()),
        Err(refusal) => Err(refusal),
        Ok(_) => Err(Refusal::new("still_there", &format!("rule {rule} is there still, or again"))),
    }
}

/// A rule's file, of what a host says.
fn toml(file: &Value) -> String {
    let read = RuleFile::from_json(file, "the rule's file").map(|(_, text)| text);
    read.unwrap_or_else(|error| format!("# {error}\n"))
}

/// A rule's file, and the module that is to be uploaded first, if any.
struct Definition {
    fields: Map<String, Value>,
    wasi: bool,
    /// With what vouches for it.
    module: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Definition {
    fn read(file: &Path, module: Option<&Path>) -> anyhow::Result<Self> {
        let text = String::from_utf8(read(file)?).with_context(|| format!("{} is not UTF-8", file.display()))?;
        let parsed = RuleFile::parse(&text, &file.display().to_string())?;
        let Value::Object(fields) = serde_json::to_value(&parsed)? else { bail!("the rule's file is no object") };
        let module = module.map(|path| anyhow::Ok((read(path)?, manifest(path)?))).transpose()?;
        Ok(Self { fields, wasi: parsed.wasi, module })
    }

    /// As JSON, naming the module that the host has been given.
    fn with_module(&self, client: &Client) -> Result<Value, Refusal> {
        self.naming(|bytes, manifest| upload(client, bytes, manifest, self.wasi))
    }

    /// The same for what is only tried: nothing is written.
    fn to_try(&self, client: &Client) -> Result<Value, Refusal> {
        self.naming(|bytes, manifest| give_to_try(client, bytes, manifest, self.wasi))
    }

    /// The same for what may serve later, where the host lets its rules be changed.
    fn to_try_first(&self, client: &Client) -> Result<Value, Refusal> {
        match self.with_module(client) {
            Err(refusal) if refusal.code() == "readonly" => self.to_try(client),
            done => done,
        }
    }

    fn naming(&self, give: impl FnOnce(&[u8], Option<&[u8]>) -> Result<Value, Refusal>) -> Result<Value, Refusal> {
        let mut fields = self.fields.clone();
        if let Some((bytes, manifest)) = &self.module {
            let kept = give(bytes, manifest.as_deref())?;
            fields.insert("module".to_owned(), kept["file"].clone());
        }
        Ok(Value::Object(fields))
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}
