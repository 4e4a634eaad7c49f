//! The targets.

mod admission;
mod cases;
mod filters;
mod outputs;
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
pub fn all() -> [Target; 5] {
    [
        Target { name: "filters", run: filters::run, seeds: Vec::new },
        Target { name: "admission", run: admission::run, seeds: admission::seeds },
        Target { name: "cases", run: cases::run, seeds: cases::seeds },
        Target { name: "outputs", run: outputs::run, seeds: Vec::new },
        Target { name: "state", run: state::run, seeds: Vec::new },
    ]
}
