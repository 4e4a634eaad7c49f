//! The commands over the API, as an operator types them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tidegate_tests::{Host, binary, installed, root};

use crate::api::quiet;

pub(crate) fn tidegate(hosts: &[&Host], args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).env_remove("TIDEGATE_TOKEN").env_remove("TIDEGATE_NODES");
    for host in hosts {
        command.arg("--node").arg(format!("http://127.0.0.1:{}", host.port()));
    }
    command.output().unwrap()
}

#[track_caller]
pub(crate) fn done(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Guarantees: an operator makes a rule on two hosts at once, sees it there, tries it, switches it, and takes it away; each step says
/// what came of it, to people and to scripts.
#[test]
fn a_rule_on_two_hosts() {
    let (one, two) = (quiet().launch(), quiet().launch());
    let both = [&one, &two];
    let file = one.path().join("hot.toml");
    std::fs::write(
        &file,
        "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\norder = 5\n[config]\nabove = 90.0\n",
    )
    .unwrap();
    let module = root().join("target/rules/threshold.wasm");
    let (file, module) = (file.to_str().unwrap(), module.to_str().unwrap());
    let table = done(&tidegate(&both, &["rules", "put", "hot", file, "--module", module]));
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.starts_with("NODE") && table.matches("serving").count() == 2, "{table}");

    let listed = done(&tidegate(&both, &["rules", "list", "--json"]));
    let each: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(each.len() == 2 && each.iter().all(|said| said["answer"][0]["order"] == 5), "{listed}");
    let own: Value = serde_json::from_str(&done(&tidegate(&[&two], &["rules", "show", "hot", "--json"]))).unwrap();
    assert!(own["etag"].is_string() && each[1]["answer"][0]["etag"] == own["etag"], "{listed}");
    let modules = done(&tidegate(&[&one], &["modules", "list"]));
    assert!(modules.contains("hot"), "{modules}");

    let input = one.path().join("input.json");
    std::fs::write(&input, "{\"points\": [{\"topic\": \"dev/a/temp\", \"value\": 99}]}").unwrap();
    let tried = done(&tidegate(&[&one], &["rules", "test", "hot", input.to_str().unwrap()]));
    assert!(tried.contains("\"transition\": \"raised\""), "{tried}");
    let status = done(&tidegate(&both, &["status"]));
    // A line for each, and what is wrong with each: the broker is nowhere.
    assert_eq!((status.lines().count(), status.matches("unavailable").count()), (6, 2), "{status}");
    assert_eq!(status.matches("source plant: ").count(), 2, "{status}");
    assert!(done(&tidegate(&[&one], &["alerts"])).contains("no alert stands"));

    assert!(done(&tidegate(&[&two], &["rules", "order", "hot", "-3"])).contains("-3"));
    let words =
        ["rules", "change", "hot", "--set", "config.above=70", "--set", "limits.cpu_ms=20", "--unset", "order"];
    done(&tidegate(&both, &words));
    let shown: Value = serde_json::from_str(&done(&tidegate(&[&two], &["rules", "show", "hot", "--json"]))).unwrap();
    assert_eq!((&shown["file"]["config"]["above"], &shown["file"]["limits"]["cpu_ms"]), (&70.into(), &20.into()));
    assert_eq!((&shown["order"], &shown["topics"][0]), (&100.into(), &"dev/+/temp".into()));
    let late = tidegate(&both, &["rules", "disable", "hot", "--if-match", "\"0000\""]);
    assert!(!late.status.success() && String::from_utf8_lossy(&late.stderr).contains("changed since"), "{late:?}");
    assert!(done(&tidegate(&both, &["rules", "disable", "hot"])).matches("disabled").count() == 2);
    done(&tidegate(&both, &["rules", "delete", "hot"]));
    assert!(done(&tidegate(&both, &["rules", "list"])).contains("no rules"));
}

/// Guarantees: `tidegate shadow` is `tidegate rules shadow`.
#[test]
fn a_shadow_by_both_names() {
    let hot =
        |above: f64| format!("module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = {above:.1}\n");
    let host = quiet().module("threshold").rule("hot", &hot(90.0)).launch();
    let file = host.path().join("stricter.toml");
    std::fs::write(&file, hot(80.0)).unwrap();
    done(&tidegate(&[&host], &["shadow", "start", "hot", file.to_str().unwrap()]));
    let diff = |words: &[&str]| done(&tidegate(&[&host], &[words, &["diff", "hot", "--brief"]].concat()));
    let (short, long) = (diff(&["shadow"]), diff(&["rules", "shadow"]));
    assert!(short.contains("STATE") && short == long, "{short}{long}");
    assert!(done(&tidegate(&[&host], &["rules", "shadow", "stop", "hot"])).contains("stopped"));
    let none = tidegate(&[&host], &["shadow", "promote", "hot", "--state", "own"]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("no shadow"), "{none:?}");
}

/// Guarantees: with `--progress` what takes long says how far it is, each step on a line, on standard error; on a terminal it says so over one line without being
/// asked; else it says nothing. What is printed is the same.
#[test]
fn how_far() {
    let host = quiet().module("threshold").launch();
    let module = root().join("target/rules/json-reading.wasm");
    let module = module.to_str().unwrap();
    let document = host.path().join("rules.json");
    let exported = done(&tidegate(&[&host], &["export"]));
    std::fs::write(&document, &exported).unwrap();
    let document = document.to_str().unwrap();
    for (words, what) in [
        (vec!["modules", "upload", module], "sent"),
        (vec!["export"], "received"),
        (vec!["import", document], "sent"),
        (vec!["desired", "plan", document], "sent"),
    ] {
        let told = tidegate(&[&host], &[&words[..], &["--progress"]].concat());
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        let steps: Vec<&str> = said.lines().filter(|line| line.contains(&format!(" MiB {what}"))).collect();
        assert!(steps.last().is_some_and(|step| step.contains("100 % of ")), "{words:?}: {said}");
        assert!(steps.iter().all(|step| step.starts_with("tidegate: http://127.0.0.1:")), "{words:?}: {said}");
        let untold = tidegate(&[&host], &words);
        assert_eq!(String::from_utf8_lossy(&untold.stderr), "", "{words:?}");
        assert_eq!(untold.status, told.status, "{words:?}");
    }
    assert_eq!(done(&tidegate(&[&host], &["export", "--progress"])), exported);
    let (definition, points) = (host.path().join("hot.toml"), host.path().join("points.ndjson"));
    std::fs::write(&definition, "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 90.0\n")
        .unwrap();
    std::fs::write(&points, "{\"topic\":\"dev/a\",\"time_us\":1,\"value\":99}\n".repeat(1_000)).unwrap();
    let words = ["backtest", "--definition", definition.to_str().unwrap(), "--file", points.to_str().unwrap()];
    let told = tidegate(&[&host], &[&words[..], &["--progress"]].concat());
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(done(&told).contains("1000") && said.lines().all(|line| line.starts_with("tidegate: http://")), "{said}");
    assert!(
        said.lines().last().is_some_and(|line| line.ends_with("done: 100 %  1000 rows read, 1 alerts raised")),
        "{said}"
    );
    let untold = tidegate(&[&host], &words);
    assert!(done(&untold).contains("1000") && untold.stderr.is_empty(), "{untold:?}");
    if installed("script", "bsdutils") {
        let node = format!("http://127.0.0.1:{}", host.port());
        let typed = format!("'{}' modules upload '{module}' --node {node}", binary().display());
        let seen = Command::new("script")
            .args(["-qec", &typed, "/dev/null"])
            .env_remove("TIDEGATE_TOKEN")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        assert!(seen.contains("\r\x1b[K100 % of ") && seen.contains("SHA256"), "{seen:?}");
    }
}

/// Guarantees: `TIDEGATE_NODES` names the hosts of commands that can also work on files, as it does for all others; who names files means files.
#[test]
fn nodes_of_the_environment() {
    let host = quiet().launch();
    let node = format!("http://127.0.0.1:{}", host.port());
    let (data_dir, empty) = (host.data_dir(), tempfile::tempdir().unwrap());
    let with = |nodes: &str, args: &[&str]| {
        let mut command = Command::new(binary());
        command.args(args).env_remove("TIDEGATE_TOKEN").env("TIDEGATE_NODES", nodes).current_dir(empty.path());
        command.output().unwrap()
    };
    for words in [&["dead-letters", "list"][..], &["dead-letters", "purge", "--all"], &["spool", "list"]] {
        done(&with(&node, words));
        let away = with("http://127.0.0.1:1", words);
        let said = String::from_utf8_lossy(&away.stderr).into_owned();
        assert!(!away.status.success() && said.contains("it cannot be reached"), "{words:?}: {said}");
        done(&with("http://127.0.0.1:1", &[words, &["--data-dir", data_dir.to_str().unwrap()]].concat()));
    }
}

/// Guarantees: what a host refuses is said with its reason and place, one that is away is said to be, and the exit code tells; the
/// others are asked all the same.
#[test]
fn refusals_are_told() {
    let host = quiet().module("threshold").launch();
    let file = host.path().join("hot.toml");
    std::fs::write(&file, "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = \"hot\"\n").unwrap();
    let refused = tidegate(&[&host], &["rules", "put", "hot", file.to_str().unwrap()]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("/config/above"), "{words}");
    let away = tidegate(&[&host], &["rules", "list", "--node", "http://127.0.0.1:1"]);
    let (out, err) = (String::from_utf8_lossy(&away.stdout), String::from_utf8_lossy(&away.stderr));
    assert!(
        !away.status.success()
            && out.contains("threshold")
            && err.contains("http://127.0.0.1:1: it cannot be reached"),
        "{out}\n{err}"
    );
    let wrong = tidegate(&[&host], &["rules", "enable", "../hot"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("is no name"), "{wrong:?}");
}

/// Guarantees: who changed what on two hosts is told, a line a change, chosen by operation, subject and time; and what else hosts say of themselves has
/// a table of its own, from several as from one.
#[test]
fn what_was_done_and_how_they_are() {
    let file = "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 90.0\n";
    let [one, two] = [(); 2].map(|()| quiet().module("threshold").rule("hot", file).launch());
    let both = [&one, &two];
    done(&tidegate(&both, &["rules", "order", "hot", "7"]));
    done(&tidegate(&[&one], &["rules", "disable", "hot"]));
    assert!(!tidegate(&[&one], &["rules", "enable", "nobody"]).status.success());
    let table = done(&tidegate(&both, &["audit"]));
    assert_eq!((table.lines().count(), table.matches("patchRule").count()), (5, 2), "{table}");
    assert!(
        table.starts_with("NODE") && table.contains("404 not_found") && table.contains("this machine"),
        "{table}"
    );
    let chosen = |args: &[&str]| done(&tidegate(&[&one], &[&["audit"], args].concat())).lines().count();
    assert_eq!(chosen(&["--operation", "disableRule", "--about", "hot", "--since", "1h"]), 2);
    assert_eq!(chosen(&["--limit", "1"]), 2);
    assert_eq!(done(&tidegate(&[&one], &["audit", "--who", "ops"])), "no change was made\n");
    assert_eq!(done(&tidegate(&[&one], &["audit", "--until", "2020-01-01"])), "no change was made\n");
    assert_eq!(done(&tidegate(&[&one], &["audit", "--denials"])), "nobody was refused\n");
    let page = done(&tidegate(&[&one], &["audit", "--json", "--operation", "patchRule"]));
    let page: Value = serde_json::from_str(&page).unwrap();
    let phases: Vec<&str> =
        page["lines"].as_array().unwrap().iter().map(|line| line["phase"].as_str().unwrap()).collect();
    assert_eq!((phases, &page["complete"]), (vec!["begun", "ended"], &Value::Bool(true)), "{page}");

    for (part, word) in
        [("sources", "BEHIND"), ("sinks", "IN SPOOL"), ("lanes", "partitions"), ("ledger", "RETURNED")]
    {
        let table = done(&tidegate(&both, &["status", part]));
        let each = both.map(|host| table.contains(&format!(":{} ", host.port())));
        assert!(table.contains(word) && each == [true, true], "{part}: {table}");
    }
    for command in [&["status", "spools"][..], &["spool", "list"]] {
        let json = done(&tidegate(&both, &[command, &["--json"]].concat()));
        assert_eq!(json.matches("\"ok\":true").count(), 2, "{json}");
    }
    assert!(!tidegate(&[&one], &["spool", "inspect", "nobody"]).status.success());
    assert!(!tidegate(&[&one], &["spool", "verify"]).status.success(), "that reads files");
    assert_eq!(done(&tidegate(&[&one], &["series", "--contains", "oven"])), "no such series is known\n");
}

/// Guarantees: what a rule may use up is shown with what it is by default, and changed limit by limit, on several hosts; a limit that there is not is refused
/// before any host is asked.
#[test]
fn limits() {
    let file =
        "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 90.0\n[limits]\nmemory_mib = 8\n";
    let [one, two] = [(); 2].map(|()| quiet().module("threshold").rule("hot", file).launch());
    let own = || -> Value {
        serde_json::from_str(&done(&tidegate(&[&one], &["rules", "limits", "hot", "--json"]))).unwrap()
    };
    let table = done(&tidegate(&[&one], &["rules", "limits", "hot"]));
    let memory: Vec<&str> =
        table.lines().find(|line| line.starts_with("memory_mib")).unwrap().split_whitespace().collect();
    assert_eq!(memory, ["memory_mib", "8", "16"], "{table}");
    done(&tidegate(&[&one, &two], &["rules", "limits", "hot", "cpu_ms=20", "memory_mib=default"]));
    assert_eq!((&own()["cpu_ms"], &own()["memory_mib"], &own()["wall_ms"]), (&20.into(), &16.into(), &2000.into()));
    let wrong = tidegate(&[&one], &["rules", "limits", "hot", "cpu=1"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("choose from"), "{wrong:?}");
    let beyond = tidegate(&[&one], &["rules", "limits", "hot", "memory_mib=4000000"]);
    assert!(!beyond.status.success() && String::from_utf8_lossy(&beyond.stderr).contains("memory_mib"), "{beyond:?}");
    assert_eq!(own()["cpu_ms"], 20);
}

/// Guarantees: hosts are asked again and again while they are watched, in words and for scripts, and it ends when nobody reads any more.
#[test]
fn watched() {
    let host = quiet().launch();
    let node = format!("http://127.0.0.1:{}", host.port());
    for (json, part) in [(true, None), (false, Some("lanes"))] {
        let mut command = Command::new(binary());
        command.args(["status", "--watch=200ms", "--node", &node]).args(part).args(json.then_some("--json"));
        let mut watching = command.env_remove("TIDEGATE_TOKEN").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
        let heads = lines.by_ref().filter(|line| json || line.starts_with("KIND")).take(3);
        let heads: Vec<String> = heads.collect();
        assert_eq!(heads.len(), 3);
        assert!(
            !json
                || heads
                    .iter()
                    .all(|line| serde_json::from_str::<Value>(line).unwrap()["health"]["status"] == "unavailable")
        );
        drop(lines);
        assert!(watching.wait().unwrap().success());
    }
    assert!(!tidegate(&[&host], &["status", "--watch=1ms"]).status.success());
}

/// Guarantees: who misspells a name, a length of time or a row, or names no host, hears what was wrong, where, and what to write instead.
#[test]
fn mistakes_are_told() {
    let host = quiet().module("threshold").launch();
    let place = host.path();
    let rows = place.join("rows.ndjson");
    std::fs::write(&rows, "{\"topic\":\"dev/a\",\"time_us\":1,\"value\":99}\nno JSON\n").unwrap();
    std::fs::write(
        place.join("hot.toml"),
        "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 90.0\n",
    )
    .unwrap();
    let definition = place.join("hot.toml");
    let tested = done(&tidegate(
        &[&host],
        &["backtest", "--definition", definition.to_str().unwrap(), "--file", rows.to_str().unwrap()],
    ));
    assert!(tested.contains("NOT READ") && tested.contains("line 2: "), "{tested}");

    for (words, code, told) in [
        (vec!["rules", "show", "treshold"], 1, "there is no rule \"treshold\"; did you mean \"threshold\"?"),
        (vec!["rules", "enable", "zz"], 1, "there is no rule \"zz\"; `tidegate rules list` lists"),
        (vec!["modules", "prune", "--older-than", "soon"], 2, "\"soon\" is no length of time; write it as in 90s"),
        (vec!["status", "--watch=soon"], 2, "\"soon\" is no length of time"),
    ] {
        let output = tidegate(&[&host], &words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(told), "{words:?}: {output:?}");
    }
    let mut command = Command::new(binary());
    command.args(["dead-letters", "list"]).current_dir(place.join("rules.d")).env_remove("TIDEGATE_NODES");
    let said = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    assert!(said.contains("--data-dir") && said.contains("--node"), "{said}");
}

/// Guarantees: a variable with the token in it is read as a file with it is: what stands around the token is not of it, and nothing is none.
#[test]
fn a_token_by_variable() {
    let open = quiet().launch();
    let (token, section) = crate::api_access::token("ops", "read", "");
    let guarded = quiet().admin(&section).launch();
    for (host, variable) in [(&open, String::new()), (&open, " ".to_owned()), (&guarded, format!("{token}\n"))] {
        let mut command = Command::new(binary());
        command.args(["rules", "list", "--node"]).arg(format!("http://127.0.0.1:{}", host.port()));
        done(&command.env("TIDEGATE_TOKEN", &variable).env_remove("TIDEGATE_NODES").output().unwrap());
    }
}
