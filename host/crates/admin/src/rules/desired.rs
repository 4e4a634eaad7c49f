//! A host's rules as one document, and bringing a host in line with one.
//!
//! Everything in a document is looked over before anything is written: names, definitions, modules and who vouches for them, configurations
//! against schemas, each changed rule on a scratch instance. Then all files are written under hidden names, where a full disk shows; then
//! modules take their places, which nothing runs yet; then the files of rules that are replaced, one after the other; then the directory is read. When all of those
//! serve, what is to go goes, with its state and its alerts, and what is new comes: a rule under another name in the very place of the old one. If a rule cannot serve after all, every file is put back; and so it is by the next start if the host ends in the
//! midst of it (`intent.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidegate_config::RuleFile;
use tidegate_engine::{LoadError, MAX_WASI_MODULE_BYTES, Manifest, Module, Terms, Wasi};

use super::change::{AfterCrash, Write, not_serving};
use super::compare::differences;
use super::directory::{FileError, Open};
use super::document::{Incoming, Wanted, files, incoming, none_of, wanted};
use super::signatures::{beside, manifest_of};
use super::{Condition, Desk, Known, digest, hex, modules};
use crate::gate::Changed;
use crate::problem::Problem;
use crate::shapes::{Action, Converged, Difference, Document, Likeness, ModulePart, RuleChange};

/// The most bytes of modules that are exported in one document.
const MOST_EXPORTED: u64 = 64 << 20;

/// What becomes of the rules that a document does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    Stay,
    Go,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: it is said what would be.
    Plan,
    Apply,
}

impl Desk {
    /// Everything, as it is; with the ETag of it. Blocks.
    pub fn export(&self, with_modules: bool, configuration: &str) -> Result<(Document, String), Problem> {
        let _alone = self.begin()?;
        let directory = self.directory.open()?;
        let mut document = Document { configuration: Some(configuration.to_owned()), ..Document::default() };
        let (mut exported, mut bytes) = (BTreeSet::new(), 0);
        for rule in self.registry.rules() {
            let unreadable = |what: &str| {
                let detail = format!("rule {:?} cannot be exported: {what}; mend it, or take it away", rule.name);
                Problem::conflict("unreadable", detail)
            };
            let file = self.registry.file(&rule.name).ok_or_else(|| unreadable("its file cannot be read"))?;
            let (module, manifest) = match directory.read(&file.module, MAX_WASI_MODULE_BYTES as u64) {
                Err(FileError::Symlink(_)) => {
                    let kept = self.kept_bytes(&rule.name).map(|(module, manifest)| (Some(module), manifest));
                    kept.ok_or_else(|| unreadable("its module is a link, and not what serves"))?
                }
                module => {
                    let manifest = manifest_of(&directory, &file.module)?;
                    (module?, manifest.map(|manifest| String::from_utf8_lossy(&manifest).into_owned()))
                }
            };
            let module = module.ok_or_else(|| unreadable(&format!("there is no {}", file.module)))?;
            let sha256 = digest(&module);
            let mut definition = serde_json::to_value(&file).map_err(|error| Problem::internal(error.to_string()))?;
            definition["module"] = modules::kept_name(&sha256).into();
            document.rules.insert(rule.name.clone(), definition);
            if !exported.insert(sha256.clone()) {
                continue;
            }
            bytes += module.len() as u64;
            if with_modules && bytes > MOST_EXPORTED {
                let detail =
                    "the modules are too large for one document; ask with `modules=false`, and fetch them one by one";
                return Err(Problem::conflict("too_large", detail));
            }
            let manifest = manifest.and_then(|text| serde_json::from_str(&text).ok());
            let content = with_modules.then(|| STANDARD.encode(&module));
            document.modules.push(ModulePart { sha256, content, manifest });
        }
        let etag = self.whole_etag();
        document.etag = Some(etag.clone());
        Ok((document, etag))
    }

    /// The ETag of all rules together.
    pub fn whole_etag(&self) -> String {
        format!("\"{}\"", self.whole())
    }

    fn whole(&self) -> String {
        let mut all = Sha256::new();
        for rule in self.registry.rules() {
            all.update(format!("{} {}\n", rule.name, rule.etag.trim_matches('"')));
        }
        hex(&all.finalize()[..16])
    }

    /// Brings the rules in line with `document`, or says what that would change. Blocks.
    pub fn converge(
        &self,
        document: &Document,
        others: Others,
        mode: Mode,
        condition: &Condition,
        configuration: &str,
    ) -> Result<(Converged, Changed), Problem> {
        let incoming = incoming(&document.modules)?;
        let files = files(&document.rules)?;
        let _alone = self.begin()?;
        condition.check_whole(&self.whole_etag())?;
        let directory = self.directory.open()?;
        let there: BTreeMap<String, String> = self.files()?.into_iter().map(|it| (it.file, it.sha256)).collect();
        let wanted = wanted(files, &incoming, &there)?;
        let rules = self.compare(&wanted, others);
        let there: BTreeSet<&String> = there.values().collect();
        let new = incoming.iter().filter(|(sha256, module)| module.bytes.is_some() && !there.contains(sha256));
        let modules: Vec<String> = new.map(|(sha256, _)| sha256.clone()).collect();
        self.look_over(&directory, &wanted, &rules, &incoming, mode)?;
        let differs = !rules.iter().all(|rule| matches!(rule.action, Action::Unchanged | Action::Left));
        let same = |text: &String| if text == configuration { Likeness::Same } else { Likeness::Differs };
        let mut converged = Converged {
            etag: String::new(),
            plan: mode == Mode::Plan,
            differs,
            rules,
            modules,
            configuration: document.configuration.as_ref().map(same),
        };
        let before = self.whole();
        if mode == Mode::Apply {
            self.write_all(&directory, &wanted, &converged, &incoming)?;
        }
        converged.etag = self.whole_etag();
        Ok((converged, Changed { before: Some(before), after: Some(self.whole()) }))
    }

    /// What becomes of each rule. A module of another name with the same bytes is the same.
    fn compare(&self, wanted: &BTreeMap<String, Wanted>, others: Others) -> Vec<RuleChange> {
        let mut changes = BTreeMap::new();
        for rule in self.registry.rules() {
            let (action, differences) = match (wanted.get(&rule.name), others) {
                (None, Others::Go) => (Action::Deleted, Vec::new()),
                (None, Others::Stay) => (Action::Left, Vec::new()),
                (Some(wanted), _) => {
                    let differences = self.differences(&rule.name, wanted);
                    (if differences.is_empty() { Action::Unchanged } else { Action::Replaced }, differences)
                }
            };
            changes.insert(rule.name.clone(), RuleChange { rule: rule.name, action, differences });
        }
        for name in wanted.keys() {
            changes.entry(name.clone()).or_insert_with(|| RuleChange {
                rule: name.clone(),
                action: Action::Created,
                differences: Vec::new(),
            });
        }
        changes.into_values().collect()
    }

    fn differences(&self, name: &str, wanted: &Wanted) -> Vec<Difference> {
        let as_value = |file: &RuleFile, sha256: &str| {
            let mut value = serde_json::to_value(file).unwrap_or_default();
            value["module"] = Value::Null;
            value["sha256"] = sha256.into();
            value
        };
        let sha256 = self.registry.module_digest(name).unwrap_or_default();
        let before = self.registry.file(name).map_or(Value::Null, |file| as_value(&file, &sha256));
        differences(&before, &as_value(&wanted.file, &wanted.sha256))
    }

    /// All that is to change, as it would be looked over one by one; all mistakes at once.
    fn look_over(
        &self,
        directory: &Open,
        wanted: &BTreeMap<String, Wanted>,
        rules: &[RuleChange],
        incoming: &BTreeMap<String, Incoming>,
        mode: Mode,
    ) -> Result<(), Problem> {
        let (mut mistakes, mut admitted) = (Vec::new(), BTreeMap::new());
        let mut note = |place: String, problem: Problem| {
            if problem.status().is_server_error() {
                return Err(problem);
            }
            mistakes.extend(problem.mistakes_at(&place));
            Ok(())
        };
        for (sha256, module) in incoming {
            let looked_at = self.look_at_module(sha256, module);
            looked_at.or_else(|problem| note(format!("/modules/{}", module.at), problem))?;
        }
        let changed = rules.iter().filter(|rule| matches!(rule.action, Action::Created | Action::Replaced));
        for (name, wanted) in changed.filter_map(|rule| wanted.get_key_value(&rule.rule)) {
            if mode == Mode::Apply {
                directory.ours(&format!("{name}.toml"))?;
            }
            if wanted.file.enabled {
                let looked_at = self.look_at(directory, name, wanted, incoming.get(&wanted.sha256), &mut admitted);
                looked_at.or_else(|problem| note(format!("/rules/{name}"), problem))?;
            }
        }
        none_of(mistakes)
    }

    /// Who vouches for it; and whether it could serve, with or without WASI.
    fn look_at_module(&self, sha256: &str, module: &Incoming) -> Result<(), Problem> {
        let trust = self.registry.trust();
        if let Some(manifest) = module.manifest.as_ref().filter(|_| trust.has_keys()) {
            let read = Manifest::read(manifest.as_bytes());
            read.and_then(|read| trust.verify(&read, sha256, SystemTime::now())).map_err(LoadError::from)?;
        }
        let Some(bytes) = &module.bytes else { return Ok(()) };
        let manifest = module.manifest.as_ref().map(String::as_bytes);
        let admit = |wasi| self.registry.admit(bytes, manifest, Terms::of_no_rule(wasi));
        Ok(admit(Wasi::Refused)
            .or_else(|error| match error {
                LoadError::Wasi(_) | LoadError::TooLarge { .. } => admit(Wasi::Empty),
                other => Err(other),
            })
            .map(drop)?)
    }

    /// `admitted` has the modules that other rules of the same document use.
    pub(super) fn look_at(
        &self,
        directory: &Open,
        name: &str,
        wanted: &Wanted,
        incoming: Option<&Incoming>,
        admitted: &mut BTreeMap<(String, Terms), Arc<Module>>,
    ) -> Result<(), Problem> {
        let file = &wanted.file;
        let key = (wanted.sha256.clone(), Terms::of(file));
        if let Some(module) = admitted.get(&key) {
            return self.examine_with(name, file, module).map(drop);
        }
        let there = || directory.read(&file.module, MAX_WASI_MODULE_BYTES as u64);
        let bytes = match incoming.and_then(|module| module.bytes.clone()) {
            Some(bytes) => bytes,
            None => match there() {
                Err(FileError::Symlink(_)) => {
                    let module = self.instead_of_link(&file.module)?;
                    return self.examine_with(name, file, &module).map(drop);
                }
                read => read?
                    .filter(|bytes| digest(bytes) == wanted.sha256)
                    .ok_or_else(|| changed_meanwhile(&file.module))?,
            },
        };
        let manifest = match incoming.and_then(|module| module.manifest.clone()) {
            Some(manifest) => Some(manifest.into_bytes()),
            None => manifest_of(directory, &file.module)?,
        };
        let module: Arc<Module> = self.registry.admit(&bytes, manifest.as_deref(), Terms::of(file))?;
        self.remember(&module);
        admitted.insert(key, module.clone());
        self.examine_with(name, file, &module).map(drop)
    }

    /// Modules, then rules, then what is to go; or nothing.
    fn write_all(
        &self,
        directory: &Open,
        wanted: &BTreeMap<String, Wanted>,
        converged: &Converged,
        incoming: &BTreeMap<String, Incoming>,
    ) -> Result<(), Problem> {
        let by = |actions: &[Action]| -> Vec<&str> {
            let some = converged.rules.iter().filter(|rule| actions.contains(&rule.action));
            some.map(|rule| rule.rule.as_str()).collect()
        };
        let (created, replaced, gone) = (by(&[Action::Created]), by(&[Action::Replaced]), by(&[Action::Deleted]));
        let there = self.files()?;
        let mut left = self.left_alone(directory, wanted, &replaced, &gone)?;
        let mut writes: Vec<Write> = std::mem::take(&mut left.first);
        for (sha256, module) in incoming {
            let file = modules::kept_name(sha256);
            // Where no key is known, nobody could say what it is worth.
            if let Some(manifest) = module.manifest.as_ref().filter(|_| self.registry.trust().has_keys()) {
                let mut files: BTreeSet<&String> =
                    there.iter().filter(|it| it.sha256 == *sha256).map(|it| &it.file).collect();
                files.insert(&file);
                writes.extend(files.iter().map(|file| (beside(file), Some(manifest.clone().into_bytes()))));
            }
            if converged.modules.contains(sha256) {
                writes.push((file, module.bytes.clone()));
            }
        }
        let named = created.iter().chain(&replaced).filter_map(|name| Some(&*wanted.get(*name)?.file.module));
        let meant = |rule: &str| wanted.contains_key(rule) || gone.contains(&rule);
        let kept = self.named_for_others(directory, named, meant)?;
        writes.extend(kept.into_iter().map(|(name, text)| (name, Some(text))));
        let text = |name: &&str| {
            let text = wanted.get(*name).map(|wanted| wanted.text.clone().into_bytes());
            (format!("{name}.toml"), text)
        };
        writes.extend(replaced.iter().map(text));
        writes.append(&mut left.last);
        let mut steps = vec![writes];
        let mut after_crash = AfterCrash::Undone;
        if gone.is_empty() {
            steps[0].extend(created.iter().map(text));
        } else {
            // What goes takes its state and its alerts with it, which no file put back would bring again: so only when all serve that did before. What is new
            // may be what goes, under another name: both over the same rows would do to them twice what they do, and neither nothing. The registry changes them as one.
            let files = gone.iter().map(|name| format!("{name}.toml"));
            let files =
                files.filter_map(|file| directory.has(&file).map(|has| has.then_some((file, None))).transpose());
            let files = files.collect::<Result<Vec<Write>, _>>()?;
            steps.push(left.going.into_iter().chain(files).chain(created.iter().map(text)).collect());
            after_crash = AfterCrash::Stands;
        }
        let last = steps.len() - 1;
        self.write_whole(directory, &steps, after_crash, |step| {
            let changed = (step == 0)
                .then(|| self.still_called(&replaced).or_else(|| self.not_serving(&replaced, &[], wanted)));
            let others = || {
                let gone_at_all = || gone.iter().find_map(|name| self.still_there(name));
                let new = || self.not_serving(&created, &gone, wanted);
                self.still_called(&gone).or_else(gone_at_all).or_else(new)
            };
            changed.flatten().or_else(|| (step == last).then(others).flatten())
        })
    }

    /// Why one of `changed` does not serve, if one does not, where `gone` went before.
    fn not_serving(&self, changed: &[&str], gone: &[&str], wanted: &BTreeMap<String, Wanted>) -> Option<Problem> {
        changed.iter().find_map(|name| {
            let enabled = wanted.get(*name).is_some_and(|wanted| wanted.file.enabled);
            let Known { status, .. } = self.known(name).filter(|_| enabled)?;
            let but_for = self.but_for(gone);
            not_serving(status, &format!("so it is with rule {name:?}, and all rules are as they were{but_for}"))
        })
    }
}

fn changed_meanwhile(module: &str) -> Problem {
    Problem::conflict(
        "changed_since",
        format!("{module} was changed on disk meanwhile; nothing was changed here: try again"),
    )
}
