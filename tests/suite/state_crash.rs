//! State and alerts over a crash of the host, at the moments that matter: what is on disk must never be ahead of what the sinks have.

use tidegate_tests::{
    DEADLINE, Fault, Host, Listener, Mosquitto, Protocol, Proxy, Publisher, Qos, Setup, guest_module, plain, wait_for,
};

const NUMBER: &str = "module = \"brittle.wasm\"\ntopics = [\"dev/count/#\"]\n";
const HOT: &str = "module = \"threshold.wasm\"\ntopics = [\"dev/oven/#\"]\n[config]\nabove = 90.0\n";

/// What a query of one number says of the file of states; 0 while it is not there.
fn on_disk(host: &Host, ask: &str) -> i64 {
    let file = rusqlite::Connection::open(host.data_dir().join("state/state.db"));
    file.and_then(|file| file.query_row(ask, [], |row| row.get(0))).unwrap_or(0)
}

/// Guarantees: an alert that its sink had not taken when the host was killed is published after that: though its lane saved again and again
/// meanwhile, it was not kept as one that stands.
#[test]
fn an_alert_on_its_way_is_not_taken_for_published() {
    let Some(broker) = Mosquitto::start() else { return };
    let line = Proxy::start(broker.port());
    line.set(Fault::Refused);
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .alerts_without_a_spool(line.port())
        .module("json-reading")
        .module("threshold")
        .bytes("brittle", &guest_module("brittle"))
        .rule("number", NUMBER)
        .rule("hot", HOT)
        .launch();
    host.wait_taking(3);
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver([plain("dev/oven/temp", 1, 95.0)]);
    host.wait_status("the alert to stand", |status| (status.alerts_standing == 1).then_some(()));
    // The other lane, which nothing holds back, saves at least twice: so has this one.
    for round in 1..=2 {
        publisher.deliver((0..4).map(|topic| plain(&format!("dev/count/t{topic}"), round, 1.0)));
        wait_for("the state of the other lane to be on disk", DEADLINE, || {
            let ask = format!("SELECT count(*) FROM cells WHERE substr(cell, 2, 1) = x'{round:02x}'");
            if on_disk(&host, &ask) > 0 { Ok(()) } else { Err(host.tail()) }
        });
    }
    assert_eq!(on_disk(&host, "SELECT count(*) FROM alerts"), 0, "nobody has heard of it");
    host.kill();
    let listener = Listener::start(&broker, "alerts/#");
    line.set(Fault::None);
    host.start_again();
    let heard = listener.wait_for(1);
    assert_eq!(
        (heard[0].topic.as_str(), &heard[0].json()["transition"]),
        ("alerts/hot/dev/oven/temp", &"raised".into())
    );
    wait_for("the alert to be kept", DEADLINE, || match on_disk(&host, "SELECT count(*) FROM alerts") {
        1 => Ok(()),
        other => Err(format!("{other} stand; {}", host.tail())),
    });
    // Kept as one that stands: after another crash it is not raised again while it lasts.
    host.kill();
    host.start_again();
    assert_eq!(host.status().alerts_standing, 1);
}

/// Guarantees: an alert of a rule that was switched off is cleared, though its sink could not be told before the host was killed, and though the rule was
/// switched on again by then and another lane has state of it on disk.
#[test]
fn an_alert_of_what_was_forgotten_is_cleared() {
    let Some(broker) = Mosquitto::start() else { return };
    let line = Proxy::start(broker.port());
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .alerts_without_a_spool(line.port())
        .module("json-reading")
        .module("threshold")
        .rule("hot", &format!("{HOT}for_s = 3600\n"))
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver([plain("dev/oven/temp", 1, 95.0), plain("dev/oven/temp", 3_600_001, 95.0)]);
    let kept = |host: &Host, ask: &str, due: i64| {
        wait_for(&format!("{due} by {ask}"), DEADLINE, || match on_disk(host, ask) {
            found if found == due => Ok(()),
            other => Err(format!("{other}; {}", host.tail())),
        });
    };
    kept(&host, "SELECT count(*) FROM alerts", 1);

    line.set(Fault::Refused);
    line.cut();
    assert_eq!(host.post("/api/v1/rules/hot/disable").code, 200);
    kept(&host, "SELECT count(*) FROM cells", 0);
    assert_eq!(host.post("/api/v1/rules/hot/enable").code, 200);
    host.wait_taking(2);
    // Of as many topics some are on the lane that nothing holds back. They are beyond the limit, but not for long enough.
    publisher.deliver((0..8).map(|topic| plain(&format!("dev/oven/t{topic}"), 3_700_000, 95.0)));
    wait_for("state of the other lane to be on disk", DEADLINE, || {
        if on_disk(&host, "SELECT count(*) FROM cells") > 0 { Ok(()) } else { Err(host.tail()) }
    });
    assert_eq!(on_disk(&host, "SELECT count(*) FROM alerts"), 1, "nobody has heard that it is cleared");
    host.kill();
    let listener = Listener::start(&broker, "alerts/#");
    line.set(Fault::None);
    host.start_again();
    let heard = listener.wait_for(1);
    assert_eq!(
        (heard[0].topic.as_str(), &heard[0].json()["transition"]),
        ("alerts/hot/dev/oven/temp", &"cleared".into())
    );
    assert_eq!(host.status().alerts_standing, 0);
    kept(&host, "SELECT count(*) FROM alerts", 0);
}
