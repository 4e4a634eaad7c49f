//! How many files and connections the system lets this process have open, and how many of them the HTTP interface may take.
//!
//! The soft limit is 1024 on most systems, for programs that use `select`, and is to be raised by those that do not. What is left must do for
//! databases, brokers, spools and the rules directory: were connections to take all, none of these could be opened again.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_config::Admin;

/// Each address of the HTTP interface takes this part of them at most.
const SHARE: u64 = 4;

/// Has the process use all that it may; gives how many that are.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // If that is refused, it goes on with what it has.
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    (if raised { maximum } else { current }).unwrap_or(u64::MAX)
}

/// How many there could be.
pub fn allowed() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// The settings of the HTTP interface as they can be kept with so many descriptors.
pub fn within(admin: &Admin, descriptors: u64) -> Admin {
    let most = usize::try_from(descriptors / SHARE).unwrap_or(usize::MAX);
    Admin { max_connections: admin.max_connections.min(most.max(1)), ..admin.clone() }
}

/// What there is to say of the settings where they cannot be kept.
pub fn warning(admin: &Admin, descriptors: u64) -> Option<String> {
    let most = within(admin, descriptors).max_connections;
    (most < admin.max_connections).then(|| {
        format!(
            "the HTTP interface takes {most} connections at once on each address, not the {} of `max_connections` under [admin]: the process may have {descriptors} files and connections open in all; raise that (LimitNOFILE= of systemd, `ulimit -n`), or lower the setting",
            admin.max_connections
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tidegate_config::{Config, ProcessEnv};

    use super::*;

    /// Guarantees: connections never take more than a part of what may be open, and where that is less than what is set, it is said.
    #[test]
    fn a_share() {
        let text = "node = \"n\"\n[admin]\nmax_connections = 1000\n\
                    [sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:1\"\ntopics = [\"a\"]\n";
        let admin = Config::parse(text, "tidegate.toml", &ProcessEnv).map(|config| config.admin).unwrap();
        for (descriptors, most) in [(u64::MAX, 1000), (4000, 1000), (1024, 256), (3, 1)] {
            assert_eq!(within(&admin, descriptors).max_connections, most, "{descriptors}");
            let told = warning(&admin, descriptors);
            assert_eq!(told.is_some(), most < 1000, "{told:?}");
        }
    }

    /// Guarantees: as many as are allowed are used.
    #[test]
    fn all_that_are_allowed() {
        assert_eq!(raise(), allowed());
        assert_eq!(raise(), allowed(), "once more");
    }
}
