//! A rule that traps, runs forever, eats memory or lies.

use std::time::{Duration, Instant};

use tidegate_tests::{
    Expect, Message, Mosquitto, Protocol, Publisher, Qos, REMEMBER, SINS, Setup, Sin, When, built_module,
    compile_bomb, guest_module, hostile, plain, readings, wat_guest, when_reading,
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

/// The same message, of which nothing but a dead letter must come.
fn doomed(message: Message) -> Message {
    Message { expect: Expect::DeadLetter, ..message }
}

/// Guarantees: whatever a rule does in whichever of its functions, the process lives, the row it does it on is alone in the dead letters, and a
/// neighbour that gets its rows in the same batches loses nothing; a rule that only talks too much keeps its rows, and its lines are left out.
/// What it does where there is no row (in `tick`, in `save`) costs no row; one whose state can never be had, or that cannot be started again after a
/// fault, is called no more.
#[test]
fn neighbours_lose_nothing() {
    let Some(broker) = Mosquitto::start() else { return };
    // All that is one hostile rule's is one lane's: what it has met, its other series' readings meet.
    let topics = r#"["dev/#", { filter = "hostile/#", lane_by = [0, 1] }]"#;
    let mut setup = Setup::new()
        .mqtt(&broker, Protocol::V5, topics, "")
        .rule("json-reading", "module = \"json-reading.wasm\"\ntopics = [\"dev/#\", \"hostile/#\"]\n");
    setup = setup.bytes("json-reading", &built_module("json-reading"));
    for sin in SINS {
        let name = sin.name;
        let file = format!(
            "module = \"{name}.wasm\"\ntopics = [\"hostile/{name}/#\"]\n[limits]\nmemory_mib = 64\nstack_kib = 4096\nseries = 0\n"
        );
        setup = setup.bytes(name, &sin.module()).rule(name, &file);
    }
    let host = setup.start();
    let pid = host.pid();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let mut number = 0;
    for sin in SINS {
        let mut batch = readings(number..number + 60, 20);
        number += 60;
        let mut next = |series: &str, value: f64| {
            number += 1;
            let read = plain(&format!("hostile/{}/{series}", sin.name), number, value);
            // A decoder of these filters them.
            if sin.when == When::NextTopic { Message { expect: Expect::Rows(Vec::new()), ..read } } else { read }
        };
        batch.insert(30, next("a", 1.0));
        match sin.when {
            _ if sin.is_at_once() && sin.fault.is_some() => {
                batch.insert(31, doomed(next("a", 666.0)));
                batch.insert(32, next("a", 2.0));
            }
            When::NextRevival => {}
            _ => batch.insert(31, next("a", 666.0)),
        }
        publisher.deliver(batch);
        host.wait_settled(publisher.sent().len() as u64);
        // Of those that sin from then on, it is the next call that fails.
        let last = match sin.when {
            When::NextBatch => vec![doomed(next("a", 3.0))],
            When::NextSeries | When::NextTopic => vec![doomed(next("b", 3.0))],
            When::NextRevival => vec![doomed(next("a", 666.0)), next("a", 3.0)],
            When::AtOnce | When::OnReturn | When::NextTick | When::NextSave => vec![next("a", 3.0)],
        };
        for message in last {
            publisher.deliver(vec![message]);
            host.wait_settled(publisher.sent().len() as u64);
        }
    }
    let status = host.wait_status("what has no row to be done", |status| {
        let done = |sin: &Sin| match sin.when {
            When::NextTick => status.rule(sin.name).stats.faults["trap"] > 0,
            When::NextSave | When::NextRevival => status.rule(sin.name).state == "quarantined",
            When::AtOnce | When::OnReturn | When::NextBatch | When::NextSeries | When::NextTopic => true,
        };
        SINS.iter().all(done).then(|| status.clone())
    });
    assert_eq!(host.pid(), pid);
    status.assert_balanced("hostile rules");
    host.account(publisher.sent()).assert_exact("hostile rules");
    for sin in SINS {
        let rule = status.rule(sin.name);
        // A tick fails a second time where its state was saved meanwhile with what it has met, and a third where that came late.
        let may = match sin.when {
            When::NextTick => &["serving", "quarantined"][..],
            When::NextSave | When::NextRevival => &["quarantined"],
            _ => &["serving"],
        };
        assert!(may.contains(&&*rule.state), "{rule:?}");
        match sin.fault {
            Some(kind) => assert!(rule.stats.faults[kind] > 0, "{rule:?}"),
            None => assert!(rule.stats.log_lines_dropped > 9_000, "{rule:?}"),
        }
    }
    for letter in host.dead_letters() {
        let rule = letter.rule.unwrap_or_default();
        let sin = SINS.iter().find(|sin| sin.name == rule).unwrap();
        assert_eq!(letter.stage, if sin.when == When::NextTopic { "decode" } else { "process" }, "{rule}");
        assert!(letter.topic.starts_with(&format!("hostile/{rule}/")), "{}: {}", letter.topic, letter.reason);
        assert!(letter.module.is_some());
    }
}

/// Guarantees: a rule that cannot be given its state back after a fault, since it traps on it, is called no more; the row it failed on is alone in the
/// dead letters, and its other rows pass by.
#[test]
fn a_restore_that_traps() {
    let Some(broker) = Mosquitto::start() else { return };
    let process = [when_reading(666, REMEMBER), when_reading(777, "unreachable")].concat();
    // There is nothing to restore before it has met the number.
    let save = "(if (i32.load8_u (i32.const 520)) (then
        (i32.store (i32.const 544) (i32.const 624)) (i32.store (i32.const 548) (i32.const 1))
        (i32.store (i32.const 552) (i32.const 628)) (i32.store (i32.const 556) (i32.const 1))
        (i32.store (i32.const 560) (i32.const 632)) (i32.store (i32.const 564) (i32.const 1))
        (i32.store (i32.const 628) (i32.const 1)) (return (i32.const 544))))";
    let module = wat_guest("bitter", &[("process", &process), ("save", save), ("restore", "unreachable")]);
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("bitter", &module)
        .rule("bitter", "module = \"bitter.wasm\"\ntopics = [\"dev/#\"]\n")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(vec![plain("dev/a", 0, 666.0), plain("dev/a", 1, 1.0)]);
    host.wait_status("its state to be saved", |status| (status.rule("bitter").stats.state_bytes > 0).then_some(()));
    publisher.deliver(vec![doomed(plain("dev/a", 2, 777.0))]);
    host.wait_status("it to be quarantined", |status| {
        let rule = status.rule("bitter");
        let why = rule.problem.as_deref().unwrap_or_default();
        (rule.state == "quarantined" && why.contains("could not be started again")).then_some(())
    });
    publisher.deliver((3..100).map(|n| plain("dev/a", n, n as f64)).collect::<Vec<_>>());
    host.wait_settled(100).assert_balanced("bitter");
    host.account(publisher.sent()).assert_exact("bitter");
}

/// Guarantees: a rule whose state never comes to an end is stopped; its rows pass by, and nothing else is touched.
#[test]
fn state_that_never_fits() {
    let Some(broker) = Mosquitto::start() else { return };
    // Once it has seen 666 it says for ever that there is more.
    let seen = when_reading(666, "(i32.store8 (i32.const 512) (i32.const 1))");
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

/// What the processes that this one has started, and that have ended, have had of processors (`cutime` and `cstime` of proc(5), in hundredths).
fn of_children(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let hundredths: u64 = fields.split(' ').skip(13).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(hundredths * 10)
}

/// Guarantees: a module that cannot serve is refused, a compile bomb as soon as the configuration says, with its own reason in status, log and metrics, while the
/// good one that it was dropped over goes on; this process is not touched by what its compiler takes.
#[test]
fn refused_while_the_good_one_serves() {
    let Some(broker) = Mosquitto::start() else { return };
    let good = wat_guest("good", &[]);
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("watched", &good)
        .rule("watched", "module = \"watched.wasm\"\ntopics = [\"dev/#\"]\n")
        .toml("[rules]\ncompile_timeout_s = 4")
        .start();
    let served = host.status().rule("watched").sha256.clone().expect("the good one serves");
    let mut publisher = Publisher::connect(&broker, Qos::One);
    let wasi = wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.3" (instance)))"#).unwrap();
    // What a bomb runs out of first depends on the machine.
    let bomb = ["compile_memory", "compile_time"];
    // A custom section (core specification, 5.5.3).
    let cases = [&[0, 27, 18][..], b"tidegate:testcases", b"no cases"].concat();
    let globals = format!("(module {})", "(global i32 (i32.const 0))".repeat(100_000));
    let bad: [(&[&str], Vec<u8>); 14] = [
        (&["not_wasm"], good[..good.len() - 40].to_vec()),
        (&["too_large"], vec![0; (10 << 20) + 1]),
        (&["import"], wat::parse_str(r#"(module (import "env" "now" (func)))"#).unwrap()),
        (&["wasi"], wasi),
        (&["contract"], wat::parse_str("(module)").unwrap()),
        (&["instance_size"], wat::parse_str(globals).unwrap()),
        (&["test_cases"], [&good[..], &cases].concat()),
        (&["fault"], wat_guest("bad", &[("start", "unreachable")])),
        (
            &["config"],
            wat_guest("bad", &[("configure", "(i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 16))")]),
        ),
        (&["fault"], wat_guest("bad", &[("describe", "unreachable")])),
        (&["description"], wat_guest("bad", &[("describe", "(return (i32.const 16))")])),
        (&["trial"], wat_guest("bad", &[("process", "unreachable")])),
        (&["fault"], wat_guest("bad", &[("configure", "unreachable")])),
        (&bomb, compile_bomb(100_000, 1_000)),
    ];
    let mut number = 0;
    let mut given = Vec::new();
    for (codes, module) in &bad {
        let (began, before) = (Instant::now(), of_children(host.pid()));
        host.drop_by_overwrite("watched.wasm", module);
        given.push(host.wait_status(&format!("{codes:?} to be refused"), |status| {
            let rule = status.rule("watched");
            let serves = rule.state == "serving" && rule.sha256.as_ref() == Some(&served);
            rule.problem_code.clone().filter(|code| serves && codes.contains(&code.as_str()))
        }));
        // By the wall it is longer on a machine that has others to serve.
        let (wall, spent) = (began.elapsed().as_secs_f64(), of_children(host.pid()) - before);
        println!("{codes:?}: refused {wall:.1} s after it was written, of which its compiler worked {spent:?}");
        assert!(spent < Duration::from_secs(30), "{codes:?}: {spent:?}");
        publisher.deliver(readings(number..number + 50, 10));
        number += 50;
        host.wait_rows(number);
    }
    let rule = host.status().rule("watched").clone();
    if rule.problem_code.as_deref() == Some("compile_time") {
        let said = rule.problem.unwrap();
        assert!(said.contains("longer than 4 s") && said.contains("raise `compile_timeout_s`"), "{said}");
    }
    let (status, metrics, log) = (host.status(), host.get("/metrics").body, host.log());
    let refusals = &status.rule("watched").stats.refusals;
    for code in &given {
        let due = given.iter().filter(|other| *other == code).count();
        // A half-written file may be refused once more.
        assert!(refusals[code] >= due as u64, "{code}: {refusals:?}");
        let metric = format!(r#"tidegate_rule_refused_total{{rule="watched",reason="{code}"}} "#);
        let counted = metrics.lines().find_map(|line| line.strip_prefix(&metric)?.parse::<f64>().ok());
        assert!(counted.is_some_and(|counted| counted >= due as f64), "{metric}{counted:?}: {metrics}");
        let said = log.lines().filter(|line| line.contains(&format!("reason=\"{code}\""))).count();
        assert!(said >= due, "{code} stands {said} times in the log: {log}");
    }
    host.account(publisher.sent()).assert_exact("refused");
}

/// Guarantees: while a module that takes long is compiled at the first start the host answers and says what it waits for, and what is compiled serves; the
/// sources start after that, and nothing is lost.
#[test]
fn it_answers_while_it_starts() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("slow", &compile_bomb(100_000, 1_000))
        .launch_early();
    host.wait_status("one rule to serve and one to wait", |status| {
        let state = |name| status.rules.iter().find(|rule| rule.name == name).map(|rule| rule.state.as_str());
        (state("json-reading") == Some("serving") && state("slow") == Some("pending")).then_some(())
    });
    // The slow one may be refused at any moment, since the machine may be slow as well.
    let looked = host.get("/readyz");
    let sources: Vec<_> =
        host.status().sources.into_iter().map(|source| (source.name, source.messages.received)).collect();
    assert_eq!(
        sources,
        [("plant".to_owned(), 0), ("replay".to_owned(), 0)],
        "they are listed whether they take messages or not"
    );
    if host.status().rules.iter().any(|rule| rule.state == "pending") {
        assert_eq!(looked.code, 503, "{looked:?}");
        assert!(looked.body.contains("the host is starting"), "{looked:?}");
    }
    host.wait_ready();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..50, 10));
    host.wait_rows(50);
    host.account(publisher.sent()).assert_exact("starting");
}

/// Guarantees: a host that is told to end while it looks its rules over ends in order, and does not wait for the compiler.
#[test]
fn ended_while_it_starts() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .bytes("slow", &compile_bomb(100_000, 1_000))
        .launch_early();
    host.wait_status("the rule to wait", |status| {
        status.rules.iter().any(|rule| rule.name == "slow" && rule.state == "pending").then_some(())
    });
    assert!(host.stop().success());
    let log = host.log();
    assert!(log.contains("ended") && !log.contains("tidegate runs"), "{log}");
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
    host.drop_by_rename("watched.wasm", &wat_guest("bad", &[("process", &when_reading(666, "unreachable"))]));
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
