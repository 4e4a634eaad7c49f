//! Connections: how many, how long, how large their headers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
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
/// However busy it is, a connection takes no more requests after that.
const LONGEST: Duration = Duration::from_secs(600);
/// How long the answer may take then that is under way: as long as any. A caller who reads one byte by byte gives its place back.
const LAST_ANSWER: Duration = Duration::from_secs(600);
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
            connection(stream, address, gate, tls).await;
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
        Ok(Err(error)) => {
            tracing::debug!(%address, "no TLS: {error}");
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
            // Whatever else goes wrong with a handshake is no attempt to be somebody.
            if let Some(cause @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) =
                cause
            {
                gate.refused_certificate(address, &cause.to_string()).await;
            }
        }
        Err(_) => tracing::debug!(%address, "no TLS in time"),
    }
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin, gate: Arc<Gate>, peer: Peer) {
    let stream = Impatient::new(stream, READ_WITHIN);
    let answer = move |request: Request<Incoming>| gate.clone().answer(request.map(Body::new), peer.clone());
    exchange(stream, answer, sleep(LONGEST)).await;
}

/// Answers what comes. Once the connection is `old` no more is taken, and what is being answered is answered in full.
async fn exchange<A: Future<Output = Response>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<Incoming>) -> A,
    old: impl Future<Output = ()>,
) {
    let answer = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = old => {
            served.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection to the HTTP interface ended: {error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Mutex;

    use axum::response::IntoResponse;
    use tokio::io::AsyncReadExt;
    use tokio::sync::oneshot;

    use super::*;

    /// Guarantees: a connection that has grown old in the middle of an answer gives it whole, says that it closes, and does.
    #[tokio::test]
    async fn an_old_connection_answers_to_the_end() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let ((asked, is_asked), (answers, may_answer)) = (oneshot::channel::<()>(), oneshot::channel::<()>());
        let (grows_old, old) = oneshot::channel::<()>();
        let once = Mutex::new(Some((asked, may_answer)));
        let served = tokio::spawn(exchange(
            ours,
            move |_| {
                let (asked, may_answer) = once.lock().unwrap().take().unwrap();
                async move {
                    asked.send(()).unwrap();
                    may_answer.await.unwrap();
                    "the whole of it".into_response()
                }
            },
            async move { old.await.unwrap() },
        ));
        theirs.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        is_asked.await.unwrap();
        grows_old.send(()).unwrap();
        tokio::task::yield_now().await;
        answers.send(()).unwrap();
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("the whole of it"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        served.await.unwrap();
    }
}
