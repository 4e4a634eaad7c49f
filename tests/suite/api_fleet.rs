//! Many hosts and their modules, by command: one after another, no further than it goes well, and bytes that come back as they were sent.

use std::fs::{File, read_to_string};
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate_tests::{DEADLINE, Host, binary, built_module, wait_for};

use crate::api::quiet;
use crate::api_cli::{done, tidegate};

const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\norder = 5\n[config]\nabove = 90.0\n";

fn node(host: &Host) -> String {
    format!("http://127.0.0.1:{}", host.port())
}

fn order(host: &Host) -> Value {
    host.ask("GET", "/api/v1/rules/hot").send().expect(200)["order"].clone()
}

/// What a host is said to have answered, of what `--json` prints.
fn answers(printed: &[u8]) -> Vec<(bool, String)> {
    let lines = std::str::from_utf8(printed).unwrap().lines();
    let each = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    each.map(|said| (said["ok"] == true, said["answer"]["code"].as_str().unwrap_or_default().to_owned())).collect()
}

/// Guarantees: a rolling change goes from host to host; one that a host refuses ends there, and what became of each host is said: changed, refused, left
/// as it was. So it is with a rule, and with all of them as a document.
#[test]
fn rolling_ends_at_a_refusal() {
    let with = || quiet().module("threshold").rule("hot", HOT).launch();
    let (one, two, three) = (with(), quiet().launch(), with());
    let all_well = tidegate(&[&one, &three], &["rules", "order", "hot", "6", "--rolling", "--soak", "0s"]);
    let told = String::from_utf8_lossy(&all_well.stderr).matches("changed, and well").count();
    assert!(done(&all_well).matches("serving").count() == 2 && told == 2, "{all_well:?}");

    let all = [&one, &two, &three];
    let change = ["rules", "change", "hot", "--set", "order=7", "--rolling", "--soak", "0s", "--json"];
    let partly = tidegate(&all, &change);
    assert!(!partly.status.success());
    let codes = [(true, ""), (false, "not_found"), (false, "not_changed")].map(|(ok, code)| (ok, code.to_owned()));
    assert_eq!(answers(&partly.stdout), codes, "{partly:?}");
    assert_eq!((order(&one), order(&three)), (7.into(), 6.into()));

    let document = one.path().join("rules.json");
    std::fs::write(&document, done(&tidegate(&[&one], &["export", "--without-modules"]))).unwrap();
    let args = ["desired", "apply", document.to_str().unwrap(), "--rolling", "--soak", "0s", "--json"];
    let partly = tidegate(&all, &args);
    assert_eq!(answers(&partly.stdout).iter().map(|(ok, _)| *ok).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(order(&three), 6, "{partly:?}");

    let gone = tidegate(&[&one, &three], &["rules", "delete", "hot", "--rolling", "--soak", "0s"]);
    assert_eq!(done(&gone), "deleted\n");
    assert!(done(&tidegate(&[&one, &three], &["rules", "list"])).contains("no rules"));
}

/// Guarantees: a host on which the rule is not well while it is watched is the last that is changed, long before its time is over; it is said to be changed
/// and not well, and the next is left as it was.
#[test]
fn rolling_ends_where_a_rule_is_not_well() {
    let [one, two] = [(); 2].map(|()| quiet().module("threshold").rule("hot", HOT).launch());
    let rolling = Command::new(binary())
        .args(["rules", "order", "hot", "6", "--rolling", "--soak", "1d", "--json"])
        .args(["--node", &node(&one), "--node", &node(&two)])
        .env_remove("TIDEGATE_TOKEN")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the first host to be changed", DEADLINE, || match order(&one) {
        order if order == 6 => Ok(()),
        other => Err(other.to_string()),
    });
    std::fs::write(one.rules_dir().join("hot.toml"), "module = ").unwrap();
    let ended = rolling.wait_with_output().unwrap();
    let codes = [(false, "not_well".to_owned()), (false, "not_changed".to_owned())];
    assert!(!ended.status.success() && answers(&ended.stdout) == codes, "{ended:?}");
    assert_eq!(order(&two), 5);
}

/// Guarantees: a module comes back byte for byte, from the host that has it; into a file that was not there, or to standard output; and one that no host
/// has is refused, with no file left.
#[test]
fn modules_come_back() {
    let (with, without) = (quiet().module("threshold").launch(), quiet().launch());
    let module = built_module("threshold");
    let listed: Value = serde_json::from_str(&done(&tidegate(&[&with], &["modules", "list", "--json"]))).unwrap();
    let sha256 = listed[0]["sha256"].as_str().unwrap();
    let file = with.path().join("back.wasm");
    let args = ["modules", "download", sha256, "--output", file.to_str().unwrap()];
    let told = done(&tidegate(&[&without, &with], &args));
    assert!(told.contains(&node(&with)) && std::fs::read(&file).unwrap() == module, "{told}");
    let again = tidegate(&[&with], &args);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("there already"), "{again:?}");
    assert!(tidegate(&[&with], &["modules", "download", sha256, "--output", "-"]).stdout == module);
    let other = with.path().join("none.wasm");
    let none = tidegate(&[&with], &["modules", "download", &"0".repeat(64), "--output", other.to_str().unwrap()]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("no module"), "{none:?}");
    assert!(!other.exists());
}

/// Guarantees: a rule's file is printed as one that can be put, on another host as well; one that cannot be read is said to be none.
#[test]
fn files_go_round() {
    let (one, two) = (quiet().module("threshold").rule("hot", HOT).launch(), quiet().module("threshold").launch());
    let printed = done(&tidegate(&[&one], &["rules", "file", "hot"]));
    let file = one.path().join("copy.toml");
    std::fs::write(&file, &printed).unwrap();
    done(&tidegate(&[&two], &["rules", "put", "hot", file.to_str().unwrap()]));
    assert_eq!(done(&tidegate(&[&two], &["rules", "file", "hot"])), printed);
    assert!(read_to_string(two.rules_dir().join("hot.toml")).unwrap().contains("above = 90.0"));
    let none = quiet().module("threshold").rule("hot", "module = ").launch();
    let refused = tidegate(&[&none], &["rules", "file", "hot"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("no file"), "{refused:?}");
}

/// Guarantees: a reader who has seen enough ends a command without a word; what cannot be written is an error.
#[test]
fn readers_who_go() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    let command = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.args(args).args(["--node", &node(&host)]).env_remove("TIDEGATE_TOKEN").stderr(Stdio::piped());
        command
    };
    for args in [&["rules", "list"][..], &["export"], &["rules", "show", "hot", "--json"]] {
        let mut child = command(args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{args:?}: {ended:?}");
    }
    let full = command(&["rules", "list"]).stdout(File::create("/dev/full").unwrap()).output().unwrap();
    assert!(!full.status.success() && !full.stderr.is_empty(), "{full:?}");
}

/// Guarantees: what the API does at length, on threads beside its own, gives way to the lanes; its own, on which answers are made in microseconds, does not, so that
/// nobody who waits for it waits for others first.
#[test]
fn the_interface_gives_way() {
    let host = quiet().module("threshold").rule("hot", HOT).launch();
    done(&tidegate(&[&host], &["modules", "list"]));
    let nice_of = |name: &str| -> Vec<i32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().flatten();
        let named = threads.filter_map(|thread| read_to_string(thread.path().join("stat")).ok()).filter_map(|stat| {
            let (head, rest) = stat.rsplit_once(") ")?;
            // The 19th field of the line; three of them stand before this.
            head.ends_with(&format!("({name}")).then(|| rest.split(' ').nth(16)?.parse().ok())?
        });
        named.collect()
    };
    let (lane, admin) = (nice_of("lane-0"), nice_of("admin"));
    assert!(lane.len() == 1 && lane == admin, "{lane:?} {admin:?}");
    let beside = nice_of("tokio-rt-worker");
    assert!(beside.iter().any(|nice| *nice > lane[0]), "{beside:?}");
}
