//! The commands over the API, as an operator types them.

use std::process::{Command, Output};

use serde_json::Value;
use tidegate_tests::{Host, binary, root};

use crate::api::quiet;

fn tidegate(hosts: &[&Host], args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).env_remove("TIDEGATE_TOKEN").env_remove("TIDEGATE_NODES");
    for host in hosts {
        command.arg("--node").arg(format!("http://127.0.0.1:{}", host.port()));
    }
    command.output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
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
    let modules = done(&tidegate(&[&one], &["modules", "list"]));
    assert!(modules.contains("hot"), "{modules}");

    let input = one.path().join("input.json");
    std::fs::write(&input, "{\"points\": [{\"topic\": \"dev/a/temp\", \"value\": 99}]}").unwrap();
    let tried = done(&tidegate(&[&one], &["rules", "test", "hot", input.to_str().unwrap()]));
    assert!(tried.contains("\"transition\": \"raised\""), "{tried}");
    let status = done(&tidegate(&both, &["status"]));
    assert_eq!(status.lines().count(), 3, "{status}");
    assert!(done(&tidegate(&[&one], &["alerts"])).contains("no alert stands"));

    assert!(done(&tidegate(&[&two], &["rules", "order", "hot", "-3"])).contains("-3"));
    assert!(done(&tidegate(&both, &["rules", "disable", "hot"])).matches("disabled").count() == 2);
    done(&tidegate(&both, &["rules", "delete", "hot"]));
    assert!(done(&tidegate(&both, &["rules", "list"])).contains("no rules"));
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
