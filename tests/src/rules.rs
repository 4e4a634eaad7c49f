//! Modules made of modules.

/// The same module with another sha256: a custom section with `mark` in it stands at its end, which means nothing to anybody
/// (WebAssembly core specification, section 5.5.3).
pub fn variant(module: &[u8], mark: u32) -> Vec<u8> {
    let name = b"variant";
    let body = [&[name.len() as u8][..], name, &mark.to_le_bytes()].concat();
    [module, &[0, body.len() as u8], &body].concat()
}
