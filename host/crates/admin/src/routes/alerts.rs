//! Alerts: those that stand, and those that were published last.

use tidegate_model::TopicFilter;
use tidegate_pipeline::{PastFilter, Standing};

use super::{json, listed, tail};
use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::shapes::{AlertQuery, PastAlerts, PastQuery, SeenAlert, limit};

/// So many are looked at at once; more take a thread beside that which serves all.
const LOOKED_AT_AT_ONCE: usize = 500;

pub(crate) async fn standing(call: Call) -> Answer {
    let AlertQuery { rule, topic, limit: asked } = call.query()?;
    let (topic, most) = (filter(topic)?, limit(asked, 1000, 10_000)? as usize);
    let wanted = move |alert: &Standing| {
        rule.as_ref().is_none_or(|rule| *rule == alert.rule)
            && topic.as_ref().is_none_or(|topic| topic.matches(&alert.topic))
    };
    if call.app.view.pipeline.alerts_standing() <= LOOKED_AT_AT_ONCE {
        return Ok(json(call.app.view.pipeline.standing_alerts(most, wanted)));
    }
    call.app.look_up(move |app| json(app.view.pipeline.standing_alerts(most, wanted))).await
}

pub(crate) async fn past(call: Call) -> Answer {
    let PastQuery { rule, topic, since_us, until_us, before, limit: asked } = call.query()?;
    let (topic, most) = (filter(topic)?, limit(asked, 100, 1000)? as usize);
    let filter = PastFilter { rule, topic, since_us, until_us, before };
    let past = call.app.view.pipeline.past_alerts(&filter, most);
    let next = past.last().filter(|_| past.len() == most).map(|last| last.number);
    let alerts: Vec<SeenAlert> = past.iter().map(|past| SeenAlert::from(&past.alert)).collect();
    listed(&call.app, alerts.len(), PastAlerts { alerts, next }).await
}

fn filter(text: Option<String>) -> Result<Option<TopicFilter>, Problem> {
    text.map(|text| text.parse()).transpose().map_err(tail::wrong_topic)
}
