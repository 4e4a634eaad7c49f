//! Test cases that a module carries: as folders of files, as a section of the module, and as what a case says.
//!
//! A case is a folder `testcases/<case>/{config.json?, input.ndjson, expected.ndjson}`; `rules/README.md` says what its lines mean. [`pack`] makes
//! one compact JSON document of all cases of a rule, and [`embed`] puts it at the end of the module as the custom section [`SECTION`]. Whoever lets the
//! module in reads it with [`Suite::read`], which believes nothing: it may be garbage, a bomb, or far too much. [`Comparison`] holds what comes out
//! of a rule against what is expected, line by line, so that nobody has to keep all that a rule makes.
//!
//! No case is run here: that takes an engine, and the program that puts cases into modules (`embed-cases`) must be built without one.

mod case;
mod compare;
mod error;
mod folder;
mod section;

pub use case::{Case, Message, Reading, Step, Suite};
pub use compare::{Comparison, Difference};
pub use error::CasesError;
pub use folder::pack;
pub use section::embed;

/// The custom section's name.
pub const SECTION: &str = "tidegate:testcases";
/// The most bytes of a section.
pub const MAX_BYTES: usize = 256 << 10;
/// The most cases of a module.
pub const MAX_CASES: usize = 64;
/// The most bytes of a case's name.
pub const MAX_NAME_BYTES: usize = 100;
/// The format of the document; another one is refused.
const VERSION: u32 = 1;
