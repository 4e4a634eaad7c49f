//! `check`, from a configuration and what the directory of rules asks for to a report.

use std::fs;

use super::*;

const CONFIG: &str = "node = \"n\"\n[sources.mqtt.plant]\nurl = \"mqtt://u:hunter2@broker\"\ntopics = [\"dev/#\"]\n";

/// A database that stores what comes from Kafka once.
const ONCE: &str = "[sources.kafka.fleet]\nbrokers = \"k:9092\"\ngroup = \"g\"\ntopics = [\"t\"]\ntopic_from = \"key\"\n\
    [sinks.timescale.db]\nurl = \"postgres://u@db/p\"\nexactly_once = \"kafka\"\n";

/// A rule that serves: its name, its file, what its module is and what it remembers. It is on `dev/#` where its file does not say.
fn rule(name: &str, file: &str, what: &str, state: StateOf) -> Found {
    let by_default = file.is_empty();
    let file = if by_default { "module = \"m.wasm\"" } else { file };
    let file = RuleFile::parse(file, name).unwrap();
    let topics = file.topics.clone().unwrap_or_else(|| vec!["dev/#".parse().unwrap()]);
    let inspected = Ok(Inspected { what: what.to_owned(), state, topics });
    Found { name: name.to_owned(), file: Some(file), by_default, inspected }
}

/// A rule that does not.
fn refused(name: &str, why: &str) -> Found {
    Found { name: name.to_owned(), file: None, by_default: false, inspected: Err(why.to_owned()) }
}

/// The report on this configuration, and a directory that asks for these rules.
fn check_rules(config: &str, rules: impl Fn() -> Vec<Found> + 'static) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidegate.toml");
    fs::write(&path, config).unwrap();
    // What a configuration names must be there to be read.
    for name in ["c.pem", "k.pem", "ca.pem"] {
        fs::write(directory.path().join(name), "-----BEGIN \n").unwrap();
    }
    in_words_of(directory.path(), check(&path, &move |_: &Config| Ok(rules())))
}

/// The same without the directory's own name.
fn in_words_of(directory: &Path, mut report: Report) -> Report {
    let here = format!("{}/", directory.display());
    let lines = report.errors.iter_mut().chain(&mut report.warnings).chain([&mut report.summary]);
    lines.for_each(|line| *line = line.replace(&here, ""));
    report
}

/// Guarantees: the summary says what would run, in the order it would run in, and shows no secret.
#[test]
fn what_would_run() {
    let report = check_rules(CONFIG, || {
        vec![
            rule("cold", "module = \"t.wasm\"\nenabled = false", "alert threshold", StateOf::Nothing),
            rule("hot", "module = \"t.wasm\"\norder = 200\ntopics = [\"dev/+/temp\"]", "alert", StateOf::Nothing),
            rule("json", "", "decoder", StateOf::Nothing),
        ]
    });
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.code, ExitCode::SUCCESS);
    let names = ["cold ", "json ", "hot "];
    let at: Vec<usize> = names.iter().map(|name| report.summary.find(&format!("\n  {name}")).unwrap()).collect();
    assert!(at.is_sorted(), "{}", report.summary);
    for part in [
        "mqtt://broker:1883",
        "dev/# (QoS 1)",
        "data/store.db",
        "on dev/+/temp",
        "(off)",
        "decoder  (with its defaults)",
        "valid, 1 warning",
    ] {
        assert!(report.summary.contains(part), "{part} in\n{}", report.summary);
    }
    assert!(!report.summary.contains("hunter2") && !report.warnings.concat().contains("hunter2"));
}

/// Guarantees: it is said where the API is and who may use it, as it would be.
#[test]
fn who_may_use_the_api() {
    let token = format!("[admin.tokens.ops]\nsha256 = \"{}\"\nscopes = [\"read\"]", "ab".repeat(32));
    let tls = "cert_file = \"c.pem\"\nkey_file = \"k.pem\"";
    for (admin, said) in [
        (String::new(), "http://127.0.0.1:8081, without a token, from this machine only"),
        (token.clone(), "http://127.0.0.1:8081, with one of 1 token"),
        (format!("[admin]\nlisten = \"0.0.0.0:443\"\n{tls}\n{token}"), "https://0.0.0.0:443, with one of 1 token"),
        (
            format!("[admin]\nreadonly = true\n{tls}\nclient_ca_file = \"ca.pem\"\nclient_scopes = [\"read\"]"),
            "https://127.0.0.1:8081, with a client's certificate; it changes no rules",
        ),
    ] {
        let report = check_rules(&format!("{CONFIG}{admin}\n"), Vec::new);
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(report.summary.contains(&format!("admin    {said}\n")), "{said} in\n{}", report.summary);
    }
}

/// Guarantees: what keeps rules from serving is told, of all of them, and fails the check.
#[test]
fn mistakes_in_rules() {
    let report =
        check_rules(CONFIG, || vec![refused("a", "a.toml:1:1: unknown key `modul`"), refused("b", "not a module")]);
    assert_eq!(report.code, ExitCode::FAILURE);
    let expected =
        ["the rule a, in rules.d: a.toml:1:1: unknown key `modul`", "the rule b, in rules.d: not a module"];
    assert_eq!(report.errors, expected);
}

/// Guarantees: a wrong configuration is one exit code, one that cannot be read another.
#[test]
fn exit_codes() {
    let report = check_rules(&CONFIG.replace("topics", "topicz"), Vec::new);
    assert_eq!(report.code, ExitCode::FAILURE);
    assert_eq!(
        report.errors,
        ["tidegate.toml:4:1: unknown key `topicz` in [sources.mqtt.plant]; did you mean `topics`?"]
    );
    let missing = tempfile::tempdir().unwrap().path().join("tidegate.toml");
    assert_eq!(check(&missing, &|_: &Config| Ok(Vec::new())).code, ExitCode::from(2));
}

/// Guarantees: a directory without rules is said to be so, and is no mistake.
#[test]
fn no_rules() {
    let report = check_rules(CONFIG, Vec::new);
    assert_eq!(report.code, ExitCode::SUCCESS);
    assert!(report.warnings.iter().any(|w| w.contains("rules.d holds no rules")), "{:?}", report.warnings);
}

/// Guarantees: with `exactly_once` it is said, of the source, that a partition keeps to one lane and one connection, and of the sink, what is stored once; without
/// it neither is.
#[test]
fn partitions_that_keep_to_a_lane_and_a_connection() {
    let said = ["exactly once: each partition on one lane and one connection", "what comes from Kafka exactly once"];
    let report = check_rules(ONCE, Vec::new);
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    let lines = |words: &str| report.summary.lines().filter(|line| line.contains(words)).collect::<Vec<_>>();
    assert!(lines(said[0]).len() == 1 && lines(said[0])[0].contains("fleet"), "{}", report.summary);
    assert!(lines(said[1]).len() == 1 && lines(said[1])[0].contains("db"), "{}", report.summary);
    let without = check_rules(&ONCE.replace("exactly_once = \"kafka\"\n", ""), Vec::new).summary;
    assert!(said.iter().all(|words| !without.contains(words)), "{without}");
}

/// Guarantees: of a rule of the whole node it is told that it is one, and what it cannot do where hosts share topics, or where points are to be
/// stored exactly once; of one that is switched off, and of others, nothing.
#[test]
fn rules_of_the_node() {
    let shared = format!("{CONFIG}share = \"group\"\nshare_by = \"topic\"\n");
    for (config, word) in [(shared.as_str(), "topics of this host only"), (ONCE, "exactly_once")] {
        let report = check_rules(config, || {
            vec![
                rule("on", "module = \"k.wasm\"", "alert", StateOf::Node),
                rule("off", "module = \"k.wasm\"\nenabled = false", "alert", StateOf::Node),
                rule("other", "", "alert", StateOf::Nothing),
            ]
        });
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        let told: Vec<_> = report.warnings.iter().filter(|warning| warning.contains(word)).collect();
        assert!(told.len() == 1 && told[0].starts_with("on: "), "{:?}", report.warnings);
        assert_eq!(report.summary.matches("once for the whole node").count(), 2, "{}", report.summary);
    }
}

/// Guarantees: a rule that remembers is refused where hosts share what it gets and nothing says that a topic stays whole; where that is said, or it gets
/// nothing of what is shared, or is switched off or remembers nothing, it is not.
#[test]
fn rules_behind_a_share() {
    let shared = format!("{CONFIG}share = \"group\"\n");
    let report_on = |config: &str| {
        check_rules(config, || {
            let elsewhere = "module = \"t.wasm\"\ntopics = [\"site/#\"]";
            vec![
                rule("elsewhere", elsewhere, "alert", StateOf::Series),
                rule("hot", "", "alert", StateOf::Series),
                rule("off", "module = \"t.wasm\"\nenabled = false", "alert", StateOf::Series),
                rule("plain", "", "transform", StateOf::Nothing),
                rule("temp", "module = \"t.wasm\"\ntopics = [\"dev/+/temp\"]", "alert", StateOf::Series),
            ]
        })
    };
    let report = report_on(&shared);
    assert_eq!(report.code, ExitCode::FAILURE);
    let told: Vec<_> = report.errors.iter().filter_map(|error| error.split(':').next()).collect();
    assert_eq!(told, ["hot", "temp"], "{:?}", report.errors);
    assert!(report.errors[0].contains("write share_by = \"topic\""), "{:?}", report.errors);
    for said in ["share_by = \"topic\"", "share_by = \"one_host\""] {
        let report = report_on(&format!("{shared}{said}\n"));
        let told = report.warnings.iter().any(|warning| warning.contains("shares its messages"));
        assert!(report.errors.is_empty() && !told, "{:?} {:?}", report.errors, report.warnings);
    }
}
