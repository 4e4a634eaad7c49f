//! What a pipeline is told of a sink.

use std::sync::Arc;

use tidegate_model::{FailedJobs, Sink, Spool};

use crate::flush::SinkLimits;

/// A sink to be started.
pub struct SinkSetup {
    /// Its name.
    pub name: String,
    /// The sink itself.
    pub sink: Box<dyn Sink>,
    /// Bounds of its work.
    pub limits: SinkLimits,
    /// Keeps on disk what the sink cannot take. Without it, sources are held back then.
    pub spool: Option<Arc<dyn Spool>>,
    /// Where its late points go ([`Sink::late_before_us`]), if not with all others: a sink with the same target, its own spool, and no such sink itself.
    pub late: Option<Box<SinkSetup>>,
    /// Of its database, kept by whoever asks that.
    pub failed_jobs: Arc<FailedJobs>,
}

impl SinkSetup {
    /// One with the usual limits, and without a spool.
    pub fn new(name: impl Into<String>, sink: Box<dyn Sink>) -> Self {
        let (limits, failed_jobs) = (SinkLimits::default(), Arc::default());
        Self { name: name.into(), sink, limits, spool: None, late: None, failed_jobs }
    }
}
