//! The cases in a module's binary.

use wasm_encoder::{CustomSection, Section};

use crate::SECTION;

/// `module` with `cases` (what [`crate::pack`] gives) as a custom section at its end, which means nothing to a machine that does not know it
/// (WebAssembly core specification, section 5.5.3). Core modules and components are alike in this.
pub fn embed(module: &[u8], cases: &[u8]) -> Vec<u8> {
    let mut with = module.to_vec();
    CustomSection { name: SECTION.into(), data: cases.into() }.append_to(&mut with);
    with
}
