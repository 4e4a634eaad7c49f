//! The host from its lanes' queues to the database's COMMIT and back to the acknowledgement: all but the clients of brokers, which have benches of
//! their own.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tidegate_config::TimescaleSink;
use tidegate_engine::{Engine, Rule};

use super::Ours;
use crate::line::{Line, Load, Route};
use crate::measure::seconds_since;
use crate::rules::{self, Setup};
use crate::workload;

/// Lanes with the decoder, the sink, and readings encoded beforehand.
pub(super) struct Host {
    line: Line,
    load: Load,
    routes: Vec<Route>,
    /// Messages sent until now.
    sent: usize,
    decoder: Arc<Rule>,
    /// What the rule's calls are stopped by lives in it.
    _engine: Engine,
}

impl Host {
    pub(super) fn start(settings: TimescaleSink, points: usize) -> Result<Self> {
        let line = Line::to_database(settings)?;
        let engine = Engine::new()?;
        let setup = Setup::json_reading();
        let decoder = rules::rule(&setup, &rules::module(&engine, setup.module)?)?;
        line.install(&decoder)?;
        let routes = line.routes((0..workload::TOPICS).map(workload::topic))?;
        let mut load = Load::default();
        for message in 0..points {
            load.push(workload::topic_of(message), |to| workload::reading(message, to));
        }
        Ok(Self { line, load, routes, sent: 0, decoder, _engine: engine })
    }
}

impl Ours for Host {
    fn store(&mut self) -> Result<f64> {
        let began = Instant::now();
        self.line.send(&self.load, &self.routes)?;
        self.sent += self.load.len();
        self.line.decoded(self.sent)?;
        Ok(seconds_since(began))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.line.close()?;
        rules::sound(&[self.decoder])
    }
}
