//! Modules are compiled as soon as they are whole in the rules directory, while it is still waited for that nothing more changes there: by the time the
//! directory is read the compiler has done most of its work, or all.
//!
//! Nothing is decided here. What is compiled goes to the cache, by its digest, and is admitted like any other when a rule asks for it; what cannot be
//! compiled soon is left for then, and so is what may import WASI, which only a rule's file can say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::admission::Admission;
use crate::module::MAX_MODULE_BYTES;
use crate::registry::scan::read_bounded;
use crate::signature::{MAX_MANIFEST_BYTES, SUFFIX};

/// Files that wait to be looked at; more are left for when the directory is read.
const MOST_WAITING: usize = 16;

/// Starts the thread; it ends when what it is told by is dropped. None where it cannot be started.
pub(super) fn start(admission: Arc<Admission>) -> Option<SyncSender<PathBuf>> {
    let (tell, told) = sync_channel::<PathBuf>(MOST_WAITING);
    let compile = move || {
        tidegate_telemetry::give_way();
        told.iter().for_each(|module| compile(&admission, &module));
    };
    tidegate_telemetry::thread("rules-ahead", compile).ok().map(|_| tell)
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
