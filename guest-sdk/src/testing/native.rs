//! A rule linked natively, over the same columns as its module.

use crate::call::{Call, Host};
use crate::columns::{Decoded, Emitted, Messages, Outcome, PartitionId, Points, Saved, Series, SeriesId, Topic};
use crate::life::Life;
use crate::rule::Rule;
use crate::testing::host::TestHost;

/// A decoder linked natively.
pub type NativeDecoder<R> = Native<R>;
/// A processor linked natively.
pub type NativeProcessor<R> = Native<R>;

/// One instance of a rule beside its host.
pub struct Native<R, H = TestHost> {
    life: Life<R>,
    /// The host's side; a [`TestHost`] unless another was given.
    pub host: H,
}

impl<R: Rule> Native<R> {
    /// A rule configured with this JSON, and a host that knows nothing yet.
    ///
    /// # Errors
    /// What the rule says of its configuration.
    pub fn configured(config: &str) -> Result<Self, String> {
        Self::with_host(config, TestHost::default())
    }
}

impl<R: Rule, H: Host> Native<R, H> {
    /// A rule configured with this JSON, and its host.
    ///
    /// # Errors
    /// What the rule says of its configuration.
    pub fn with_host(config: &str, host: H) -> Result<Self, String> {
        let mut life = Life::default();
        life.configure(config)?;
        Ok(Self { life, host })
    }

    /// The description, as JSON.
    pub fn describe() -> String {
        Life::<R>::describe()
    }

    /// The contract's `declare-topics`.
    pub fn declare_topics(&mut self, new: Vec<Topic>) {
        self.life.declare_topics(new);
    }

    /// The contract's `declare-series`.
    pub fn declare_series(&mut self, new: Vec<Series>) {
        self.life.declare_series(new);
    }

    /// The contract's `retire`.
    pub fn retire(&mut self, series: &[SeriesId], partitions: &[PartitionId]) {
        self.life.retire(series, partitions);
    }

    /// The contract's `decode`.
    pub fn decode(&mut self, now_us: i64, batch: Messages) -> Decoded {
        let mut call = Call { now_us, host: &mut self.host };
        self.life.decode(&mut call, batch)
    }

    /// The contract's `process`.
    pub fn process(&mut self, now_us: i64, batch: Points) -> Outcome {
        let mut call = Call { now_us, host: &mut self.host };
        self.life.process(&mut call, batch)
    }

    /// The contract's `tick`.
    pub fn tick(&mut self, now_us: i64) -> Emitted {
        let mut call = Call { now_us, host: &mut self.host };
        self.life.tick(&mut call)
    }

    /// The contract's `save`.
    pub fn save(&mut self, everything: bool, max_bytes: u32) -> Saved {
        self.life.save(everything, max_bytes)
    }

    /// The contract's `restore`.
    ///
    /// # Errors
    /// When the part cannot be read by this rule.
    pub fn restore(&mut self, version: &str, part: &Saved) -> Result<(), String> {
        self.life.restore(version, part)
    }
}
