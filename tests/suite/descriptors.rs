//! Callers of the HTTP interface and the file descriptors that everything else needs.

use std::io::Read;
use std::net::TcpStream;

use tidegate_tests::{DEADLINE, Mosquitto, Proxy, Publisher, Qos, Setup, readings, wait_for};

/// Guarantees: more callers than the process may have files open, none of whom shows a token, do not keep it from its work: most are turned
/// away, and the line to the broker, cut meanwhile, is made anew and what comes over it stored.
#[test]
fn callers_leave_enough() {
    let Some(broker) = Mosquitto::start() else { return };
    let line = Proxy::start(broker.port());
    let source = format!("[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"dev/#\"]\n", line.port());
    let host = Setup::new().toml(&source).module("json-reading").open_files(256).start();
    let log = host.log();
    assert!(log.contains("takes 64 connections at once on each address, not the 1024"), "{log}");

    let callers: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(("127.0.0.1", host.port())).unwrap()).collect();
    callers.iter().for_each(|caller| caller.set_nonblocking(true).unwrap());
    let mut turned_away = vec![false; callers.len()];
    wait_for("callers to be turned away", DEADLINE, || {
        for (mut caller, told) in callers.iter().zip(&mut turned_away) {
            let mut word = [0; 12];
            *told |= matches!(caller.read(&mut word), Ok(12) if word == *b"HTTP/1.1 503");
        }
        let told = turned_away.iter().filter(|told| **told).count();
        if told >= 100 { Ok(()) } else { Err(format!("{told} of {} were; {}", callers.len(), host.tail())) }
    });
    line.cut();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(readings(0..100, 10));
    host.wait_rows(100);
    drop(callers);
}
