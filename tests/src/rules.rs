//! Modules made of modules.

use wasm_encoder::{CustomSection, Encode, Section};

/// The same module with another sha256: a custom section with `mark` in it stands at its end, which means nothing to anybody
/// (WebAssembly core specification, section 5.5.3).
pub fn variant(module: &[u8], mark: u32) -> Vec<u8> {
    let mut variant = module.to_vec();
    CustomSection { name: "variant".into(), data: mark.to_le_bytes().as_slice().into() }.append_to(&mut variant);
    variant
}

/// The same, larger by so many bytes that mean nothing.
pub fn padded(module: &[u8], bytes: usize) -> Vec<u8> {
    let mut padded = module.to_vec();
    CustomSection { name: "variant".into(), data: vec![0; bytes].into() }.append_to(&mut padded);
    padded
}

/// A module of one megabyte that no compiler of this world takes in a gigabyte: one function with `locals` variables that are all alive all the
/// time, and `steps` in which they are mixed.
pub fn compile_bomb(steps: u32, locals: u32) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    // `loop`, without a result.
    let mut code = vec![0x03, 0x40];
    for step in 0..steps {
        let mut local = |instruction: u8| [&[instruction][..], &encoded(random.u32(0..locals))].concat();
        let (left, right, to) = (local(0x20), local(0x20), local(0x21));
        // `local.get`, `local.get`, `i32.add`, `local.set`; now and then `local.get`, `br_if` to the loop.
        code.extend([&left[..], &right, &[0x6a], &to].concat());
        if step % 4 == 0 {
            code.extend([&left[..], &[0x0d, 0x00]].concat());
        }
    }
    code.extend([0x0b, 0x0b]);
    let function = [&[1][..], &encoded(locals), &[0x7f], &code].concat();
    let functions = [&[1][..], &encoded(function.len() as u32), &function].concat();
    let sections = [(1, &[1, 0x60, 0, 0][..]), (3, &[1, 0]), (10, &functions)];
    let sections = sections.iter().flat_map(|(id, body)| [&[*id][..], &encoded(body.len() as u32), body].concat());
    let module: Vec<u8> = b"\0asm\x01\0\0\0".iter().copied().chain(sections).collect();
    // A component around it, since a core module without our marks would be refused before it is compiled.
    [&b"\0asm\x0d\0\x01\0\x01"[..], &encoded(module.len() as u32), &module].concat()
}

/// As numbers stand in modules.
fn encoded(number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    number.encode(&mut bytes);
    bytes
}
