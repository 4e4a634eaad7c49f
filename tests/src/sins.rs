//! What hostile rules do when they have met the number 666: one list, for the suite and for the benches.

use crate::wat_guest::wat_guest;

/// When a rule sins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In the call that brings the number.
    AtOnce,
    /// In the next call that hands it a batch.
    NextBatch,
    /// When it is next told of a series.
    NextSeries,
    /// When it next acts without a message.
    NextTick,
    /// When its state is next asked for.
    NextSave,
}

/// One thing that a rule can do.
#[derive(Clone, Copy, Debug)]
pub struct Sin {
    /// What it is called, and a rule that does it.
    pub name: &'static str,
    /// When it is done.
    pub when: When,
    /// The kind of fault that comes of it, as the status calls it; none where the rule goes on.
    pub fault: Option<&'static str>,
    words: &'static str,
}

/// Once it has met the number, this is 1.
const MET: &str = "(i32.load8_u (i32.const 520))";
/// Remembers that.
pub const REMEMBER: &str = "(i32.store8 (i32.const 520) (i32.const 1))";

/// From `save`: one byte of state of the first series, and that there is more.
const ONE_CELL_AND_MORE: &str = "(i32.store8 (i32.const 608) (i32.const 1))
    (i32.store (i32.const 544) (i32.const 624)) (i32.store (i32.const 548) (i32.const 1))
    (i32.store (i32.const 552) (i32.const 628)) (i32.store (i32.const 556) (i32.const 1))
    (i32.store (i32.const 560) (i32.const 632)) (i32.store (i32.const 564) (i32.const 1))
    (i32.store (i32.const 628) (i32.const 1)) (return (i32.const 544))";

/// All of them.
pub const SINS: &[Sin] = &[
    at_once("endless-loop", "timeout", "(loop $for_ever (br $for_ever))"),
    at_once("recursion", "trap", "(call $deep)"),
    at_once(
        "memory",
        "memory",
        "(loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable",
    ),
    // Memory of 60 MiB, filled again and again.
    at_once(
        "fills",
        "timeout",
        "(drop (memory.grow (i32.const 958))) (loop $again (memory.fill (i32.const 65536) (i32.const 7) (i32.const 62000000)) (br $again))",
    ),
    // `keep`, a list longer than the memory.
    at_once(
        "giant-return",
        "trap",
        "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 24) (i32.const 0x10000000)) (return (i32.const 16))",
    ),
    // `replaced`, with one series, and nothing in the other columns.
    at_once(
        "mismatched-columns",
        "bad_output",
        "(i32.store8 (i32.const 16) (i32.const 3)) (i32.store (i32.const 20) (i32.const 8)) (i32.store (i32.const 24) (i32.const 1)) (return (i32.const 16))",
    ),
    at_once("trap", "trap", "unreachable"),
    at_once("divide", "trap", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
    at_once("outside", "trap", "(drop (i32.load (i32.const -4)))"),
    Sin {
        name: "log-flood",
        when: When::AtOnce,
        fault: None,
        words: "(loop $more (call $log (i32.const 2) (i32.const 1280) (i32.const 20)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $more (i32.lt_u (local.get $i) (i32.const 10000))))",
    },
    // An address beyond the memory.
    later("lying-realloc", When::NextBatch, "trap", "(return (i32.const -64))"),
    later("trap-in-declare-series", When::NextSeries, "trap", "unreachable"),
    later("trap-in-tick", When::NextTick, "trap", "unreachable"),
    later("trap-in-save", When::NextSave, "trap", "unreachable"),
    later("endless-save", When::NextSave, "timeout", "(loop $for_ever (br $for_ever))"),
    later("state-without-end", When::NextSave, "bad_output", ONE_CELL_AND_MORE),
];

const fn at_once(name: &'static str, fault: &'static str, words: &'static str) -> Sin {
    later(name, When::AtOnce, fault, words)
}

const fn later(name: &'static str, when: When, fault: &'static str, words: &'static str) -> Sin {
    Sin { name, when, fault: Some(fault), words }
}

impl Sin {
    /// A rule that does it, and nothing else that is wrong. It needs 64 MiB.
    pub fn module(&self) -> Vec<u8> {
        let words = self.words;
        let now = when_reading(666, if self.when == When::AtOnce { words } else { REMEMBER });
        let later = format!("(if {MET} (then {words}))");
        let mut places = vec![("process", &*now), ("deep", "(call $deep)")];
        match self.when {
            When::AtOnce => {}
            When::NextBatch => places.push(("realloc", &later)),
            When::NextSeries => places.push(("declare-series", &later)),
            When::NextTick => places.push(("tick", &later)),
            When::NextSave => places.push(("save", &later)),
        }
        wat_guest(self.name, &places)
    }
}

/// For `process`: these instructions for every row whose value is `number`.
pub fn when_reading(number: u32, words: &str) -> String {
    format!(
        "(local.set $i (i32.const 0))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $rows)))
            (if (f64.eq (f64.load (i32.add (local.get $values) (i32.mul (local.get $i) (i32.const 8)))) (f64.const {number}))
                (then {words}))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))"
    )
}
