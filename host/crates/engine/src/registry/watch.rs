//! Signs from the file system that the rules directory has changed.

use std::path::Path;
use std::sync::mpsc::SyncSender;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::registry::ahead::{Ahead, may_be_module};
use crate::registry::handle::Ask;

/// Watches the directory itself, so that renames, symlink swaps of a ConfigMap and deletions are seen, and tells `ahead` of modules that are written or
/// moved there. `None` where that is not possible; the directory is then read every few seconds.
pub(super) fn watch(
    directory: &Path,
    ask: SyncSender<Ask>,
    ahead: Option<SyncSender<Ahead>>,
) -> Option<RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        if let (Ok(event), Some(ahead)) = (&event, &ahead)
            && is_whole(event.kind)
        {
            // What finds no room is compiled when the directory is read.
            let modules = event.paths.iter().filter(|path| may_be_module(path));
            modules.for_each(|path| drop(ahead.try_send(Ahead::Module(path.clone()))));
        }
        // Our own reading of the files must not look like a change of them.
        let of_interest = match event.map(|event| event.kind) {
            Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) | Err(_) => true,
            Ok(EventKind::Access(_)) => false,
            Ok(_) => true,
        };
        if of_interest {
            // A full queue already holds the news.
            let _ = ask.try_send(Ask::Changed);
        }
    };
    let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!("the rules directory cannot be watched ({error}); it is read every few seconds instead");
            None
        }
    }
}

/// Whether a file is as it is meant to be, as far as can be told: written to its end, or moved here.
fn is_whole(event: EventKind) -> bool {
    matches!(event, EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(_)))
}
