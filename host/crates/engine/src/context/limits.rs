//! How far a guest may grow, and for how long a call may run.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};

/// Core instances that a component may make; what each takes up beside memory and tables is bounded when the module is looked over
/// ([`crate::admission`]).
pub(crate) const MAX_INSTANCES: usize = 20;
const MAX_TABLE_ENTRIES: usize = 100_000;
/// What an entry of a table takes up.
const TABLE_ENTRY_BYTES: usize = 16;

/// Memory a guest may grow to.
pub(crate) struct MemoryLimit {
    pub limit_bytes: usize,
    pub now_bytes: usize,
    /// What its tables take up of the same limit.
    tables_bytes: usize,
    pub refused: bool,
}

impl MemoryLimit {
    pub fn of(limit_bytes: usize) -> Self {
        Self { limit_bytes, now_bytes: 0, tables_bytes: 0, refused: false }
    }
}

/// When a running call is to be stopped.
pub(crate) struct Deadline {
    cpu: Duration,
    wall: Duration,
    began: Option<(Duration, Instant)>,
    pub overrun: bool,
}

impl Deadline {
    pub fn new(cpu: Duration, wall: Duration) -> Self {
        Self { cpu, wall, began: None, overrun: false }
    }

    /// The epoch has moved while the guest runs. The clock is read only now, so that calls shorter than a tick pay nothing for it.
    pub fn look(&mut self) -> UpdateDeadline {
        let now = thread_cpu();
        let (cpu_began, wall_began) = *self.began.get_or_insert_with(|| (now, Instant::now()));
        let over_cpu = now.saturating_sub(cpu_began) >= self.cpu;
        if over_cpu || wall_began.elapsed() >= self.wall {
            self.overrun = true;
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::Continue(1)
    }
}

/// CPU time this thread has used.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let fits = self.now_bytes - current.min(self.now_bytes) + desired + self.tables_bytes <= self.limit_bytes;
        if fits {
            self.now_bytes += desired - current.min(desired);
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current).saturating_mul(TABLE_ENTRY_BYTES);
        let in_all = self.now_bytes.saturating_add(self.tables_bytes).saturating_add(more);
        let fits = desired <= MAX_TABLE_ENTRIES && in_all <= self.limit_bytes;
        if fits {
            self.tables_bytes += more;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        20
    }

    fn memories(&self) -> usize {
        4
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::rule::Limits;

    /// Guarantees: tables are charged to the memory that a guest may have, as they are made and as they grow, and none has more entries than it may; a module that
    /// declares more of them than fit cannot be instantiated.
    #[test]
    fn tables_are_memory() {
        let mut memory = MemoryLimit::of(Limits::default().memory_bytes);
        let fits = |memory: &mut MemoryLimit, from, to| memory.table_growing(from, to, None).unwrap();
        assert!(!fits(&mut memory, 0, MAX_TABLE_ENTRIES + 1) && memory.refused);
        let made = (0..MAX_INSTANCES).take_while(|_| fits(&mut memory, 0, MAX_TABLE_ENTRIES)).count();
        assert_eq!(made, memory.limit_bytes / (MAX_TABLE_ENTRIES * TABLE_ENTRY_BYTES));
        assert!(!memory.memory_growing(0, 1 << 20, None).unwrap(), "there is less left than that");
        assert!(memory.memory_growing(0, 1 << 16, None).unwrap());
        let engine = crate::engine::Engine::new().unwrap();
        for (tables, fit) in [(made, true), (made + 1, false)] {
            let text = format!("(module {})", "(table 100000 funcref)".repeat(tables));
            let module = wasmtime::Module::new(&engine.base().wasmtime, wat::parse_str(text).unwrap()).unwrap();
            let mut store =
                wasmtime::Store::new(&engine.base().wasmtime, MemoryLimit::of(Limits::default().memory_bytes));
            store.limiter(|memory| memory);
            assert_eq!(wasmtime::Instance::new(&mut store, &module, &[]).is_ok(), fit, "{tables} tables");
        }
    }
}
