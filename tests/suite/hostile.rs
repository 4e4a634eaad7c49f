//! A rule that traps, runs forever, eats memory or lies.

use tidegate_tests::{
    Expect, Message, Mosquitto, Protocol, Publisher, Qos, Setup, built_module, compile_bomb, guest_module, hostile,
    plain, readings, wat_guest,
};

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

/// What a rule does when it meets the number 666, and the fault that comes of it, if any.
const SINS: &[(&str, &str, Option<&str>)] = &[
    ("loop", "(loop $for_ever (br $for_ever))", Some("timeout")),
    ("recursion", "(call $deep)", Some("trap")),
    (
        "growth",
        "(loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable",
        Some("memory"),
    ),
    // Memory of 60 MiB, filled again and again.
    (
        "fills",
        "(drop (memory.grow (i32.const 958))) (loop $again (memory.fill (i32.const 65536) (i32.const 7) (i32.const 62000000)) (br $again))",
        Some("timeout"),
    ),
    // `keep`, a list longer than the memory.
    (
        "giant",
        "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 24) (i32.const 0x10000000)) (return (i32.const 16))",
        Some("trap"),
    ),
    // `replaced`, with one series, and nothing in the other columns.
    (
        "mismatch",
        "(i32.store8 (i32.const 16) (i32.const 3)) (i32.store (i32.const 20) (i32.const 8)) (i32.store (i32.const 24) (i32.const 1)) (return (i32.const 16))",
        Some("bad_output"),
    ),
    ("trap", "unreachable", Some("trap")),
    ("divide", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", Some("trap")),
    ("outside", "(drop (i32.load (i32.const -4)))", Some("trap")),
    // From now on `realloc` gives an address beyond the memory.
    ("realloc", "(i32.store8 (i32.const 520) (i32.const 1))", None),
    (
        "chatter",
        "(loop $more (call $log (i32.const 2) (i32.const 1280) (i32.const 20)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $more (i32.lt_u (local.get $i) (i32.const 10000))))",
        None,
    ),
];

/// `sin` in every row that is 666.
fn on_666(sin: &str) -> String {
    format!(
        "(block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $rows)))
            (if (f64.eq (f64.load (i32.add (local.get $values) (i32.mul (local.get $i) (i32.const 8)))) (f64.const 666))
                (then {sin}))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))"
    )
}

/// The same message, of which nothing but a dead letter must come.
fn doomed(message: Message) -> Message {
    Message { expect: Expect::DeadLetter, ..message }
}

/// Guarantees: whatever a rule does, the process lives, the row it does it on is alone in the dead letters, and a neighbour that gets its rows
/// in the same batches loses nothing; a rule that only talks too much keeps its rows, and its lines are left out.
#[test]
fn neighbours_lose_nothing() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut setup = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#", "hostile/#"]"#, "")
        .rule("json-reading", "module = \"json-reading.wasm\"\ntopics = [\"dev/#\", \"hostile/#\"]\n");
    setup = setup.bytes("json-reading", &built_module("json-reading"));
    for (name, sin, _) in SINS {
        let process = on_666(sin);
        let realloc = "(if (i32.load8_u (i32.const 520)) (then (return (i32.const -64))))";
        let module = wat_guest(name, &[("process", &process), ("deep", "(call $deep)"), ("realloc", realloc)]);
        let file = format!("module = \"{name}.wasm\"\ntopics = [\"hostile/{name}/#\"]\n[limits]\nmemory_mib = 64\n");
        setup = setup.bytes(name, &module).rule(name, &file);
    }
    let host = setup.start();
    let pid = host.pid();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let mut number = 0;
    for (name, _, fault) in SINS {
        let mut batch = readings(number..number + 60, 20);
        number += 60;
        let topic = format!("hostile/{name}/a");
        let mut next = |value: f64| {
            number += 1;
            plain(&topic, number, value)
        };
        // Of the one that lies from then on, the next call is the one that fails.
        let at_once = fault.is_some();
        batch.insert(30, next(1.0));
        batch.insert(31, if at_once { doomed(next(666.0)) } else { next(666.0) });
        if at_once {
            batch.insert(32, next(2.0));
        }
        publisher.deliver(batch);
        host.wait_settled(publisher.sent().len() as u64);
        publisher.deliver(vec![if *name == "realloc" { doomed(next(3.0)) } else { next(3.0) }]);
        host.wait_settled(publisher.sent().len() as u64);
    }
    let status = host.status();
    assert_eq!(host.pid(), pid);
    status.assert_balanced("hostile rules");
    host.account(publisher.sent()).assert_exact("hostile rules");
    for (name, _, fault) in SINS {
        let rule = status.rule(name);
        assert_eq!(rule.state, "serving", "{rule:?}");
        let counted = |kind: &str| rule.stats.faults.get(kind).copied().unwrap_or(0);
        match fault {
            Some(kind) => assert!(counted(kind) > 0, "{name}: {rule:?}"),
            None if *name == "chatter" => assert!(rule.stats.log_lines_dropped > 9_000, "{rule:?}"),
            None => assert!(counted("trap") > 0, "{name}: {rule:?}"),
        }
    }
    for letter in host.dead_letters() {
        assert_eq!(letter.stage, "process");
        assert_eq!(letter.topic, format!("hostile/{}/a", letter.rule.unwrap_or_default()), "{}", letter.reason);
        assert!(letter.module.is_some());
    }
}

/// Guarantees: a rule whose state never comes to an end is stopped; its rows pass by, and nothing else is touched.
#[test]
fn state_that_never_fits() {
    let Some(broker) = Mosquitto::start() else { return };
    // Once it has seen 666 it says for ever that there is more.
    let seen = on_666("(i32.store8 (i32.const 512) (i32.const 1))");
    let save = "(if (i32.load8_u (i32.const 512)) (then (i32.store8 (i32.const 608) (i32.const 1)) (return (i32.const 544))))";
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("hoarder", &wat_guest("hoarder", &[("process", &seen), ("save", save)]))
        .rule("hoarder", "module = \"hoarder.wasm\"\ntopics = [\"dev/#\"]\n")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(vec![plain("dev/a", 0, 666.0)]);
    host.wait_status("the hoarder to be quarantined", |status| {
        let rule = status.rule("hoarder");
        (rule.state == "quarantined" && rule.problem_code.as_deref() == Some("quarantined")).then_some(())
    });
    publisher.deliver((1..200).map(|n| plain("dev/a", n, n as f64)).collect::<Vec<_>>());
    host.wait_settled(200).assert_balanced("hoarder");
    host.account(publisher.sent()).assert_exact("hoarder");
}

/// Guarantees: a module that cannot serve is refused, within half a minute, with its own reason in status, log and metrics, while the good
/// one that it was dropped over goes on; this process is not touched by what its compiler takes.
#[test]
fn refused_while_the_good_one_serves() {
    let Some(broker) = Mosquitto::start() else { return };
    let good = wat_guest("good", &[]);
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("watched", &good)
        .rule("watched", "module = \"watched.wasm\"\ntopics = [\"dev/#\"]\n")
        .start();
    let served = host.status().rule("watched").sha256.clone().expect("the good one serves");
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let wasi = wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.3" (instance)))"#).unwrap();
    // What a bomb runs out of first depends on the machine.
    let bomb = ["compile_memory", "compile_time"];
    let bad: [(&[&str], Vec<u8>); 9] = [
        (&["not_wasm"], good[..good.len() - 40].to_vec()),
        (&["too_large"], vec![0; (10 << 20) + 1]),
        (&["import"], wat::parse_str(r#"(module (import "env" "now" (func)))"#).unwrap()),
        (&["wasi"], wasi),
        (&["contract"], wat::parse_str("(module)").unwrap()),
        (&["fault"], wat_guest("bad", &[("start", "unreachable")])),
        (
            &["config"],
            wat_guest("bad", &[("configure", "(i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 16))")]),
        ),
        (&["trial"], wat_guest("bad", &[("process", "unreachable")])),
        (&bomb, compile_bomb(100_000, 1_000)),
    ];
    let mut number = 0;
    let mut given = Vec::new();
    for (codes, module) in &bad {
        host.drop_by_overwrite("watched.wasm", module);
        given.push(host.wait_status(&format!("{codes:?} to be refused"), |status| {
            let rule = status.rule("watched");
            let serves = rule.state == "serving" && rule.sha256.as_ref() == Some(&served);
            rule.problem_code.clone().filter(|code| serves && codes.contains(&code.as_str()))
        }));
        publisher.deliver(readings(number..number + 50, 10));
        number += 50;
        host.wait_rows(number);
    }
    let status = host.status();
    let refusals = &status.rule("watched").stats.refusals;
    assert!(given.iter().all(|code| refusals.contains_key(code)), "{refusals:?}");
    let (metrics, bombed) = (host.get("/metrics").body, given.last().unwrap());
    let counted = format!(r#"tidegate_rule_refused_total{{rule="watched",reason="{bombed}"}} 1"#);
    assert!(metrics.contains(&counted), "{metrics}");
    assert!(host.log().contains(&format!("reason=\"{bombed}\"")), "the log says it too");
    host.account(publisher.sent()).assert_exact("refused");
}

/// Guarantees: a generation that fails on partition after partition is quarantined, and the good one before it returns by itself; the status
/// says what happened. A restart is no reason to call the bad one again, though its file is still there; somebody who enables it is.
#[test]
fn the_last_good_generation_returns() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("watched", &wat_guest("good", &[]))
        .rule("watched", "module = \"watched.wasm\"\ntopics = [\"dev/#\"]\n")
        .start();
    let good = host.status().rule("watched").clone();
    host.drop_by_rename("watched.wasm", &wat_guest("bad", &[("process", &on_666("unreachable"))]));
    host.wait_status("the bad one to serve", |status| {
        (status.rule("watched").generation > good.generation).then_some(())
    });
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver((0..240).map(|n| plain(&format!("dev/t{}", n % 40), n, 666.0)).collect::<Vec<_>>());
    host.wait_status("the good one to return", |status| {
        let rule = status.rule("watched");
        let returned = rule.sha256 == good.sha256 && rule.generation > good.generation + 1;
        (returned && rule.state == "serving" && rule.problem_code.as_deref() == Some("quarantined")).then_some(())
    });
    host.wait_settled(240);
    let letters = host.dead_letters().len();
    publisher.deliver((240..280).map(|n| plain(&format!("dev/t{}", n % 40), n, 666.0)).collect::<Vec<_>>());
    host.wait_settled(280).assert_balanced("a return");
    assert_eq!(host.dead_letters().len(), letters, "the good one takes what the bad one failed on");

    assert!(host.stop().success());
    host.start_again();
    let rule = host.status().rule("watched").clone();
    assert_eq!((&rule.sha256, rule.state.as_str()), (&good.sha256, "serving"), "{rule:?}");
    assert_eq!(rule.problem_code.as_deref(), Some("quarantined"), "{rule:?}");
    publisher.deliver((280..320).map(|n| plain(&format!("dev/t{}", n % 40), n, 666.0)).collect::<Vec<_>>());
    host.wait_settled(40).assert_balanced("a restart");
    assert_eq!(host.dead_letters().len(), letters, "the good one still serves");
    host.ask("POST", "/api/v1/rules/watched/enable").send().expect(200);
    let tried = host.status().rule("watched").clone();
    assert!(tried.sha256 != good.sha256 && tried.problem_code.is_none(), "{tried:?}");
}
