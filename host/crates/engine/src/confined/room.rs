//! How much memory a child may take where too much ends the host as well.
//!
//! A child is the first to go when memory is short. But a control group with `memory.oom.group` goes whole when it has passed its `memory.max`,
//! whoever passed it: Kubernetes sets that for containers. There a child gets a part of what is left.

use std::path::{Component, Path};

/// Where the one hierarchy of control groups stands.
const GROUPS: &str = "/sys/fs/cgroup";
/// Below this no child even begins. It is a part of what is kept back.
const LEAST_BYTES: u64 = 8 << 20;

/// What a container has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// What a child may take of it, and its answer beside: bytes.
    pub bytes: u64,
    /// What the container may have in all: bytes.
    pub container_bytes: u64,
}

/// What the files of a control group say; nothing where there are none.
#[derive(Debug, Default)]
struct Group {
    max: String,
    current: String,
    stat: String,
    oom_group: String,
}

/// What there is for a child; none where the kernel ends it alone.
pub(super) fn room() -> Option<Room> {
    let of_process = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = of_process.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // One outside of what this process sees is of no use.
    if Path::new(own).components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let groups = Path::new(own).ancestors().map(|group| {
        let group = Path::new(GROUPS).join(group);
        let says = |file: &str| std::fs::read_to_string(group.join(file)).unwrap_or_default();
        Group {
            max: says("memory.max"),
            current: says("memory.current"),
            stat: says("memory.stat"),
            oom_group: says("memory.oom.group"),
        }
    });
    least(groups)
}

/// The least room there is in a group and in those around it, from the inmost out.
fn least(groups: impl Iterator<Item = Group>) -> Option<Room> {
    let mut whole = false;
    let rooms = groups.filter_map(|group| {
        // Of the groups within the one that has passed its limit, the outmost that goes whole goes.
        whole |= group.oom_group.trim() == "1";
        group.room().filter(|_| whole)
    });
    rooms.min_by_key(|room| room.bytes)
}

impl Group {
    fn room(&self) -> Option<Room> {
        let container_bytes: u64 = self.max.trim().parse().ok()?;
        let current: u64 = self.current.trim().parse().ok()?;
        // Files that nobody has read lately are given up before anybody is killed.
        let inactive = self.stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok());
        let used = current.saturating_sub(inactive.unwrap_or(0));
        // What the host itself may come to need meanwhile.
        let kept_back = container_bytes / 8;
        let bytes = container_bytes.saturating_sub(used).saturating_sub(kept_back).max(LEAST_BYTES);
        Some(Room { bytes, container_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn group(max: &str, current: u64, oom_group: &str) -> Group {
        let stat = format!("anon 1\nfile {}\ninactive_file {}\nactive_file 7\n", 30 * MIB, 20 * MIB);
        let line = |text: &str| format!("{text}\n");
        Group { max: line(max), current: line(&current.to_string()), stat, oom_group: line(oom_group) }
    }

    /// Guarantees: in a container that goes whole a child gets what is not used, files that are given up first not counted as such, less an eighth;
    /// and never so little that it could not even say so.
    #[test]
    fn what_is_left_of_a_container() {
        let limit = (256 * MIB).to_string();
        let room =
            |current| least([group(&limit, current, "1"), Group::default()].into_iter()).map(|room| room.bytes);
        assert_eq!(room(100 * MIB), Some((256 - (100 - 20) - 32) * MIB));
        assert_eq!(room(250 * MIB), Some(LEAST_BYTES));
        let full = least([group(&limit, 0, "1")].into_iter());
        assert_eq!(full, Some(Room { bytes: 224 * MIB, container_bytes: 256 * MIB }));
    }

    /// Guarantees: where nothing goes whole, or nothing has a limit, a child is not held shorter than it is anyway; and of several limits that a
    /// group stands under the tightest counts.
    #[test]
    fn only_where_the_host_would_go_too() {
        let limit = |mib: u64| (mib * MIB).to_string();
        for none in [
            vec![group(&limit(256), 0, "0")],
            vec![group("max", 0, "1")],
            vec![Group::default()],
            // The one with a limit is within the one that goes whole, and so is all that is killed.
            vec![group(&limit(256), 0, "0"), group("max", 0, "1")],
        ] {
            assert_eq!(least(none.into_iter()), None);
        }
        let nested = [group("max", 0, "1"), group(&limit(512), 0, "0"), group(&limit(256), 0, "0")];
        assert_eq!(least(nested.into_iter()).map(|room| room.container_bytes), Some(256 * MIB));
    }
}
