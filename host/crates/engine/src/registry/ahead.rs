//! Modules are compiled as soon as they are whole in the rules directory, while it is still waited for that nothing more changes there: by the time the
//! directory is read the compiler has done most of its work, or all.
//!
//! And once what is there serves, so are the modules of the generations that can be gone back to and that are not compiled, as after an upgrade: the newest
//! first, as long as there is room, one at a time, and after whatever comes into the directory.
//!
//! Nothing is decided here. What is compiled goes to the cache, by its digest, and is admitted like any other when a rule asks for it; what cannot be
//! compiled soon is left for then, and so is what may import WASI, which only a rule's file can say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TryRecvError, sync_channel};

use crate::admission::Admission;
use crate::generations::Generations;
use crate::load_error::LoadError;
use crate::module::MAX_MODULE_BYTES;
use crate::registry::scan::read_bounded;
use crate::signature::{MAX_MANIFEST_BYTES, SUFFIX};
use crate::terms::Wasi;

/// Files that wait to be looked at; more are left for when the directory is read.
const MOST_WAITING: usize = 16;

/// What may be compiled.
pub(super) enum Ahead {
    /// A file that has come.
    Module(PathBuf),
    /// What can be gone back to.
    Kept(Arc<Generations>),
}

/// Starts the thread; it ends when what it is told by is dropped. None where it cannot be started.
pub(super) fn start(admission: Arc<Admission>) -> Option<SyncSender<Ahead>> {
    let (tell, told) = sync_channel(MOST_WAITING);
    let compile_all = move || {
        tidegate_telemetry::give_way();
        let mut kept = None;
        loop {
            let next = if kept.is_some() { told.try_recv() } else { told.recv().map_err(TryRecvError::from) };
            match next {
                Ok(Ahead::Module(path)) => compile(&admission, &path),
                Ok(Ahead::Kept(store)) => kept = Some(Left { all: store.all(), store }),
                Err(TryRecvError::Empty) => kept = kept.and_then(|left| left.compile_one(&admission)),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    };
    tidegate_telemetry::thread("rules-ahead", compile_all).ok().map(|_| tell)
}

/// What there is left to compile of what can be gone back to.
struct Left {
    store: Arc<Generations>,
    /// The next one last: number, rule and module.
    all: Vec<(u64, String, String)>,
}

impl Left {
    /// Has the next one compiled; none where that was the last, or those that are left find no room.
    fn compile_one(mut self, admission: &Admission) -> Option<Self> {
        let (number, rule, sha256) = self.all.pop()?;
        if admission.is_compiled(&sha256) {
            return Some(self);
        }
        let compiled = self.store.generation(&rule, number).map_err(LoadError::File).and_then(|kept| {
            let wasi = Wasi::allowed(kept.file.wasi);
            admission.compile_kept(&kept.module, kept.manifest.as_deref().map(str::as_bytes), wasi)
        });
        match compiled {
            Ok(found_room) => found_room.then_some(self),
            Err(error) => {
                // Who goes back to it hears it then.
                tracing::debug!(rule, generation = number, "not compiled to go back to: {error}");
                Some(self)
            }
        }
    }
}

/// Whether a file of that name may be a module that a rule runs.
pub(super) fn may_be_module(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|ending| ending == "wasm")
}

fn compile(admission: &Admission, path: &Path) {
    let Ok(module) = read_bounded(path, MAX_MODULE_BYTES as u64 + 1) else { return };
    let beside = || {
        let mut name = path.as_os_str().to_owned();
        name.push(SUFFIX);
        read_bounded(Path::new(&name), MAX_MANIFEST_BYTES as u64 + 1).ok()
    };
    let manifest = admission.trust().is_required().then(beside).flatten();
    if let Err(error) = admission.compile_ahead(&module, manifest.as_deref()) {
        // Whoever has to know hears it when a rule asks for it.
        tracing::debug!(module = %path.display(), "not compiled ahead: {error}");
    }
}
