//! Modules that nothing needs any more. Whoever uploads a module to try it leaves it behind, so there is a bound on those, and a way to be rid of them.
//!
//! Nothing needs a module that came by the API (its file is named by its digest, so it runs nowhere by itself), that no rule and no shadow uses or serves by, and that
//! no generation is kept of. It stays until somebody says so: by its age since it was uploaded, last, or by how many there are.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::Desk;
use super::change::lock;
use super::desired::Mode;
use super::directory::Open;
use super::modules::is_kept;
use super::signatures::beside;
use crate::gate::Changed;
use crate::problem::Problem;
use crate::shapes::{Module, Pruned};

/// The most there may be, in number and bytes: another is not taken in then.
const MOST: usize = 500;
const MOST_BYTES: u64 = 1 << 30;
/// The most digests of deleted modules in one line of the audit log.
const MOST_TOLD: usize = 50;

/// Which of those that nothing needs are to go: all that are as old, but for so many of the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Which {
    pub older_than: Duration,
    pub keep: usize,
}

/// One that nothing needs.
struct Spare {
    module: Module,
    age: Duration,
}

impl Desk {
    /// Deletes modules that nothing needs, or says which it would be. Blocks.
    pub fn prune(&self, which: Which, mode: Mode) -> Result<(Pruned, Changed), Problem> {
        let _alone = self.begin_knowing()?;
        let directory = self.directory.open()?;
        let spare = self.spare(&directory)?;
        let all = spare.len();
        let go = spare.into_iter().skip(which.keep).filter(|it| it.age >= which.older_than);
        let go: Vec<Module> = go.map(|it| it.module).collect();
        if mode == Mode::Apply {
            let _locked = lock(&directory)?;
            for (done, module) in go.iter().enumerate() {
                let deleted = directory.remove(&module.file).and_then(|_| directory.remove(&beside(&module.file)));
                deleted.map_err(|error| Problem::from(error).adding(&format!("; {done} were deleted before")))?;
            }
        }
        let changed = match mode {
            Mode::Apply if !go.is_empty() => Changed { before: Some(told(&go)), after: None },
            Mode::Apply | Mode::Plan => Changed::default(),
        };
        Ok((Pruned { plan: mode == Mode::Plan, left: (all - go.len()) as u64, modules: go }, changed))
    }

    /// Refuses unless there is room for a module of so many bytes that nothing needs yet.
    pub(super) fn room_for(&self, directory: &Open, bytes: u64) -> Result<(), Problem> {
        let spare = self.spare(directory)?;
        let all = spare.iter().map(|it| it.module.bytes).sum::<u64>() + bytes;
        if spare.len() < MOST && all <= MOST_BYTES {
            return Ok(());
        }
        let detail = format!(
            "{} modules that nothing needs are kept, and there may be {MOST} of up to {} MiB in all: `tidegate modules prune` deletes them",
            spare.len(),
            MOST_BYTES >> 20
        );
        Err(Problem::conflict("too_many_modules", detail))
    }

    /// Those that nothing needs, the newest first.
    fn spare(&self, directory: &Open) -> Result<Vec<Spare>, Problem> {
        let now = SystemTime::now();
        let files = self.files()?;
        let mut kept: BTreeSet<String> = self.registry.kept_modules();
        kept.extend(self.served_beside(&files).into_keys());
        let unused = files.into_iter();
        let unused = unused.filter(|it| it.used_by.is_empty() && is_kept(&it.file) && !kept.contains(&it.sha256));
        let mut spare: Vec<Spare> = unused
            .filter_map(|module| {
                // A link is nobody's to delete here.
                let file = directory.file(&module.file).ok()??;
                let since = file.metadata().and_then(|it| it.modified()).ok();
                // One of tomorrow is new.
                let age = since.and_then(|since| now.duration_since(since).ok()).unwrap_or_default();
                Some(Spare { module, age })
            })
            .collect();
        spare.sort_by(|a, b| a.age.cmp(&b.age).then_with(|| a.module.file.cmp(&b.module.file)));
        Ok(spare)
    }
}

/// For the audit log.
fn told(modules: &[Module]) -> String {
    let mut told: Vec<&str> = modules.iter().take(MOST_TOLD).map(|module| &*module.sha256).collect();
    let more = format!("and {} more", modules.len().saturating_sub(MOST_TOLD));
    told.extend((modules.len() > MOST_TOLD).then_some(&*more));
    told.join(" ")
}
