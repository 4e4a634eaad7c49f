//! What a directory asks for when its files are broken or too many.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempfile::TempDir;

use super::*;
use crate::engine::Engine;

fn scanner(directory: &TempDir) -> Scanner {
    let admission = Arc::new(Admission::in_process(Engine::new().unwrap()));
    Scanner::new(directory.path().to_owned(), admission, None)
}

fn put(directory: &TempDir, name: &str, text: &str) {
    fs::write(directory.path().join(name), text).unwrap();
}

fn soundness(wanted: &BTreeMap<String, Wanted>) -> Vec<(&str, bool)> {
    wanted.iter().map(|(rule, wanted)| (rule.as_str(), wanted.file.is_ok())).collect()
}

/// Guarantees: a rule's file that breaks does not set its module free to run by its defaults: neither the one it seems to name, nor the one
/// it named when it could last be read, nor, where nobody can know, any that did not run before.
#[test]
fn a_broken_file_sets_no_module_free() {
    let directory = TempDir::new().unwrap();
    for name in ["scale.wasm", "threshold.wasm", "other.wasm"] {
        put(&directory, name, name);
    }
    put(&directory, "hot.toml", "module = \"threshold.wasm\"\n");
    put(&directory, "cold.toml", "module = 'scale.wasm'\norder = \"first\"\n");
    let mut scanner = scanner(&directory);
    let first = scanner.scan().unwrap();
    assert_eq!(soundness(&first), [("cold", false), ("hot", true), ("other", true)]);
    assert_eq!(first["cold"].module, "scale.wasm");
    put(&directory, "hot.toml", "modul");
    let last_known = scanner.scan().unwrap();
    assert_eq!(soundness(&last_known), [("cold", false), ("hot", false), ("other", true)]);
    assert_eq!(last_known["hot"].module, "threshold.wasm");
    put(&directory, "dark.toml", "\0");
    put(&directory, "new.wasm", "new");
    let in_the_dark = scanner.scan().unwrap();
    assert_eq!(
        soundness(&in_the_dark),
        [("cold", false), ("dark", false), ("hot", false), ("new", false), ("other", true)]
    );
    assert!(in_the_dark["new"].file.as_ref().unwrap_err().contains("dark.toml"), "{in_the_dark:?}");
    fs::remove_file(directory.path().join("dark.toml")).unwrap();
    assert!(scanner.scan().unwrap()["new"].file.is_ok());
}

/// Guarantees: of too many rules always the same ones are left out, and each says so.
#[test]
fn too_many_rules() {
    let name = |n: usize| format!("r{n:05}");
    let wanted = |n: usize| (name(n), Wanted { file: defaults("a.wasm"), ..Wanted::default() });
    let mut all: BTreeMap<String, Wanted> = (0..MAX_RULES + 2).map(wanted).collect();
    leave_out(&mut all);
    let left: Vec<&String> = all.iter().filter(|(_, wanted)| wanted.file.is_err()).map(|(rule, _)| rule).collect();
    assert_eq!(left, [&name(MAX_RULES), &name(MAX_RULES + 1)]);
}
