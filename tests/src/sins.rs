//! What hostile rules do when they have met the number 666: one list, for the suite and for the benches.

use crate::wat_guest::{of_world, wat_guest};

/// When a rule sins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In the call that brings the number.
    AtOnce,
    /// When what that call has returned is let go.
    OnReturn,
    /// In the next call that hands it a batch.
    NextBatch,
    /// When it is next told of a series.
    NextSeries,
    /// When it is next told of a topic: it is a decoder, by which every message is filtered.
    NextTopic,
    /// When it is started again, since it trapped in the call that brings the number.
    NextRevival,
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
    later("trap-after-return", When::OnReturn, "trap", "unreachable"),
    later("trap-in-declare-topics", When::NextTopic, "trap", "unreachable"),
    later("trap-in-configure", When::NextRevival, "trap", "unreachable"),
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
    /// Whether it is of the call that brings the number.
    pub fn is_at_once(&self) -> bool {
        matches!(self.when, When::AtOnce | When::OnReturn)
    }

    /// A rule that does it, and nothing else that is wrong. It needs 64 MiB, and is to be allowed no series.
    pub fn module(&self) -> Vec<u8> {
        let words = self.words;
        let at_once = match self.when {
            When::AtOnce => words,
            When::NextRevival => "unreachable",
            _ => REMEMBER,
        };
        let now = when_reading(666, at_once);
        let later = format!("(if {MET} (then {words}))");
        let again = if_known(&format!("hostile/{}/a", self.name), words);
        let mut places = vec![("process", &*now), ("deep", "(call $deep)")];
        match self.when {
            When::AtOnce => {}
            When::OnReturn => places.push(("posted", &later)),
            When::NextBatch => places.push(("realloc", &later)),
            When::NextSeries => places.push(("declare-series", &later)),
            When::NextTopic => return decoder(self.name, &later),
            When::NextRevival => places.push(("configure", &again)),
            When::NextTick => places.push(("tick", &later)),
            When::NextSave => places.push(("save", &later)),
        }
        wat_guest(self.name, &places)
    }
}

/// A decoder that does this when it is told of topics, once it has met the number.
fn decoder(name: &str, words: &str) -> Vec<u8> {
    let description = format!(
        r#"{{"name":"{name}","version":"1.0.0","summary":"","default-topics":["hostile/#"],"scope":"none","config-schema":null}}"#
    );
    let number = u64::from_le_bytes(*br#"{"v":666"#);
    // Somewhere in the payloads of the batch.
    let decode = format!(
        "(block $done (loop $next
            (br_if $done (i32.gt_s (local.get $i) (i32.sub (i32.load offset=44 (local.get $at)) (i32.const 8))))
            (if (i64.eq (i64.load (i32.add (i32.load offset=40 (local.get $at)) (local.get $i))) (i64.const {number}))
                (then {REMEMBER}))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))"
    );
    let text = include_str!("../wat/decoder.wat").replace("{decode}", &decode).replace("{declare-topics}", words);
    of_world("plain-decoder", &text, &description)
}

/// For any function: these instructions if the host knows that series. A rule that may make none is given the ids of such only, also before it is told of
/// any: so one that starts finds out whether it has started before.
fn if_known(series: &str, words: &str) -> String {
    let name: String = (series.bytes().enumerate())
        .map(|(at, byte)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", 704 + at))
        .collect();
    let length = series.len();
    format!(
        "{name} (i32.store (i32.const 640) (i32.const 704)) (i32.store (i32.const 644) (i32.const {length}))
        (call $resolve (i32.const 640) (i32.const 1) (i32.const 600))
        (if (i32.eqz (i32.load8_u (i32.load (i32.const 600)))) (then {words}))"
    )
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
