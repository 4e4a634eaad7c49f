//! A sink that is given some parts of what comes, whatever it could take.

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_model::{Delivery, RawMessages, Sink, SinkError, Wants, Written};

/// Hands on only what is wanted: a replay of old messages must not publish old alerts, nor send commands.
pub struct Only {
    sink: Box<dyn Sink>,
    wants: Wants,
}

impl Only {
    /// Those parts that both want. Messages as they came are never handed on.
    pub fn new(sink: Box<dyn Sink>, wants: Wants) -> Self {
        let takes = sink.wants();
        let wants = Wants {
            messages: RawMessages::None,
            points: wants.points && takes.points,
            alerts: wants.alerts && takes.alerts,
            commands: wants.commands && takes.commands,
            dead_letters: wants.dead_letters && takes.dead_letters,
            positions: wants.positions && takes.positions,
        };
        Self { sink, wants }
    }

    /// The delivery without what is not wanted; itself, where that is nothing. Most have no alerts and nothing is copied.
    fn trimmed(&self, delivery: &Arc<Delivery>) -> Arc<Delivery> {
        let Wants { points, alerts, commands, dead_letters, positions, .. } = self.wants;
        let whole = (points || delivery.points.is_empty())
            && (alerts || delivery.alerts.is_empty())
            && (commands || delivery.commands.is_empty())
            && (dead_letters || delivery.dead_letters.is_empty())
            && (positions || delivery.positions.is_empty());
        if whole {
            return delivery.clone();
        }
        Arc::new(Delivery {
            points: if points { delivery.points.clone() } else { Default::default() },
            described: delivery.described.clone(),
            from_row: if points { delivery.from_row.clone() } else { Vec::new() },
            origin: delivery.origin.clone(),
            origin_is: delivery.origin_is.clone(),
            sources: delivery.sources.clone(),
            positions: if positions { delivery.positions.clone() } else { Default::default() },
            alerts: if alerts { delivery.alerts.clone() } else { Vec::new() },
            commands: if commands { delivery.commands.clone() } else { Vec::new() },
            dead_letters: if dead_letters { delivery.dead_letters.clone() } else { Vec::new() },
            refused: delivery.refused.clone(),
        })
    }
}

#[async_trait]
impl Sink for Only {
    fn wants(&self) -> Wants {
        self.wants.clone()
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        let trimmed: Vec<_> = deliveries.iter().map(|delivery| self.trimmed(delivery)).collect();
        self.sink.write(&trimmed).await
    }

    async fn close(&mut self) {
        self.sink.close().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_model::{Alert, Points, SeriesId, Severity, Transition};

    use super::*;
    use crate::Discard;

    /// Guarantees: a sink that could take alerts is given none where only points are wanted, and all of the points.
    #[tokio::test]
    async fn nothing_else() {
        let discard = Discard::new();
        let discarded = discard.discarded();
        let mut sink = Only::new(Box::new(discard), Wants { points: true, ..Wants::default() });
        assert_eq!(sink.wants(), Wants { points: true, ..Wants::default() });
        let mut points = Points::default();
        points.push(SeriesId(0), 1, 2.0, 192);
        let alert = Alert {
            rule: "r".into(),
            topic: "t".into(),
            key: "".into(),
            time_us: 1,
            transition: Transition::Raised,
            severity: Severity::Info,
            value: 1.0,
            message: String::new(),
        };
        let delivery = Delivery { points, from_row: vec![0], alerts: vec![alert], ..Delivery::default() };
        let written = sink.write(&[Arc::new(delivery)]).await.unwrap();
        assert_eq!((written.points, written.alerts), (1, 0));
        assert_eq!((discarded.points(), discarded.alerts()), (1, 0));
    }
}
