//! Whose data a command looks at.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tidegate_config::{Config, ProcessEnv};

/// A host, by its configuration or by its data directory.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The configuration of the host: it says where the data is.
    #[arg(long, global = true, default_value = "tidegate.toml")]
    pub(super) config: PathBuf,
    /// The host's data_dir itself, where the configuration cannot be read from here.
    #[arg(long, global = true, value_name = "DIRECTORY", conflicts_with = "config")]
    pub(super) data_dir: Option<PathBuf>,
}

impl Place {
    /// Its data directory.
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(directory) = &self.data_dir {
            if !directory.is_dir() {
                bail!("there is no directory {}; name the `data_dir` of the host", directory.display());
            }
            return Ok(directory.clone());
        }
        let config = Config::load(&self.config, &ProcessEnv)
            .context("the configuration says where the data is; or name it with --data-dir")?;
        Ok(config.data_dir)
    }
}
