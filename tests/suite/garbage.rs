//! What cannot be used is kept, with the reason.

use tidegate_tests::{Message, Mosquitto, Protocol, Publisher, Qos, Setup, garbage, readings};

/// Guarantees: garbage of every sort, and messages on topics that no decoder takes, are dead letters byte for byte, each with
/// a reason and who refused it; the good messages around them are stored; the ledger counts both.
#[test]
fn dead_letters() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#", "other/#"]"#, "").module("json-reading").start();
    let garbage = garbage();
    let unknown: Vec<Message> =
        (0..5).map(|n| Message::poison(format!("other/{n}"), br#"{"v":1}"#.to_vec())).collect();
    let mut good = readings(0..1_000, 50).into_iter();
    let mut mixed = Vec::new();
    for bad in garbage.iter().chain(&unknown) {
        mixed.extend(good.by_ref().take(20));
        mixed.push(bad.clone());
    }
    mixed.extend(good);
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(mixed);

    let status = host.wait_settled(publisher.sent().len() as u64);
    let bad = (garbage.len() + unknown.len()) as u64;
    assert_eq!((status.messages.decoded, status.messages.dead_lettered), (1_000, bad));
    status.assert_balanced("garbage");
    host.account(publisher.sent()).assert_exact("garbage");

    let rule = status.rule("json-reading");
    assert!(rule.stats.faults.values().all(|&faults| faults == 0), "garbage is no fault of the rule: {rule:?}");
    for letter in host.dead_letters() {
        assert!(!letter.reason.is_empty() && letter.source == "plant", "{letter:?}");
        let (stage, by) = (letter.stage.as_str(), letter.rule.as_deref());
        if letter.topic.starts_with("other/") {
            assert_eq!((stage, by), ("route", None), "{letter:?}");
        } else {
            assert_eq!((stage, by), ("decode", Some("json-reading")), "{letter:?}");
            assert_eq!(letter.module, rule.sha256, "{letter:?}");
        }
    }
}

/// Guarantees: series beyond the limit are dead letters that name the limit; those within it go on.
#[test]
fn too_many_series() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new()
        .line("max_series = 100")
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..300, 150));
    let status = host.wait_settled(300);
    assert_eq!((status.messages.decoded, status.messages.dead_lettered), (200, 100));
    status.assert_balanced("too many series");
    let letters = host.dead_letters();
    assert!(letters.iter().all(|letter| letter.reason.contains("limit")), "{:?}", letters.first());
}
