//! What `make test` says of the servers it ran against.

use std::process::Command;

use tidegate_tests::root;

/// Guarantees: each server is named with the number of tests, however often a test started one; what was skipped is named with its reason, and
/// that nothing was.
#[test]
fn each_is_counted() {
    let said = |notes: &str| {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("servers-run");
        std::fs::write(&file, notes).unwrap();
        let output = Command::new(root().join("deploy/dev/servers.sh")).arg(&file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = "PostgreSQL\ta::b\nKafka: Apache Kafka (KRaft)\ta::b\nPostgreSQL\ta::b\nPostgreSQL\ta::c\n";
    assert_eq!(
        said(all),
        "\nrun against:\n  Kafka: Apache Kafka (KRaft), in 1 test\n  PostgreSQL, in 2 tests\n  SKIPPED: nothing\n"
    );
    let skipped = "SKIPPED: PgBouncer: not installed\ta\nSKIPPED: PgBouncer: not installed\tb\n";
    assert_eq!(said(skipped), "\nrun against:\n  SKIPPED: PgBouncer: not installed, in 2 tests\n");
}
