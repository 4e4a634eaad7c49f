//! The targets.

#[cfg(feature = "engine")]
mod admission;
#[cfg(feature = "engine")]
mod cases;
mod cells;
mod filters;
#[cfg(feature = "engine")]
mod outputs;
#[cfg(feature = "engine")]
mod state;

/// A function of some bytes that panics when something does not hold.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// Inputs that are made rather than stored.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub fn all() -> Vec<Target> {
    vec![
        Target { name: "filters", run: filters::run, seeds: Vec::new },
        Target { name: "cells", run: cells::run, seeds: cells::seeds },
        #[cfg(feature = "engine")]
        Target { name: "admission", run: admission::run, seeds: admission::seeds },
        #[cfg(feature = "engine")]
        Target { name: "cases", run: cases::run, seeds: cases::seeds },
        #[cfg(feature = "engine")]
        Target { name: "outputs", run: outputs::run, seeds: Vec::new },
        #[cfg(feature = "engine")]
        Target { name: "state", run: state::run, seeds: Vec::new },
    ]
}
