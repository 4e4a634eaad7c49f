//! A house for a part of a Kafka topic: the rules and one sink, without API, live sources and spools.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tidegate_config::{Config, Name, Offsets, SinkSettings};
use tidegate_engine::{Cache, Registry, RegistryHandle, Trust};
use tidegate_model::{Books, Limits, Sink, SystemClock, Wants};
use tidegate_pipeline::{Drained, Pipeline, PipelineStatus, SinkLimits, SinkSetup};
use tidegate_sinks::{DeadLetters, Discard, Only};
use tidegate_sources::KafkaRange;
use tokio::runtime::Handle;

/// Where a backfill goes.
pub enum Target<'a> {
    /// Nowhere: it is counted, dead letters too.
    Nowhere,
    /// To this sink, and dead letters where the host keeps them.
    Sink(&'a Name, &'a SinkSettings, Alerts),
}

impl<'a> Target<'a> {
    /// This sink, if a range may go there.
    pub fn sink(name: &'a Name, settings: &'a SinkSettings, alerts: Alerts) -> anyhow::Result<Self> {
        // What a live record and the same one read again make is told apart by the offset that is stored, and a replay stores none.
        let exact = matches!(settings, SinkSettings::Timescale(sink) if sink.offsets == Offsets::WithPoints);
        ensure!(
            !exact,
            "the sink {name} stores each Kafka record once (exactly_once), and a replay would write its points a second time: choose another \
             sink with --sink; to write to that database all the same, give a configuration without exactly_once with --config"
        );
        Ok(Target::Sink(name, settings, alerts))
    }
}

/// Whether alerts are written as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alerts {
    /// They are: the sink may have them twice.
    Written,
    /// Points alone.
    LeftOut,
}

/// A range on its way through the rules.
pub struct Backfill {
    pipeline: Pipeline,
    registry: RegistryHandle,
    shutdown_timeout: Duration,
}

impl Backfill {
    /// Starts the rules that are there, then the range as the source `name`. Blocks until the rules serve: not for a runtime's thread.
    /// Nothing of a host that runs in the same `data_dir` is touched but the dead letters, which take more than one writer.
    pub fn start(
        config: &Config,
        runtime: &Handle,
        name: &Name,
        range: KafkaRange,
        target: &Target<'_>,
    ) -> anyhow::Result<Self> {
        let books = Arc::new(Books::new(config.max_series));
        let clock = Arc::new(SystemClock);
        let _in_runtime = runtime.enter();
        let (setup, letters): (SinkSetup, Box<dyn Sink>) = match target {
            Target::Nowhere => {
                let (points, letters) = (Wants { points: true, ..Wants::default() }, Box::new(Discard::new()));
                let nowhere = Only::new(Box::new(Discard::new()), points);
                (SinkSetup::new("nowhere", Box::new(nowhere)), letters)
            }
            Target::Sink(name, settings, alerts) => {
                let (sink, limits) = super::sink(&for_what_is_old(settings), &books, &mut Vec::new());
                let alerts = *alerts == Alerts::Written;
                let only = Only::new(sink, Wants { points: true, alerts, ..Wants::default() });
                ensure!(only.wants().points, "the sink {name} takes no points: choose another one with --sink");
                super::make_data_dir(&config.data_dir)?;
                let letters = DeadLetters::new(&config.data_dir, config.dead_letters, clock.clone());
                (setup(name, Box::new(only), limits), Box::new(letters))
            }
        };
        // The state of a host that runs is not the state of what was.
        let settings = super::pipeline_settings(config, books, clock, None);
        let pipeline = Pipeline::start(settings, vec![setup], letters, runtime).context("the lanes cannot start")?;
        let registry = rules(config, &config.rules_dir, &pipeline)?;
        pipeline.add_source(name.as_str(), Box::new(range), Limits::default());
        Ok(Self { pipeline, registry, shutdown_timeout: config.shutdown_timeout })
    }

    /// How it is.
    pub fn status(&self) -> PipelineStatus {
        self.pipeline.status()
    }

    /// Ends it in order; gives how that went and its last state.
    pub async fn end(self) -> (Drained, PipelineStatus) {
        let registry = self.registry.clone();
        let stopping = tokio::task::spawn_blocking(move || registry.stop());
        let _ = tokio::time::timeout(self.shutdown_timeout / 4, stopping).await;
        let drained = self.pipeline.shutdown(self.shutdown_timeout).await;
        (drained, self.pipeline.status())
    }
}

/// The same sink without a bound for what is old: that is what a range is asked for.
fn for_what_is_old(settings: &SinkSettings) -> SinkSettings {
    let mut settings = settings.clone();
    if let SinkSettings::Timescale(sink) = &mut settings {
        sink.behind = None;
    }
    settings
}

fn setup(name: &Name, sink: Box<dyn Sink>, limits: SinkLimits) -> SinkSetup {
    // No spool: a host that runs has it, and a range can wait at its broker.
    SinkSetup { limits, ..SinkSetup::new(name.to_string(), sink) }
}

/// The rules as the host would load them, without a trace among its generations.
fn rules(config: &Config, directory: &Path, pipeline: &Pipeline) -> anyhow::Result<RegistryHandle> {
    let trust = Trust::open(&config.signatures, None)?;
    // A host may run beside, and only that knows what it can go back to.
    let cache = super::open_cache(&config.data_dir).map(Cache::displacing_nothing);
    let admission = super::admission(cache, config.compile_timeout)?.trusting(trust);
    Registry::start(admission, directory, None, Box::new(pipeline.deploy()))
        .with_context(|| format!("the rules directory {} cannot be used", directory.display()))
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use tidegate_config::{Secret, TimescaleSink};

    use super::*;

    /// Guarantees: no point of a range is too old for its sink; one from the far future stays refused.
    #[test]
    fn nothing_is_too_old() {
        let mut sink = TimescaleSink::new(Secret::new("postgres://h/d"));
        sink.behind = Some(Duration::from_secs(3_600));
        let ahead = sink.ahead;
        let SinkSettings::Timescale(sink) = for_what_is_old(&SinkSettings::Timescale(sink)) else { panic!() };
        assert_eq!((sink.behind, sink.ahead), (None, ahead));
    }
}
