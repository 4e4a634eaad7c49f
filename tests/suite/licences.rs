//! What the binary is made of may be given on: each crate that it takes in says under which licence, and those are known to go with Apache-2.0.
//! Known faults of crates cannot be looked up here, without a network.

use std::process::Command;

use serde_json::Value;
use tidegate_tests::root;

/// Licences that ask for no more than their text being kept. Another one is a decision, made here.
const FREE: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Guarantees: every crate that is built, for whatever purpose, is under such a licence.
#[test]
fn all_crates_are_free() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Of other platforms not all crates need be on this machine.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform]);
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let crates = metadata["packages"].as_array().unwrap();
    assert!(crates.len() > 100, "too few crates were found: {}", crates.len());
    let bound: Vec<String> = crates
        .iter()
        .filter(|it| !it["license"].as_str().is_some_and(is_free))
        .map(|it| format!("{} {}: {}", it["name"], it["version"], it["license"]))
        .collect();
    assert!(bound.is_empty(), "crates of other licences:\n{}", bound.join("\n"));
}

/// Guarantees: the check above can fail: one of several licences must be free where one may choose, all of them where all hold.
#[test]
fn others_are_found() {
    for free in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND Unicode-3.0", "Zlib AND ISC"] {
        assert!(is_free(free), "{free}");
    }
    for bound in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0 WITH Other-exception", "(MIT OR ISC) AND AGPL-3.0"] {
        assert!(!is_free(bound), "{bound}");
    }
}

/// Whether a crate's `license` leaves a free one to choose. `AND` is taken to bind less than `OR`, which is at most too strict.
fn is_free(license: &str) -> bool {
    let any_of = |part: &str| part.split(" OR ").flat_map(|it| it.split('/')).any(|it| FREE.contains(&it.trim()));
    license.split(" AND ").all(|part| any_of(part.trim_matches(['(', ')'])))
}
