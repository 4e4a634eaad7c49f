//! The full trait: all columns, everything the contract allows. [`crate::Decoder`],
//! [`crate::Transform`] and [`crate::Alert`] are adapted onto it.

use crate::about::About;
use crate::call::Call;
use crate::columns::{Decoded, Emitted, Messages, Outcome, PartitionId, Points, Series, SeriesId, Topic};
use crate::state::State;

/// A rule as the contract sees it: batches of columns in, columns out.
///
/// Write this one when a row at a time is not enough: joins over series, output that was not there
/// before, whole-column arithmetic. Export it with `export!(R as decoder rule)` or
/// `export!(R as processor rule)`; of [`Rule::decode`] and [`Rule::process`] write the one that is
/// exported.
///
/// Order of life: `new`, declarations, restored state, then calls. Ids are dense, from 0.
pub trait Rule: Sized + 'static {
    /// The rule's configuration; keys it does not have are refused.
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema;
    /// What the rule says of itself.
    const ABOUT: About;

    /// A rule from its configuration, or why the configuration cannot be.
    ///
    /// # Errors
    /// A sentence that names the key and what it should be.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Topics that coming batches will name.
    fn declare_topics(&mut self, new: Vec<Topic>) {
        let _ = new;
    }

    /// Series that coming batches will name, or whose unit or labels have changed.
    fn declare_series(&mut self, new: Vec<Series>) {
        let _ = new;
    }

    /// Series and partitions that are gone; their ids may be given anew.
    fn retire(&mut self, series: &[SeriesId], partitions: &[PartitionId]) {
        let _ = (series, partitions);
    }

    /// Messages to points.
    fn decode(&mut self, call: &mut Call<'_>, batch: Messages) -> Decoded {
        let _ = (call, batch);
        Decoded::default()
    }

    /// Points to points and alerts.
    fn process(&mut self, call: &mut Call<'_>, batch: Points) -> Outcome {
        let _ = (call, batch);
        Outcome::default()
    }

    /// Called every `tick-ms` and at the last wake-up asked for, message or none.
    fn tick(&mut self, call: &mut Call<'_>) -> Emitted {
        let _ = call;
        Emitted::default()
    }

    /// The state that is to outlive this instance.
    fn state(&mut self) -> State<'_> {
        State::none()
    }
}
