//! How a pipeline is, as others read it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_model::{Lag, MessageTotals, PointTotals, State, StateTotals, Unread};

use super::{Pipeline, RunningSink, RunningSource};
use crate::flush::SinkTotals;
use crate::lane::{LaneKind, LaneTotals};

/// How the pipeline is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PipelineStatus {
    /// By the name of the source.
    pub sources: Vec<SourceStatus>,
    /// By the name of the sink; then those of late points that had any, `<sink>.late`; the dead letters last.
    pub sinks: Vec<SinkTotals>,
    /// Lane by lane; the node's last, once it has had a rule.
    pub lanes: Vec<LaneTotals>,
    /// The points' account.
    pub points: PointTotals,
    /// Half of all messages were settled within: milliseconds from receipt.
    pub p50_ms: Option<f64>,
    /// 99 of 100 messages were settled within: milliseconds from receipt.
    pub p99_ms: Option<f64>,
    /// Series known.
    pub series: usize,
    /// Series that may be known (`max_series`).
    pub max_series: usize,
    /// Alerts that stand.
    pub alerts_standing: usize,
    /// What keeps the state of rules over restarts, if something does.
    pub state: Option<StateTotals>,
}

/// How a source is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub up: bool,
    /// Why not, if it is not.
    pub down: Option<String>,
    /// How often it lost its connection or failed to get one.
    pub failures: u64,
    /// How often its connection was given up since nothing had come for too long.
    pub stale: u64,
    /// Records that came by another key or Kafka partition than their topic belongs to (`lane_by`), and went where that goes.
    pub strays: u64,
    /// How far it is behind, by partition: of Kafka, and some seconds old.
    pub lag: Vec<Lag>,
    /// Partitions that it has and does not read until somebody acts, with the reason: it reads the others.
    pub unread: Vec<Unread>,
    /// Its account.
    pub messages: MessageTotals,
}

impl Pipeline {
    /// How all of it is.
    pub fn status(&self) -> PipelineStatus {
        let ms = |q: f64| self.around.latency.quantile_us(q).map(|us| us / 1_000.0);
        PipelineStatus {
            sources: self.source_status(),
            sinks: self.sink_totals(),
            lanes: self.lane_totals(),
            points: self.point_totals(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            series: self.around.books.all_series().len(),
            max_series: self.around.books.all_series().limit(),
            alerts_standing: self.around.alert_book.len(),
            state: self.around.state.as_ref().map(|store| store.totals()),
        }
    }

    /// How the sources are, by name.
    pub fn source_status(&self) -> Vec<SourceStatus> {
        let source = |source: &RunningSource| {
            let state = source.health.state();
            SourceStatus {
                name: source.name.to_string(),
                up: state == State::Up,
                down: match state {
                    State::Down(reason) => Some(reason),
                    State::Up | State::Starting => None,
                },
                failures: source.health.failures(),
                stale: source.health.stale(),
                strays: source.health.strays(),
                lag: source.health.lag(),
                unread: source.health.unread(),
                messages: source.ledger.totals(),
            }
        };
        self.sources().iter().map(source).collect()
    }

    /// How the sinks are, in the order of [`PipelineStatus::sinks`].
    pub fn sink_totals(&self) -> Vec<SinkTotals> {
        self.sinks.iter().filter_map(RunningSink::told).collect()
    }

    /// The sources' accounts, by name.
    pub fn message_totals(&self) -> BTreeMap<String, MessageTotals> {
        self.sources().iter().map(|source| (source.name.to_string(), source.ledger.totals())).collect()
    }

    /// The points' account.
    pub fn point_totals(&self) -> PointTotals {
        self.around.outlets.points().totals()
    }

    /// How the lanes are.
    pub fn lane_totals(&self) -> Vec<LaneTotals> {
        let all = self.lanes.iter().map(|(status, _)| status.totals());
        all.filter(|lane| lane.kind != LaneKind::Node || lane.rules + lane.batches > 0).collect()
    }
}
