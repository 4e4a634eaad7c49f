//! The one place of the house that takes machine code: from its own compiler, or from the cache after its digest was checked.
#![allow(
    unsafe_code,
    reason = "wasmtime cannot know where machine code comes from; this file says why ours is sound"
)]

use wasmtime::component::Component;

/// Machine code made by this program's own compiler. Only this folder makes one: of what the compiler has just
/// returned, or of a file in the cache whose digest fits.
pub struct Precompiled(Vec<u8>);

impl Precompiled {
    /// What [`wasmtime::Engine::precompile_component`] returned, here, in our child process, or earlier: the caller vouches for it.
    pub(super) fn vouched_for(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As it is stored.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Maps it as code. An error if it was made by another version or with other settings.
    pub(super) fn component(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` demands bytes that `precompile_component` has made and nobody has changed since. A `Precompiled`
        // has them from our own binary (in this process, or over a pipe from a child that is this very binary), or from the cache:
        // a directory that belongs to us and that nobody else may write to, checked when it is opened, and from a file
        // whose SHA-256 was found right over these very bytes after they were read; they lie in our own memory, so nobody can
        // change them between that check and this call. wasmtime itself refuses another version, target or setting.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}

impl std::fmt::Debug for Precompiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Precompiled({} bytes)", self.0.len())
    }
}
