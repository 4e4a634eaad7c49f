//! Bodies and headers without end, without haste, and in numbers: none holds the API up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tidegate_tests::{Answer, DEADLINE, Host, built_module, padded, wait_for};

use crate::api::quiet;

fn connect(host: &Host) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", host.port())).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn begin(host: &Host, head: &str) -> TcpStream {
    let mut socket = connect(host);
    write!(socket, "{head}\r\nHost: 127.0.0.1\r\n").unwrap();
    socket
}

/// Guarantees: a body that has no end is cut off at its limit, whether it says how long it will be or not, and leaves no file.
#[test]
fn endless_bodies() {
    let host = quiet().launch();
    for (path, kind, most) in
        [("/api/v1/rules/hot", "application/json", 1 << 20), ("/api/v1/modules", "application/wasm", 10 << 20)]
    {
        let method = if path.ends_with("hot") { "PUT" } else { "POST" };
        let mut announced = begin(&host, &format!("{method} {path} HTTP/1.1"));
        write!(announced, "Content-Type: {kind}\r\nContent-Length: 99999999999\r\n\r\n").unwrap();
        Answer::read(&mut announced).unwrap().expect_problem(413, "too_large");

        let mut endless = begin(&host, &format!("{method} {path} HTTP/1.1"));
        write!(endless, "Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let piece = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
        let mut sent = 0;
        while endless.write_all(&piece).is_ok() && sent < 4 * most {
            sent += 0x10000;
        }
        // What is not read to its end can reset the connection before the answer is read; either way it took no more.
        match Answer::read(&mut endless) {
            Ok(answer) => drop(answer.expect_problem(413, "too_large")),
            Err(error) => assert!(sent < 4 * most, "{error}"),
        }
    }
    assert_eq!(std::fs::read_dir(host.rules_dir()).unwrap().count(), 0, "a draft is left");
    host.ask("GET", "/api/v1/rules").send().expect(200);
}

/// Guarantees: those who send modules as slowly as they like take up the places for what comes in, and no others: what goes out goes out.
#[test]
fn slow_senders() {
    let host = quiet().module("threshold").launch();
    let module = host.ask("GET", "/api/v1/modules").send().expect(200)[0]["sha256"].as_str().unwrap().to_owned();
    let mut senders = Vec::new();
    wait_for("all places for what comes in to be taken", DEADLINE, || {
        let mut sender = begin(&host, "POST /api/v1/modules HTTP/1.1");
        write!(sender, "Content-Type: application/wasm\r\nContent-Length: 1000000\r\n\r\n\0asm").unwrap();
        // One that finds no place is turned away, and is one too many.
        senders.push(sender);
        let another = host.ask("POST", "/api/v1/modules").body("application/wasm", b"none").send();
        if another.code == 503 { Ok(()) } else { Err(format!("{another:?}")) }
    });
    for path in ["/api/v1/export", &format!("/api/v1/modules/{module}/content")] {
        assert_eq!(host.ask("GET", path).send().code, 200, "{path}");
    }
    drop(senders);
}

/// Guarantees: those who ask for what is large and do not read it have so much of the host's memory together and no more: who comes then is told to ask again, what is
/// not as large is answered, and when they hang up there is room.
#[test]
fn slow_readers() {
    // 29 of them leave no room for another of any size.
    let module = built_module("threshold");
    let large = padded(&module, (9_039 << 10) - module.len() - 64);
    let host = quiet().bytes("large", &large).module("scale").launch();
    let modules = host.ask("GET", "/api/v1/modules").send().expect(200);
    let content = |at: usize| format!("/api/v1/modules/{}/content", modules[at]["sha256"].as_str().unwrap());
    let (path, other) = (content(0), content(1));
    assert!(modules[1]["bytes"].as_u64().unwrap() > 64 << 10, "{modules}");
    let mut readers = Vec::new();
    let refused = loop {
        let mut reader = begin(&host, &format!("GET {path} HTTP/1.1"));
        write!(reader, "Connection: close\r\n\r\n").unwrap();
        let mut line = [0; 12];
        reader.read_exact(&mut line).unwrap();
        if line != *b"HTTP/1.1 200" {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            break String::from_utf8_lossy(&line).into_owned() + &rest;
        }
        readers.push(reader);
        assert!(readers.len() < 64, "half a gigabyte waits to be read");
    };
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("large answers"), "{refused}");
    assert!(readers.len() > 8, "{}", readers.len());
    host.ask("GET", "/api/v1/rules").send().expect(200);
    assert_eq!(host.ask("GET", &other).send().code, 200, "it has room of its own");
    drop(readers);
    wait_for("room", DEADLINE, || match host.ask("GET", &path).send() {
        answer if answer.code == 200 => Ok(()),
        answer => Err(answer.code),
    });
}

/// Guarantees: what is long is not made on the thread that answers everybody: a host that is built for tests fails where it is.
#[test]
fn long_answers() {
    let off = "module = \"scale.wasm\"\nenabled = false\n";
    let large = padded(&built_module("threshold"), 1 << 20);
    let host = (0..600)
        .fold(quiet().module("scale").bytes("large", &large), |host, at| host.rule(&format!("off-{at}"), off));
    let host = host.launch();
    for path in ["/api/v1/export", "/api/v1/rules", "/api/v1/status"] {
        let answer = host.ask("GET", path).send();
        assert!(answer.code == 200 && answer.body.len() > 256 << 10, "{path}: {} bytes", answer.body.len());
    }
    let document = host.ask("GET", "/api/v1/export?modules=false").send().expect(200);
    host.ask("PUT", "/api/v1/desired").json(&document).send().expect(200);
}

/// Guarantees: senders who send on, but slowly, keep nobody else out for longer than some seconds: one of them gives way, is told so, and leaves no file.
#[test]
fn slow_senders_give_way() {
    let host = quiet().launch();
    let slow = |()| {
        let mut sender = begin(&host, "POST /api/v1/modules HTTP/1.1");
        sender.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        write!(sender, "Content-Type: application/wasm\r\nContent-Length: 1000000\r\n\r\n\0asm").unwrap();
        sender
    };
    let mut senders: Vec<TcpStream> = [(), ()].map(slow).into();
    let module = tidegate_tests::built_module("threshold");
    let mut told = 0;
    wait_for("a slow one to give way", DEADLINE, || {
        for sender in &mut senders {
            // Never silent for so long that it would be given up for that.
            let _ = sender.write_all(b"x");
            let Ok(answer) = Answer::read(sender) else { continue };
            told += usize::from(answer.code == 408 && answer.body.contains("gave_way"));
            *sender = slow(());
        }
        let another = host.ask("POST", "/api/v1/modules").body("application/wasm", &module).send();
        if told > 0 && another.code < 300 { Ok(()) } else { Err(format!("{told} were told, {another:?}")) }
    });
    drop(senders);
    wait_for("the drafts to go", DEADLINE, || {
        let left = std::fs::read_dir(host.rules_dir()).unwrap().count();
        if left == 1 { Ok(()) } else { Err(format!("{left} files")) }
    });
}

/// Guarantees: a caller who sends nothing more is not waited for: not for the rest of a body, nor of headers, nor for another request;
/// meanwhile all others are served.
#[test]
fn slow_callers() {
    let host = quiet().launch();
    let mut body = begin(&host, "PUT /api/v1/rules/hot HTTP/1.1");
    write!(body, "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{").unwrap();
    let mut module = begin(&host, "POST /api/v1/modules HTTP/1.1");
    write!(module, "Content-Type: application/wasm\r\nContent-Length: 100\r\n\r\n\0asm").unwrap();
    let mut headers = begin(&host, "GET /api/v1/rules HTTP/1.1");
    let mut silent = connect(&host);
    let mut idle = begin(&host, "GET /livez HTTP/1.1");
    write!(idle, "\r\n").unwrap();
    // Others are answered while the host still waits for one like them. A machine that takes longer for that than the host waits is asked again.
    wait_for("others to be answered meanwhile", DEADLINE, || {
        let mut slow = begin(&host, "PUT /api/v1/rules/hot HTTP/1.1");
        write!(slow, "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{").unwrap();
        host.ask("GET", "/api/v1/rules").send().expect(200);
        slow.set_nonblocking(true).unwrap();
        match slow.read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            given_up => Err(format!("it was given up before: {given_up:?}")),
        }
    });
    Answer::read(&mut body).unwrap().expect_problem(408, "too_slow");
    Answer::read(&mut module).unwrap().expect_problem(408, "too_slow");
    for (what, socket) in [("headers", &mut headers), ("silent", &mut silent), ("idle", &mut idle)] {
        let mut rest = Vec::new();
        let ended = socket.read_to_end(&mut rest);
        assert!(
            ended.is_ok() || ended.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset),
            "{what}: {ended:?}"
        );
    }
    assert_eq!(std::fs::read_dir(host.rules_dir()).unwrap().count(), 0, "a draft is left");
}

/// Guarantees: headers have a limit, in bytes and in number.
#[test]
fn endless_headers() {
    let host = quiet().launch();
    let mut large = begin(&host, "GET /livez HTTP/1.1");
    let line = format!("X-Filler: {}\r\n", "x".repeat(1_000));
    let mut sent = 0;
    while sent < 10 << 20 && large.write_all(line.as_bytes()).is_ok() {
        sent += line.len();
    }
    assert!(sent < 10 << 20, "10 MiB of headers were taken");
    let mut many = begin(&host, "GET /livez HTTP/1.1");
    let headers: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
    // It may be refused before it is written whole.
    let _ = write!(many, "{headers}\r\n");
    assert_eq!(Answer::read(&mut many).unwrap().code, 431);
    assert_eq!(host.ask("GET", "/livez").send().code, 200);
}

/// Guarantees: past the most connections a caller is told so at once; when one ends, its place is free.
#[test]
fn too_many_connections() {
    let host = quiet().admin("max_connections = 4").launch();
    let held: Vec<TcpStream> = (0..4).map(|_| connect(&host)).collect();
    tidegate_tests::wait_for("no place to be left", tidegate_tests::DEADLINE, || {
        let answer = host.ask("GET", "/livez").send();
        if answer.code == 503 {
            Ok(answer.expect_problem(503, "too_many_connections"))
        } else {
            Err(format!("{answer:?}"))
        }
    });
    drop(held);
    tidegate_tests::wait_for("a place", tidegate_tests::DEADLINE, || {
        let answer = host.ask("GET", "/livez").send();
        if answer.code == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}
