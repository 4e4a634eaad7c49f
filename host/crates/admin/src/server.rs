//! The server's thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_config::Admin as Settings;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::app_state::AppState;
use crate::connection;
use crate::gate::{AuditWriter, Gate};
use crate::route::Need;
use crate::rules::{Desk, RulesDir};
use crate::status::View;
use crate::table::Table;
use crate::tls::{self, TlsError};

/// How long changes under way are waited for at the end.
const LAST_CHANGES: Duration = Duration::from_secs(2);
/// The name of the interface's own thread.
const THREAD: &str = "admin";

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
    #[error("the HTTP interface cannot listen on {0}: {1}; set another `listen` or `probes_listen` under [admin]")]
    Listen(SocketAddr, std::io::Error),
    /// Certificates or keys.
    #[error("the HTTP interface has no TLS: {0}; see `cert_file`, `key_file` and `client_ca_file` under [admin]")]
    Tls(#[from] TlsError),
    /// No thread or runtime for it.
    #[error("the HTTP interface cannot start: {0}")]
    Start(std::io::Error),
}

/// One address, and what is served there.
struct Face {
    listener: std::net::TcpListener,
    gate: Arc<Gate>,
    tls: Option<TlsAcceptor>,
}

impl Admin {
    /// Listens, and serves from a thread of its own.
    ///
    /// # Errors
    /// An address or a certificate cannot be used.
    pub fn start(settings: &Settings, view: View) -> Result<Self, AdminError> {
        let tls = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        let (listener, address) = listen(settings.listen)?;
        let probes = settings.probes.map(listen).transpose()?;
        let audit = AuditWriter::new(&view.data_dir);
        let rules = RulesDir::new(&view.rules_dir);
        let desk = Desk::new(rules, view.registry.clone(), view.schemas.clone(), settings.changes);
        let on_trial = desk.on_trial();
        let app = AppState::new(view, desk);
        let gate = |table, address| Arc::new(Gate::new(settings, app.clone(), table, address, audit.clone()));
        let apart = probes.is_some();
        let main = Table::of(|route| !apart || route.need != Need::Probe);
        let mut faces = vec![Face { listener, gate: gate(main, address), tls }];
        if let Some((listener, address)) = probes {
            tracing::info!(%address, "health and metrics are served apart");
            faces.push(Face {
                listener,
                gate: gate(Table::of(|route| route.need == Need::Probe), address),
                tls: None,
            });
        }
        let (stop, stopped) = oneshot::channel();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // The interface's own thread does not give way: what it does for an answer takes some microseconds, which are over sooner when nobody pushes in
        // between, and who waits for it may be a lane. With `nice` 3 and 10 messages were on their way for no less, as far as that could be told.
        builder.enable_all().on_thread_start(tidegate_telemetry::give_way);
        // Modules are looked over on its threads for what blocks.
        let runtime =
            builder.thread_stack_size(tidegate_telemetry::THREAD_STACK).build().map_err(AdminError::Start)?;
        let most = settings.max_connections;
        let serve = move || {
            runtime.block_on(async move {
                tidegate_telemetry::spawn("on_trial", on_trial.forget_in_time());
                for face in faces {
                    match TcpListener::from_std(face.listener) {
                        Ok(listener) => {
                            tidegate_telemetry::spawn("http", connection::serve(listener, face.gate, face.tls, most));
                        }
                        Err(error) => return tracing::error!("the HTTP interface ended: {error}"),
                    }
                }
                // Gone or told: either way it is over.
                let _ = stopped.await;
            });
            runtime.shutdown_timeout(LAST_CHANGES);
        };
        let thread = tidegate_telemetry::thread(THREAD, serve).map_err(AdminError::Start)?;
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

/// Whether this is the interface's own thread, which answers everybody and is not to be kept.
pub(crate) fn is_own_thread() -> bool {
    std::thread::current().name() == Some(THREAD)
}

fn listen(wanted: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), AdminError> {
    let refuse = |error| AdminError::Listen(wanted, error);
    let listener = std::net::TcpListener::bind(wanted).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    Ok((listener, address))
}
