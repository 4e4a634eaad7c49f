//! Connections: how many, how long, how large their headers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::gate::{Gate, Peer};
use crate::patience::Impatient;
use crate::places::Places;
use crate::problem::{PROBLEM_JSON, Problem};
use crate::rules::hex;

/// How long the headers of a request may take, and how long a connection may have none under way.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer may find nobody who reads on.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// However busy it is, a connection lives no longer: a caller who reads an answer byte by byte gives its place back.
const LONGEST: Duration = Duration::from_secs(600);
/// The most of a request's headers.
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// After what the system gave no connection for, as when there are no more file descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Serves one address, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, gate: Arc<Gate>, tls: Option<TlsAcceptor>, most: usize) {
    let places = Places::new(most);
    let full = full();
    loop {
        let (mut stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection to the HTTP interface could not be taken: {error}");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let Some(place) = places.take(address.ip()) else {
            if tls.is_none() {
                // What the socket does not take at once is not worth waiting for.
                let _ = timeout(AFTER_FAILURE, stream.write_all(&full)).await;
            }
            continue;
        };
        let (gate, tls) = (gate.clone(), tls.clone());
        tidegate_telemetry::spawn("api", async move {
            let _until_closed = place;
            let _ = timeout(LONGEST, connection(stream, address, gate, tls)).await;
        });
    }
}

/// What is said to those for whom there is no place, without a look at what they want.
fn full() -> Vec<u8> {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_connections",
        "there are too many connections, in all or from one address",
    );
    let body = problem.json();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
         Content-Type: {PROBLEM_JSON}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// One connection, to its end. That a caller breaks off, or speaks no TLS, is no news.
async fn connection(stream: TcpStream, address: SocketAddr, gate: Arc<Gate>, tls: Option<TlsAcceptor>) {
    // Answers are small and written whole.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return requests(stream, gate, Peer { address, certificate: None }).await;
    };
    match timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate = shown.map(|certificate| hex(&<sha2::Sha256 as sha2::Digest>::digest(certificate)));
            requests(stream, gate, Peer { address, certificate }).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, "no TLS: {error}"),
        Err(_) => tracing::debug!(%address, "no TLS in time"),
    }
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin, gate: Arc<Gate>, peer: Peer) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let (gate, peer) = (gate.clone(), peer.clone());
        async move { Ok::<_, Infallible>(gate.answer(request.map(Body::new), peer).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(Impatient::new(stream, READ_WITHIN)), answer);
    if let Err(error) = served.await {
        tracing::debug!("a connection to the HTTP interface ended: {error}");
    }
}
