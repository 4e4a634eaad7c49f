use std::collections::BTreeMap;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use tidegate_engine::{Admission, Engine, Registry};

use super::document::Wanted;
use super::*;

#[path = "../../../engine/tests/stub/lanes.rs"]
mod lanes;

/// A rule `hot` of a module of ours, switched off, and the desk at which it is changed.
fn desk() -> (TempDir, Desk) {
    let directory = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/rules/json-reading.wasm");
    let module = std::fs::read(&path);
    let module = module.unwrap_or_else(|error| panic!("{}: {error}; `make rules` builds it", path.display()));
    std::fs::write(directory.path().join("read.wasm"), module).unwrap();
    std::fs::write(directory.path().join("hot.toml"), "module = \"read.wasm\"\nenabled = false\n").unwrap();
    let admission = Admission::in_process(Engine::new().unwrap());
    let registry =
        Registry::start(admission, directory.path(), None, Box::new(lanes::StubLanes(|_: &_| Ok(())))).unwrap();
    registry.rescan().unwrap();
    let schemas = Confined::of_this_binary(&["--list"]);
    let desk = Desk::new(RulesDir::new(directory.path()), registry, schemas, Changes::Allowed);
    (directory, desk)
}

/// Guarantees: a change that comes when the host ends already is none, and is answered as one to be made again: nobody has read its files, and they are put back.
#[test]
fn while_the_host_ends() {
    let (directory, desk) = desk();
    let file = |name: &str| std::fs::read_to_string(directory.path().join(name)).ok();
    let (before, anything) = (file("hot.toml"), Condition::default());
    desk.registry.stop();
    let off = json!({ "module": "read.wasm", "enabled": false, "order": 7 });
    let changes: [(&str, Result<(), Problem>); 6] = [
        ("put", desk.put("hot", &off, &anything).map(drop)),
        ("new", desk.put("new", &off, &anything).map(drop)),
        ("patch", desk.patch("hot", &json!({ "order": 7 }), &anything).map(drop)),
        ("retry", desk.with_rule("hot", &anything, |name| Ok(desk.registry.retry(name)?))),
        ("delete", desk.delete("hot", &anything).map(drop)),
        ("prune", desk.prune(WhichModules { older_than: Default::default(), keep: 0 }, Mode::Apply).map(drop)),
    ];
    for (what, done) in changes {
        let problem = done.err().unwrap_or_else(|| panic!("{what} was done"));
        assert_eq!((problem.status(), problem.code()), (StatusCode::SERVICE_UNAVAILABLE, "busy"), "{what}");
    }
    assert_eq!((file("hot.toml"), file("new.toml")), (before, None));
    assert!(file("read.wasm.waits").is_none() && file(".read.wasm.waits").is_none());
}

/// Guarantees: a module that has become another since a document was held against the directory is not taken for the one that it names.
#[test]
fn a_module_changed_meanwhile() {
    let (_directory, desk) = desk();
    let sha256 = desk.modules().ok().unwrap().remove(0).sha256;
    let directory = desk.directory.open().unwrap();
    let wanted = |sha256: &str| {
        let (file, text) = RuleFile::from_json(&json!({ "module": "read.wasm" }), "hot.toml").unwrap();
        Wanted { file, text, sha256: sha256.to_owned() }
    };
    let look = |wanted: &Wanted| desk.look_at(&directory, "hot", wanted, None, &mut BTreeMap::new());
    let other = look(&wanted(&sha256.replace(|_: char| true, "0"))).unwrap_err();
    assert_eq!((other.status(), other.code()), (StatusCode::CONFLICT, "changed_since"));
    // As it is it goes on to the schemas, for which there is no child here.
    let same = look(&wanted(&sha256)).err().map(|problem| problem.code());
    assert_ne!(same, Some("changed_since"));
}
