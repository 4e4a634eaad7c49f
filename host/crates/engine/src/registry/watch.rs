//! Signs from the file system that the rules directory has changed.

use std::path::Path;
use std::sync::mpsc::SyncSender;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::registry::handle::Ask;

/// Watches the directory itself, so that renames, symlink swaps of a ConfigMap and deletions are seen. `None` where that is
/// not possible; the directory is then read every few seconds.
pub(super) fn watch(directory: &Path, ask: SyncSender<Ask>) -> Option<RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
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
