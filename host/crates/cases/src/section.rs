//! The cases in a module's binary.

use crate::SECTION;

/// `module` with `cases` (what [`crate::pack`] gives) as a custom section at its end, which means nothing to a machine that does not know it
/// (WebAssembly core specification, section 5.5.3). Core modules and components are alike in this.
pub fn embed(module: &[u8], cases: &[u8]) -> Vec<u8> {
    let name = [&length(SECTION.len())[..], SECTION.as_bytes()].concat();
    [module, &[0], &length(name.len() + cases.len()), &name, cases].concat()
}

/// LEB128 (section 5.2.2 there).
fn length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
