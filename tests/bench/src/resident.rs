//! How much memory of this process lies in RAM.

use anyhow::{Context, Result, bail};

/// Which of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pages {
    /// What it alone has, and nobody can take from it.
    Private,
    /// Files it has mapped; of those the kernel takes back what it needs.
    Mapped,
    /// Both, and what it shares with others.
    All,
}

impl Pages {
    pub const fn word(self) -> &'static str {
        match self {
            Pages::Private => "private",
            Pages::Mapped => "mapped",
            Pages::All => "all",
        }
    }

    /// In `/proc/<pid>/status`, see proc(5).
    const fn field(self) -> &'static str {
        match self {
            Pages::Private => "RssAnon:",
            Pages::Mapped => "RssFile:",
            Pages::All => "VmRSS:",
        }
    }
}

/// KiB.
pub fn kib(pages: Pages) -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("this system does not tell a process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix(pages.field()));
    let Some(kib) = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()) else {
        bail!("/proc/self/status has no {} in kB", pages.field());
    };
    Ok(kib)
}
