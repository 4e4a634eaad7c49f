//! What takes long to be compiled holds up nobody else, and is not tried again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tidegate_engine::{
    Admission, Cache, Compile, CompileLimits, Deploy, Engine, InProcess, LoadError, Precompiled, Registry,
    RegistryHandle, Rule, ShadowReport, ShadowStart, Told,
};

#[path = "../../../../tests/src/wat_guest.rs"]
mod wat_guest;

/// What happens, in order.
type Events = Arc<Mutex<Vec<String>>>;

/// Notes who serves.
struct Lanes(Events);

impl Deploy for Lanes {
    fn install(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.0.lock().unwrap().push(rule.name.to_string());
        Ok(())
    }

    fn remove(&mut self, _: &str, _: &str) -> Result<(), LoadError> {
        Ok(())
    }

    fn shadow(&mut self, _: &Arc<Rule>, _: &Arc<ShadowReport>, _: ShadowStart) -> Result<(), LoadError> {
        Ok(())
    }

    fn end_shadow(&mut self, _: &str) -> Result<(), LoadError> {
        Ok(())
    }

    fn promote(&mut self, rule: &Arc<Rule>) -> Result<(), LoadError> {
        self.install(rule)
    }
}

/// Compiles, but for so many bombs of those that come first.
struct Compiler {
    events: Events,
    bombs: Arc<AtomicUsize>,
}

impl Compile for Compiler {
    fn compile(&self, engine: &Engine, module: &[u8], limits: CompileLimits) -> Result<Precompiled, LoadError> {
        self.events.lock().unwrap().push("compiled".into());
        let is_bomb = self.bombs.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_bomb {
            return Err(LoadError::CompileTime { limit: limits.time, told: Told::ByItsLimit });
        }
        InProcess.compile(engine, module, limits)
    }
}

/// A host that starts; gives what happened until it did.
fn start(directory: &Path, bombs: usize) -> (RegistryHandle, Vec<String>, Events) {
    let (events, bombs) = (Events::default(), Arc::new(AtomicUsize::new(bombs)));
    let compiler = Compiler { events: events.clone(), bombs };
    let cache = Cache::open(&directory.join("cache")).unwrap();
    let admission = Admission::new(Engine::new().unwrap(), Box::new(compiler), Some(cache));
    let lanes = Box::new(Lanes(events.clone()));
    let registry = Registry::start(admission, &directory.join("rules.d"), None, lanes).unwrap();
    let happened = std::mem::take(&mut *events.lock().unwrap());
    (registry, happened, events)
}

/// Guarantees: after a restart the rules serve first whose modules are compiled already; a module that took too much to be compiled is not compiled at a start
/// again, and is when somebody has it tried again: then it serves.
#[test]
fn what_is_compiled_already_serves_first() {
    let directory = TempDir::new().unwrap();
    let rules = directory.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    let put =
        |name: &str| std::fs::write(rules.join(format!("{name}.wasm")), wat_guest::wat_guest(name, &[])).unwrap();
    put("b");
    put("c");
    let (registry, happened, _) = start(directory.path(), 0);
    assert_eq!(happened, ["compiled", "b", "compiled", "c"]);
    registry.stop();
    put("a");
    let (registry, happened, _) = start(directory.path(), 1);
    assert_eq!(happened, ["b", "c", "compiled"], "a bomb, and behind the others");
    registry.stop();
    let (registry, happened, events) = start(directory.path(), 1);
    assert_eq!(happened, ["b", "c"], "it is not tried again");
    let said = registry.retry("a").unwrap_err();
    assert!(said.contains("to compile the module took longer"), "{said}");
    registry.retry("a").unwrap();
    assert_eq!(*events.lock().unwrap(), ["compiled", "compiled", "a"]);
    registry.stop();
}
