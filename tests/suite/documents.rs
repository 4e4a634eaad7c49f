//! What the documents tell a reader to type works.
//!
//! Blocks marked `sh test` in `README.md` and `examples/*/README.md` are run, those of one document in order and in one
//! shell, in a copy of the repository, with the built binary on the PATH.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_tests::{Server, binary, repository, root};

/// How long one document may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Guarantees: every command that a document marks as tested ends with success.
#[test]
fn commands_work() {
    let all = repository();
    let documents = all.iter().filter(|path| {
        let example = path.starts_with("examples") && path.ends_with("README.md") && path.components().count() == 3;
        example || path.as_path() == Path::new("README.md")
    });
    for document in documents {
        let blocks = blocks(&std::fs::read_to_string(root().join(document)).unwrap());
        assert!(!blocks.is_empty(), "{} has no block marked `sh test`", document.display());
        run(document, &blocks.join("\n"));
    }
}

fn run(document: &Path, script: &str) {
    let copy = copy();
    let path = std::env::var("PATH").unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", script])
        .current_dir(copy.path().join(document.parent().unwrap()))
        .env("PATH", format!("{}:{path}", binary().parent().unwrap().display()))
        // The variables of this cargo are not for the cargo of the script.
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("RUSTUP_TOOLCHAIN");
    let mut shell = Server::spawn("the document's script", &mut bash, &copy.path().join("target/document.log"));
    let status = shell.wait(PATIENCE);
    assert!(status.success(), "{} does not work: {status}; {}", document.display(), shell.tail());
}

/// A copy of the repository that shares what takes long to build, and nothing that a script might change by it.
fn copy() -> TempDir {
    let (copy, root) = (TempDir::new().unwrap(), root());
    for path in repository() {
        let to = copy.path().join(&path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root.join(&path), to).unwrap();
    }
    let target = copy.path().join("target");
    std::fs::create_dir_all(target.join("rules")).unwrap();
    for shared in ["wasm", "dev", "debug"] {
        symlink(root.join("target").join(shared), target.join(shared)).unwrap();
    }
    for module in std::fs::read_dir(root.join("target/rules")).into_iter().flatten().flatten() {
        std::fs::copy(module.path(), target.join("rules").join(module.file_name())).unwrap();
    }
    copy
}

/// The contents of the blocks whose info string is `sh test`.
fn blocks(text: &str) -> Vec<String> {
    let (mut blocks, mut open) = (Vec::new(), None::<String>);
    for line in text.lines() {
        match &mut open {
            None if line.trim() == "```sh test" => open = Some(String::new()),
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some(block) => *block += &format!("{line}\n"),
            None => {}
        }
    }
    blocks
}

/// Guarantees: only marked blocks are found, whole and in order.
#[test]
fn marked_blocks_are_found() {
    let text = "a\n```sh test\none\ntwo\n```\n```sh\nnot this\n```\n```rust\nnor this\n```\n```sh test\nthree\n```\n";
    assert_eq!(blocks(text), ["one\ntwo\n", "three\n"]);
}
