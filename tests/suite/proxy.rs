//! The lines from the host to broker and database broken on purpose, each fault once and small.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tidegate_tests::{
    Account, DEADLINE, Fault, Host, Message, Mosquitto, Postgres, Proxy, Publisher, Qos, Setup, Way, plain, readings,
    wait_for,
};

/// How much of a stream passes before a cut in its middle: some messages, and a part of one.
const MIDDLE: usize = 10_007;

/// What goes on while a line is broken.
const RATE: u64 = 1_000;

/// What can be wrong with a line, and what a test does to it.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Fault(Fault),
    Cut,
    CutWithin(Way),
}

const TROUBLES: [Trouble; 7] = [
    Trouble::Cut,
    Trouble::Fault(Fault::Refused),
    Trouble::Fault(Fault::Stalled),
    Trouble::Fault(Fault::Delayed(Duration::from_millis(100))),
    Trouble::Fault(Fault::Trickling(Duration::from_millis(2))),
    Trouble::CutWithin(Way::ToServer),
    Trouble::CutWithin(Way::ToClient),
];

/// Guarantees: whatever happens to the line to the broker, once it is well again every message is stored.
#[test]
fn line_to_the_broker() {
    let Some(broker) = Mosquitto::start() else { return };
    let line = Proxy::start(broker.port());
    let host = Setup::new().toml(&source(&line)).module("json-reading").start();
    let account = |host: &Host, sent: &[Message]| host.account(sent);
    survives(&broker, &line, &host, account);
}

/// Guarantees: whatever happens to the line to the database, once it is well again every message is stored.
#[test]
fn line_to_the_database() {
    let (Some(broker), Some(postgres)) = (Mosquitto::start(), Postgres::start()) else { return };
    let (broker_line, line) = (Proxy::start(broker.port()), Proxy::start(postgres.port()));
    let sink = format!("[sinks.timescale.db]\nurl = \"{}\"", postgres.url_by(line.port()));
    let host = Setup::new().toml(&source(&broker_line)).toml(&sink).module("json-reading").start();
    let account = |host: &Host, sent: &[Message]| Account::of(sent, postgres.rows(), &host.dead_letters());
    survives(&broker, &line, &host, account);
}

fn source(line: &Proxy) -> String {
    let port = line.port();
    format!("[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:{port}\"\nversion = \"5\"\ntopics = [\"dev/#\"]\n")
}

/// One trouble after the other, under load. After each everything that was sent must be there before the next begins.
fn survives(broker: &Mosquitto, line: &Proxy, host: &Host, account: impl Fn(&Host, &[Message]) -> Account) {
    let mut publisher = Publisher::connect(broker, Qos::One);
    publisher.deliver(readings(0..100, 20));
    for (round, trouble) in TROUBLES.into_iter().enumerate() {
        let first = (round as u64 + 1) * 1_000_000;
        let load =
            publisher.load(RATE, move |number| plain(&format!("dev/line/t{}", number % 40), first + number, 1.5));
        let connections = line.connections();
        match trouble {
            Trouble::Cut => line.cut(),
            Trouble::Fault(fault) => line.set(fault),
            Trouble::CutWithin(way) => {
                line.cut_after(way, MIDDLE);
                wait_for("the cut to fall", DEADLINE, || if line.armed() { Err("not yet") } else { Ok(()) });
            }
        }
        // A line that is slow is used for a while; one that is closed is found again.
        match trouble {
            Trouble::Cut | Trouble::CutWithin(_) => wait_for("another connection", DEADLINE, || {
                let now = line.connections();
                if now > connections { Ok(()) } else { Err(format!("{now} connections; {}", host.tail())) }
            }),
            Trouble::Fault(_) => {
                publisher = load.end();
                publisher.deliver((500_000..501_000).map(|number| plain("dev/line/more", first + number, 2.5)));
                line.set(Fault::None);
                all_there(host, publisher.sent(), &account, trouble);
                continue;
            }
        }
        publisher = load.end();
        all_there(host, publisher.sent(), &account, trouble);
    }
}

fn all_there(host: &Host, sent: &[Message], account: &impl Fn(&Host, &[Message]) -> Account, trouble: Trouble) {
    let account = wait_for(&format!("all that was sent, after {trouble:?}"), DEADLINE, || {
        let account = account(host, sent);
        if account.complete() { Ok(account) } else { Err(format!("{account}\n{}", host.tail())) }
    });
    account.assert_nothing_lost(&format!("{trouble:?}"));
    println!("{trouble:?}: {} of {} came twice", account.doubled(), sent.len());
}

/// Guarantees: the proxy does what its faults say; the tests above break something.
#[test]
fn faults_are_faults() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap().port());
    let connect = || {
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        let (far, _) = server.accept().unwrap();
        for socket in [&client, &far] {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        (client, far)
    };
    let said = |mut from: &TcpStream, mut to: &TcpStream, bytes: &[u8]| {
        from.write_all(bytes).unwrap();
        let mut heard = vec![0; bytes.len()];
        to.read_exact(&mut heard).unwrap();
        assert_eq!(heard, bytes);
    };
    let ended = |mut socket: &TcpStream| {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = socket.read_to_end(&mut rest);
        rest
    };

    let (client, far) = connect();
    said(&client, &far, b"there");
    said(&far, &client, b"and back");
    proxy.cut();
    assert_eq!((ended(&client), ended(&far)), (vec![], vec![]), "cut");

    let (client, far) = connect();
    proxy.cut_after(Way::ToServer, 3);
    said(&far, &client, b"the other way does not count");
    (&client).write_all(b"abcdef").unwrap();
    assert_eq!((ended(&far), ended(&client)), (b"abc".to_vec(), vec![]), "cut in the middle");
    assert!(!proxy.armed());

    let (client, far) = connect();
    proxy.cut_behind(b"COPY", 2);
    said(&client, &far, b"begin; CO");
    (&client).write_all(b"PYabcd").unwrap();
    assert_eq!((ended(&far), ended(&client)), (b"PYab".to_vec(), vec![]), "cut behind words that came in two parts");

    let (client, far) = connect();
    proxy.set(Fault::Stalled);
    (&client).write_all(b"late").unwrap();
    far.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!((&far).read(&mut [0]).is_err(), "nothing passes a line that is stalled");
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    proxy.set(Fault::None);
    let mut late = [0; 4];
    (&far).read_exact(&mut late).unwrap();
    assert_eq!(&late, b"late", "and nothing of it is lost");

    proxy.leave_unanswered(b"COMMIT");
    said(&client, &far, b"begin; COM");
    said(&far, &client, b"heard");
    assert!(proxy.armed());
    said(&client, &far, b"MIT");
    (&far).write_all(b"done").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!((&client).read(&mut [0]).is_err(), "nothing comes back");
    assert!(!proxy.armed());
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    proxy.set(Fault::None);
    let mut done = [0; 4];
    (&client).read_exact(&mut done).unwrap();
    assert_eq!(&done, b"done");

    for (fault, least) in
        [(Fault::Delayed(Duration::from_millis(50)), 50), (Fault::Trickling(Duration::from_millis(5)), 5 * 9)]
    {
        proxy.set(fault);
        let start = Instant::now();
        said(&client, &far, b"ten bytes!");
        assert!(start.elapsed() >= Duration::from_millis(least), "{fault:?} took {:?}", start.elapsed());
    }

    proxy.set(Fault::Refused);
    assert_eq!(ended(&far), Vec::<u8>::new(), "refused closes what stands");
    let connections = proxy.connections();
    let refused = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    refused.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(ended(&refused), Vec::<u8>::new());
    assert_eq!(proxy.connections(), connections, "nobody gets through");
}
