//! What a session is subscribed to: asked for, taken back, and noted on disk.

use std::collections::BTreeSet;

use tidegate_config::{MqttSource as Settings, Qos};
use tidegate_model::Inlet;

use super::Connection;
use crate::mqtt::error::LinkError;
use crate::mqtt::link::{Link, Wishes};
use crate::mqtt::options;
use crate::mqtt::packet::{Answer, SessionState, out_of_place};
use crate::mqtt::session::{Role, Session, Unanswered};

/// The most filters that are taken back by one connection, and the most bytes of them; the rest is taken back by the next one.
const MOST_TAKEN_BACK: usize = 1_000;
const MOST_BYTES_TAKEN_BACK: usize = 256 << 10;
/// How many of them a log line names.
const MOST_NAMED: usize = 10;

impl Connection {
    /// What the broker is to be asked for, and what the session is subscribed to when it has answered. On disk before the broker hears of it.
    pub(super) async fn wishes(&self) -> (Wishes, BTreeSet<String>) {
        let filters: Vec<(String, Qos)> = match self.place.role {
            Role::Serving => options::filters(&self.settings).collect(),
            Role::Retiring => Vec::new(),
        };
        let mut stands: BTreeSet<String> = filters.iter().map(|(filter, _)| filter.clone()).collect();
        let Some(subscribed) = self.subscribed.clone() else {
            return (Wishes { filters, old: Vec::new() }, stands);
        };
        let (client_id, names, guess) = (self.place.client_id.clone(), stands.clone(), self.without_share());
        let begins = tokio::task::spawn_blocking(move || subscribed.begins(&client_id, &names, || guess)).await;
        let mut old = begins.unwrap_or_default();
        let bytes = old.iter().scan(0, |bytes, filter| {
            *bytes += filter.len();
            Some(*bytes)
        });
        let most = bytes.take(MOST_TAKEN_BACK).take_while(|bytes| *bytes <= MOST_BYTES_TAKEN_BACK).count();
        stands.extend(old.drain(most..));
        (Wishes { filters, old }, stands)
    }

    /// With `share`, the filters as they would be subscribed to without it: of a session of which nothing is known, at least those are taken back, or
    /// each message would come twice.
    fn without_share(&self) -> BTreeSet<String> {
        let shared = self.settings.share.is_some() && self.place.role == Role::Serving;
        let plain = self.settings.subscriptions.iter().map(|subscription| subscription.filter.to_string());
        if shared { plain.collect() } else { BTreeSet::new() }
    }

    /// What the broker has to answer on a connection that was just made.
    pub(super) fn unanswered(&self, link: &Link, mut stands: BTreeSet<String>) -> Unanswered {
        if link.session() == SessionState::New {
            stands = options::filters(&self.settings).map(|(filter, _)| filter).collect();
        }
        let taking_back = link.taken_back().iter().cloned().collect();
        Unanswered { subscribing: self.place.role == Role::Serving, stands, taking_back, gone: Vec::new() }
    }

    /// Looks at the broker's answers. One subscription refused leaves the others at work; all refused is no connection.
    pub(super) fn subscribed(&self, session: &mut Session, answers: &[Answer]) -> Result<(), LinkError> {
        let asked = if session.unanswered.subscribing { self.settings.subscriptions.len() } else { 0 };
        if answers.len() != asked {
            let what = format!("the broker gave {} answers to {asked} subscriptions", answers.len());
            return Err(LinkError::protocol(what));
        }
        let mut refused = Vec::new();
        for (subscription, answer) in self.settings.subscriptions.iter().zip(answers) {
            match answer {
                Answer::Refused(why) => refused.push(format!("`{}` ({why})", subscription.filter)),
                Answer::Granted(Qos::AtMostOnce) if subscription.qos == Qos::AtLeastOnce => tracing::warn!(
                    source = %self.inlet.source(), filter = %subscription.filter,
                    "the broker grants QoS 0 only, not 1: it keeps nothing for us while we are away"
                ),
                Answer::Granted(_) => {}
            }
        }
        let error = LinkError::lost(
            format!("the broker refused to subscribe us to {}", refused.join(", ")),
            "check the filter and the broker's access rules",
        );
        if refused.len() == answers.len() {
            return Err(error);
        }
        session.unanswered.subscribing = false;
        self.answered(&mut session.unanswered);
        if !refused.is_empty() {
            self.report(&error);
        } else if !self.silent {
            // After a silence, only a message shows that all is well again.
            self.standing.up(self.place.index);
        }
        Ok(())
    }

    /// A filter of earlier settings was taken back, or not.
    pub(super) fn taken_back(
        &self,
        session: &mut Session,
        id: u16,
        refused: Option<String>,
    ) -> Result<(), LinkError> {
        let unanswered = &mut session.unanswered;
        let filter = unanswered.taking_back.remove(&id).ok_or_else(out_of_place)?;
        match refused {
            None => unanswered.gone.push(filter),
            Some(why) => {
                tracing::warn!(
                    source = %self.inlet.source(), client_id = self.place.client_id, filter,
                    "the broker does not let us take back a subscription of earlier settings: {why}; what it sends by that is taken like all else. Change the broker's access rules, or set another client_id"
                );
                unanswered.stands.insert(filter);
            }
        }
        self.answered(unanswered);
        Ok(())
    }

    /// Notes what stands, once the broker has answered everything.
    fn answered(&self, unanswered: &mut Unanswered) {
        if !unanswered.is_empty() {
            return;
        }
        let gone = std::mem::take(&mut unanswered.gone);
        if !gone.is_empty() {
            let named = gone[..gone.len().min(MOST_NAMED)].join(", ");
            tracing::info!(
                source = %self.inlet.source(), client_id = self.place.client_id, filters = gone.len(), named,
                "subscriptions of earlier settings were taken back; what the broker still holds by them comes once more"
            );
        }
        if let Some(subscribed) = self.subscribed.clone() {
            let (client_id, stands) = (self.place.client_id.clone(), unanswered.stands.clone());
            // Nobody waits for it: until it is written, the file has more than stands, which does no harm.
            let _detached = tokio::task::spawn_blocking(move || subscribed.stands(&client_id, stands));
        }
    }

    /// Forgets a session of earlier settings that is over.
    pub(super) async fn retired(&self) {
        tracing::info!(
            source = %self.inlet.source(), client_id = self.place.client_id,
            "a session of earlier settings, by another number of `connections`, is empty and over"
        );
        if let Some(subscribed) = self.subscribed.clone() {
            let client_id = self.place.client_id.clone();
            // Where it is not forgotten, the next start does this once more.
            let _forgotten = tokio::task::spawn_blocking(move || subscribed.ended(&client_id)).await;
        }
    }
}

/// Says, once, that a topic comes of no subscription that is configured. Asked for each topic that is new to a connection.
pub(super) fn tell_of_stranger(settings: &Settings, inlet: &Inlet, told: &mut bool, topic: &str) {
    if *told || settings.subscriptions.iter().any(|subscription| subscription.filter.matches(topic)) {
        return;
    }
    *told = true;
    tracing::warn!(
        source = %inlet.source(), topic,
        "a message came that none of `topics` asks for; it is taken like all else. The broker held it by a subscription of earlier settings: if such messages go on, set another client_id"
    );
}
