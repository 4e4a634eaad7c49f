//! A disk without room: nothing is acknowledged that is not on it, and all goes on when there is room again.

use tidegate_tests::{
    Account, DEADLINE, Host, Mosquitto, Protocol, Publisher, Qos, Setup, SmallDisk, built_module, files, garbage,
    readings, sqlite_count, sqlite_rows, variant, wait_for, with_own_mounts,
};

use crate::api::quiet;

/// Guarantees: when dead letters cannot be written for want of room, their messages are not acknowledged; the host lives, says
/// why it is not ready, and stores good messages beside them; with room again, every bad message is a dead letter, once. Letters are not compacted
/// where there is no room for it (507), and are where there is.
#[test]
fn dead_letters_without_room() {
    with_own_mounts("disk_full::dead_letters_without_room", || {
        let Some(broker) = Mosquitto::start() else { return };
        let setup = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").module("json-reading");
        let disk = SmallDisk::mount(&setup.path().join("data"), 8 << 10);
        let elsewhere = setup.path().join("points.db");
        let host = setup.toml(&format!("[sinks.sqlite.points]\npath = \"{}\"", elsewhere.display())).start();
        let mut publisher = Publisher::connect(&broker, Qos::One);
        publisher.deliver(garbage());
        let before = publisher.sent().len();
        host.wait_settled(before as u64);

        disk.fill();
        // Room for the audit log's lines, and not for the letters once more.
        disk.spare(512 << 10);
        let refused = host.ask("POST", "/api/v1/dead-letters/compact").send().expect_problem(507, "no_room");
        assert!(refused["detail"].as_str().unwrap().contains("purge more first"), "{refused}");
        assert_eq!(host.dead_letters().len(), before, "all letters are there");
        disk.clear();
        host.ask("POST", "/api/v1/dead-letters/compact").send().expect(204);
        assert_eq!(host.dead_letters().len(), before);

        disk.fill();
        // One by one, so that each is a delivery of its own: as many as there are must not hold up what is good.
        for message in garbage() {
            publisher.deliver([message]);
            let due = publisher.sent().len() as u64;
            host.wait_status("the message", |status| (status.messages.received >= due).then_some(()));
        }
        publisher.deliver(readings(0..50, 10));
        unready(&host, "sink dead-letters");
        wait_for("the good messages", DEADLINE, || match sqlite_count(&elsewhere) {
            50 => Ok(()),
            found => Err(format!("{found} rows; {}", host.tail())),
        });
        assert!(host.status().messages.in_flight > 0, "what has no dead letter is not acknowledged");
        assert_eq!(host.dead_letters().len(), before, "no letter was written");

        disk.clear();
        let status = host.wait_settled(publisher.sent().len() as u64);
        status.assert_balanced("with room again");
        let rows = sqlite_rows(&elsewhere);
        Account::of(publisher.sent(), rows, &host.dead_letters()).assert_exact("with room again");
        ready(&host);
    });
}

/// Guarantees: a document of rules, or a module, for which there is not room enough changes nothing, also where some of it would have fitted: every file
/// is what it was and nothing is beside it, every rule serves as it did, and the answer says what is missing. With room it is taken.
#[test]
fn rules_without_room() {
    with_own_mounts("disk_full::rules_without_room", || {
        let setup = quiet();
        let disk = SmallDisk::mount(&setup.path().join("rules.d"), 4 << 10);
        let short = "module = \"threshold.wasm\"\ntopics = [\"dev/+/temp\"]\n[config]\nabove = 90.0\n";
        let topics: Vec<String> = (0..400).map(|i| format!("dev/+/some/long/name/{i}")).collect();
        let long = format!("module = \"threshold.wasm\"\ntopics = {topics:?}\n[config]\nabove = 90.0\n");
        let host = setup.module("threshold").rule("a", short).rule("b", &long).launch();
        let mut wanted = host.ask("GET", "/api/v1/export").send().expect(200);
        for rule in ["a", "b"] {
            wanted["rules"][rule]["config"]["above"] = 80.0.into();
        }
        disk.fill();
        // Without its counters: it ticks meanwhile.
        let rules = || -> Vec<_> {
            let all = host.ask("GET", "/api/v1/rules").send().expect(200);
            let told = ["name", "state", "generation", "file", "problem"];
            all.as_array().unwrap().iter().map(|rule| told.map(|key| rule[key].clone())).collect()
        };
        let on_disk = || -> Vec<_> {
            let all = files(&host.rules_dir()).into_iter().filter(|path| !path.ends_with("ballast"));
            all.map(|path| (path.clone(), std::fs::read(host.rules_dir().join(path)).unwrap())).collect()
        };
        let before = (rules(), on_disk());
        // For the new file of the one, and not for that of the other, nor to write the other's old one once more.
        disk.spare(4096);
        host.ask("PUT", "/api/v1/desired").json(&wanted).send().expect_problem(507, "no_room");
        assert!((rules(), on_disk()) == before, "{:?}", rules());
        let module = variant(&built_module("threshold"), 1);
        let sent = host.ask("POST", "/api/v1/modules").body("application/wasm", &module).send();
        sent.expect_problem(507, "no_room");
        assert!(on_disk() == before.1, "a draft is left");

        disk.clear();
        host.ask("PUT", "/api/v1/desired").json(&wanted).send().expect(200);
        assert_eq!(host.ask("GET", "/api/v1/rules/b").send().expect(200)["file"]["config"]["above"], 80.0);
    });
}

/// Guarantees: a SQLite store whose disk becomes full in mid-stream acknowledges nothing that it does not keep; the
/// host lives and says why it is not ready; with room again, every message is a row, once.
#[test]
fn store_without_room() {
    with_own_mounts("disk_full::store_without_room", || {
        let Some(broker) = Mosquitto::start() else { return };
        let setup = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").module("json-reading");
        let disk = SmallDisk::mount(&setup.path().join("data"), 20 << 10);
        let host = setup.start();
        let mut publisher = Publisher::connect(&broker, Qos::One);
        publisher.deliver(readings(0..1_000, 100));
        host.wait_rows(1_000);
        disk.fill();
        publisher.deliver(readings(1_000..11_000, 100));
        unready(&host, "sink ");
        assert!((host.rows().len() as u64) < 11_000, "there was no room for all");

        disk.clear();
        host.wait_rows(11_000);
        host.wait_settled(11_000).assert_balanced("with room again");
        host.account(publisher.sent()).assert_exact("with room again");
        ready(&host);
    });
}

/// Guarantees: when a sink is down and its spool has no room either, messages are held back at their broker and the host says
/// why; with room for the spool they are acknowledged, and with a sink that works again stored, once.
#[test]
fn spool_without_room() {
    with_own_mounts("disk_full::spool_without_room", || {
        let Some(broker) = Mosquitto::start() else { return };
        let setup = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").module("json-reading");
        let of_data = SmallDisk::mount(&setup.path().join("data"), 8 << 10);
        let of_sink = SmallDisk::mount(&setup.path().join("sink"), 8 << 10);
        let points = setup.path().join("sink/points.db");
        let sink = format!("[sinks.sqlite.points]\npath = \"{}\"\nspool = {{ enabled = true }}", points.display());
        let host = setup.toml(&sink).start();
        let mut publisher = Publisher::connect(&broker, Qos::One);
        publisher.deliver(readings(0..100, 10));
        host.wait_settled(100);

        of_sink.fill();
        of_data.fill();
        publisher.deliver(readings(100..2_100, 10));
        unready(&host, "its spool takes nothing");
        assert!(host.status().messages.in_flight > 0, "what is neither stored nor spooled is not acknowledged");

        of_data.clear();
        host.wait_settled(2_100);
        assert!((sqlite_rows(&points).len() as u64) < 2_100, "the sink is down still");
        ready(&host);

        of_sink.clear();
        let sent = publisher.sent();
        wait_for("all that was sent", DEADLINE, || {
            let account = Account::of(sent, sqlite_rows(&points), &host.dead_letters());
            if account.complete() { Ok(()) } else { Err(format!("{account}\n{}", host.tail())) }
        });
        Account::of(sent, sqlite_rows(&points), &host.dead_letters()).assert_exact("with room again");
        host.wait_settled(2_100).assert_balanced("with room again");
    });
}

/// Waits until the host says that `who` finds the disk full; it lives on.
fn unready(host: &Host, who: &str) {
    wait_for("the host to say why it is not ready", DEADLINE, || {
        let ready = host.get("/readyz");
        let said = ready.code == 503 && ready.body.contains(who) && ready.body.contains("disk is full");
        if said { Ok(()) } else { Err(format!("{ready:?}; {}", host.tail())) }
    });
    assert_eq!(host.get("/livez").code, 200, "a full disk is no reason to restart the host");
}

fn ready(host: &Host) {
    wait_for("the host to be ready again", DEADLINE, || match host.get("/readyz") {
        ready if ready.code == 200 => Ok(()),
        ready => Err(format!("{ready:?}")),
    });
}
