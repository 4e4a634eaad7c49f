//! `tidegate check`: what is wrong with a configuration, or what it would run. Connects to nothing and writes nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tidegate_config::{
    Config, ConfigError, ConfigErrors, EXAMPLE, Journal, KafkaSource, MqttEndpoint, MqttSource, MqttVersion, Name,
    Offsets, ProcessEnv, Qos, Repeats, RuleFile, Signatures, SinkSettings, SourceSettings,
};

/// More files are not looked at; the host takes no more rules either.
const MOST_RULES: usize = 10_000;

/// Check a configuration and its rules without connecting to anything.
///
/// Prints what would run. Every mistake is named with file, line and column, and what to do about it.
///
/// Exit code 0: valid, warnings or not. 1: there are mistakes. 2: the file cannot be read.
///
/// Examples:
///   tidegate check --config /etc/tidegate/tidegate.toml
///   tidegate check --print-example > tidegate.toml
///   tidegate check --schema > tidegate.schema.json    for completion in an editor
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "tidegate.toml")]
    config: PathBuf,
    /// Print the JSON Schema of the configuration file.
    #[arg(long, conflicts_with_all = ["rule_schema", "print_example"])]
    schema: bool,
    /// Print the JSON Schema of rule files, `<rule>.toml`.
    #[arg(long, conflicts_with = "print_example")]
    rule_schema: bool,
    /// Print a commented configuration file with every key.
    #[arg(long)]
    print_example: bool,
}

/// Says what a module is, or why it cannot serve the rule of that file, or a rule without one.
pub type Inspect = dyn Fn(&Signatures, &Path, Option<&RuleFile>) -> anyhow::Result<Inspected>;

/// What a module is.
#[derive(Debug)]
pub struct Inspected {
    /// In a line.
    pub what: String,
    pub runs: Runs,
}

/// Where a rule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// On every lane.
    OnLanes,
    /// On the node's lane, once.
    OncePerNode,
}

/// Exit codes as in the help. `inspect` compiles a module: this file knows no engine.
pub async fn run(args: Args, inspect: &Inspect) -> anyhow::Result<ExitCode> {
    if args.print_example {
        print(EXAMPLE)?;
    } else if args.schema || args.rule_schema {
        let schema = if args.schema { Config::json_schema() } else { RuleFile::json_schema() };
        print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    } else {
        let report = check(&args.config, inspect);
        for line in &report.warnings {
            eprintln!("warning: {line}");
        }
        for line in &report.errors {
            eprintln!("error: {line}");
        }
        print(&report.summary)?;
        return Ok(report.code);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output; that its reader has seen enough is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

struct Report {
    warnings: Vec<String>,
    errors: Vec<String>,
    summary: String,
    code: ExitCode,
}

fn check(path: &Path, inspect: &Inspect) -> Report {
    let mut summary = String::new();
    let config = match Config::load(path, &ProcessEnv) {
        Ok(config) => config,
        Err(errors) => {
            let unreadable = errors.iter().all(|error| error.position.is_none());
            if !unreadable {
                summary = format!("{}: {}\n", path.display(), count(errors.count(), "mistake"));
            }
            let code = if unreadable { ExitCode::from(2) } else { ExitCode::FAILURE };
            let errors = errors.iter().map(ConfigError::to_string).collect();
            return Report { warnings: Vec::new(), errors, summary, code };
        }
    };
    let mut warnings = config.warnings.clone();
    let rules = Rules::find(&config.rules_dir, &|module, file| inspect(&config.signatures, module, file));
    warnings.extend(rules.warnings);
    warnings.extend(warnings_of_node(&config, &rules.of_node));
    let errors = rules.errors;
    // Writing to a String cannot fail.
    let _ = describe(&config, &rules.lines, &mut summary);
    let verdict = match (errors.len(), warnings.len()) {
        (0, 0) => "valid".to_owned(),
        (0, n) => format!("valid, {}", count(n, "warning")),
        (n, _) => count(n, "mistake"),
    };
    let _ = writeln!(summary, "\n{}: {verdict}", path.display());
    let code = if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Report { warnings, errors, summary, code }
}

/// What rules that run once for the whole node cannot do here.
fn warnings_of_node(config: &Config, rules: &[String]) -> Vec<String> {
    let once = config
        .sinks
        .values()
        .any(|sink| matches!(sink, SinkSettings::Timescale(sink) if sink.offsets == Offsets::WithPoints));
    let shared = config
        .sources
        .iter()
        .find(|(_, source)| matches!(source, SourceSettings::Mqtt(source) if source.share.is_some()));
    let journal = config.sources.iter().find(|(_, source)| match source {
        SourceSettings::Mqtt(source) => source.journal == Journal::On,
        SourceSettings::Kafka(source) => source.journal == Journal::On,
    });
    let mut warnings = Vec::new();
    for rule in rules {
        if let Some((name, _)) = journal {
            warnings.push(format!(
                "{rule}: the state of a rule of the whole node may have a message twice after a crash, though not miss one: the `journal` of `{}` is exact for the rules of lanes; let it keep what may be counted twice",
                name.as_str()
            ));
        }
        if once {
            warnings.push(format!(
                "{rule}: a rule of the whole node sees rows of many partitions, so what it lets through is stored at least once, and not `exactly_once`; narrow its topics to what may be double"
            ));
        }
        if let Some((name, _)) = shared {
            warnings.push(format!(
                "{rule}: a rule of the whole node sees what this host is given, and the source `{}` shares its messages out over hosts; run it on the one host that gets them all",
                name.as_str()
            ));
        }
    }
    warnings
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn describe(config: &Config, rules: &[String], out: &mut String) -> std::fmt::Result {
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
    let token = if config.admin.token.is_some() { "with a token" } else { "without a token, from this machine only" };
    writeln!(out, "admin    http://{}, {token}", config.admin.listen)?;
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
        let _ = write!(line, "  shared in `{group}`, {}", count(source.connections.into(), "connection"));
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
            let (table, connections) = (&sink.names.table, sink.connections);
            format!("TimescaleDB or PostgreSQL  table {table}{once}, {make}, {connections} connections")
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

/// [`Inspect`], with the keys of this configuration.
type InspectHere<'a> = dyn Fn(&Path, Option<&RuleFile>) -> anyhow::Result<Inspected> + 'a;

/// What a rules directory holds.
#[derive(Default)]
struct Rules {
    lines: Vec<String>,
    /// Those that run once for the whole node.
    of_node: Vec<String>,
    warnings: Vec<String>,
    errors: Vec<String>,
}

impl Rules {
    /// Reads the directory as the host does: each `<rule>.toml` is a rule, and each module that none of them names.
    fn find(directory: &Path, inspect: &InspectHere) -> Self {
        let mut rules = Self::default();
        let (tomls, modules) = match list(directory) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rules.warnings.push(format!(
                    "{} is not there, so there are no rules; make it and drop .wasm files in",
                    directory.display()
                ));
                return rules;
            }
            Err(error) => {
                let todo = "let the user of this process read it";
                rules.errors.push(format!("{}: cannot be read: {error}; {todo}", directory.display()));
                return rules;
            }
        };
        let mut named = BTreeSet::new();
        let mut found: Vec<(i32, String)> = Vec::new();
        for file_name in &tomls {
            let path = directory.join(file_name);
            let (stem, _) = file_name.rsplit_once('.').unwrap_or((file_name, ""));
            match rules.rule_file(&path, stem) {
                Some(file) => {
                    named.insert(file.module.clone());
                    found.extend(rules.describe(directory, stem, &file, inspect).map(|line| (file.order, line)));
                }
                // Which module it meant cannot be known; the one of its own name must not be taken for a rule by itself.
                None => drop(named.insert(format!("{stem}.wasm"))),
            }
        }
        for module in modules.iter().filter(|module| !named.contains(*module)) {
            let stem = module.strip_suffix(".wasm").unwrap_or(module);
            rules.check_name(&directory.join(module), stem);
            let inspected = rules.inspect(&directory.join(module), stem, None, inspect);
            found.extend(inspected.map(|what| (100, format!("{stem:<24} {what}  (with its defaults)"))));
        }
        found.sort();
        rules.lines = found.into_iter().map(|(_, line)| line).collect();
        if tomls.is_empty() && modules.is_empty() {
            let what = "holds no rules, so every message becomes a dead letter; drop .wasm files in";
            rules.warnings.push(format!("{} {what}", directory.display()));
        }
        rules
    }

    fn rule_file(&mut self, path: &Path, stem: &str) -> Option<RuleFile> {
        self.check_name(path, stem);
        let name = path.display().to_string();
        let text = tidegate_config::Env::read(&ProcessEnv, path);
        let text =
            text.map_err(|e| self.errors.push(format!("{name}: cannot be read: {e}; correct or remove it"))).ok()?;
        let note = |errors: ConfigErrors| self.errors.extend(errors.iter().map(ConfigError::to_string));
        RuleFile::parse(&text, &name).map_err(note).ok()
    }

    fn check_name(&mut self, path: &Path, stem: &str) {
        if let Err(error) = stem.parse::<Name>() {
            self.errors
                .push(format!("{}: {error}; rename the file, since the rule is called as it is", path.display()));
        }
    }

    fn describe(&mut self, directory: &Path, stem: &str, file: &RuleFile, inspect: &InspectHere) -> Option<String> {
        let what = self.inspect(&directory.join(&file.module), stem, Some(file), inspect)?;
        let topics = file.topics.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let on = if topics.is_empty() { String::new() } else { format!("  on {topics}") };
        let off = if file.enabled { "" } else { "  (off)" };
        Some(format!("{stem:<24} {what}{on}{off}"))
    }

    fn inspect(
        &mut self,
        module: &Path,
        rule: &str,
        file: Option<&RuleFile>,
        inspect: &InspectHere,
    ) -> Option<String> {
        let inspected = inspect(module, file)
            .map_err(|e| self.errors.push(format!("{}: {e:#}; put a working module there", module.display())))
            .ok()?;
        if inspected.runs == Runs::OncePerNode && file.is_none_or(|file| file.enabled) {
            self.of_node.push(rule.to_owned());
        }
        Some(match inspected.runs {
            Runs::OnLanes => inspected.what,
            Runs::OncePerNode => format!("{}  (once for the whole node)", inspected.what),
        })
    }
}

/// The names of the rule files and of the modules in a directory, in order.
fn list(directory: &Path) -> io::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut tomls, mut modules) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(directory)?.take(2 * MOST_RULES) {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Editors and Kubernetes keep their own files under such names.
        if name.starts_with('.') {
            continue;
        }
        if name.ends_with(".toml") {
            tomls.insert(name);
        } else if name.ends_with(".wasm") {
            modules.insert(name);
        }
    }
    Ok((tomls, modules))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
