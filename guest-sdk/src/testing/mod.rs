//! A rule under test, natively: `cargo test` drives it the way the host would, without WebAssembly.
//!
//! - [`RuleTest`] takes messages or readings as plain values and gives back what came out by topic
//!   name. It checks every output against what the host refuses, and panics on a breach.
//! - [`run_cases`] runs the folders under a rule's `testcases/`, and holds a schema that it brings along against its configuration.
//! - [`Native`] takes columns and gives columns, for benchmarks: the same calls in the same order as
//!   a module's exports, with nothing copied between.
//!
//! Nothing here is in a module: it exists only where the target is not `wasm32`.

mod cases;
mod check;
mod columns;
mod harness;
mod host;
mod native;
mod schema;
mod seen;

pub use cases::{case_lines, run_cases};
pub use harness::RuleTest;
pub use host::TestHost;
pub use native::{Native, NativeDecoder, NativeProcessor};
pub use seen::{Input, Seen, SeenAlert, SeenPoint};
