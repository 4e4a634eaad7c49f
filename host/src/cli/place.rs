//! Whose data a command looks at.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tidegate_config::{Config, ProcessEnv};

/// A host, by its configuration or by its data directory.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The configuration of the host: it says where the data is. Default: tidegate.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The host's data_dir itself, where the configuration cannot be read from here.
    #[arg(long, global = true, value_name = "DIRECTORY", conflicts_with = "config")]
    pub(super) data_dir: Option<PathBuf>,
}

impl Place {
    /// Whether the command line says which.
    pub fn is_named(&self) -> bool {
        self.config.is_some() || self.data_dir.is_some()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(directory) = &self.data_dir {
            if !directory.is_dir() {
                bail!("there is no directory {}; name the `data_dir` of the host", directory.display());
            }
            return Ok(directory.clone());
        }
        let config = self.config.as_deref().unwrap_or(Path::new("tidegate.toml"));
        let config = Config::load(config, &ProcessEnv).context(
            "the configuration says where the data is; or name it with --data-dir, or ask a running host with --node",
        )?;
        Ok(config.data_dir)
    }
}
