//! `[sources.….limit]`.

use tidegate_model::{Excess, Limit, Limits, PrefixLimit};

use super::{SOURCE, good};
use crate::tests::mistakes::check;

fn limits(text: &str) -> Limits {
    let config = good(&format!("{SOURCE}{text}"));
    config.limits.into_values().next().unwrap()
}

/// Guarantees: no limit unless one is written; a source holds its excess and a prefix gives it to the dead letters, unless told otherwise.
#[test]
fn accepted() {
    assert_eq!(limits(""), Limits::default());
    let whole = Limit { per_second: 50, burst: 50, excess: Excess::Hold };
    assert_eq!(limits("limit = { messages_per_s = 50 }\n"), Limits { source: Some(whole), prefix: None });
    let prefix = |levels, limit| PrefixLimit { levels, limit, max_prefixes: 1_000 };
    let each = Limit { per_second: 5, burst: 9, excess: Excess::DeadLetter };
    assert_eq!(
        limits("limit = { prefix = { levels = 2, messages_per_s = 5, burst = 9 } }\n"),
        Limits { source: None, prefix: Some(prefix(2, each)) }
    );
    let text = "limit = { messages_per_s = 50, excess = \"drop\", prefix = { messages_per_s = 5, burst = 9, excess = \"hold\" } }\n";
    let held = Limit { excess: Excess::Hold, ..each };
    let dropped = Limit { excess: Excess::Drop, ..whole };
    assert_eq!(limits(text), Limits { source: Some(dropped), prefix: Some(prefix(1, held)) });
}

/// Guarantees: a limit that limits nothing, and values that cannot be, are told with their line.
#[test]
fn mistaken() {
    let text = format!("{SOURCE}limit = {{ burst = 3, prefix = {{ levels = 0, excess = \"wait\" }} }}\n");
    check(
        &text,
        "
t.toml:4:19: `burst` means nothing without a rate; add messages_per_s = 1000
t.toml:4:31: `messages_per_s` is missing; add messages_per_s = 100
t.toml:4:42: `levels` cannot be 0; choose from 1 to 64; the default is 1
t.toml:4:54: `excess` cannot be `wait`; known here: `hold`, `dead_letter`, `drop`",
    );
}
