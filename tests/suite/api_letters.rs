//! Dead letters by the API, from end to end: seen page by page, put back, deleted; and nothing by a slip.

use std::process::Command;

use serde_json::{Value, json};
use tidegate_tests::{
    DEADLINE, Host, Mosquitto, Protocol, Publisher, Qos, Setup, binary, built_module, plain, wait_for,
};

const A: u64 = 30;
const B: u64 = 12;

fn list(host: &Host, query: &str) -> Value {
    host.ask("GET", &format!("/api/v1/dead-letters{query}")).send().expect(200)
}

fn ids(page: &Value) -> Vec<i64> {
    page["letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_i64().unwrap()).collect()
}

/// Guarantees: letters are listed page by page, each once, by all that can be asked; one is shown whole; those that are replayed come
/// to be stored byte for byte and go, the others stay; those that are purged go, and no others; and who says neither which nor `all`
/// changes nothing.
#[test]
fn seen_replayed_and_purged() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver((1..=A).map(|n| plain("dev/a/temp", n, n as f64)));
    publisher.deliver((1..=B).map(|n| plain("dev/b/temp", n, n as f64)));
    host.wait_settled(A + B);
    wait_for("the letters", DEADLINE, || match list(&host, "?limit=1")["matching"].as_u64() {
        Some(all) if all == A + B => Ok(()),
        other => Err(format!("{other:?}")),
    });

    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = ids(&list(&host, &format!("?limit=10&after={after}")));
        let Some(&last) = page.last() else { break };
        (after, seen) = (last, [seen, page].concat());
    }
    assert_eq!(seen.len() as u64, A + B);
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    let matching = |query: &str| list(&host, query)["matching"].as_u64().unwrap();
    assert_eq!((matching("?topic=dev/b/%23"), matching("?stage=route"), matching("?stage=sink")), (B, A + B, 0));
    assert_eq!((matching("?source=plant"), matching("?source=other"), matching("?rule=hot")), (A + B, 0, 0));
    assert_eq!((matching("?reason=decoder"), matching("?since_us=0"), matching("?until_us=0")), (A + B, A + B, 0));

    let first = ids(&list(&host, "?topic=dev/a/temp&limit=1"))[0];
    let one = host.ask("GET", &format!("/api/v1/dead-letters/{first}")).send().expect(200);
    assert_eq!((one["topic"].as_str(), one["stage"].as_str()), (Some("dev/a/temp"), Some("route")), "{one}");
    assert!(one.to_string().contains("ts"), "its payload is there: {one}");
    host.ask("GET", "/api/v1/dead-letters/999999").send().expect_problem(404, "not_found");

    let post = |what: &str, query: &str| host.ask("POST", &format!("/api/v1/dead-letters/{what}{query}")).send();
    for what in ["replay", "cancel-replay", "purge"] {
        for slip in
            ["", "?all=false", "?all=true&topic=dev/a/temp", "?id=1&all=true", "?stage=nowhere", "?topic=a/%23/b"]
        {
            post(what, slip).expect_problem(400, "bad_request");
        }
    }
    assert_eq!(matching(""), A + B, "nothing was done by a slip");
    by_command(&host, first);

    assert_eq!(post("purge", &format!("?id={first}")).expect(200), json!({"letters": 1}));
    assert_eq!(post("purge", &format!("?id={first}")).expect(200), json!({"letters": 0}), "it is gone already");
    host.drop_by_rename("json-reading.wasm", &built_module("json-reading"));
    host.wait_status("the decoder to serve", |status| {
        status.rules.iter().any(|rule| rule.state == "serving").then_some(())
    });
    assert_eq!(post("replay", "?topic=dev/a/%23").expect(200), json!({"letters": A - 1}));
    wait_for("the replayed to go", DEADLINE, || match matching("") {
        B => Ok(()),
        left => Err(format!("{left} letters are left; {}", host.tail())),
    });
    host.wait_rows(A - 1);
    assert!(
        host.rows().iter().all(|row| row.topic == "dev/a/temp" && row.number() != Some(1.0)),
        "the one that was purged"
    );
    assert_eq!(post("purge", "?all=true").expect(200), json!({"letters": B}));
    assert_eq!((matching(""), host.rows().len() as u64), (0, A - 1));

    let audit = host.ask("GET", "/api/v1/audit").send().expect(200);
    let done: Vec<&str> = audit["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["status"] == 200)
        .map(|line| line["operation"].as_str().unwrap())
        .collect();
    let expected =
        ["purgeDeadLetters", "purgeDeadLetters", "purgeDeadLetters", "replayDeadLetters", "purgeDeadLetters"];
    assert_eq!(done, expected, "{audit}");
}

/// Guarantees: the same by command, of a host that is asked over its API: a list, one letter, and none changed by a slip or where only the file can say;
/// who is asked twice answers twice.
fn by_command(host: &Host, id: i64) {
    let node = format!("http://127.0.0.1:{}", host.port());
    let tidegate = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.env_remove("TIDEGATE_TOKEN").arg("dead-letters").args(args).args(["--node", &node]);
        command.output().unwrap()
    };
    let said = |args: &[&str]| {
        let output = tidegate(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = said(&["list", "--topic", "dev/b/#", "--limit", "5"]);
    assert!(table.starts_with("ID") && table.lines().count() == 6 && table.contains("dev/b/temp"), "{table}");
    let page: Value = serde_json::from_str(&said(&["list", "--since", "1h", "--json"])).unwrap();
    assert_eq!(page["matching"], json!(A + B), "{page}");
    assert!(said(&["show", &id.to_string()]).contains("\"stage\": \"route\""));
    assert!(said(&["list", "--rule", "nobody"]).contains("no dead letters"));
    let both = said(&["list", "--node", &node, "--limit", "2"]);
    assert!(both.starts_with("NODE") && both.lines().count() == 5, "{both}");
    let oldest = said(&["list", "--limit", "1", "--after", "0", "--json"]);
    assert_ne!(said(&["list", "--limit", "1", "--json"]), oldest, "without more the newest");
    list(host, "?limit=1&newest=true&topic=dev/b/%23");
    host.ask("GET", "/api/v1/dead-letters?newest=true&after=1").send().expect_problem(400, "bad_request");
    let exported = said(&["export", "--topic", "dev/a/#"]);
    assert_eq!(
        (exported.lines().count() as u64, exported.matches("\"topic\":\"dev/a/temp\"").count() as u64),
        (A, A)
    );
    assert!(!exported.contains("\"node\""), "{exported}");
    let file = host.path().join("letters.ndjson");
    assert!(
        said(&["export", "--output", file.to_str().unwrap(), "--node", &node])
            .starts_with(&(2 * (A + B)).to_string())
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap().matches("\"node\"").count() as u64, 2 * (A + B));
    assert!(!tidegate(&["export", "--output", file.to_str().unwrap()]).status.success(), "it is there already");
    let payload = list(host, &format!("/{id}"))["payload"].clone();
    assert_eq!(said(&["show", &id.to_string(), "--payload"]), payload.as_str().unwrap());
    assert_eq!(
        said(&["purge", "--topic", "dev/b/#", "--dry-run", "--json"]),
        format!("{{\"dry_run\":true,\"purged\":{B}}}\n")
    );
    assert!(said(&["purge", &id.to_string(), "999999", "--dry-run"]).ends_with("\n1\n"));
    for slip in [&["purge"][..], &["replay", "--cancel"]] {
        assert!(!tidegate(slip).status.success(), "{slip:?}");
    }
    assert_eq!(said(&["purge", "--topic", "nobody/#", "--json"]).trim(), "{\"letters\":0}");
    assert_eq!(list(host, "?limit=1")["matching"], json!(A + B));
}

/// Guarantees: a wish to replay can be looked for and taken back, where nobody has one that is none; and the room of what was purged goes back to the disk while
/// the host writes on. Nothing that is left is lost by it.
#[test]
fn taken_back_and_made_small() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    const ALL: u64 = 4_000;
    publisher.deliver((1..=ALL).map(|n| plain(["dev/0", "dev/1"][n as usize % 2], n, n as f64)));
    host.wait_settled(ALL);
    let letters = |query: &str| list(&host, &format!("?limit=1{query}"))["matching"].as_u64().unwrap();
    let wait_letters = |wanted: u64| {
        wait_for("the letters", DEADLINE, || match letters("") {
            all if all == wanted => Ok(()),
            all => Err(format!("{all}")),
        });
    };
    wait_letters(ALL);
    let node = format!("http://127.0.0.1:{}", host.port());
    let said = |args: &[&str]| {
        let mut command = Command::new(binary());
        let output =
            command.env_remove("TIDEGATE_TOKEN").arg("dead-letters").args(args).args(["--node", &node]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let cancel =
        |query: &str| host.ask("POST", &format!("/api/v1/dead-letters/cancel-replay{query}")).send().expect(200);
    assert_eq!(cancel("?all=true"), json!({"letters": 0}), "nobody has asked");
    assert_eq!(letters("&requested=true"), 0);
    assert_eq!(said(&["replay", "--all", "--cancel", "--json"]).trim(), "{\"letters\":0}");
    assert!(said(&["list", "--requested"]).contains("no dead letters"));

    let free = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let file = rusqlite::Connection::open_with_flags(host.data_dir().join("dead_letters.db"), flags).unwrap();
        file.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0)).unwrap()
    };
    let purged = said(&["purge", "--topic", "dev/0", "--json"]);
    assert_eq!(purged.trim(), format!("{{\"letters\":{}}}", ALL / 2));
    assert!(free() > 0, "their room is kept for others");
    assert_eq!(said(&["purge", "--topic", "nobody/#", "--compact", "--json"]).trim(), "{\"letters\":0}");
    assert_eq!((letters(""), free()), (ALL / 2, 0));
    publisher.deliver([plain("dev/2", 1, 1.0)]);
    wait_letters(ALL / 2 + 1);
}
