//! Whether this host is there, for all who look: retained on the `status_topic`.
//!
//! `online` is the first word of every connection, `offline` the last; when the connection breaks without one, the broker says it in
//! our place (the last will). So a host whose process, machine or network is gone is seen to be, within one and a half
//! keep-alives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_config::{MqttSink, Qos};
use tidegate_model::SinkError;
use tokio::sync::watch;

use super::link::{Link, Outgoing};
use super::{Outlet, options};

/// What stands on the topic while we are connected.
pub(super) const ONLINE: &str = "online";
/// What stands there else.
pub(super) const OFFLINE: &str = "offline";

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The message that says `word`, if there is a topic for it.
pub(super) fn status(settings: &MqttSink, word: &'static str) -> Option<Outgoing> {
    let topic = settings.status_topic.clone()?;
    Some(Outgoing { topic, payload: Bytes::from_static(word.as_bytes()), qos: Qos::AtLeastOnce, retain: true })
}

/// Connects, and connects again whenever the connection is gone, until `closing` is set or its owner is.
pub(super) async fn keep(outlet: Arc<Outlet>, mut closing: watch::Receiver<bool>) {
    tokio::select! {
        _closing_or_gone = closing.wait_for(|closing| *closing) => {}
        never = keep_on(&outlet) => never,
    }
}

async fn keep_on(outlet: &Outlet) -> ! {
    let mut bound = FIRST_RETRY;
    let mut news = true;
    loop {
        // Opens a connection, which begins with our word, if none stands.
        let gone = match outlet.connected().await {
            Ok(gone) => gone,
            Err(error) => {
                if std::mem::take(&mut news) {
                    let address = options::address(&outlet.settings.endpoint);
                    tracing::warn!("the status of this host cannot be told to {address}: {error}; trying again");
                }
                // Full jitter, so that a fleet does not come back to its broker all at once.
                tokio::time::sleep(bound.mul_f64(fastrand::f64())).await;
                bound = (bound * 2).min(LAST_RETRY);
                continue;
            }
        };
        (bound, news) = (FIRST_RETRY, true);
        if let Some(gone) = gone {
            gone.await;
        }
        // A broker that takes us in and throws us out again is not to be tried in a tight circle.
        tokio::time::sleep(FIRST_RETRY.mul_f64(fastrand::f64())).await;
    }
}

impl Outlet {
    /// Sees to it that a connection stands; gives what resolves when it is gone, or nothing if it is gone already.
    async fn connected(&self) -> Result<Option<impl Future<Output = ()> + Send + use<>>, SinkError> {
        if !self.link.lock().await.as_ref().is_some_and(Link::stands) {
            self.publish(Vec::new()).await?;
        }
        Ok(self.link.lock().await.as_ref().map(Link::gone))
    }
}
