//! From a file's bytes to a module that may serve, or to the reason why it may not.
//!
//! In this order, the cheap before the dear: its size and who has signed it ([`crate::signature`]); its outermost sections and imports ([`look`]); the cache ([`cache`]); the
//! compiler, in a child process ([`child`]); its exports and what it says of itself ([`crate::module`]); the test cases that it ships
//! ([`cases`]). When it has become a rule, that is tried on a scratch instance ([`trial`]). Nobody waits for any of this but the thread that reads the rules directory.

mod cache;
mod cases;
mod child;
mod compile;
mod examination;
mod look;
mod native;
mod trial;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidegate_cases::Suite;
use wasmtime::component::Component;

use crate::admission::cache::Key;
use crate::admission::look::Outline;
use crate::engine::Engine;
use crate::generations::Generations;
use crate::load_error::LoadError;
use crate::module::{Module, hex};
use crate::signature::{SignatureError, Trust};
use crate::terms::{Terms, Wasi};

pub use cache::{Cache, CacheTotals};
pub use child::{ChildProcess, compile_and_exit};
pub use compile::{Compile, CompileLimits, InProcess};
pub use examination::Examination;
pub use native::Precompiled;
pub(crate) use trial::try_out;

/// Whether a module is a decoder by the names of its exports; one that could not serve is none.
pub(crate) fn is_decoder(bytes: &[u8], wasi: Wasi) -> bool {
    look::look(bytes, wasi).is_ok_and(|outline| outline.decodes)
}

/// Lets modules in.
pub struct Admission {
    engine: Engine,
    compiler: Box<dyn Compile>,
    trust: Trust,
    cache: Option<Cache>,
    compile_time: Duration,
    /// Everything but the module that decides what its machine code is.
    compiled_how: String,
    /// Who compiles ahead is alone: two children at once could need more memory than there is.
    compiling: RwLock<()>,
}

/// Whether a module's own test cases must pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TestCases {
    Run,
    Skip,
}

impl Admission {
    /// Compiles with `compiler` what is not in `cache`; takes everybody's modules.
    pub fn new(engine: Engine, compiler: Box<dyn Compile>, cache: Option<Cache>) -> Self {
        let compiled_how = compiled_how(&engine.base().wasmtime);
        let (trust, compiling) = (Trust::everybody(), RwLock::default());
        let compile_time = CompileLimits::DEFAULT_TIME;
        Self { engine, compiler, trust, cache, compile_time, compiled_how, compiling }
    }

    /// The same, but takes only the modules that `trust` takes.
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// The same, but a module may take that long to be compiled, as [`CompileLimits::time`] says.
    pub fn compiling_within(self, compile_time: Duration) -> Self {
        Self { compile_time, ..self }
    }

    /// The same, and the cache spares what these generations can be gone back to with.
    pub(crate) fn sparing(self, kept: Option<Arc<Generations>>) -> Self {
        Self { cache: self.cache.map(|cache| cache.sparing(kept)), ..self }
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
    pub fn admit(
        &self,
        bytes: &[u8],
        manifest: Option<&[u8]>,
        terms: impl Into<Terms>,
    ) -> Result<Arc<Module>, LoadError> {
        self.admit_if(bytes, terms.into(), TestCases::Run, |sha256| self.trust.check(sha256, manifest).map(drop))
    }

    /// The same for one that has served here and was kept by this host itself: it may be older than what has served since, and its test cases
    /// are not run again: that it served says more than they do.
    pub(crate) fn admit_again(
        &self,
        bytes: &[u8],
        manifest: Option<&[u8]>,
        terms: Terms,
    ) -> Result<Arc<Module>, LoadError> {
        self.admit_if(bytes, terms, TestCases::Skip, |sha256| self.trust.check_again(sha256, manifest))
    }

    fn admit_if(
        &self,
        bytes: &[u8],
        terms: Terms,
        cases: TestCases,
        vouched_for: impl FnOnce(&str) -> Result<(), SignatureError>,
    ) -> Result<Arc<Module>, LoadError> {
        look::size(bytes, terms.wasi)?;
        let sha256 = hex(&Sha256::digest(bytes));
        vouched_for(&sha256)?;
        let outline = look::look(bytes, terms.wasi)?;
        let key = self.key(&sha256);
        // What has passed here before is not even read again.
        let due = cases == TestCases::Run && !self.cache.as_ref().is_some_and(|cache| cache.has_passed(&key));
        let cases = outline.cases.filter(|_| due).map(Suite::read).transpose()?;
        let module = Arc::new(self.module(bytes, &sha256, terms)?);
        if let Some(cases) = cases {
            cases::run_all(&module, &cases)?;
            if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.note_passed(&key)) {
                tracing::warn!("that a module has passed its test cases cannot be noted, so they run again: {error}");
            }
        }
        Ok(module)
    }

    /// The same without its test cases, and from anybody: for who wants to look into it.
    ///
    /// # Errors
    /// It could not serve.
    pub fn examine(&self, bytes: &[u8], terms: impl Into<Terms>) -> Result<Examination, LoadError> {
        let (module, outline) = self.untested(bytes, terms.into())?;
        let cases = outline.cases.map(Suite::read).transpose()?.unwrap_or_default();
        Ok(Examination { module: Arc::new(module), cases, imports: outline.imports, sections: outline.sections })
    }

    /// The module that `bytes` are, from anybody, and what stands in its sections.
    pub(crate) fn untested<'a>(&self, bytes: &'a [u8], terms: Terms) -> Result<(Module, Outline<'a>), LoadError> {
        look::size(bytes, terms.wasi)?;
        let outline = look::look(bytes, terms.wasi)?;
        Ok((self.module(bytes, &hex(&Sha256::digest(bytes)), terms)?, outline))
    }

    /// Has a module compiled that may soon be asked for, and keeps it in the cache; waits for nobody, and not long for the compiler. Whether it may serve is
    /// not told by this: nothing is noted of one that fails.
    ///
    /// # Errors
    /// It is not there now, for whatever reason.
    pub(crate) fn compile_ahead(&self, bytes: &[u8], manifest: Option<&[u8]>) -> Result<(), LoadError> {
        let Some(cache) = &self.cache else { return Ok(()) };
        look::size(bytes, Wasi::Refused)?;
        let sha256 = hex(&Sha256::digest(bytes));
        self.trust.check(&sha256, manifest)?;
        look::look(bytes, Wasi::Refused)?;
        if self.is_at_hand(&sha256, Wasi::Refused) {
            return Ok(());
        }
        let _alone = match self.compiling.try_write() {
            Err(TryLockError::WouldBlock) => return Err(LoadError::Busy("another module is being compiled".into())),
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Ok(guard) => guard,
        };
        let compiled = self.compiler.compile(&self.engine, bytes, CompileLimits::ahead(self.compile_time))?;
        let kept = cache.store_ahead(&self.key(&sha256), &compiled);
        kept.map_err(|error| LoadError::Compiler(format!("what it made cannot be kept: {error}")))
    }

    /// Has a module compiled that a kept generation is of, if it is not at hand, beside what is looked over meanwhile. It displaces nothing of other generations;
    /// gives whether it found room.
    ///
    /// # Errors
    /// It could not serve any more.
    pub(crate) fn compile_kept(&self, bytes: &[u8], manifest: Option<&[u8]>, wasi: Wasi) -> Result<bool, LoadError> {
        let Some(cache) = &self.cache else { return Ok(false) };
        let sha256 = hex(&Sha256::digest(bytes));
        self.trust.check_again(&sha256, manifest)?;
        if self.is_at_hand(&sha256, wasi) {
            return Ok(true);
        }
        let _not_ahead = self.compiling.read().unwrap_or_else(PoisonError::into_inner);
        let key = self.key(&sha256);
        let compiled = self.compile(bytes, &key, wasi)?;
        let stored = cache.store_beside_kept(&key, &compiled);
        Ok(stored.inspect_err(|error| tracing::warn!("a module to go back to is not kept compiled: {error}")).is_ok())
    }

    /// Whose modules are taken.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether that module is there, compiled.
    pub(crate) fn is_compiled(&self, sha256: &str) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.has(&self.key(sha256)))
    }

    /// Whether to admit that module takes no compiling: it is compiled, or known to be refused.
    pub(crate) fn is_at_hand(&self, sha256: &str, wasi: Wasi) -> bool {
        let key = self.key(sha256);
        let of = |cache: &Cache| cache.has(&key) || cache.refusal(&key, self.limits(wasi)).is_some();
        self.cache.as_ref().is_some_and(of)
    }

    /// Has that module compiled, although it took more than it may when that was tried.
    pub(crate) fn forget_refusal(&self, sha256: &str) {
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.forget_refusal(&self.key(sha256))) {
            tracing::warn!(sha256, "that a module was refused cannot be forgotten: {error}");
        }
    }

    /// What the cache has done, if there is one.
    pub fn cache(&self) -> Option<CacheTotals> {
        self.cache.as_ref().map(Cache::totals)
    }

    fn key(&self, sha256: &str) -> Key {
        Key::new(sha256, &self.compiled_how)
    }

    fn limits(&self, wasi: Wasi) -> CompileLimits {
        CompileLimits::of(wasi, self.compile_time)
    }

    fn module(&self, bytes: &[u8], sha256: &str, terms: Terms) -> Result<Module, LoadError> {
        let variant = self.engine.with(terms.stack).map_err(|error| LoadError::Compiler(error.to_string()))?;
        let component = self.component(bytes, sha256, terms.wasi, &variant.wasmtime)?;
        Module::new(&self.engine, variant, &component, sha256, terms)
    }

    fn cached(&self, key: &Key, engine: &wasmtime::Engine) -> Option<Component> {
        let cache = self.cache.as_ref()?;
        match cache.load(key)?.component(engine) {
            Ok(component) => Some(component),
            Err(error) => {
                cache.refuse(key, &format!("cannot be used ({error:#})"));
                None
            }
        }
    }

    /// The code of `bytes`, compiled if need be, for whichever `engine` is to run it.
    fn component(
        &self,
        bytes: &[u8],
        sha256: &str,
        wasi: Wasi,
        engine: &wasmtime::Engine,
    ) -> Result<Component, LoadError> {
        let key = self.key(sha256);
        if let Some(component) = self.cached(&key, engine) {
            return Ok(component);
        }
        let _not_ahead = self.compiling.read().unwrap_or_else(PoisonError::into_inner);
        // Who compiled ahead may just have done so with this one.
        if self.cache.as_ref().is_some_and(|cache| cache.has(&key))
            && let Some(component) = self.cached(&key, engine)
        {
            return Ok(component);
        }
        if let Some(refusal) = self.cache.as_ref().and_then(|cache| cache.refusal(&key, self.limits(wasi))) {
            return Err(refusal);
        }
        let compiled = self.compile(bytes, &key, wasi)?;
        if let Some(cache) = &self.cache {
            match cache.store(&key, &compiled).map(|stored| stored.map(|it| it.component(engine))) {
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
        compiled.component(engine).map_err(unusable)
    }

    fn compile(&self, bytes: &[u8], key: &Key, wasi: Wasi) -> Result<Precompiled, LoadError> {
        self.compiler.compile(&self.engine, bytes, self.limits(wasi)).inspect_err(|why| {
            if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.note_refused(key, why)) {
                tracing::warn!(
                    "that a module was refused cannot be noted, so it is tried again at the next start: {error}"
                );
            }
        })
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
