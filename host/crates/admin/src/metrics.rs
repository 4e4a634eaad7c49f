//! `/metrics`, in the Prometheus text format.
//!
//! Names follow `tidegate_<what>_<unit>_total`, and all stand in one place, the tables in `tables.rs`. They are made from the same
//! [`Status`] that the API serves, when they are asked for: the data path pays nothing for them, and the two never disagree. Labels are
//! names of sources, sinks, lanes and rules; never a topic or a device.

mod family;
mod tables;

use std::fmt;
use std::time::{Instant, SystemTime};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tidegate_pipeline::{LaneKind, LaneTotals};

use crate::problem::Problem;
use crate::recent::Page;
use crate::route::{Answer, Call};
use crate::status::{Status, View};
use family::{Kind, head, row};

/// The content type of the page.
pub(crate) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`
pub(crate) async fn metrics(call: Call) -> Answer {
    let page = call.app.pages.metrics.page(Instant::now(), || page(&call.app.view))?;
    Ok(page.into_response())
}

fn page(view: &View) -> Result<Page, Problem> {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(Scrape { status: view.numbers(), latency: view.pipeline.latency() }));
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => Ok(Page { status: StatusCode::OK, kind: TYPE, body: body.into() }),
        Err(fmt::Error) => Err(Problem::internal("the metrics could not be written")),
    }
}

#[derive(Debug)]
struct Scrape {
    status: Status,
    latency: (Vec<(f64, u64)>, u64),
}

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let (status, pipeline) = (&self.status, &self.status.pipeline);
        let to = &mut to;
        tables::HOST.write(to, [("", status)])?;
        tables::SOURCES.write(to, pipeline.sources.iter().map(|source| (&*source.name, source)))?;
        self.lag(to)?;
        tables::SINKS.write(to, pipeline.sinks.iter().map(|sink| (&*sink.name, sink)))?;
        let spools = pipeline.sinks.iter().filter_map(|sink| Some((&*sink.name, sink.spool.as_ref()?)));
        tables::SPOOLS.write(to, spools)?;
        tables::RULES.write(to, status.rules.iter().map(|rule| (&*rule.name, rule)))?;
        self.signatures(to)?;
        tables::SHADOWS.write(to, status.shadows.iter().map(|(rule, shadow)| (&**rule, shadow)))?;
        let lanes: Vec<(String, &LaneTotals)> = pipeline.lanes.iter().enumerate().map(named).collect();
        tables::LANES.write(to, lanes.iter().map(|(name, lane)| (&**name, *lane)))?;
        if let Some(state) = &pipeline.state {
            tables::STATE.write(to, [("", state)])?;
        }
        self.settling(to)
    }
}

impl Scrape {
    /// The one family with two labels of its own beside the name.
    fn lag(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut to =
            head(to, Kind::Gauge, "source_lag_messages", "Messages in a Kafka partition that are not settled")?;
        for source in &self.status.pipeline.sources {
            for lag in &source.lag {
                let partition = lag.partition.to_string();
                let labels = [("source", &*source.name), ("topic", &*lag.topic), ("partition", &*partition)];
                row(&mut to, Kind::Gauge, &labels, lag.messages as f64)?;
            }
        }
        Ok(())
    }

    /// Of the rules whose module somebody must vouch for.
    fn signatures(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help =
            "Until what vouches for the module expires, which is not loaded again from then on; below 0 since it has";
        let mut to = head(to, Kind::Gauge, "rule_signature_expires_seconds", help)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        for rule in &self.status.rules {
            if let Some(expires_ms) = rule.signature_expires_ms {
                row(&mut to, Kind::Gauge, &[("rule", &*rule.name)], expires_ms as f64 / 1e3 - now)?;
            }
        }
        Ok(())
    }

    /// One bucket an octave: enough for a graph, and few enough for a fleet.
    fn settling(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (fine, sum_us) = &self.latency;
        let octave = |chunk: &[(f64, u64)]| {
            let upper_us = chunk.last().map_or(f64::MAX, |(us, _)| *us);
            (upper_us / 1e6, chunk.iter().map(|(_, n)| n).sum::<u64>())
        };
        let buckets: Vec<(f64, u64)> = fine.chunks(4).map(octave).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        let help = "Time from a message's receipt to its settlement";
        to.encode_descriptor("settling_seconds", help, None, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
            *sum_us as f64 / 1e6,
            count,
            &buckets,
            None,
        )
    }
}

/// A lane of partitions is named by its place.
fn named((at, lane): (usize, &LaneTotals)) -> (String, &LaneTotals) {
    match lane.kind {
        LaneKind::Partitions => (at.to_string(), lane),
        LaneKind::Node => ("node".to_owned(), lane),
    }
}
