//! MQTT 3.1.1 and 5, over rumqttc's codecs.
//!
//! Guarantees, at QoS 1: a message is acknowledged only after its [`tidegate_model::Ack`] said that it is settled, in order of
//! receipt, on the connection it came on; what is not settled when a connection ends comes again, since the session is
//! kept under a stable client id. At QoS 0 the broker forgets what it has sent: what we hold when we stop is lost.
//!
//! With a journal (`known.rs`), what the rules have had and comes again is given to no lane.
//!
//! A [`tidegate_model::Outcome::Returned`] ends the connection, after a wait that grows: only a new connection makes a broker
//! send again. Messages already settled behind the returned one come again with it.

mod connection;
mod error;
mod known;
mod link;
mod options;
mod packet;
mod session;
mod oversized;
mod standing;
mod tls;
mod v3;
mod v5;
mod watchdog;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_config::{MqttSource as Settings, MqttVersion};
use tidegate_model::{Inlet, PhaseWatch, Source, SourceError, StateStore};
use tokio::task::JoinSet;

use connection::Connection;
pub(crate) use connection::lane_by;
use packet::Codec;
use session::Place;
use standing::Standing;
use v3::V3;
use v5::V5;

/// Subscribes to a broker, over one or more connections.
#[derive(Debug)]
pub struct MqttSource {
    settings: Settings,
    state: Option<Arc<dyn StateStore>>,
}

impl MqttSource {
    /// A source that does nothing until it is run. With `mqtts`, the process must have no other expectations of rustls'
    /// default provider: `ring` is named explicitly here.
    pub fn new(settings: Settings) -> Self {
        Self { settings, state: None }
    }

    /// The same, with a journal: what `state` has is given to the rules once.
    #[must_use]
    pub fn journaled(self, state: Arc<dyn StateStore>) -> Self {
        Self { state: Some(state), ..self }
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
        let connections = settings.connections.max(1);
        let standing = Arc::new(Standing::new(inlet.health().clone(), usize::from(connections)));
        let mut tasks = JoinSet::new();
        for index in 0..connections {
            let place = Place {
                index: usize::from(index),
                client_id: options::client_id(&settings.endpoint, index, connections),
            };
            let connection = Connection::new(
                codec,
                tls.clone(),
                settings.clone(),
                place,
                standing.clone(),
                inlet.clone(),
                phase.clone(),
            );
            tasks.spawn(connection.run(self.state.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| {
                SourceError(format!("source {}: a connection's task ended: {error}", inlet.source()))
            })?;
        }
        Ok(())
    }
}

fn codec(version: MqttVersion) -> &'static dyn Codec {
    match version {
        MqttVersion::V3 => &V3,
        MqttVersion::V5 => &V5,
    }
}
