//! From a file's bytes to a module that may serve, or to the reason why it may not.
//!
//! In this order, the cheap before the dear: its size and who has signed it ([`crate::signature`]); its outermost sections and imports ([`look`]); the cache ([`cache`]); the
//! compiler, in a child process ([`child`]); its exports and what it says of itself ([`crate::module`]). When it has become a rule, that
//! is tried on a scratch instance ([`trial`]). Nobody waits for any of this but the thread that reads the rules directory.

mod cache;
mod child;
mod compile;
mod look;
mod native;
mod trial;

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::admission::cache::Key;
use crate::engine::Engine;
use crate::load_error::LoadError;
use crate::module::{Module, Wasi, hex};
use crate::signature::{SignatureError, Trust};

pub use cache::{Cache, CacheTotals};
pub use child::{ChildProcess, compile_and_exit};
pub use compile::{Compile, CompileLimits, InProcess};
pub use native::Precompiled;
pub(crate) use trial::try_out;

/// Lets modules in.
pub struct Admission {
    engine: Engine,
    compiler: Box<dyn Compile>,
    trust: Trust,
    cache: Option<Cache>,
    /// Everything but the module that decides what its machine code is.
    compiled_how: String,
}

impl Admission {
    /// Compiles with `compiler` what is not in `cache`; takes everybody's modules.
    pub fn new(engine: Engine, compiler: Box<dyn Compile>, cache: Option<Cache>) -> Self {
        let compiled_how = compiled_how(&engine.wasmtime);
        Self { engine, compiler, trust: Trust::everybody(), cache, compiled_how }
    }

    /// The same, but takes only the modules that `trust` takes.
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Compiles in this process and keeps nothing: for tests.
    pub fn in_process(engine: Engine) -> Self {
        Self::new(engine, Box::new(InProcess), None)
    }

    /// The module that `bytes` are: a core module, or a component. `manifest` is what stands beside it, if anything does. Slow: tens of
    /// milliseconds, and far more for a hostile one. Never on a lane.
    ///
    /// # Errors
    /// It cannot serve.
    pub fn admit(&self, bytes: &[u8], manifest: Option<&[u8]>, wasi: Wasi) -> Result<Module, LoadError> {
        self.admit_if(bytes, wasi, |sha256| self.trust.check(sha256, manifest).map(drop))
    }

    /// The same for one that has served here and was kept by this host itself: it may be older than what has served since.
    pub(crate) fn admit_again(&self, bytes: &[u8], manifest: Option<&[u8]>, wasi: Wasi) -> Result<Module, LoadError> {
        self.admit_if(bytes, wasi, |sha256| self.trust.check_again(sha256, manifest))
    }

    fn admit_if(
        &self,
        bytes: &[u8],
        wasi: Wasi,
        vouched_for: impl FnOnce(&str) -> Result<(), SignatureError>,
    ) -> Result<Module, LoadError> {
        look::size(bytes, wasi)?;
        let sha256 = hex(&Sha256::digest(bytes));
        vouched_for(&sha256)?;
        look::look(bytes, wasi)?;
        let component = self.component(bytes, &sha256, wasi)?;
        Module::new(&self.engine, &component, &sha256, wasi)
    }

    /// Whose modules are taken.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// What the cache has done, if there is one.
    pub fn cache(&self) -> Option<CacheTotals> {
        self.cache.as_ref().map(Cache::totals)
    }

    fn component(&self, bytes: &[u8], sha256: &str, wasi: Wasi) -> Result<Component, LoadError> {
        let key = Key::new(sha256, &self.compiled_how);
        if let Some(cache) = &self.cache
            && let Some(known) = cache.load(&key)
        {
            match known.component(&self.engine.wasmtime) {
                Ok(component) => return Ok(component),
                Err(error) => cache.refuse(&key, &format!("cannot be used ({error:#})")),
            }
        }
        let compiled = self.compiler.compile(&self.engine, bytes, CompileLimits::of(wasi))?;
        if let Some(cache) = &self.cache {
            match cache.store(&key, &compiled).map(|stored| stored.map(|it| it.component(&self.engine.wasmtime))) {
                Ok(Some(Ok(component))) => return Ok(component),
                // The code in memory says why, if it cannot be used either.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        "a compiled module cannot be kept, so it is compiled again at the next start: {error}"
                    );
                }
            }
        }
        let unusable = |error: wasmtime::Error| LoadError::Compiler(format!("its code cannot be used: {error:#}"));
        compiled.component(&self.engine.wasmtime).map_err(unusable)
    }
}

/// A word for this version of ours and its contract, of wasmtime, its settings and this machine's kind of CPU.
fn compiled_how(engine: &wasmtime::Engine) -> String {
    let mut all = Digesting(Sha256::new());
    env!("CARGO_PKG_VERSION").hash(&mut all);
    include_str!("../../../../../wit/rule.wit").hash(&mut all);
    engine.precompile_compatibility_hash().hash(&mut all);
    hex(&all.0.finalize()[..16])
}

/// A hasher that means the same in every process.
struct Digesting(Sha256);

impl Hasher for Digesting {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |all, &byte| all << 8 | u64::from(byte))
    }
}

#[cfg(test)]
mod tests;
