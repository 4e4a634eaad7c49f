//! On what terms a module is let in: what of its rule's file it must know before there is a rule.

use tidegate_config::{RuleFile, RuleLimits, STACKS_KIB};

/// What a module may have from the very beginning, when it is asked what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Terms {
    /// Whether it may import WASI.
    pub wasi: Wasi,
    /// How much of its thread's stack it may use.
    pub stack: Stack,
}

/// Whether a module may import WASI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wasi {
    /// It may not.
    #[default]
    Refused,
    /// It gets an empty one: clocks and random numbers; no files, no environment, no network.
    Empty,
}

/// How much of its thread's stack a guest may use: a place in [`STACKS_KIB`].
///
/// A thread must have that and as much as the host's own frames take; those of [`tidegate_telemetry::thread`] have [`tidegate_telemetry::THREAD_STACK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stack(pub(crate) usize);

/// What the host's own frames may take, below those of a guest and above them: bytes.
const HOSTS_OWN: usize = 1 << 20;
const _: () = assert!(tidegate_telemetry::THREAD_STACK >= Stack::LARGEST.bytes() + HOSTS_OWN);

impl Terms {
    /// Those of a rule's file.
    pub fn of(file: &RuleFile) -> Self {
        Self { wasi: Wasi::allowed(file.wasi), stack: Stack::of_kib(file.limits.stack_kib) }
    }

    /// Those of a module that no rule names yet: the most of the stack that any rule can give it.
    pub fn of_no_rule(wasi: Wasi) -> Self {
        Self { wasi, stack: Stack::LARGEST }
    }
}

impl Wasi {
    /// As in `wasi = true`.
    pub fn allowed(wasi: bool) -> Self {
        if wasi { Wasi::Empty } else { Wasi::Refused }
    }
}

impl From<Wasi> for Terms {
    fn from(wasi: Wasi) -> Self {
        Self { wasi, ..Self::default() }
    }
}

impl Stack {
    /// The most that a rule's file can give it.
    pub const LARGEST: Self = Self(STACKS_KIB.len() - 1);

    /// The smallest that has as much.
    pub const fn of_kib(kib: u32) -> Self {
        let mut at = 0;
        while at < Self::LARGEST.0 && STACKS_KIB[at] < kib {
            at += 1;
        }
        Self(at)
    }

    /// How much that is.
    pub const fn bytes(self) -> usize {
        (STACKS_KIB[self.0] as usize) << 10
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self::of_kib(RuleLimits::default().stack_kib)
    }
}
