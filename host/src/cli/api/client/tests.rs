use std::net::{Ipv6Addr, TcpListener};

use super::*;

/// What comes of a host that answers just so.
fn answered(head: &str, body: &str) -> Result<Value, Refusal> {
    said(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn said(text: String) -> Result<Value, Refusal> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = format!("http://{}", listener.local_addr().unwrap());
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(text.as_bytes()).unwrap();
    });
    let answer = Client::new(&node, None, None, false).unwrap().get("rules");
    host.join().unwrap();
    answer
}

/// Guarantees: what is no host's answer is none, whatever its status says; a host's refusal is told as it came.
#[test]
fn only_hosts_answer() {
    assert_eq!(answered("200 OK", "[1]").unwrap(), json!([1]));
    assert_eq!(answered("204 No Content", "").unwrap(), json!({ "status": 204 }));
    for (head, body) in [("200 OK", "<html>"), ("200 OK", ""), ("404 Not Found", "<html>"), ("404 Not Found", "")] {
        let refusal = answered(head, body).unwrap_err();
        assert_eq!(refusal.code(), "unreachable", "{head} {body}");
        assert!(refusal.to_string().contains("not as a Tidegate host"), "{refusal}");
    }
    assert_eq!(answered("409 Conflict", "{\"code\": \"in_use\"}").unwrap_err().code(), "in_use");
}

/// Guarantees: a host that does not speak TLS where that is expected says so, with what to write instead; a mistake of the whole body has no place before it.
#[test]
fn told_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = format!("https://{}", listener.local_addr().unwrap());
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 1024]);
    });
    let roots = RootCertStore::empty();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = Some(Arc::new(config.with_no_client_auth()));
    let refusal = Client::new(&node, None, config, false).unwrap().get("rules").unwrap_err();
    assert_eq!((refusal.code(), refusal.to_string().contains("http://")), ("unreachable", true), "{refusal}");
    host.join().unwrap();
    let mistakes =
        json!({"detail": "no form", "errors": [{"pointer": "", "detail": "a"}, {"pointer": "/b", "detail": "c"}]});
    assert_eq!(Refusal::of(mistakes).to_string(), "no form\n  a\n  /b: c");
}

/// Guarantees: an answer is read that a proxy has cut into chunks, whole or not at all, and so is one before which something else is said.
#[test]
fn by_a_proxy() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
    let (early, chunks) = ("HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", "2;x=y\r\n[1\r\n4\r\n, 2]\r\n0\r\n\r\n");
    assert_eq!(said(format!("{chunked}{chunks}")).unwrap(), json!([1, 2]));
    assert_eq!(said(format!("{early}{chunked}{chunks}")).unwrap(), json!([1, 2]));
    for end in [3, 7, 9, 12, 17, chunks.len() - 6] {
        let cut = said(format!("{chunked}{}", &chunks[..end])).unwrap_err();
        assert!(cut.to_string().contains("cut off"), "{end}: {cut}");
    }
    assert_eq!(said(early.to_owned()).unwrap_err().code(), "unreachable");
}

/// Guarantees: a name of which only some addresses are listened on is reached all the same; one with none says so.
#[test]
fn all_addresses_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let deaf = SocketAddr::from((Ipv6Addr::LOCALHOST, here.port()));
    assert_eq!(reach([deaf, here].into_iter()).unwrap().peer_addr().unwrap(), here);
    assert!(reach([deaf].into_iter()).unwrap_err().to_string().contains("cannot be reached"));
    assert!(reach(std::iter::empty()).unwrap_err().to_string().contains("no address"));
}

/// Guarantees: a change that a host has heard and not answered is not told as one that did not reach it, whether it is silent or hangs up, nor is a question to
/// which it is silent; a host that is not there is unreachable.
#[test]
fn silence_is_no_refusal() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let node = format!("http://{}", listener.local_addr().unwrap());
    let mut client = Client::new(&node, None, None, false).unwrap();
    (client.answer_within, client.done_within) = (Duration::from_millis(50), Duration::from_millis(50));
    let busy = client.get("export").unwrap_err();
    assert_eq!(busy.code(), "no_answer", "{busy}");
    assert!(!busy.to_string().contains("os error"), "{busy}");
    let change = Request { method: "POST", path: "rules/hot/enable".to_owned(), body: None, if_match: None };
    let silent = client.send(&change).unwrap_err();
    assert_eq!(silent.code(), "no_answer");
    assert!(silent.to_string().contains("not answered within"), "{silent}");
    client.done_within = DONE_WITHIN;
    std::thread::scope(|scope| {
        // The first are those that were given up.
        scope.spawn(|| (0..3).for_each(|_| drop(listener.accept().unwrap())));
        assert_eq!(client.send(&change).unwrap_err().code(), "no_answer");
    });
    drop(listener);
    assert_eq!(client.send(&change).unwrap_err().code(), "unreachable");
}
