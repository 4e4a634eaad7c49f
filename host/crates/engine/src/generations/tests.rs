//! What is kept, what goes, and what is not believed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use tempfile::TempDir;

use super::*;

fn file(above: u32) -> (RuleFile, String) {
    let text = format!("module = \"a.wasm\" # the old one\ntopics = [\"dev/#\"]\n[config]\nabove = {above}\n");
    (RuleFile::parse(&text, "hot.toml").unwrap(), text)
}

fn keep(store: &Generations, number: u64, above: u32, module: &[u8]) {
    let ((file, text), sha256) = (file(above), hex(&Sha256::digest(module)));
    store.keep_module(&sha256, module).unwrap();
    store.keep("hot", number, &sha256, &file, &text, None).unwrap();
}

fn numbers(store: &Generations) -> Vec<u64> {
    store.versions("hot").iter().map(|version| version.generation).collect()
}

fn count(path: &Path, ending: &str) -> usize {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).count()
}

/// Guarantees: what was kept is there after a restart, word for word and byte for byte, with its number and which one serves.
#[test]
fn kept_over_a_restart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("generations");
    let store = Generations::open(&path).unwrap();
    keep(&store, 3, 80, b"one");
    keep(&store, 7, 90, b"two");
    let store = Generations::open(&path).unwrap();
    assert_eq!((store.newest(), store.serving("hot"), numbers(&store)), (7, Some(7), vec![7, 3]));
    let old = store.generation("hot", 3).unwrap();
    assert_eq!((old.text, old.file, &old.module[..]), (file(80).1, file(80).0, &b"one"[..]));
    assert_eq!(
        (store.same("hot", &old.version.sha256, &file(80).0), store.same("hot", "", &file(80).0)),
        (Some(3), None)
    );
    assert!(store.generation("hot", 4).unwrap_err().contains("not kept"));
    store.rest("hot");
    assert_eq!(store.serving("hot"), None);
    let store = Generations::open(&path).unwrap();
    assert_eq!((store.serving("hot"), numbers(&store)), (None, vec![7, 3]));
}

/// Guarantees: ten a rule and no more, modules only as long as one of them names them, all within so many bytes; the one that serves
/// always stays.
#[test]
fn bounded() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("generations");
    let mut store = Generations::open(&path).unwrap();
    for number in 1..=25 {
        keep(&store, number, number as u32, &[number as u8; 5_000]);
    }
    assert_eq!(numbers(&store), (16..=25).rev().collect::<Vec<u64>>());
    assert_eq!((count(&path, ".generation"), count(&path, ".wasm")), (10, 10));
    store.max_bytes = 20_000;
    keep(&store, 26, 26, &[26; 5_000]);
    assert_eq!(numbers(&store), [26, 25, 24]);
    store.max_bytes = 1;
    keep(&store, 27, 27, &[27; 5_000]);
    assert_eq!((numbers(&store), count(&path, ".wasm")), (vec![27], 1));
    assert!(store.generation("hot", 27).is_ok());
}

/// Guarantees: modules that are admitted one after the other and never come to serve do not fill the disk: the last one is there, and what generations
/// are of.
#[test]
fn modules_that_never_serve() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("generations");
    let mut store = Generations::open(&path).unwrap();
    store.max_bytes = 160_000;
    keep(&store, 1, 80, b"one");
    for number in 0..100 {
        let module = [number as u8; 5_000];
        let sha256 = hex(&Sha256::digest(module));
        store.keep_module(&sha256, &module).unwrap();
        assert!(store.has_module(&sha256), "{number}");
        assert!(count(&path, ".wasm") <= 5, "{number}: {}", count(&path, ".wasm"));
    }
    assert!(store.generation("hot", 1).is_ok());
}

/// Guarantees: what comes again has its newest number only; one that was quarantined is not gone back to, and neither is another of the
/// same.
#[test]
fn one_of_each() {
    let directory = TempDir::new().unwrap();
    let store = Generations::open(&directory.path().join("generations")).unwrap();
    keep(&store, 1, 80, b"one");
    keep(&store, 2, 90, b"one");
    keep(&store, 3, 80, b"one");
    assert_eq!((numbers(&store), store.serving("hot")), (vec![3, 2], Some(3)));
    assert_eq!(store.good_but("hot", 3), [2]);
    assert!(store.blame("hot", 3, "it trapped") && !store.blame("hot", 3, "it trapped again"));
    assert_eq!(store.serving("hot"), None, "it is not to return by itself");
    store.returns("hot", 2, 4, 3).unwrap();
    let store = Generations::open(&directory.path().join("generations")).unwrap();
    assert_eq!((store.returned_for("hot", 4), store.returned_for("hot", 3)), (Some(3), None));
    assert_eq!((numbers(&store), store.serving("hot"), store.good_but("hot", 4)), (vec![4, 3], Some(4), vec![]));
    assert_eq!(store.versions("hot")[1].fault.as_deref(), Some("it trapped"));
}

/// Guarantees: no record and no module with a flipped bit, cut short, or in another's place is taken for what it was.
#[test]
fn nothing_without_its_digest() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("generations");
    let store = Generations::open(&path).unwrap();
    keep(&store, 1, 80, b"one");
    keep(&store, 2, 90, b"two");
    let record = path.join("hot.1.generation");
    let sound = fs::read(&record).unwrap();
    for byte in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(&record, &flipped).unwrap();
        assert!(store.generation("hot", 1).is_err(), "byte {byte}");
    }
    fs::write(&record, &sound[..sound.len() - 1]).unwrap();
    assert_eq!(numbers(&Generations::open(&path).unwrap()), [2]);
    fs::copy(path.join("hot.2.generation"), &record).unwrap();
    assert_eq!(numbers(&Generations::open(&path).unwrap()), [2], "another's");
    fs::write(&record, &sound).unwrap();
    assert!(store.generation("hot", 1).is_ok());
    fs::write(path.join(module_name(&hex(&Sha256::digest(b"one")))), b"two").unwrap();
    let refused = store.generation("hot", 1).unwrap_err();
    assert!(refused.contains("does not fit its digest"), "{refused}");
}
