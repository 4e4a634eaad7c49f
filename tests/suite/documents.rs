//! What the documents tell a reader to type works.
//!
//! Blocks marked `sh test` in `README.md` and `examples/*/README.md` are run, those of one document in order and in one
//! shell, in a copy of the repository below `target` in which the binary is where `make demo` builds it. The copy stays, with
//! what was built in it, so that the next run builds only what has changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidegate_tests::{Server, binary, files, installed, root};

/// How long one document may take: the first time it builds a good part of the workspace.
const PATIENCE: Duration = Duration::from_secs(900);

/// How many lines of what its commands have said a document that does not work shows first.
const LAST_WORDS: usize = 20;

/// Programs the documents use that a machine may lack, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 2] = [("mosquitto_pub", "mosquitto-clients"), ("curl", "curl")];

/// Guarantees: every command that a document marks as tested ends with success.
#[test]
fn commands_work() {
    if !PROGRAMS.iter().all(|(program, package)| installed(program, package)) {
        return;
    }
    let all = files(&root());
    let documents = all.iter().filter(|path| {
        let example = path.starts_with("examples") && path.ends_with("README.md") && path.components().count() == 3;
        example || path.as_path() == Path::new("README.md")
    });
    for document in documents {
        let blocks = blocks(&fs::read_to_string(root().join(document)).unwrap());
        assert!(!blocks.is_empty(), "{} has no block marked `sh test`", document.display());
        run(document, &blocks.join("\n"));
    }
}

fn run(document: &Path, script: &str) {
    let copy = fresh_copy();
    let log = copy.join("target/document.log");
    // What an earlier document said is not what this one says.
    let _ = fs::remove_file(&log);
    let mut bash = Command::new("bash");
    let told = format!("trap 'echo \"it failed at: $BASH_COMMAND\" >&2' ERR\n{script}");
    bash.args(["-euxo", "pipefail", "-c", &told]).current_dir(copy.join(document.parent().unwrap()));
    // Who reads an example has read the README, which puts the binary on the PATH.
    if document != Path::new("README.md") {
        let path = std::env::var("PATH").unwrap();
        bash.env("PATH", format!("{}:{path}", copy.join("target/release").display()));
    }
    let mut shell = Server::spawn_group("the document's script", &mut bash, &log);
    let status = shell.wait(PATIENCE);
    let (said, tail) = (last_words(&fs::read_to_string(&log).unwrap()), shell.tail());
    assert!(status.success(), "{} does not work: {status}; its commands said:\n{said}\n{tail}", document.display());
}

/// The end of what the commands themselves have said, without the shell's trace of them: why one has failed stands there, however much was traced.
fn last_words(log: &str) -> String {
    let said: Vec<&str> = log.lines().filter(|line| !line.starts_with('+')).collect();
    said[said.len().saturating_sub(LAST_WORDS)..].join("\n")
}

/// `target/documents`: the files of the repository and the modules of its rules as they are now, and no others.
fn fresh_copy() -> PathBuf {
    let (root, copy) = (root(), root().join("target/documents"));
    let wanted = files(&root);
    if copy.exists() {
        for old in files(&copy).iter().filter(|path| !wanted.contains(path)) {
            fs::remove_file(copy.join(old)).unwrap();
        }
    }
    for path in wanted {
        let (from, to) = (fs::read(root.join(&path)).unwrap(), copy.join(&path));
        // A file that is the same keeps its time, so that what was made of it need not be made again.
        if fs::read(&to).ok().as_ref() != Some(&from) {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(&to, from).unwrap();
            fs::set_permissions(&to, fs::metadata(root.join(&path)).unwrap().permissions()).unwrap();
        }
    }
    let (built, target) = (root.join("target"), copy.join("target"));
    let _ = fs::remove_dir_all(target.join("rules"));
    fs::create_dir_all(target.join("rules")).unwrap();
    for module in fs::read_dir(built.join("rules")).into_iter().flatten().flatten() {
        fs::copy(module.path(), target.join("rules").join(module.file_name())).unwrap();
    }
    let _ = fs::remove_dir_all(target.join("release"));
    fs::create_dir_all(target.join("release")).unwrap();
    symlink(binary(), target.join("release/tidegate")).unwrap();
    if !target.join("dev").exists() && built.join("dev").exists() {
        symlink(built.join("dev"), target.join("dev")).unwrap();
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

/// Guarantees: what a command has said before it failed is shown, and so is which it was, in one piece.
#[test]
fn last_words_are_shown() {
    let log = "+ heat 60\n++ seq 12\nError: The connection was lost.\n+ echo it\nit failed at: heat\n+ kill -INT 7\n";
    assert_eq!(last_words(log), "Error: The connection was lost.\nit failed at: heat");
    assert_eq!(last_words(&"a\n".repeat(LAST_WORDS + 5)).lines().count(), LAST_WORDS);
}

/// Guarantees: only marked blocks are found, whole and in order.
#[test]
fn marked_blocks_are_found() {
    let text = "a\n```sh test\none\ntwo\n```\n```sh\nnot this\n```\n```rust\nnor this\n```\n```sh test\nthree\n```\n";
    assert_eq!(blocks(text), ["one\ntwo\n", "three\n"]);
}
