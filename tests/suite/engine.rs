//! How rules come to serve: compiled once, and not again at the next start.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use tidegate_tests::{
    DEADLINE, Expect, Message, Mosquitto, Protocol, Publisher, Qos, Setup, Status, binary, built_module,
    guest_module, plain, variant, wait_for, wat_guest, when_reading,
};

const RULES: u32 = 50;
/// Of these many are of a size that takes a compiler a while; the rest are small, so that a slow machine gets done too.
const LARGE: u32 = 10;

/// Guarantees: modules are compiled once: after a restart fifty rules come from the cache, and the host is ready; one whose compiled file was
/// damaged meanwhile is compiled again, and serves too; nobody else can read the cache.
#[test]
fn a_restart_compiles_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let Some(broker) = Mosquitto::start() else { return };
    let mut setup = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").module("json-reading");
    let threshold = built_module("threshold");
    for number in 0..RULES - 1 {
        let name = format!("watch-{number}");
        let module = if number < LARGE { variant(&threshold, number) } else { wat_guest(&name, &[]) };
        let file = format!("module = \"{name}.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = {number}.0\n");
        setup = setup.bytes(&name, &module).rule(&name, &file);
    }
    let mut host = setup.start();
    let cache = |host: &tidegate_tests::Host| host.status().module_cache.expect("there is a cache");
    let cold = cache(&host);
    assert_eq!((cold.hits, cold.misses, cold.damaged), (0, u64::from(RULES), 0));
    let directory = host.data_dir().join("cache");
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(host.stop().success());

    let began = Instant::now();
    host.start_again();
    println!("{RULES} rules, warm cache: ready after {:?}", began.elapsed());
    let warm = cache(&host);
    assert_eq!((warm.hits, warm.misses, warm.damaged), (u64::from(RULES), 0, 0));
    assert!(host.stop().success());

    let files = || std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
    let ends = |file: &std::path::Path, wanted| file.extension().is_some_and(|ending| ending == wanted);
    let passed = files().filter(|file| ends(file, "passed")).count();
    assert_eq!(passed, 1 + LARGE as usize, "their test cases were run, and are not run again");
    let file = files().find(|file| ends(file, "aot")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    host.start_again();
    let mended = cache(&host);
    assert_eq!((mended.hits, mended.misses, mended.damaged), (u64::from(RULES) - 1, 0, 1));
    assert!(host.status().rules.iter().all(|rule| rule.state == "serving"));
}

/// Guarantees: the process that compiles is the first that the kernel ends when memory is short, gives way to all others, and has no more memory and time
/// of the processor than it is told, no file to write to and no core to leave; what is no module it refuses.
#[test]
fn a_compiler_gives_up_what_it_does_not_need() {
    // As the thread that looks after the rules begins it, which gives way itself.
    let mut child = Command::new("nice")
        .args(["-n", "5"])
        .arg(binary())
        .args(["compile", "1073741824", "20"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let says = |process: &str, file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    // The 19th field of proc(5), of which the second is in parentheses; to be polite is the last thing that it does before it reads.
    let nice = |process: &str| -> i64 {
        let stat = says(process, "stat");
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse().unwrap()
    };
    let (pid, polite) = (child.id().to_string(), (nice("self") + 10).min(19));
    wait_for("the compiler to have given up what it does not need", DEADLINE, || match nice(&pid) {
        nice if nice == polite => Ok(()),
        nice => Err(format!("its priority is {nice}, and {polite} is due")),
    });
    assert_eq!(says(&pid, "oom_score_adj").trim(), "1000");
    let limits = says(&pid, "limits");
    for (limit, soft, hard) in [
        ("Max data size", "1073741824", "1073741824"),
        ("Max cpu time", "20", "21"),
        ("Max file size", "0", "0"),
        ("Max core file size", "0", "0"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{limit}: {limits}");
    }
    drop(child.stdin.take());
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!((child.wait().unwrap().code(), answer.split_once('\n').unwrap().0), (Some(65), "not_wasm"));
}

/// Guarantees: what a rule takes is told, the same by the API and by the metrics: time for a row, memory and the most it had, bytes of state.
#[test]
fn what_a_rule_takes_is_told() {
    let Some(broker) = Mosquitto::start() else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("brittle", &guest_module("brittle"))
        .rule("number", "module = \"brittle.wasm\"\ntopics = [\"dev/#\"]\n")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver((0..200).map(|n| plain(&format!("dev/t{}", n % 10), n, 1.0)).collect::<Vec<_>>());
    host.wait_settled(200);
    host.wait_status("the state of ten series", |status| {
        // A number in each: a letter for its layout, and its own byte.
        (status.rule("number").stats.state_bytes >= 20).then_some(())
    });
    let told = || host.ask("GET", "/api/v1/rules/number").send().expect(200);
    // The lanes save one after the other: both are to be of one moment.
    let (told, metrics) = wait_for("the rule to be at rest", DEADLINE, || {
        let (before, metrics) = (told(), host.get("/metrics").body);
        if before["stats"] == told()["stats"] { Ok((before, metrics)) } else { Err(before.to_string()) }
    });
    let number = |field: &str| told["stats"][field].as_f64().unwrap_or_else(|| panic!("no {field}: {told}"));
    let metric = |name: &str, more: &str| -> f64 {
        let begins = format!("tidegate_rule_{name}{{rule=\"number\"{more}}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&begins)?.parse().ok());
        found.unwrap_or_else(|| panic!("no {begins}: {metrics}"))
    };
    let (half, most) = (number("ns_per_row_p50"), number("ns_per_row_p99"));
    assert!(half > 0.0 && half <= most, "{told}");
    for (ns, share) in [(half, "0.5"), (most, "0.99")] {
        let seconds = metric("row_seconds", &format!(",q=\"{share}\""));
        assert!((seconds * 1e9 - ns).abs() <= ns * 1e-9, "{share}: {seconds} s, {ns} ns");
    }
    assert!(number("memory_bytes") > 65_536.0 && number("memory_bytes") <= number("memory_peak_bytes"), "{told}");
    assert_eq!(number("rows_in"), 200.0);
    for field in ["memory_bytes", "memory_peak_bytes", "state_bytes"] {
        assert_eq!(metric(field, ""), number(field), "{field}");
    }
    assert_eq!(metric("rows_in_total", ""), 200.0);
}

/// Guarantees: how deep a rule may recurse is its own file's: two rules of one module do not share it; more is given by a changed file, to what describes the
/// module already, without compiling anew; who gives too little is told what to raise.
#[test]
fn a_rule_has_the_stack_of_its_file() {
    let Some(broker) = Mosquitto::start() else { return };
    let deep = "(i32.store (i32.const 512) (i32.sub (i32.load (i32.const 512)) (i32.const 1)))
        (if (i32.load (i32.const 512)) (then (call $deep)))
        (i32.store (i32.const 516) (i32.const 1))";
    // Some hundreds of KiB.
    let recurse = "(i32.store (i32.const 512) (i32.const 8000)) (call $deep)";
    let module = wat_guest("deep", &[("deep", deep), ("process", &when_reading(666, recurse))]);
    let asked = wat_guest("asked", &[("deep", deep), ("describe", recurse)]);
    let file = |module: &str, topics: &str, kib: u32| {
        format!("module = \"{module}.wasm\"\ntopics = [\"dev/{topics}/#\"]\n[limits]\nstack_kib = {kib}\n")
    };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .module("json-reading")
        .bytes("deep", &module)
        .rule("low", &file("deep", "low", 64))
        .rule("high", &file("deep", "high", 4096))
        .bytes("asked", &asked)
        .rule("asked", &file("asked", "low", 64))
        .start();
    let refused = host.status().rule("asked").clone();
    let why = refused.problem.as_deref().unwrap_or_default();
    assert_eq!(refused.problem_code.as_deref(), Some("fault"), "{refused:?}");
    assert!(why.contains("64 KiB") && why.contains("`stack_kib`"), "{why}");

    let mut publisher = Publisher::connect(&broker, Qos::One);
    let too_deep = Message { expect: Expect::DeadLetter, ..plain("dev/low/a", 0, 666.0) };
    publisher.deliver(vec![too_deep, plain("dev/low/a", 1, 1.0), plain("dev/high/a", 2, 666.0)]);
    host.wait_settled(3);
    let letters = host.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("call stack exhausted: 64 KiB (`stack_kib` "), "{}", letters[0].reason);

    let before = host.status();
    host.drop_by_rename("low.toml", file("deep", "low", 4096).as_bytes());
    host.drop_by_rename("asked.toml", file("asked", "low", 4096).as_bytes());
    host.wait_status("both to have what they need", |status| {
        let (low, asked) = (status.rule("low"), status.rule("asked"));
        (low.generation > before.rule("low").generation && asked.state == "serving" && asked.problem.is_none())
            .then_some(())
    });
    let misses = |status: &Status| status.module_cache.as_ref().expect("there is a cache").misses;
    assert_eq!(misses(&host.status()), misses(&before));
    publisher.deliver(vec![plain("dev/low/a", 3, 666.0), plain("dev/high/a", 4, 666.0)]);
    host.wait_settled(5).assert_balanced("deep");
    host.account(publisher.sent()).assert_exact("deep");
    assert_eq!(host.dead_letters().len(), 1);
}
