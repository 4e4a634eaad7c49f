//! `exactly_once = "kafka"`: what comes of a record is in the database once, whatever ends, moves or comes back.

use std::process::Command;

use tidegate_tests::{
    Account, DEADLINE, Fault, Host, Kafka, Lag, Message, Postgres, Proxy, Setup, Unread, built_module, plain,
    readings, wait_for,
};

const TOPIC: &str = "fleet";
/// What is produced at a time, on so many series.
const READINGS: u64 = 2_000;
const SERIES: u64 = 100;

fn batch(number: u64) -> Vec<Message> {
    readings(number * READINGS..(number + 1) * READINGS, SERIES)
}

fn setup(kafka: &Kafka, url: &str, exact: bool) -> Setup {
    setup_with(kafka, "", url, exact)
}

fn setup_with(kafka: &Kafka, source: &str, url: &str, exact: bool) -> Setup {
    let once = if exact { "exactly_once = \"kafka\"" } else { "spool = { enabled = false }" };
    Setup::new()
        .kafka_with(kafka, TOPIC, source)
        .toml(&format!("[sinks.timescale.db]\nurl = \"{url}\"\nconnections = 2\n{once}"))
        .bytes("json-reading", &built_module("json-reading"))
}

/// Waits until all is there, and for what may still come behind it: until the group has committed all that was produced.
fn at_rest(kafka: &Kafka, postgres: &Postgres, hosts: &[&Host], when: &str) -> Account {
    let letters = || hosts.iter().flat_map(|host| host.dead_letters()).collect::<Vec<_>>();
    let tails = || hosts.iter().map(|host| host.tail()).collect::<Vec<_>>().join("\n");
    wait_for(&format!("all that was produced, {when}"), 2 * DEADLINE, || {
        let account = Account::of(kafka.sent(), postgres.rows(), &letters());
        let committed: i64 = kafka.committed("tidegate").iter().sum();
        if account.complete() && committed >= kafka.sent().len() as i64 {
            Ok(account)
        } else {
            Err(format!("{committed} committed; {account}\n{}", tails()))
        }
    });
    // No session is writing any more: what is there now stays so.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' AND state <> 'idle'";
    wait_for("the last transaction to end", DEADLINE, || match postgres.number(open) {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let account = Account::of(kafka.sent(), postgres.rows(), &letters());
    account.assert_nothing_lost(when);
    account
}

/// Guarantees: a host that dies between COMMIT and the commit of the offsets stores nothing twice, where otherwise all of that transaction would
/// be there twice; what comes again is counted.
#[test]
fn between_commit_and_the_offsets() {
    // What takes its time is the group, which waits for each member that died: for both at once.
    std::thread::scope(|scope| {
        for exact in [false, true] {
            scope.spawn(move || dies_between(exact));
        }
    });
}

fn dies_between(exact: bool) {
    let Some(postgres) = Postgres::start() else { return };
    let mut kafka = Kafka::start(TOPIC, 3);
    let mut host = setup(&kafka, &postgres.url(), exact).start();
    kafka.deliver(batch(0));
    at_rest(&kafka, &postgres, &[&host], "the beginning");
    let mut doubled = 0;
    for (round, site) in ["commit-after", "ack-before"].into_iter().enumerate() {
        // It leaves the group, which so waits for nobody.
        host.stop();
        kafka.deliver(batch(round as u64 + 1));
        let before = rows(&postgres);
        host.arm(site, 0);
        host.launch_again();
        host.wait_crash();
        wait_gone(&postgres);
        let left = usize::try_from(rows(&postgres) - before).unwrap();
        assert!(left > 0, "{site}: nothing was committed");
        host.start_again();
        let account = at_rest(&kafka, &postgres, &[&host], site);
        doubled += left;
        let (twice, repeats) = if exact { (0, left as u64) } else { (doubled, 0) };
        assert_eq!(account.doubled(), twice, "exactly once: {exact}, {site}: {left} were committed\n{account}");
        assert_eq!(host.status().sinks[0].repeats, repeats, "exactly once: {exact}, {site}");
        println!("exactly once: {exact}, {site}: {left} committed before, {twice} there twice in all");
    }
}

/// Waits until PostgreSQL has seen that the host is gone: what it had not committed is undone then.
fn wait_gone(postgres: &Postgres) {
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    wait_for("PostgreSQL to see that the host is gone", DEADLINE, || match postgres.number(ours) {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Guarantees: a host that dies after the first COMMIT of all, and before the group has committed anything of what it read, leaves where it
/// began: all of that is read again, for what dead letters and other sinks lack of it, and the database leaves out what it has.
#[test]
fn before_the_first_commit_of_the_group() {
    let Some(postgres) = Postgres::start() else { return };
    let mut kafka = Kafka::start(TOPIC, 3);
    let mut host = setup(&kafka, &postgres.url(), true).start();
    host.kill();
    kafka.deliver(batch(0));
    host.arm("commit-after", 0);
    host.launch_again();
    host.wait_crash();
    wait_gone(&postgres);
    let left = u64::try_from(rows(&postgres)).unwrap();
    assert!(left > 0, "nothing was committed");
    assert_eq!(kafka.committed("tidegate"), [0, 0, 0], "the group has nothing yet, but where it began");
    host.start_again();
    at_rest(&kafka, &postgres, &[&host], "after the crash").assert_exact("a crash before the group's first commit");
    assert_eq!(host.status().sinks[0].repeats, left, "what is in the database was not read again: {}", host.tail());
}

fn rows(postgres: &Postgres) -> i64 {
    postgres.number("SELECT count(*) FROM metrics").unwrap()
}

/// Guarantees: how far each partition is behind is in the status and in the metrics, grows while nothing can be stored, also when nothing is
/// fetched any more, and is 0 when all is; it is counted from what is settled, not from what was read.
#[test]
fn lag_by_partition() {
    let Some(postgres) = Postgres::start() else { return };
    let line = Proxy::start(postgres.port());
    let mut kafka = Kafka::start(TOPIC, 2);
    let host = setup_with(&kafka, "max_in_flight = 500", &postgres.url_by(line.port()), true).start();
    kafka.deliver(batch(0));
    at_rest(&kafka, &postgres, &[&host], "the beginning");
    let wait_lag = |due: u64| {
        host.wait_status(&format!("a lag of {due}"), |status| {
            let lag = &status.sources[0].lag;
            let all: u64 = lag.iter().map(|lag| lag.messages).sum();
            (lag.len() == 2 && lag.iter().all(|lag| lag.topic == TOPIC) && all == due).then(|| lag.clone())
        })
    };
    wait_lag(0);
    line.set(Fault::Stalled);
    kafka.deliver(batch(1));
    wait_lag(READINGS);
    // By now as much is in flight as may be, and the partitions are paused, or will be.
    kafka.deliver(batch(2));
    let lag = wait_lag(2 * READINGS);
    let metrics = host.get("/metrics").body;
    for Lag { partition, messages, .. } in lag {
        let label = format!("partition=\"{partition}\"");
        let of = |text: &&str| {
            text.starts_with("tidegate_source_lag_messages{")
                && text.contains(&label)
                && text.contains("topic=\"fleet\"")
        };
        let found = metrics.lines().find(of).and_then(|text| text.rsplit(' ').next()?.parse::<f64>().ok());
        assert_eq!(found, Some(messages as f64), "{partition}: {metrics}");
    }
    line.set(Fault::None);
    wait_lag(0);
}

/// Delivers these, and cuts the line once the database has carried out a COMMIT that nobody hears the answer of.
fn deliver_unanswered(kafka: &mut Kafka, readings: Vec<Message>, postgres: &Postgres, line: &Proxy) {
    let before = rows(postgres);
    line.leave_unanswered(b"COMMIT\0");
    kafka.deliver(readings);
    wait_for("COMMIT to be carried out", DEADLINE, || {
        let now = rows(postgres);
        if now > before { Ok(()) } else { Err(format!("{now} rows, armed: {}", line.armed())) }
    });
    line.cut();
    line.set(Fault::None);
}

/// Guarantees: a connection that ends after COMMIT was sent and before its answer came doubles nothing, without `dedupe`.
#[test]
fn commit_without_an_answer() {
    let Some(postgres) = Postgres::start() else { return };
    let line = Proxy::start(postgres.port());
    let mut kafka = Kafka::start(TOPIC, 2);
    let host = setup(&kafka, &postgres.url_by(line.port()), true).start();
    kafka.deliver(batch(0));
    at_rest(&kafka, &postgres, &[&host], "the beginning");
    deliver_unanswered(&mut kafka, batch(1), &postgres, &line);
    at_rest(&kafka, &postgres, &[&host], "after the cut").assert_exact("a cut at COMMIT");
    assert!(host.status().sinks[0].repeats > 0);
}

/// Guarantees: while hosts come, are killed under load and come back, and one is frozen until its partitions are another's and then goes on with
/// what it had in hand, everything is stored once. On Apache Kafka where it is there, else on the mock cluster.
#[test]
fn partitions_that_move() {
    let Some(postgres) = Postgres::start() else { return };
    let mut kafka = Kafka::apache(TOPIC, 4).unwrap_or_else(|| Kafka::start(TOPIC, 4));
    let mut first = setup(&kafka, &postgres.url(), true).start();
    kafka.deliver(batch(0));
    let second = setup(&kafka, &postgres.url(), true).start();
    kafka.deliver(batch(1));
    first.kill();
    kafka.deliver(batch(2));
    first.start_again();
    kafka.deliver(batch(3));
    at_rest(&kafka, &postgres, &[&first, &second], "after one was killed").assert_exact("a host killed");

    let assigned = || second.log().matches("partitions were assigned to us").count();
    let before = assigned();
    kafka.deliver(batch(4));
    signal(&first, "-STOP");
    wait_for("the partitions of the frozen host to move", 2 * DEADLINE, || {
        if assigned() > before { Ok(()) } else { Err(second.tail()) }
    });
    kafka.deliver(batch(5));
    signal(&first, "-CONT");
    at_rest(&kafka, &postgres, &[&first, &second], "after one was frozen").assert_exact("a host frozen");
    for host in [&first, &second] {
        host.wait_settled(0).assert_balanced("partitions that move");
    }
}

fn signal(host: &Host, signal: &str) {
    assert!(Command::new("kill").args([signal, &host.pid().to_string()]).status().unwrap().success());
}

/// Guarantees: a database that was put back to an earlier state is filled up again, from the offsets that stand in it, though the group has
/// committed later ones; and where it has none, the group's stand.
#[test]
fn a_database_put_back() {
    let Some(postgres) = Postgres::start() else { return };
    let mut kafka = Kafka::start(TOPIC, 2);
    let mut host = setup(&kafka, &postgres.url(), true).start();
    kafka.deliver(batch(0));
    at_rest(&kafka, &postgres, &[&host], "the beginning").assert_exact("the beginning");
    let stored =
        "SELECT sum(next_offset)::bigint FROM source_positions WHERE consumer_group = 'tidegate' AND topic = 'fleet'";
    assert_eq!(postgres.number(stored), Ok(READINGS as i64));
    host.kill();
    postgres.execute("TRUNCATE metrics; UPDATE source_positions SET next_offset = 0");
    host.start_again();
    kafka.deliver(batch(1));
    at_rest(&kafka, &postgres, &[&host], "put back").assert_exact("a database put back");
    assert_eq!(postgres.number(stored), Ok(2 * READINGS as i64));
    assert!(host.log().contains("the database has less of this partition than the group has committed"));

    host.kill();
    postgres.execute("TRUNCATE source_positions");
    kafka.deliver(batch(2));
    host.start_again();
    at_rest(&kafka, &postgres, &[&host], "without positions").assert_exact("without positions");
}

/// Guarantees: a reading that the table refuses is a dead letter also when the connection ends after COMMIT was sent, with how far its partition is
/// stored, and before the answer came; all others are stored once. With `dedupe`, where the first COMMIT is of the way by halves.
#[test]
fn a_refused_reading_and_commit_without_an_answer() {
    let Some(postgres) = Postgres::start() else { return };
    let line = Proxy::start(postgres.port());
    let mut kafka = Kafka::start(TOPIC, 1);
    let url = postgres.url_by(line.port());
    let host = Setup::new()
        .kafka(&kafka, TOPIC)
        .toml(&format!(
            "[sinks.timescale.db]\nurl = \"{url}\"\nconnections = 1\ndedupe = true\nexactly_once = \"kafka\""
        ))
        .bytes("json-reading", &built_module("json-reading"))
        .start();
    kafka.deliver(batch(0));
    at_rest(&kafka, &postgres, &[&host], "the beginning");
    postgres.execute("ALTER TABLE metrics ADD CONSTRAINT sane CHECK (value IS DISTINCT FROM 123456.5)");
    // Of a series without a unit, as this reading: nothing new is to be told of it, in a transaction of its own.
    let poison = plain(&kafka.sent()[1].topic, 2 * READINGS, 123_456.5);
    let mut readings = batch(1);
    readings.insert(0, Message::poison(poison.topic, poison.payload));
    deliver_unanswered(&mut kafka, readings, &postgres, &line);
    at_rest(&kafka, &postgres, &[&host], "after the cut").assert_exact("a cut at COMMIT");
    let letters = host.dead_letters();
    assert!(letters.len() == 1 && letters[0].reason.contains("\"sane\" (SQLSTATE 23514)"), "{letters:?}");
    assert!(host.status().sinks[0].repeats > 0);
}

/// Guarantees: a host whose database goes back to an earlier state while it runs, as when a server takes over that had not all of it yet, stores
/// nothing beyond the gap, says so, and reads again what is missing: nothing is lost, and nothing stored twice.
#[test]
fn a_database_that_goes_back() {
    let Some(postgres) = Postgres::start() else { return };
    let mut kafka = Kafka::start(TOPIC, 2);
    let host = setup(&kafka, &postgres.url(), true).start();
    kafka.deliver(batch(0));
    at_rest(&kafka, &postgres, &[&host], "the beginning").assert_exact("the beginning");
    postgres.execute("TRUNCATE metrics; UPDATE source_positions SET next_offset = 0");
    kafka.deliver(batch(1));
    at_rest(&kafka, &postgres, &[&host], "after it went back").assert_exact("a database that went back");
    assert!(host.log().contains("is stored up to 0 now: another server has taken over"));
    host.wait_status("source and sink to be up again", |status| {
        (status.sources[0].up && status.sinks[0].down.is_none()).then_some(())
    });
    host.wait_settled(0).assert_balanced("a database that went back");
}

/// Guarantees: a partition that ends before what the database has stored of it, as of a topic that was made anew, is not read, since its
/// records would be taken for stored; the others are; that is told where people and machines look, with what to do; and when it is done, all is
/// stored, once.
#[test]
fn a_topic_made_anew() {
    let Some(postgres) = Postgres::start() else { return };
    let mut kafka = Kafka::start(TOPIC, 2);
    let mut host = setup(&kafka, &postgres.url(), true).start();
    kafka.deliver(batch(0));
    at_rest(&kafka, &postgres, &[&host], "the beginning").assert_exact("the beginning");
    host.kill();
    // As many of each series come again, so of each partition too.
    let of_the_other = postgres.number("SELECT next_offset FROM source_positions WHERE partition = 0").unwrap();
    postgres.execute("UPDATE source_positions SET next_offset = next_offset + 5000 WHERE partition = 1");
    kafka.deliver(batch(1));
    host.start_again();
    let unread = host.wait_status("the source to say so", |status| {
        let source = &status.sources[0];
        (source.up && !source.unread.is_empty()).then(|| source.unread.clone())
    });
    let [Unread { topic, partition: 1, reason }] = &unread[..] else { panic!("{unread:?}") };
    assert!(topic == TOPIC && reason.contains("partition 1 of fleet ends at"), "{unread:?}");
    assert!(reason.contains("source_positions"), "{reason}");
    let due = READINGS as i64 + of_the_other;
    wait_for("the other partition to be stored", DEADLINE, || match rows(&postgres) {
        rows if rows == due => Ok(()),
        rows => Err(format!("{rows} of {due} rows\n{}", host.tail())),
    });
    let metrics = host.get("/metrics").body;
    let mut gauges = metrics.lines().filter(|line| line.starts_with("tidegate_source_partitions_unread{"));
    let count = gauges.next().and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert_eq!(count, Some(1.0), "{metrics}");
    let ready = host.get("/readyz");
    assert!(ready.code == 200 && ready.body.contains("degraded") && ready.body.contains(&reason[..20]), "{ready:?}");

    postgres.execute("DELETE FROM source_positions WHERE partition = 1");
    at_rest(&kafka, &postgres, &[&host], "made anew").assert_exact("a topic made anew");
    host.wait_status("nothing to be left unread", |status| {
        let source = &status.sources[0];
        (source.up && source.unread.is_empty()).then_some(())
    });
}
