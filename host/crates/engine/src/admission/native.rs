//! The one place of the house that takes machine code: from its own compiler, or from the cache after its digest was checked.
#![allow(
    unsafe_code,
    reason = "wasmtime cannot know where machine code comes from; this file says why ours is sound"
)]

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;

use wasmtime::component::Component;

/// Machine code made by this program's own compiler. Only this folder makes one: of what the compiler has just
/// returned, or of a file in the cache whose digest fits.
pub struct Precompiled(Code);

enum Code {
    Memory(Vec<u8>),
    /// At the file's beginning; what follows it is none of it.
    File(File),
}

impl Precompiled {
    /// What [`wasmtime::Engine::precompile_component`] returned, here, in our child process, or earlier: the caller vouches for it.
    pub(super) fn vouched_for(bytes: Vec<u8>) -> Self {
        Self(Code::Memory(bytes))
    }

    /// The same, at the beginning of a file of ours that nobody changes any more.
    pub(super) fn vouched_for_file(file: File) -> Self {
        Self(Code::File(file))
    }

    /// What is to be stored; nothing if it comes from there.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Code::Memory(bytes) => Some(bytes),
            Code::File(_) => None,
        }
    }

    /// Maps it as code; a file on a file system from which nothing may be executed is read into memory first. An error if it was made by
    /// another version or with other settings.
    pub(super) fn component(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: both demand what `precompile_component` has made and nobody has changed since. A `Precompiled`
        // has it from our own binary (in this process, or over a pipe from a child that is this very binary), or from the cache:
        // a directory that belongs to us and that nobody else may write to, checked when it was opened and reached through that
        // handle alone, and a file in it whose SHA-256 was found right over these very bytes, through the handle that is mapped here.
        // Bytes in our memory cannot change between that check and this call. A file of the cache is never written to again: a new one
        // takes its place under its name, and the one that is open stays as it is. Who could write to it nevertheless runs as our own user,
        // and might as well write to our memory. wasmtime itself refuses another version, target or setting.
        unsafe {
            match &self.0 {
                Code::Memory(bytes) => Component::deserialize(engine, bytes),
                Code::File(file) => {
                    // wasmtime takes a path: this one leads to what is open, whatever bears its name by now.
                    Component::deserialize_file(engine, format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(
                        |error| {
                            let code = read(file).map_err(|_| error)?;
                            Component::deserialize(engine, code)
                        },
                    )
                }
            }
        }
    }
}

fn read(mut file: &File) -> io::Result<Vec<u8>> {
    let mut code = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut code)?;
    Ok(code)
}

impl std::fmt::Debug for Precompiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Code::Memory(bytes) => write!(f, "Precompiled({} bytes)", bytes.len()),
            Code::File(_) => f.write_str("Precompiled(file)"),
        }
    }
}
