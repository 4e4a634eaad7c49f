//! Which failures `make test` takes for a matter of time.

use std::process::Command;

use tidegate_tests::root;

/// Guarantees: a test is named that waited in vain and failed for nothing else, be it in a thread that is joined; one that failed otherwise
/// is not, also where it waited too.
#[test]
fn waits_alone() {
    let log = "\
running 5 tests
failures:

---- a::waited stdout ----
thread 'a::waited' (7) panicked at tests/src/host.rs:1:2:
waited 180s for all rows: 4 of 5
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

---- a::lost stdout ----
thread 'a::lost' (8) panicked at tests/suite/a.rs:3:4:
assertion failed: nothing is lost

---- a::both stdout ----
thread 'a::both' (9) panicked at tests/src/host.rs:1:2:
waited 180s for all rows: 4 of 5

thread '<unnamed>' (10) panicked at tests/suite/a.rs:5:6:
an offset went back

---- a::joined stdout ----
thread '<unnamed>' (11) panicked at tests/src/host.rs:1:2:
waited 1.5s for the group: none
thread 'a::joined' (12) panicked at tests/suite/a.rs:7:8:
called `Result::unwrap()` on an `Err` value: Any { .. }

---- a::script stdout ----
thread 'a::script' (13) panicked at tests/suite/documents.rs:9:1:
the script ended with 1:
waited 180s for the answer

failures:
    a::waited
    a::lost
";
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("test.log");
    std::fs::write(&file, log).unwrap();
    let output = Command::new(root().join("deploy/dev/waited.sh")).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a::waited\na::joined\na::script\n");
}
