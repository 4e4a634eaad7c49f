//! A disk that a test can fill, without harm to anybody.
//!
//! Mounting takes rights that tests do not have, but in a user namespace of one's own everybody has them (Linux,
//! user_namespaces(7)). A test that needs a small disk therefore runs itself once more, in namespaces of its own; what it
//! mounts there nobody else sees, and it is gone with the last process in there, however that ends.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::servers_run::missing;

/// Set in the process that has its own mounts.
const INSIDE: &str = "TIDEGATE_TEST_OWN_MOUNTS";

/// A few megabytes in memory, mounted on a directory.
#[derive(Debug)]
pub struct SmallDisk {
    on: PathBuf,
}

/// Runs `body` where disks can be mounted: in a process that runs only the test of that full name. Where the system does
/// not allow it the test is skipped, loudly, or fails where the environment demands all of them.
pub fn with_own_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]).stdin(Stdio::null());
        command
    };
    let allowed = unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !allowed {
        let why = "`unshare --user --map-root-user --mount` does not work here, so no disk can be filled; install \
                   util-linux, and allow user namespaces (sysctl kernel.unprivileged_userns_clone or user.max_user_namespaces)";
        missing("a full disk", why);
        return;
    }
    let mut command = unshare();
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // Not to be taken for a test run's own lines.
    for line in said.lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
        println!("| {line}");
    }
    assert!(output.status.success(), "the test failed in its own namespace: {}", output.status);
    assert!(said.contains("1 passed"), "no test is named `{test}`");
}

impl SmallDisk {
    /// Mounts so many KiB on `directory`, which is made. Only within [`with_own_mounts`].
    pub fn mount(directory: &Path, kib: u32) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let size = format!("size={kib}k,mode=0755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory).output().unwrap();
        assert!(mounted.status.success(), "mount: {}", String::from_utf8_lossy(&mounted.stderr));
        Self { on: directory.to_owned() }
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let full = loop {
            if let Err(error) = ballast.write_all(&[0x55; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    /// Makes room for so many bytes on a disk that is full.
    pub fn spare(&self, bytes: u64) {
        let ballast = File::options().write(true).open(self.ballast()).unwrap();
        ballast.set_len(ballast.metadata().unwrap().len() - bytes).unwrap();
    }

    /// Makes room again.
    pub fn clear(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.on.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // With `--lazy` although the host may still write there; else removing the directory around it would fail.
        let _ = Command::new("umount").arg("--lazy").arg(&self.on).stderr(Stdio::null()).status();
    }
}
