//! The server's thread.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tidegate_config::Admin as Settings;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::access::{self, Access};
use crate::status::View;
use crate::{health, metrics, routes};

/// Requests here have no body worth the name.
const MAX_BODY_BYTES: usize = 64 << 10;

/// The running interface. Ends when dropped.
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the interface cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken, or not ours.
    #[error("the HTTP interface cannot listen on {0}: {1}; set another `listen` under [admin]")]
    Listen(SocketAddr, std::io::Error),
    /// No thread or runtime for it.
    #[error("the HTTP interface cannot start: {0}")]
    Start(std::io::Error),
}

impl Admin {
    /// Listens, and serves from a thread of its own.
    pub fn start(settings: &Settings, view: View) -> Result<Self, AdminError> {
        let refuse = |error| AdminError::Listen(settings.listen, error);
        let listener = std::net::TcpListener::bind(settings.listen).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let access = Access { token: settings.token.clone(), loopback: settings.listen.ip().is_loopback() };
        let router = router(view, access);
        let (stop, stopped) = oneshot::channel();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdminError::Start)?;
        let serve = move || {
            runtime.block_on(async move {
                let listener = match TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!("the HTTP interface ended: {error}"),
                };
                tokio::select! {
                    ended = async { axum::serve(listener, router).await } => {
                        if let Err(error) = ended {
                            tracing::error!("the HTTP interface ended: {error}");
                        }
                    }
                    _ = stopped => {}
                }
            });
        };
        let thread = tidegate_telemetry::thread("admin", serve).map_err(AdminError::Start)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ends at once; that it panicked has been said by then.
            let _ = thread.join();
        }
    }
}

fn router(view: View, access: Access) -> Router {
    let api = Router::new()
        .route("/status", get(routes::status))
        .route("/rules", get(routes::rules))
        .route("/rules/{name}", get(routes::rule))
        .route("/rules/{name}/enable", post(routes::enable))
        .route("/rules/{name}/disable", post(routes::disable))
        .layer(from_fn_with_state(access, access::check));
    Router::new()
        .nest("/api/v1", api)
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .fallback(|| async {
            routes::refuse(StatusCode::NOT_FOUND, "no such page; try /api/v1/status, /health or /metrics")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(view)
}
