//! `/metrics`, in the Prometheus text format: every name in one place.
//!
//! Names follow `tidegate_<what>_<unit>_total`. All are made from the same [`Status`] that the API serves, when they are
//! asked for: the data path pays nothing for them, and the two never disagree. Labels are names of sources, sinks, lanes
//! and rules; never a topic or a device.

use std::fmt;

use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tidegate_engine::{RuleState, RuleStatus, ShadowState, ShadowTotals};
use tidegate_model::SpoolTotals;
use tidegate_pipeline::{LaneKind, LaneTotals, SinkTotals};

use crate::problem::Problem;
use crate::route::{Answer, Call};
use crate::status::Status;

/// The content type of the page.
pub(crate) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`
pub(crate) async fn metrics(call: Call) -> Answer {
    let view = &call.house.view;
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(Scrape { status: view.numbers(), latency: view.pipeline.latency() }));
    let mut page = String::new();
    match text::encode(&mut page, &registry) {
        Ok(()) => Ok(([(header::CONTENT_TYPE, TYPE)], page).into_response()),
        Err(fmt::Error) => Err(Problem::internal("the metrics could not be written")),
    }
}

#[derive(Debug)]
struct Scrape {
    status: Status,
    latency: (Vec<(f64, u64)>, u64),
}

/// Label and value of each row of a family.
type Rows<'a> = Vec<(Vec<(&'static str, &'a str)>, f64)>;

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let status = &self.status;
        self.messages(&mut to)?;
        let points = &status.pipeline.points;
        let lines = [
            ("produced", points.produced),
            ("generated", points.generated),
            ("stored", points.stored),
            ("filtered", points.filtered),
            ("dead_lettered", points.dead_lettered),
            ("held", points.held),
            ("returned", points.returned),
        ];
        let rows = lines.iter().map(|(line, n)| (vec![("line", *line)], *n as f64)).collect();
        counter(&mut to, "points", "Points, by their line in the ledger", rows)?;
        gauge(&mut to, "points_in_flight", "Points on the way to their sinks", single(points.in_flight as f64))?;
        self.sinks(&mut to)?;
        self.dead_letters(&mut to)?;
        self.rules(&mut to)?;
        self.shadows(&mut to)?;
        self.module_cache(&mut to)?;
        self.lanes(&mut to)?;
        gauge(&mut to, "series", "Series known", single(status.pipeline.series as f64))?;
        gauge(&mut to, "series_limit", "Series that may be known", single(status.pipeline.max_series as f64))?;
        gauge(&mut to, "alerts_standing", "Alerts that stand", single(status.pipeline.alerts_standing as f64))?;
        if let Some(state) = &status.pipeline.state {
            let up = f64::from(u8::from(state.down.is_none()));
            gauge(&mut to, "state_up", "Whether the state of rules can be kept on disk", single(up))?;
            let (written, failures) = (single(state.written as f64), single(state.failures as f64));
            counter(&mut to, "state_cells_written", "Cells of the rules' state written to disk", written)?;
            counter(&mut to, "state_write_failures", "Writes of the rules' state that failed", failures)?;
            let damaged = single(state.damaged as f64);
            counter(&mut to, "state_damaged", "Cells and files of the rules' state that were damaged", damaged)?;
            let unnamed = single(state.unnamed as f64);
            counter(&mut to, "state_unnamed", "Cells of series beyond those that may be known", unnamed)?;
        }
        gauge(&mut to, "uptime_seconds", "Seconds since the start", single(status.uptime_s))?;
        let version = vec![(vec![("version", status.version)], 1.0)];
        gauge(&mut to, "build", "Always 1; the label tells the version", version)?;
        self.settling(&mut to)
    }
}

impl Scrape {
    fn messages(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sources = &self.status.pipeline.sources;
        let mut ends: Rows<'_> = Vec::new();
        for source in sources {
            let m = &source.messages;
            let lines = [
                ("decoded", m.decoded),
                ("stored", m.stored),
                ("filtered", m.filtered),
                ("dead_lettered", m.dead_lettered),
                ("dropped", m.dropped),
                ("returned", m.returned),
            ];
            ends.extend(lines.map(|(line, n)| (vec![("source", &*source.name), ("line", line)], n as f64)));
        }
        let by_source = |value: fn(&tidegate_pipeline::SourceStatus) -> f64| -> Rows<'_> {
            sources.iter().map(|s| (vec![("source", &*s.name)], value(s))).collect()
        };
        counter(
            to,
            "messages_received",
            "Messages taken in, those returned later included",
            by_source(|s| (s.messages.received + s.messages.returned) as f64),
        )?;
        counter(to, "messages_settled", "Messages by how they ended", ends)?;
        counter(
            to,
            "messages_repeated",
            "Messages that came again and that the state had (`journal`): acknowledged, and given to no rule",
            by_source(|s| s.messages.repeated as f64),
        )?;
        gauge(
            to,
            "messages_in_flight",
            "Messages taken in and not settled",
            by_source(|s| s.messages.in_flight as f64),
        )?;
        gauge(to, "source_up", "Whether the source is connected", by_source(|s| f64::from(u8::from(s.up))))?;
        counter(to, "source_failures", "Connections lost or not made", by_source(|s| s.failures as f64))?;
        counter(to, "source_stale", "Connections given up since nothing came", by_source(|s| s.stale as f64))?;
        let lag = sources.iter().flat_map(|source| source.lag.iter().map(move |lag| (source, lag)));
        let lag: Vec<_> = lag.map(|(source, lag)| (source, lag, lag.partition.to_string())).collect();
        let lag = lag.iter().map(|(source, lag, partition)| {
            (
                vec![("source", &*source.name), ("topic", &*lag.topic), ("partition", &**partition)],
                lag.messages as f64,
            )
        });
        gauge(to, "source_lag_messages", "Messages in a Kafka partition that are not settled", lag.collect())?;
        gauge(
            to,
            "source_partitions_unread",
            "Kafka partitions that are not read until somebody acts",
            by_source(|s| s.unread.len() as f64),
        )
    }

    fn sinks(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let by_sink = |value: fn(&SinkTotals) -> f64| -> Rows<'_> {
            self.status.pipeline.sinks.iter().map(|sink| (vec![("sink", &*sink.name)], value(sink))).collect()
        };
        counter(to, "sink_messages", "Messages made durable as they came", by_sink(|s| s.messages as f64))?;
        counter(to, "sink_points", "Points made durable", by_sink(|s| s.points as f64))?;
        counter(to, "sink_alerts", "Alerts made durable", by_sink(|s| s.alerts as f64))?;
        counter(to, "sink_dead_letters", "Dead letters made durable", by_sink(|s| s.dead_letters as f64))?;
        counter(
            to,
            "sink_rejected",
            "Points and messages the target would not take",
            by_sink(|s| s.rejected as f64),
        )?;
        counter(
            to,
            "sink_repeats",
            "Points that the target had already and left out",
            by_sink(|s| s.repeats as f64),
        )?;
        counter(
            to,
            "sink_differing",
            "Repeats with another value than the one stored",
            by_sink(|s| s.differing as f64),
        )?;
        counter(
            to,
            "sink_late",
            "Points for chunks that may be compressed, written behind all others",
            by_sink(|s| s.late as f64),
        )?;
        counter(to, "sink_writes", "Writes that succeeded", by_sink(|s| s.writes as f64))?;
        counter(to, "sink_retries", "Writes that failed and were tried again", by_sink(|s| s.retries as f64))?;
        gauge(to, "sink_in_flight", "Deliveries not confirmed yet", by_sink(|s| s.in_flight as f64))?;
        gauge(to, "sink_up", "Whether the last write worked", by_sink(|s| f64::from(u8::from(s.down.is_none()))))?;
        gauge(
            to,
            "sink_holding_back",
            "Whether sources wait for the sink: it is down, and no spool takes what comes",
            by_sink(|s| f64::from(u8::from(s.holds_back.is_some()))),
        )?;
        self.spools(to)
    }

    fn spools(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let by_sink = |value: fn(&SpoolTotals) -> f64| -> Rows<'_> {
            let sinks = self.status.pipeline.sinks.iter();
            sinks.filter_map(|sink| Some((vec![("sink", &*sink.name)], value(sink.spool.as_ref()?)))).collect()
        };
        gauge(to, "spool_records", "Records that stand in the spool", by_sink(|s| s.records as f64))?;
        gauge(to, "spool_rows", "Rows that stand in the spool", by_sink(|s| s.rows as f64))?;
        gauge(to, "spool_bytes", "Bytes that stand in the spool", by_sink(|s| s.bytes as f64))?;
        gauge(to, "spool_limit_bytes", "Bytes that may stand in the spool", by_sink(|s| s.max_bytes as f64))?;
        gauge(
            to,
            "spool_usable",
            "Whether the spool's file can be used",
            by_sink(|s| f64::from(u8::from(s.unusable.is_none()))),
        )?;
        counter(to, "spool_appended_rows", "Rows appended", by_sink(|s| s.appended as f64))?;
        counter(to, "spool_drained_rows", "Rows that the sink took from the spool", by_sink(|s| s.drained as f64))?;
        counter(to, "spool_dropped_rows", "Oldest rows dropped, as configured", by_sink(|s| s.dropped as f64))?;
        counter(to, "spool_damaged_records", "Records found damaged", by_sink(|s| s.damaged_records as f64))?;
        counter(to, "spool_damaged_files", "Damaged files moved aside", by_sink(|s| s.damaged_files as f64))
    }

    fn dead_letters(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let letters = &self.status.dead_letters;
        gauge(to, "dead_letters", "Dead letters that are kept", single(letters.kept as f64))?;
        gauge(to, "dead_letters_bytes", "What they take up on disk", single(letters.bytes as f64))?;
        let dropped = [("age", letters.dropped_by_age), ("size", letters.dropped_by_size)];
        let rows = dropped.iter().map(|(why, n)| (vec![("why", *why)], *n as f64)).collect();
        counter(to, "dead_letters_dropped", "Dead letters dropped by age or for room", rows)?;
        counter(to, "dead_letters_replayed", "Put back and settled", single(letters.replayed as f64))
    }

    fn shadows(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shadows = &self.status.shadows;
        let by_rule = |value: fn(&ShadowTotals) -> f64| -> Rows<'_> {
            shadows.iter().map(|(rule, shadow)| (vec![("rule", &**rule)], value(shadow))).collect()
        };
        let by_side = |value: fn(&ShadowTotals) -> [u64; 2]| -> Rows<'_> {
            let sides = shadows.iter().flat_map(|(rule, shadow)| {
                let sides = ["serving", "candidate"].into_iter().zip(value(shadow));
                sides.map(|(side, n)| (vec![("rule", &**rule), ("only", side)], n as f64))
            });
            sides.collect()
        };
        gauge(
            to,
            "rule_shadow_running",
            "Whether a shadow runs beside the rule",
            by_rule(|s| f64::from(u8::from(s.state == ShadowState::Running))),
        )?;
        counter(to, "rule_shadow_rows", "Rows given to the rule's shadow", by_rule(|s| s.rows as f64))?;
        counter(
            to,
            "rule_shadow_skipped_rows",
            "Rows that passed the shadow by, since it had used up its share of the time",
            by_rule(|s| s.skipped_rows as f64),
        )?;
        counter(
            to,
            "rule_shadow_rows_changed",
            "Rows of which the shadow made something else",
            by_rule(|s| s.rows_changed as f64),
        )?;
        counter(
            to,
            "rule_shadow_alerts_only",
            "Alerts that only one of the two sent",
            by_side(|s| [s.alerts_only_serving, s.alerts_only_candidate]),
        )?;
        counter(to, "rule_shadow_faults", "Faults of the shadow", by_rule(|s| s.faults as f64))?;
        counter(
            to,
            "rule_shadow_cost_seconds",
            "What the shadow has cost the lanes, comparing included",
            by_rule(|s| s.cost_nanos as f64 / 1e9),
        )
    }

    fn rules(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let rules = &self.status.rules;
        let by_rule = |value: fn(&RuleStatus) -> f64| -> Rows<'_> {
            rules.iter().map(|rule| (vec![("rule", &*rule.name)], value(rule))).collect()
        };
        gauge(
            to,
            "rule_serving",
            "Whether the rule serves",
            by_rule(|r| f64::from(u8::from(r.state == RuleState::Serving))),
        )?;
        gauge(
            to,
            "rule_problem",
            "Whether something is wrong with the rule's newest files",
            by_rule(|r| f64::from(u8::from(r.problem.is_some()))),
        )?;
        gauge(to, "rule_generation", "Counts up with every change", by_rule(|r| r.generation as f64))?;
        counter(to, "rule_batches", "Batches given to the rule", by_rule(|r| r.stats.batches as f64))?;
        counter(to, "rule_rows_in", "Rows given to the rule", by_rule(|r| r.stats.rows_in as f64))?;
        counter(to, "rule_rows_out", "Points the rule let go on or made", by_rule(|r| r.stats.rows_out as f64))?;
        counter(to, "rule_filtered", "Rows the rule let fall", by_rule(|r| r.stats.filtered as f64))?;
        counter(to, "rule_rejected", "Rows the rule refused", by_rule(|r| r.stats.rejected as f64))?;
        counter(to, "rule_held", "Rows the rule kept for later", by_rule(|r| r.stats.held as f64))?;
        counter(to, "rule_alerts", "Alerts the rule sent", by_rule(|r| r.stats.alerts as f64))?;
        counter(to, "rule_seconds", "Time in the rule", by_rule(|r| r.stats.nanos as f64 / 1e9))?;
        gauge(to, "rule_memory_bytes", "Linear memory of its instances", by_rule(|r| r.stats.memory_bytes as f64))?;
        let peak = by_rule(|r| r.stats.memory_peak_bytes as f64);
        gauge(to, "rule_memory_peak_bytes", "The most linear memory its instances had at once", peak)?;
        gauge(to, "rule_state_bytes", "State as last saved", by_rule(|r| r.stats.state_bytes as f64))?;
        counter(to, "rule_series", "Series the rule made", by_rule(|r| r.stats.series_made as f64))?;
        counter(to, "rule_bypassed", "Rows that passed a quarantined rule by", by_rule(|r| r.stats.bypassed as f64))?;
        counter(to, "rule_parked", "Rows parked in the dead letters", by_rule(|r| r.stats.parked as f64))?;
        counter(to, "rule_unparked", "Letters of parked rows put back", by_rule(|r| r.stats.unparked as f64))?;
        counter(to, "rule_replayed", "Calls repeated after faults", by_rule(|r| r.stats.replayed as f64))?;
        let refused = by_rule(|r| r.stats.alerts_refused as f64);
        counter(to, "rule_alerts_refused", "Alerts beyond those a rule may have standing", refused)?;
        let lost = by_rule(|r| r.stats.state_lost as f64);
        counter(to, "rule_state_lost", "Faults after which the state was only as last saved", lost)?;
        let discarded = by_rule(|r| r.stats.state_discarded as f64);
        counter(
            to,
            "rule_state_discarded",
            "Times a rule began without state, having refused what was there",
            discarded,
        )?;
        let dropped = by_rule(|r| r.stats.log_lines_dropped as f64);
        counter(to, "rule_log_lines_dropped", "Log lines beyond the rule's limit", dropped)?;
        gauge(
            to,
            "rule_quarantined",
            "Whether the rule is quarantined as a whole",
            by_rule(|r| f64::from(u8::from(r.state == RuleState::Quarantined))),
        )?;
        let partitions = by_rule(|r| r.stats.partitions_quarantined as f64);
        gauge(to, "rule_quarantined_partitions", "Partitions the rule is not called for", partitions)?;
        let mut shares: Rows<'_> = Vec::new();
        let mut refusals: Rows<'_> = Vec::new();
        for rule in rules {
            let label = ("rule", &*rule.name);
            for (q, ns) in [("0.5", rule.stats.ns_per_row_p50), ("0.99", rule.stats.ns_per_row_p99)] {
                shares.extend(ns.map(|ns| (vec![label, ("q", q)], ns / 1e9)));
            }
            refusals.extend(rule.stats.refusals.iter().map(|(why, n)| (vec![label, ("reason", *why)], *n as f64)));
        }
        gauge(to, "rule_row_seconds", "Time in the rule for a row, at that share of all rows", shares)?;
        counter(to, "rule_refused", "Files of the rule that could not serve", refusals)?;
        let mut faults: Rows<'_> = Vec::new();
        let (mut counts, mut gauges): (Rows<'_>, Rows<'_>) = (Vec::new(), Vec::new());
        for rule in rules {
            let rule_label = ("rule", &*rule.name);
            faults.extend(rule.stats.faults.iter().map(|(kind, n)| (vec![rule_label, ("kind", *kind)], *n as f64)));
            counts.extend(rule.stats.counts.iter().map(|(name, n)| (vec![rule_label, ("name", &**name)], *n as f64)));
            gauges.extend(rule.stats.gauges.iter().map(|(name, v)| (vec![rule_label, ("name", &**name)], *v)));
        }
        counter(to, "rule_faults", "Calls that failed", faults)?;
        counter(to, "rule_own_count", "What rules count themselves", counts)?;
        gauge(to, "rule_own_gauge", "What rules measure themselves", gauges)
    }

    fn module_cache(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let cache = self.status.module_cache.unwrap_or_default();
        let outcomes = [("hit", cache.hits), ("miss", cache.misses), ("damaged", cache.damaged)];
        let rows = outcomes.iter().map(|(outcome, n)| (vec![("outcome", *outcome)], *n as f64)).collect();
        counter(to, "module_cache", "Compiled modules looked for", rows)?;
        counter(to, "module_cache_evicted", "Compiled modules removed for room", single(cache.evicted as f64))
    }

    fn lanes(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = |(at, lane): (usize, &LaneTotals)| match lane.kind {
            LaneKind::Partitions => at.to_string(),
            LaneKind::Node => "node".to_owned(),
        };
        let names: Vec<String> = self.status.pipeline.lanes.iter().enumerate().map(name).collect();
        let by_lane = |value: fn(&LaneTotals) -> f64| -> Rows<'_> {
            names
                .iter()
                .zip(&self.status.pipeline.lanes)
                .map(|(n, lane)| (vec![("lane", &**n)], value(lane)))
                .collect()
        };
        counter(to, "lane_batches", "Batches taken", by_lane(|l| l.batches as f64))?;
        counter(to, "lane_rows", "Messages taken, points on the node's", by_lane(|l| l.rows as f64))?;
        counter(to, "lane_busy_seconds", "Time spent on batches", by_lane(|l| l.busy_nanos as f64 / 1e9))?;
        let changing = by_lane(|l| l.changing_nanos as f64 / 1e9);
        counter(to, "lane_changing_seconds", "Time in which batches waited for a change of rules", changing)?;
        gauge(to, "lane_waiting", "Parcels waiting", by_lane(|l| l.waiting as f64))?;
        gauge(to, "lane_memory_bytes", "Linear memory of the lane's rules", by_lane(|l| l.memory_bytes as f64))
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

fn single(value: f64) -> Rows<'static> {
    vec![(Vec::new(), value)]
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, rows: Rows<'_>) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
    }
    Ok(())
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, rows: Rows<'_>) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
