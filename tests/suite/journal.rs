//! `journal = true`: a rule that numbers the readings of each series gives each the number that it would have without a kill, wherever the host is
//! killed, and on however many lanes it comes back.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_tests::{
    DEADLINE, Host, Kafka, Message, Mosquitto, Protocol, Proxy, Publisher, Qos, Setup, SmallDisk, guest_module,
    plain, wait_for, with_own_mounts,
};

const TOPICS: u64 = 20;
const NUMBER: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/count/#\"]\n";
const TALLY: &str = "module = \"tally.wasm\"\ntopics = [\"dev/count/#\"]\n";

/// Between the sinks' word and the state on disk, and between that and the acknowledgement; and within a rule's save.
const SITES: [(&str, u32); 6] = [
    ("state-commit-before", 2),
    ("state-commit-after", 2),
    ("state-save-within", 5),
    ("state-commit-after", 0),
    ("state-commit-before", 7),
    ("state-commit-after", 5),
];

/// How many readings a host that is killed from outside has stored before.
const STORED_FIRST: usize = 400;

/// The same content under several packet ids and offsets, as of a signal that stands still.
fn reading(number: u64) -> Message {
    plain(&format!("dev/count/t{}", number % TOPICS), number, 1.0)
}

fn setup(rule: &str, module: &str) -> Setup {
    Setup::new()
        .module("json-reading")
        .bytes(module, &guest_module(module))
        .rule(rule, if rule == "tally" { TALLY } else { NUMBER })
}

/// By series and time, the numbers that a reading was given.
fn numbers(host: &Host) -> BTreeMap<(String, i64), BTreeSet<u64>> {
    let mut numbers = BTreeMap::<_, BTreeSet<u64>>::new();
    for row in host.rows().into_iter().filter(|row| row.topic.starts_with("dev/count/")) {
        if let (Some(time_us), Some(value)) = (row.time_us, row.value) {
            numbers.entry((row.topic, time_us)).or_default().insert(f64::from_bits(value) as u64);
        }
    }
    numbers
}

fn wait_all(host: &Host, sent: usize) -> BTreeMap<(String, i64), BTreeSet<u64>> {
    wait_for(&format!("{sent} readings"), DEADLINE, || {
        let numbers = numbers(host);
        if numbers.len() >= sent { Ok(numbers) } else { Err(format!("{} of {sent}; {}", numbers.len(), host.tail())) }
    })
}

/// Rows may be double, since they are stored at least once; what the rule made of each reading is what it makes of it without a kill.
fn assert_exact(host: &Host, sent: usize, after: &str) {
    let numbers = wait_all(host, sent);
    let mut last = BTreeMap::<&str, u64>::new();
    for ((topic, time_us), given) in &numbers {
        let expected = last.entry(topic).or_default();
        *expected += 1;
        if *given != BTreeSet::from([*expected]) {
            let odd = numbers.iter().filter(|(_, given)| given.len() > 1).take(40);
            let odd: Vec<_> =
                odd.map(|((topic, time_us), given)| (topic.as_str(), time_us % 10_000_000_000, given)).collect();
            panic!("{topic} at {time_us}: {given:?}, not {expected}, after {after}; {odd:?}\n{}", host.tail());
        }
    }
    assert_eq!(numbers.len(), sent, "after {after}");
}

/// Kills the host again and again under a load; after the last one all that was sent is stored.
fn kill(host: &mut Host, mut publisher: Publisher, after_each: impl Fn(&Host, usize, &str)) -> u64 {
    let mut known = 0;
    for (round, (site, passes)) in SITES.into_iter().enumerate() {
        let first = round as u64 * 1_000_000;
        host.set_lanes(1 + round as u32 % 3);
        host.arm(site, passes);
        let load = publisher.load(1_000, move |number| reading(first + number));
        host.launch_again();
        host.wait_crash();
        host.start_again();
        let before = numbers(host).len();
        wait_for("more readings", DEADLINE, || {
            let stored = numbers(host).len();
            if stored >= before + STORED_FIRST { Ok(()) } else { Err(format!("{stored}; {}", host.tail())) }
        });
        let repeated = host.status().messages.repeated;
        known += repeated;
        host.kill();
        host.start_again();
        publisher = load.end();
        after_each(host, publisher.sent().len(), &format!("{site}, and a kill"));
        host.wait_settled(0).assert_balanced(site);
        println!("{site}: {repeated} came again that the state had");
        host.kill();
    }
    known
}

/// Guarantees: by MQTT 5 and by 3.1.1, whatever moment the host is killed at and however many lanes it comes back with, the rule's state has each message
/// once: neither one that was acknowledged is missing from it, nor one that came again counted twice.
#[test]
fn each_message_once_by_mqtt() {
    let Some(broker) = Mosquitto::start() else { return };
    for (protocol, lines) in
        [(Protocol::V5, "journal = true\nreceive_maximum = 100"), (Protocol::V3, "journal = true")]
    {
        let name = format!("client_id = \"{protocol:?}\"\n{lines}");
        let mut host = setup("number", "brittle").mqtt(&broker, protocol, r#"["dev/#"]"#, &name).start();
        host.kill();
        let known = kill(&mut host, Publisher::connect(&broker, Qos::One), assert_exact);
        assert!(known > 0, "{protocol:?}: what was on disk and not acknowledged came again, and was known");
        stopped(&mut host, &broker);
    }
}

/// A host that ends in order has acknowledged all that its state has.
fn stopped(host: &mut Host, broker: &Mosquitto) {
    host.start_again();
    let mut publisher = Publisher::connect(broker, Qos::One);
    publisher.deliver((50_000_000..50_000_100).map(reading));
    host.wait_settled(100);
    assert!(host.stop().success(), "{}", host.log());
    host.start_again();
    publisher.deliver([reading(50_000_100)]);
    host.wait_settled(1);
    let messages = host.status().messages;
    assert_eq!((messages.received, messages.repeated), (1, 0), "{}", host.tail());
}

/// Guarantees: the same where not the host but the line to its broker breaks, under load, with messages on their way through lanes and sinks.
#[test]
fn each_message_once_over_broken_lines() {
    let Some(broker) = Mosquitto::start() else { return };
    let line = Proxy::start(broker.port());
    let source = format!(
        "[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"dev/#\"]\njournal = true\n",
        line.port()
    );
    let host = setup("number", "brittle").toml(&source).start();
    let load = Publisher::connect(&broker, Qos::One).load(1_000, reading);
    for breaks in 1..=4 {
        let stored = numbers(&host).len();
        wait_for("more readings", DEADLINE, || {
            let now = numbers(&host).len();
            if now >= stored + STORED_FIRST / 4 { Ok(()) } else { Err(format!("{now}; {}", host.tail())) }
        });
        let before = line.connections();
        line.cut();
        wait_for("a new connection", DEADLINE, || {
            if line.connections() > before { Ok(()) } else { Err(format!("after break {breaks}; {}", host.tail())) }
        });
    }
    let publisher = load.end();
    assert_exact(&host, publisher.sent().len(), "broken lines");
    host.wait_settled(0).assert_balanced("broken lines");
    println!("{} came again that the rules had had", host.status().messages.repeated);
}

/// As many as its source may have unacknowledged.
const WINDOW: u64 = 100;
const LONG_NAMED: u64 = 3 * WINDOW;

/// A reading of a series with a long name, of which a disk without room cannot take many; it comes round again.
fn long_named(number: u64) -> Message {
    plain(&format!("dev/count/{}/t{}", "long/".repeat(30), number % LONG_NAMED), number, 1.0)
}

/// Guarantees: where the disk has no room for state, what its rules were given is not acknowledged, and the host says why. One that is killed then has
/// lost nothing of it, and counts nothing twice; one that lives on acknowledges it once there is room again.
#[test]
fn held_while_the_disk_is_full() {
    with_own_mounts("journal::held_while_the_disk_is_full", || {
        let Some(broker) = Mosquitto::start() else { return };
        for killed in [true, false] {
            held_by_a_full_disk(&broker, killed);
        }
    });
}

fn held_by_a_full_disk(broker: &Mosquitto, killed: bool) {
    let lines = format!("client_id = \"killed-{killed}\"\njournal = true\nreceive_maximum = {WINDOW}");
    let setup = setup("number", "brittle").mqtt(broker, Protocol::V5, r#"["dev/#"]"#, &lines);
    let disk = SmallDisk::mount(&setup.path().join("data/state"), 16 << 10);
    let mut host = setup.start();
    host.wait_taking(2);
    let mut publisher = Publisher::connect(broker, Qos::One);
    publisher.deliver([long_named(0)]);
    host.wait_settled(1);

    disk.fill();
    publisher.deliver((1..LONG_NAMED).map(long_named));
    wait_for("messages that wait for the disk", DEADLINE, || {
        let (ready, received) = (host.get("/readyz"), host.status().messages.received);
        // The latter is what SQLite says where there is no room for the index of its log.
        let full = ["disk is full", "disk I/O error"].iter().any(|full| ready.body.contains(full));
        let said = full && ready.body.contains("the state of rules cannot be kept");
        // Sinks and lanes work, and so do sources without a journal: that is no reason to take the node out of service.
        let degraded = ready.code == 200 && ready.body.contains("degraded");
        // The first one too, where the disk was full before the state that has it was written.
        let held = said && degraded && received >= WINDOW;
        if held { Ok(()) } else { Err(format!("{received} received; {ready:?}; {}", host.tail())) }
    });
    assert!(host.status().messages.received < LONG_NAMED, "the broker has no word of those before");
    assert_eq!(host.get("/livez").code, 200, "a full disk is no reason to restart the host");
    if killed {
        host.kill();
    }
    disk.clear();
    if killed {
        host.start_again();
    }
    publisher.deliver((LONG_NAMED..2 * LONG_NAMED).map(long_named));
    assert_exact(&host, 2 * LONG_NAMED as usize, "a full disk");
    host.wait_settled(LONG_NAMED).assert_balanced("with room again");
    wait_for("the host to be ready again", DEADLINE, || match host.get("/readyz") {
        ready if ready.code == 200 && !ready.body.contains("degraded") => Ok(()),
        ready => Err(format!("{ready:?}")),
    });
}

/// Guarantees: by Kafka, over kills at the same moments, the rule's state has each record once.
#[test]
fn each_record_once_by_kafka() {
    // The group waits for each member that was killed: for all of them at once, and half of the sites.
    std::thread::scope(|scope| {
        for (site, lanes) in SITES[..3].iter().zip(1..) {
            scope.spawn(move || each_record_once(Kafka::start("fleet", 3), site.0, lanes));
        }
    });
}

/// Guarantees: the same by Apache Kafka, where it is there: between the state on disk and the commit.
#[test]
fn each_record_once_by_apache_kafka() {
    let Some(kafka) = Kafka::apache("fleet", 3) else { return };
    each_record_once(kafka, SITES[1].0, 1);
}

/// The second start is on so many lanes.
fn each_record_once(mut kafka: Kafka, site: &str, lanes: u32) {
    let mut host = setup("number", "brittle").kafka_with(&kafka, "fleet", "journal = true").start();
    // It leaves the group, which so waits for nobody.
    host.stop();
    host.set_lanes(lanes);
    // There may be one write for all records that wait.
    host.arm(site, 0);
    kafka.deliver((0..2_000).map(reading));
    host.launch_again();
    host.wait_crash();
    host.start_again();
    assert_exact(&host, 2_000, site);
    if site == "state-commit-after" {
        host.wait_status("what was on disk and not committed, to be known", |status| {
            (status.messages.repeated > 0).then_some(())
        });
    }
    kafka.deliver((2_000..2_500).map(reading));
    host.kill();
    host.start_again();
    assert_exact(&host, 2_500, "a kill");
}

/// Guarantees: a rule of the whole node misses no message over kills either, though it may have one twice.
#[test]
fn a_rule_of_the_node_misses_none() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = setup("tally", "tally").mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "journal = true").start();
    host.kill();
    kill(&mut host, Publisher::connect(&broker, Qos::One), |host, sent, after| {
        let last = wait_all(host, sent).into_values().flatten().max().unwrap_or(0);
        assert!(last >= sent as u64, "{last} were counted of {sent} that were sent, after {after}\n{}", host.tail());
    });
}
