//! One message through every rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SeenAlert, SeenMessage, SeenPoint, TrialCommand, TrialOutput};

/// Which message, of those that pass.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceNext {
    /// An MQTT topic filter. Default: all.
    pub topic: Option<String>,
    /// How long it is waited for, in seconds. Default: 10.
    #[schemars(range(min = 1, max = 60))]
    pub within_s: Option<u32>,
}

/// The way of one message.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TraceOutput {
    /// As it went in. Of one that passed, `ended` says how it really ended in its lane.
    pub message: SeenMessage,
    /// How it ends in this trace: `decoded`, `filtered`, `dead_lettered`, or `stored` where a sink takes it as it came and no rule makes points
    /// of it.
    pub ended: String,
    /// Why, if it does not become points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rules that got something of it, in the order they run in; each begins without state.
    pub steps: Vec<TraceStep>,
    /// Points that go to the sinks; the first 200, and of those the first 4 MiB.
    pub points: Vec<SeenPoint>,
    /// How many do in all.
    pub points_out: u64,
}

/// One rule.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TraceStep {
    pub rule: String,
    /// `decoder` or `processor`.
    pub kind: String,
    pub generation: u64,
    /// The points it is given, if it is no decoder; the first 200.
    pub given: Vec<SeenPoint>,
    /// How many rows it is given.
    pub rows_in: u64,
    /// How many come out of it and go on.
    pub rows_out: u64,
    /// All it does, of each sort the first 200. Where the steps before have 4 MiB in all, how many there are is all that is shown.
    pub did: TrialOutput,
}

impl TraceStep {
    /// About how many bytes of names, texts and payloads are shown.
    pub fn bytes(&self) -> usize {
        let TrialOutput { points, alerts, rejected, commands, .. } = &self.did;
        let points = self.given.iter().chain(points).map(SeenPoint::bytes);
        let alerts = alerts.iter().map(SeenAlert::bytes);
        let rejected = rejected.iter().map(|reject| reject.reason.len());
        let commands = commands.iter().map(TrialCommand::bytes);
        points.chain(alerts).chain(rejected).chain(commands).sum()
    }

    /// The same without rows: only how many there are, how long it took, and how it failed.
    pub fn in_short(self) -> Self {
        let TrialOutput { fault, nanos, .. } = self.did;
        Self { given: Vec::new(), did: TrialOutput { fault, nanos, ..TrialOutput::default() }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(text: &str) -> SeenPoint {
        let (text, topic) = (Some(text.to_owned()), "dev/a".to_owned());
        SeenPoint { topic, text, labels: [("l".to_owned(), "m".to_owned())].into(), ..SeenPoint::default() }
    }

    /// Guarantees: the rows of a step count with their names and texts; without them it still says how many there are, and how it failed.
    #[test]
    fn in_short() {
        let did = TrialOutput {
            points: vec![point("12")],
            fault: Some("trap".to_owned()),
            nanos: 7,
            ..TrialOutput::default()
        };
        let (rule, kind) = ("hot".to_owned(), "processor".to_owned());
        let step = TraceStep { rule, kind, generation: 1, given: vec![point("123")], rows_in: 9, rows_out: 8, did };
        assert_eq!(step.bytes(), (5 + 3 + 2) + (5 + 2 + 2));
        let short = step.in_short();
        assert_eq!((short.bytes(), short.rows_in, short.rows_out), (0, 9, 8));
        assert_eq!((short.did.fault.as_deref(), short.did.nanos), (Some("trap"), 7));
    }
}
