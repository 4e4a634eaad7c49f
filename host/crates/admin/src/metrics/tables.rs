//! Every name of a metric, what it tells, and where its value is read.

use tidegate_engine::{RuleState, RuleStatus, ShadowState, ShadowTotals};
use tidegate_model::{SpoolTotals, StateTotals};
use tidegate_pipeline::{LaneTotals, SinkTotals, SourceStatus};

use super::family::Kind::{Counter, Gauge};
use super::family::{Table, counter, gauge, split};
use crate::status::Status;

/// As a number.
fn yes(it: bool) -> f64 {
    f64::from(u8::from(it))
}

/// Under their words.
fn parts<const N: usize>(all: [(&str, u64); N]) -> Vec<(&str, f64)> {
    all.into_iter().map(|(word, n)| (word, n as f64)).collect()
}

#[rustfmt::skip]
pub(super) const HOST: Table<Status> = Table {
    label: None,
    families: &[
        gauge("points_in_flight", "Points on the way to their sinks", |s| s.pipeline.points.in_flight as f64),
        gauge("dead_letters", "Dead letters that are kept", |s| s.dead_letters.kept as f64),
        gauge("dead_letters_bytes", "What they take up on disk", |s| s.dead_letters.bytes as f64),
        counter("dead_letters_replayed", "Put back and settled", |s| s.dead_letters.replayed as f64),
        counter("module_cache_evicted", "Compiled modules removed for room", |s| s.module_cache.unwrap_or_default().evicted as f64),
        gauge("series", "Series known", |s| s.pipeline.series as f64),
        gauge("series_limit", "Series that may be known", |s| s.pipeline.max_series as f64),
        gauge("alerts_standing", "Alerts that stand", |s| s.pipeline.alerts_standing as f64),
        gauge("uptime_seconds", "Seconds since the start", |s| s.uptime_s),
    ],
    splits: &[
        split(Counter, "points", "line", "Points, by their line in the ledger", |s| {
            let p = &s.pipeline.points;
            parts([("produced", p.produced), ("generated", p.generated), ("stored", p.stored), ("filtered", p.filtered),
                ("dead_lettered", p.dead_lettered), ("held", p.held), ("returned", p.returned)])
        }),
        split(Counter, "dead_letters_dropped", "why", "Dead letters dropped by age or for room",
            |s| parts([("age", s.dead_letters.dropped_by_age), ("size", s.dead_letters.dropped_by_size)])),
        split(Counter, "module_cache", "outcome", "Compiled modules looked for", |s| {
            let cache = s.module_cache.unwrap_or_default();
            parts([("hit", cache.hits), ("ahead", cache.ahead), ("miss", cache.misses), ("damaged", cache.damaged)])
        }),
        split(Gauge, "build", "version", "Always 1; the label tells the version", |s| vec![(s.version, 1.0)]),
    ],
};

#[rustfmt::skip]
pub(super) const SOURCES: Table<SourceStatus> = Table {
    label: Some("source"),
    families: &[
        counter("messages_received", "Messages taken in, those returned later included", |s| (s.messages.received + s.messages.returned) as f64),
        counter("messages_repeated", "Messages that came again and that the state had (`journal`): acknowledged, and given to no rule", |s| s.messages.repeated as f64),
        gauge("messages_in_flight", "Messages taken in and not settled", |s| s.messages.in_flight as f64),
        gauge("source_up", "Whether the source is connected", |s| yes(s.up)),
        counter("source_failures", "Connections lost or not made", |s| s.failures as f64),
        counter("source_stale", "Connections given up since nothing came", |s| s.stale as f64),
        counter("source_strays", "Records that came by another key or partition than their topic belongs to (`lane_by`): they go where that goes", |s| s.strays as f64),
        gauge("source_partitions_unread", "Kafka partitions that are not read until somebody acts", |s| s.unread.len() as f64),
    ],
    splits: &[
        split(Counter, "messages_settled", "line", "Messages by how they ended", |s| {
            let m = &s.messages;
            parts([("decoded", m.decoded), ("stored", m.stored), ("filtered", m.filtered), ("dead_lettered", m.dead_lettered),
                ("dropped", m.dropped), ("returned", m.returned)])
        }),
    ],
};

#[rustfmt::skip]
pub(super) const SINKS: Table<SinkTotals> = Table {
    label: Some("sink"),
    families: &[
        counter("sink_messages", "Messages made durable as they came", |s| s.messages as f64),
        counter("sink_points", "Points made durable", |s| s.points as f64),
        counter("sink_alerts", "Alerts made durable", |s| s.alerts as f64),
        counter("sink_dead_letters", "Dead letters made durable", |s| s.dead_letters as f64),
        counter("sink_rejected", "Points and messages the target would not take", |s| s.rejected as f64),
        counter("sink_repeats", "Points that the target had already and left out", |s| s.repeats as f64),
        counter("sink_differing", "Repeats with another value than the one stored", |s| s.differing as f64),
        counter("sink_late", "Points for chunks that may be compressed", |s| s.late as f64),
        counter("sink_writes", "Writes that succeeded", |s| s.writes as f64),
        counter("sink_retries", "Writes that failed and were tried again", |s| s.retries as f64),
        gauge("sink_in_flight", "Deliveries not confirmed yet", |s| s.in_flight as f64),
        gauge("sink_up", "Whether the last write worked", |s| yes(s.down.is_none())),
        gauge("sink_failed_jobs", "Jobs of the sink's database that failed when they last ran", |s| s.failed_jobs.len() as f64),
        gauge("sink_holding_back", "Whether sources wait for the sink: it is down, and no spool takes what comes", |s| yes(s.holds_back.is_some())),
    ],
    splits: &[],
};

#[rustfmt::skip]
pub(super) const SPOOLS: Table<SpoolTotals> = Table {
    label: Some("sink"),
    families: &[
        gauge("spool_records", "Records that stand in the spool", |s| s.records as f64),
        gauge("spool_rows", "Rows that stand in the spool", |s| s.rows as f64),
        gauge("spool_bytes", "Bytes that stand in the spool", |s| s.bytes as f64),
        gauge("spool_limit_bytes", "Bytes that may stand in the spool", |s| s.max_bytes as f64),
        gauge("spool_usable", "Whether the spool's file can be used", |s| yes(s.unusable.is_none())),
        counter("spool_appended_rows", "Rows appended", |s| s.appended as f64),
        counter("spool_drained_rows", "Rows that the sink took from the spool", |s| s.drained as f64),
        counter("spool_dropped_rows", "Oldest rows dropped, as configured", |s| s.dropped as f64),
        counter("spool_damaged_records", "Records found damaged", |s| s.damaged_records as f64),
        counter("spool_damaged_files", "Damaged files moved aside", |s| s.damaged_files as f64),
    ],
    splits: &[],
};

#[rustfmt::skip]
pub(super) const RULES: Table<RuleStatus> = Table {
    label: Some("rule"),
    families: &[
        gauge("rule_serving", "Whether the rule serves", |r| yes(r.state == RuleState::Serving)),
        gauge("rule_problem", "Whether something is wrong with the rule's newest files", |r| yes(r.problem.is_some())),
        gauge("rule_generation", "Counts up with every change", |r| r.generation as f64),
        counter("rule_batches", "Batches given to the rule", |r| r.stats.batches as f64),
        counter("rule_rows_in", "Rows given to the rule", |r| r.stats.rows_in as f64),
        counter("rule_rows_out", "Points the rule let go on or made", |r| r.stats.rows_out as f64),
        counter("rule_filtered", "Rows the rule let fall", |r| r.stats.filtered as f64),
        counter("rule_rejected", "Rows the rule refused", |r| r.stats.rejected as f64),
        counter("rule_held", "Rows the rule kept for later", |r| r.stats.held as f64),
        counter("rule_alerts", "Alerts the rule sent", |r| r.stats.alerts as f64),
        counter("rule_seconds", "Time in the rule, of batches that went well", |r| r.stats.nanos as f64 / 1e9),
        counter("rule_beside_seconds", "Time the rule took beside: ticks, saving, calls that failed", |r| r.stats.beside_nanos as f64 / 1e9),
        gauge("rule_memory_bytes", "Linear memory of its instances", |r| r.stats.memory_bytes as f64),
        gauge("rule_memory_peak_bytes", "The most linear memory its instances had at once", |r| r.stats.memory_peak_bytes as f64),
        gauge("rule_state_bytes", "State as last saved", |r| r.stats.state_bytes as f64),
        counter("rule_series", "Series the rule made", |r| r.stats.series_made as f64),
        gauge("rule_label_bytes", "Labels of series that stand since the rule told them", |r| r.stats.label_bytes as f64),
        counter("rule_labels_refused", "Times the rule told labels when there was no room left for them", |r| r.stats.labels_refused as f64),
        counter("rule_bypassed", "Rows that passed a quarantined rule by", |r| r.stats.bypassed as f64),
        counter("rule_parked", "Rows parked in the dead letters", |r| r.stats.parked as f64),
        counter("rule_unparked", "Letters of parked rows put back", |r| r.stats.unparked as f64),
        counter("rule_partitions_let_go", "Partitions the rule is called for again since too many others are quarantined", |r| r.stats.partitions_let_go as f64),
        counter("rule_replayed", "Calls repeated after faults", |r| r.stats.replayed as f64),
        counter("rule_cells_restored", "Cells of state given to instances after faults", |r| r.stats.cells_restored as f64),
        counter("rule_alerts_refused", "Alerts beyond those a rule may have standing", |r| r.stats.alerts_refused as f64),
        counter("rule_commands", "Commands the rule sent that its file permits", |r| r.stats.commands as f64),
        counter("rule_commands_refused", "Commands the rule sent that its file does not permit", |r| r.stats.commands_refused as f64),
        counter("rule_state_lost", "Faults after which the state was only as last saved", |r| r.stats.state_lost as f64),
        counter("rule_state_discarded", "Times a rule began without state, having refused what was there", |r| r.stats.state_discarded as f64),
        counter("rule_log_lines_dropped", "Log lines beyond the rule's limit", |r| r.stats.log_lines_dropped as f64),
        gauge("rule_quarantined", "Whether the rule is quarantined as a whole", |r| yes(r.state == RuleState::Quarantined)),
        gauge("rule_quarantined_partitions", "Partitions the rule is not called for", |r| r.stats.partitions_quarantined as f64),
    ],
    splits: &[
        split(Gauge, "rule_row_seconds", "q", "Time in the rule for a row, at that share of all rows", |r| {
            let shares = [("0.5", r.stats.ns_per_row_p50), ("0.99", r.stats.ns_per_row_p99)];
            shares.into_iter().filter_map(|(q, ns)| Some((q, ns? / 1e9))).collect()
        }),
        split(Counter, "rule_refused", "reason", "Files of the rule that could not serve",
            |r| r.stats.refusals.iter().map(|(why, n)| (*why, *n as f64)).collect()),
        split(Counter, "rule_faults", "kind", "Calls that failed",
            |r| r.stats.faults.iter().map(|(kind, n)| (*kind, *n as f64)).collect()),
        split(Counter, "rule_own_count", "name", "What rules count themselves",
            |r| r.stats.counts.iter().map(|(name, n)| (&**name, *n as f64)).collect()),
        split(Gauge, "rule_own_gauge", "name", "What rules measure themselves",
            |r| r.stats.gauges.iter().map(|(name, value)| (&**name, *value)).collect()),
    ],
};

#[rustfmt::skip]
pub(super) const SHADOWS: Table<ShadowTotals> = Table {
    label: Some("rule"),
    families: &[
        gauge("rule_shadow_running", "Whether a shadow runs beside the rule", |s| yes(s.state == ShadowState::Running)),
        counter("rule_shadow_rows", "Rows given to the rule's shadow", |s| s.rows as f64),
        counter("rule_shadow_skipped_rows", "Rows that passed the shadow by, since it had used up its share of the time", |s| s.skipped_rows as f64),
        counter("rule_shadow_rows_changed", "Rows of which the shadow made something else", |s| s.rows_changed as f64),
        counter("rule_shadow_faults", "Faults of the shadow", |s| s.faults as f64),
        counter("rule_shadow_cost_seconds", "What the shadow has cost the lanes, comparing included", |s| s.cost_nanos as f64 / 1e9),
    ],
    splits: &[
        split(Counter, "rule_shadow_alerts_only", "only", "Alerts that only one of the two sent",
            |s| parts([("serving", s.alerts_only_serving), ("candidate", s.alerts_only_candidate)])),
    ],
};

#[rustfmt::skip]
pub(super) const LANES: Table<LaneTotals> = Table {
    label: Some("lane"),
    families: &[
        counter("lane_batches", "Batches taken", |l| l.batches as f64),
        counter("lane_rows", "Messages taken, points on the node's", |l| l.rows as f64),
        counter("lane_busy_seconds", "Time spent on batches, ticks and saving", |l| l.busy_nanos as f64 / 1e9),
        counter("lane_changing_seconds", "Time in which batches waited for a change of rules", |l| l.changing_nanos as f64 / 1e9),
        gauge("lane_waiting", "Parcels waiting", |l| l.waiting as f64),
        gauge("lane_memory_bytes", "Linear memory of the lane's rules", |l| l.memory_bytes as f64),
    ],
    splits: &[],
};

#[rustfmt::skip]
pub(super) const STATE: Table<StateTotals> = Table {
    label: None,
    families: &[
        gauge("state_up", "Whether the state of rules can be kept on disk", |s| yes(s.down.is_none())),
        counter("state_cells_written", "Cells of the rules' state written to disk", |s| s.written as f64),
        counter("state_write_failures", "Writes of the rules' state that failed", |s| s.failures as f64),
        counter("state_damaged", "Cells and files of the rules' state that were damaged", |s| s.damaged as f64),
        counter("state_unnamed", "Cells of series beyond those that may be known", |s| s.unnamed as f64),
    ],
    splits: &[],
};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
