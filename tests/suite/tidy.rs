//! The house is tidy: what a reader should not meet is not there.

use std::path::{Path, PathBuf};

use tidegate_tests::{files, root};

/// The most lines of a source file: what people can hold in the head, with room for the odd one.
const MAX_LINES: usize = 600;

/// What no file may say, where it may not, and why. Parted, so that this file does not say it.
const UNWANTED: &[(&str, &[&str], &str)] = &[
    (concat!("to", "do!("), &["rs"], "unfinished work"),
    (concat!("unimple", "mented!("), &["rs"], "unfinished work"),
    (concat!("#[ig", "nore"), &["rs"], "a test that is not run; make it run, or remove it"),
    (concat!("/", "work/"), &["rs", "toml", "md", "sh", "wit", "sql", "yml", "yaml"], "a path of one machine"),
    (concat!("/", "root/"), &["rs", "toml", "md", "sh", "wit", "sql", "yml", "yaml"], "a path of one machine"),
    (concat!("\"/", "tmp/"), &["rs"], "a shared directory; use a TempDir"),
    (concat!(" /", "tmp/"), &["rs"], "a shared directory; use a TempDir"),
];

/// Guarantees: files stay readable, finished and free of this machine, and every crate says at its top what it is.
#[test]
fn nothing_untidy() {
    let files = files(&root());
    assert!(files.len() > 100, "too few files were found: {}", files.len());
    let all = files.iter().flat_map(|path| {
        let text = std::fs::read(root().join(path)).unwrap();
        problems(path, &String::from_utf8_lossy(&text))
    });
    let all: Vec<String> = all.collect();
    assert!(all.is_empty(), "untidy:\n{}", all.join("\n"));
}

/// Guarantees: the check above can fail, on each of its rules.
#[test]
fn untidy_is_found() {
    let found = |path: &str, text: &str| problems(Path::new(path), text).len();
    assert_eq!(found("a/src/lib.rs", "//! What it does.\nfn a() {}\n"), 0);
    assert_eq!(found("a/src/other.rs", &"\n".repeat(MAX_LINES + 1)), 1, "too long");
    assert_eq!(found("a/src/other.rs", &format!("// @generated\n{}", "\n".repeat(MAX_LINES))), 0, "generated");
    assert_eq!(found("a/src/lib.rs", "fn a() {}\n"), 1, "a crate without a word");
    assert_eq!(found("a/src/lib.rs", "//!\n"), 1, "a crate with an empty word");
    for (unwanted, kinds, _) in UNWANTED {
        for kind in *kinds {
            assert_eq!(
                found(&format!("a/b.{kind}"), &format!("//! x\nlet a ={unwanted}b\n")),
                1,
                "{unwanted} in {kind}"
            );
        }
    }
}

/// Guarantees: the map of the house leads to files and folders that are there.
#[test]
fn the_map_leads_somewhere() {
    let there = files(&root());
    let map = std::fs::read_to_string(root().join("host/ARCHITECTURE.md")).unwrap();
    let lost = nowhere(&map, &there);
    assert!(lost.is_empty(), "the map names what is not there: {lost:?}");
    let wrong = "`model/src/ack.rs`, `lane/`, `../wit`, `a/b`, `alerts/<rule>`: `b.rs`, `lane/none.rs`, `src/none/`";
    assert_eq!(nowhere(wrong, &there), ["b.rs", "lane/none.rs", "src/none/"]);
}

/// Guarantees: a file or folder that the map of the house, the README or another document names is there, so that who follows them finds it.
#[test]
fn paths_are_there() {
    let all = files(&root());
    let there = |path: &str| all.iter().any(|file| file.starts_with(path));
    // The map gives crates' files without what all of them begin with.
    let begins = ["", "host/", "host/crates/", "tests/", "tests/suite/"];
    let tops = ["host/", "guest-sdk/", "rules/", "wit/", "deploy/", "tests/", "examples/", "src/"];
    let crates: Vec<String> = std::fs::read_dir(root().join("host/crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap() + "/")
        .collect();
    let mut missing = Vec::new();
    for document in
        all.iter().filter(|path| path.extension().is_some_and(|it| it == "md") && !path.ends_with("CHANGELOG.md"))
    {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let known = |start: &&str| word.starts_with(start);
            let is_path = word.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
            if is_path && (tops.iter().any(known) || crates.iter().any(|start| word.starts_with(start.as_str()))) {
                let beside = document.parent().unwrap().join(word);
                if !begins.iter().any(|start| there(&format!("{start}{word}"))) && !there(&beside.to_string_lossy()) {
                    missing.push(format!("{}: {word}", document.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}

/// What a text names as a file of ours (`….rs`) or a folder (`…/`), by the end of its path at least, and is not there.
fn nowhere<'t>(text: &'t str, there: &[PathBuf]) -> Vec<&'t str> {
    let there: Vec<String> = there.iter().map(|path| format!("/{}", path.display())).collect();
    let named = text.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '<', ':']));
    let is_there = |name: &str| {
        let end = format!("/{}", name.trim_start_matches("../"));
        there.iter().any(|path| if end.ends_with('/') { path.contains(&end) } else { path.ends_with(&end) })
    };
    named.filter(|name| (name.ends_with(".rs") || name.ends_with('/')) && !is_there(name)).collect()
}

/// What is wrong with a file, each with its line.
fn problems(path: &Path, text: &str) -> Vec<String> {
    let (mut problems, shown) = (Vec::new(), path.display());
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    for (at, line) in text.lines().enumerate() {
        for (unwanted, kinds, why) in UNWANTED {
            if kinds.contains(&extension.as_str()) && line.contains(unwanted) {
                problems.push(format!("{shown}:{}: `{unwanted}`: {why}", at + 1));
            }
        }
    }
    if extension == "rs" {
        let lines = text.lines().count();
        if lines > MAX_LINES && !text.starts_with("// @generated") {
            problems
                .push(format!("{shown}: {lines} lines; more than {MAX_LINES} nobody holds in the head: split it"));
        }
        let root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        let says =
            text.lines().next().and_then(|line| line.strip_prefix("//!")).is_some_and(|doc| !doc.trim().is_empty());
        if root && !says {
            problems.push(format!("{shown}:1: a crate opens with `//!` and what it does"));
        }
    }
    problems
}
