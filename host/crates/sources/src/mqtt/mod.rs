//! MQTT 3.1.1 and 5, over rumqttc's codecs.
//!
//! Guarantees, at QoS 1: a message is acknowledged only after its [`tidegate_model::Ack`] said that it is settled, in order of
//! receipt, on the connection it came on; what is not settled when a connection ends comes again, since the session is
//! kept under a stable client id. At QoS 0 the broker forgets what it has sent: what we hold when we stop is lost.
//!
//! With a journal (`known.rs`), what the rules have had and comes again is given to no lane.
//!
//! What a session is subscribed to is kept in a file (`subscribed.rs`), and what is no longer configured is taken back.
//!
//! A [`tidegate_model::Outcome::Returned`] ends the connection, after a wait that grows: only a new connection makes a broker
//! send again. Messages already settled behind the returned one come again with it.

mod connection;
mod error;
mod known;
mod link;
mod options;
mod oversized;
mod packet;
mod session;
mod standing;
mod subscribed;
mod tls;
mod v3;
mod v5;
mod watchdog;
mod window;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tidegate_config::{MqttSource as Settings, MqttVersion};
use tidegate_model::{Health, Inlet, PhaseWatch, Source, SourceError, StateStore};
use tokio::task::JoinSet;

use connection::Connection;
pub(crate) use connection::lane_by;
use packet::Codec;
use session::{Place, Role};
use standing::Standing;
use subscribed::Subscribed;
use v3::V3;
use v5::V5;

/// Subscribes to a broker, over one or more connections.
#[derive(Debug)]
pub struct MqttSource {
    settings: Settings,
    state: Option<Arc<dyn StateStore>>,
    memory: Option<Memory>,
}

/// Where a source notes what it is subscribed to.
#[derive(Debug)]
struct Memory {
    data_dir: PathBuf,
    /// The client ids of all else that this process connects as.
    others: Vec<String>,
}

impl MqttSource {
    /// A source that does nothing until it is run. With `mqtts`, the process must have no other expectations of rustls'
    /// default provider: `ring` is named explicitly here.
    pub fn new(settings: Settings) -> Self {
        Self { settings, state: None, memory: None }
    }

    /// The same, with a journal: what `state` has is given to the rules once.
    #[must_use]
    pub fn journaled(self, state: Arc<dyn StateStore>) -> Self {
        Self { state: Some(state), ..self }
    }

    /// The same, which notes below `data_dir` what its sessions are subscribed to, and so takes back what is no longer configured: filters, and
    /// sessions of another number of connections, unless their client id is one of `others`, which belong to the rest of this process.
    #[must_use]
    pub fn remembering(self, data_dir: PathBuf, others: Vec<String>) -> Self {
        Self { memory: Some(Memory { data_dir, others }), ..self }
    }

    /// The client ids it connects as.
    pub fn client_ids(&self) -> Vec<String> {
        options::client_ids(&self.settings).collect()
    }
}

#[async_trait]
impl Source for MqttSource {
    async fn run(self: Box<Self>, inlet: Inlet, phase: PhaseWatch) -> Result<(), SourceError> {
        let settings = Arc::new(self.settings);
        let tls = match &settings.endpoint.tls {
            None => None,
            Some(tls) => Some(tls::client_config(tls).map_err(|error| {
                SourceError(format!(
                    "source {}: TLS to {} cannot be set up: {error}; correct the files named under `tls`",
                    inlet.source(),
                    settings.endpoint.host
                ))
            })?),
        };
        let codec = codec(settings.endpoint.version);
        let (subscribed, leftover) = match self.memory {
            Some(memory) => remember(memory, &settings, &inlet).await,
            None => (None, Vec::new()),
        };
        let standing = Arc::new(Standing::new(inlet.health().clone(), usize::from(settings.connections.max(1))));
        let serving = options::client_ids(&settings).map(|client_id| (Role::Serving, client_id));
        let retiring = leftover.into_iter().map(|client_id| (Role::Retiring, client_id));
        let mut tasks = JoinSet::new();
        for (n, (role, client_id)) in serving.chain(retiring).enumerate() {
            let (index, standing) = match role {
                Role::Serving => (n, standing.clone()),
                // How the rest of an earlier session is got rid of says nothing of the health of the source.
                Role::Retiring => (0, Arc::new(Standing::new(Arc::new(Health::default()), 1))),
            };
            let place = Place { role, index, client_id };
            let connection =
                Connection::new(codec, tls.clone(), settings.clone(), place, standing, inlet.clone(), phase.clone());
            let running = connection.remembering(subscribed.clone()).run(self.state.clone());
            tasks.spawn(tidegate_telemetry::named("mqtt", running));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| {
                SourceError(format!("source {}: a connection's task ended: {error}", inlet.source()))
            })?;
        }
        Ok(())
    }
}

/// What sessions were subscribed to, and the client ids of those to be ended: those that the source had with another number of connections. Of others,
/// which may be another host's, it is only said that they may be there.
async fn remember(memory: Memory, settings: &Settings, inlet: &Inlet) -> (Option<Arc<Subscribed>>, Vec<String>) {
    let Memory { data_dir, others } = memory;
    let source = inlet.source().clone();
    let Ok(subscribed) = tokio::task::spawn_blocking(move || Subscribed::open(&data_dir, &source)).await else {
        return (None, Vec::new());
    };
    let ours: Vec<String> = options::client_ids(settings).chain(others).collect();
    let left = subscribed.client_ids().into_iter().filter(|id| !ours.contains(id));
    let (leftover, foreign): (Vec<_>, Vec<_>) = left.partition(|id| options::may_have_had(&settings.endpoint, id));
    if let Some(client_id) = foreign.last() {
        tracing::warn!(
            source = %inlet.source(), client_id, sessions = foreign.len(),
            "this source had another client_id before; the broker may keep messages for that session, and deal it a part of a `share`, until it expires: end it there, or set the client_id back"
        );
    }
    (Some(Arc::new(subscribed)), leftover)
}

fn codec(version: MqttVersion) -> &'static dyn Codec {
    match version {
        MqttVersion::V3 => &V3,
        MqttVersion::V5 => &V5,
    }
}
