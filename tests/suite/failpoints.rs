//! The host made to end at the worst moments (crate `fail`), each once: what is stored and what is acknowledged must agree.

use tidegate_tests::{
    Account, DEADLINE, Mosquitto, Postgres, Protocol, Publisher, Qos, Setup, built_module, plain, readings, root,
    variant, wait_for,
};

/// What waits at the broker when the host comes to its end.
const READINGS: u64 = 2_000;

/// The most that is on the way from the broker to an MQTT 3.1.1 client, by the broker's settings.
const IN_FLIGHT: usize = 200;

/// What the first transaction leaves behind when the host ends at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// It was not committed.
    Nothing,
    /// It was committed, and nothing of it acknowledged.
    Rows,
    /// COMMIT was on its way.
    Either,
}

/// Guarantees: a host that dies around COPY and COMMIT, or before it acknowledges, has acknowledged nothing: after a restart
/// every message is stored, and just those twice that were committed before.
#[test]
fn around_the_transaction() {
    let (Some(broker), Some(postgres)) = (Mosquitto::start(), Postgres::start()) else { return };
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V3, r#"["dev/#"]"#, "")
        .toml(&sink(&postgres))
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..1, 1));
    host.wait_settled(1);
    let mut doubled = 0;
    for (round, (site, leaves)) in [
        ("copy-before", Leaves::Nothing),
        ("commit-before", Leaves::Nothing),
        ("copy-after", Leaves::Either),
        ("commit-after", Leaves::Rows),
        ("ack-before", Leaves::Rows),
    ]
    .into_iter()
    .enumerate()
    {
        host.kill();
        let first = (round as u64 + 1) * READINGS;
        publisher.deliver(readings(first..first + READINGS, 100));
        let before = rows(&postgres);
        host.arm(site, 0);
        host.launch_again();
        host.wait_crash();
        let left = usize::try_from(after_the_last_transaction(&postgres) - before).unwrap();
        match leaves {
            Leaves::Nothing => assert_eq!(left, 0, "{site}: rows of a transaction that was not committed"),
            Leaves::Rows => assert!(left > 0, "{site}: no rows, although it was committed"),
            Leaves::Either => {}
        }
        host.start_again();
        let sent = publisher.sent();
        let account = wait_for(&format!("all that was sent, after {site}"), DEADLINE, || {
            let account = Account::of(sent, postgres.rows(), &host.dead_letters());
            if account.complete() { Ok(account) } else { Err(format!("{account}\n{}", host.tail())) }
        });
        account.assert_nothing_lost(site);
        host.wait_settled(READINGS).assert_balanced(site);
        doubled += left;
        let account = Account::of(sent, postgres.rows(), &host.dead_letters());
        assert_eq!(account.doubled(), doubled, "{site}: twice is what was committed and not acknowledged\n{account}");
        println!("{site}: {left} committed before, and stored twice");
    }
}

/// Guarantees: a host that dies within a write to its spool, or after it and before it acknowledges, or when the database has what
/// stands in the spool and the spool still has it too, loses nothing; twice is only what stood in both.
#[test]
fn around_the_spool() {
    let (Some(broker), Some(mut postgres)) = (Mosquitto::start(), Postgres::start()) else { return };
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V3, r#"["dev/#"]"#, "")
        .toml(&sink(&postgres))
        .module("json-reading")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..1, 1));
    host.wait_settled(1);
    host.kill();
    postgres.crash();
    publisher.deliver(readings(READINGS..2 * READINGS, 100));
    for site in ["spool-write-within", "spool-write-after"] {
        host.arm(site, 0);
        host.launch_again();
        host.wait_crash();
    }
    host.launch_again();
    // Not acknowledged before, and so given to the spool a second time.
    host.wait_settled(READINGS);
    host.kill();

    host.arm("spool-remove-before", 0);
    postgres.start_again();
    host.launch_again();
    host.wait_crash();
    let left = usize::try_from(after_the_last_transaction(&postgres) - 1).unwrap();
    assert!(left > 0, "the database has what the spool has not forgotten");
    host.start_again();
    let sent = publisher.sent();
    let account = wait_for("all that was sent", DEADLINE, || {
        let account = Account::of(sent, postgres.rows(), &host.dead_letters());
        // What was written before is written again at first.
        if account.complete() && account.doubled() >= left {
            Ok(account)
        } else {
            Err(format!("{account}\n{}", host.tail()))
        }
    });
    account.assert_nothing_lost("around the spool");
    assert!(
        account.doubled() <= left + IN_FLIGHT,
        "twice is what the spool kept, and what it had not acknowledged\n{account}"
    );
    println!("{} came twice, {left} of them from the spool", account.doubled());
}

/// Guarantees: a host that dies when only one of two lanes has a new generation, or between reading a rule's state and keeping
/// it, loses no message, and stores none twice but those that were on the way.
#[test]
fn within_a_swap_and_within_a_save() {
    let Some(broker) = Mosquitto::start() else { return };
    let decoder = built_module("json-reading");
    let mut host = Setup::new()
        .mqtt(&broker, Protocol::V3, r#"["dev/#"]"#, "")
        .bytes("json-reading", &decoder)
        .module("threshold")
        .rule("hot", "module = \"threshold.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 50.0\n")
        .start();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    // Each of two rules is installed on each of two lanes at the start.
    for (round, (site, passes)) in [("swap-within", 4), ("state-save-within", 3)].into_iter().enumerate() {
        host.kill();
        let first = round as u64 * 1_000_000;
        let load = publisher
            .load(2_000, move |number| plain(&format!("dev/crash/t{}", number % 40), first + number, number as f64));
        host.arm(site, passes);
        // It saves every second, load or none: on a slow machine it may die before it is ready.
        host.launch_again();
        if site == "swap-within" {
            host.wait_rows(100);
            host.drop_by_rename("json-reading.wasm", &variant(&decoder, round as u32));
        }
        host.wait_crash();
        host.start_again();
        publisher = load.end();
        let account = wait_for(&format!("all that was sent, after {site}"), DEADLINE, || {
            let account = host.account(publisher.sent());
            if account.complete() { Ok(account) } else { Err(format!("{account}\n{}", host.tail())) }
        });
        account.assert_nothing_lost(site);
        assert!(account.doubled() <= (round + 1) * IN_FLIGHT, "{site}: more than were on the way\n{account}");
        host.wait_settled(1).assert_balanced(site);
        println!("{site}: {} of {} came twice", account.doubled(), publisher.sent().len());
    }
}

/// Guarantees: the binary that is released has no such sites in it. What the suite drives has them, since the suite is built
/// along with it.
#[test]
fn not_in_the_release() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let features = |package: &str| {
        let mut command = std::process::Command::new(&cargo);
        command.args(["tree", "--offline", "--package", package, "--edges", "normal,features", "--prefix", "none"]);
        let output = command.current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let sites = "fail feature \"failpoints\"";
    assert!(!features("tidegate").contains(sites), "`cargo build --release --package tidegate` opens the failpoints");
    assert!(features("tidegate-tests").contains(sites), "this test looks for the wrong words");
}

/// By one connection: what was written is in one transaction.
fn sink(postgres: &Postgres) -> String {
    format!("[sinks.timescale.db]\nurl = \"{}\"\nconnections = 1", postgres.url())
}

fn rows(postgres: &Postgres) -> i64 {
    postgres.number("SELECT count(*) FROM metrics").unwrap()
}

/// The rows when every transaction of a host that is gone has ended, in either way.
fn after_the_last_transaction(postgres: &Postgres) -> i64 {
    let theirs =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    wait_for("PostgreSQL to see that the host is gone", DEADLINE, || match postgres.number(theirs) {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    rows(postgres)
}
