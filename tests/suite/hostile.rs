//! A rule that traps, runs forever, eats memory or lies.

use tidegate_tests::{Message, Mosquitto, Protocol, Publisher, Qos, Setup, guest_module, hostile};

/// Guarantees: a message on which a rule fails, however it does, is alone in the dead letters, with the rule, its module
/// and the reason; its neighbours are stored; the rule and the process go on.
#[test]
fn poison_is_set_apart() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["hostile/#"]"#, "")
        .bytes("hostile", &guest_module("hostile"))
        .start();
    let pid = host.pid();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let poisons =
        [("trap", "trapped", true), ("loop", "CPU time", true), ("grow", "memory", true), ("lie", "contract", false)];
    let mut number = 0;
    for (poison, _, _) in poisons {
        let batch = (0..60).map(|n| {
            number += 1;
            let topic = format!("hostile/t{}", n % 7);
            if n == 30 { Message::poison(topic, poison) } else { hostile(&topic, f64::from(number)) }
        });
        publisher.deliver(batch.collect::<Vec<_>>());
        host.wait_settled(publisher.sent().len() as u64);
    }
    let status = host.status();
    status.assert_balanced("hostile");
    host.account(publisher.sent()).assert_exact("hostile");
    let (letters, rule) = (host.dead_letters(), status.rule("hostile"));
    assert_eq!((host.pid(), rule.state.as_str(), letters.len()), (pid, "serving", poisons.len()), "{rule:?}");
    for (poison, why, traced) in poisons {
        let letter = letters.iter().find(|letter| letter.payload == poison.as_bytes()).unwrap();
        assert_eq!((letter.stage.as_str(), letter.rule.as_deref()), ("decode", Some("hostile")), "{poison}");
        assert_eq!(letter.module, rule.sha256, "{poison}");
        assert!(letter.reason.contains(why), "{poison}: {}", letter.reason);
        assert_eq!(letter.backtrace.is_some(), traced, "{poison}: {letter:?}");
    }
    for kind in ["trap", "timeout", "memory", "bad_output"] {
        assert!(rule.stats.faults.get(kind).is_some_and(|&faults| faults > 0), "{kind}: {:?}", rule.stats);
    }
}
