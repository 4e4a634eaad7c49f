//! Hosts to be asked by commands that else read a host's files.

use super::{Access, Nodes};

/// Hosts to be asked, instead of files; for commands that have a [`Place`](crate::cli::place::Place) as well.
#[derive(Debug, clap::Args)]
pub struct Remote {
    /// Ask this running host over its API, instead of reading its files; may be given several times, and all are asked at once.
    #[arg(long = "node", value_name = "URL", global = true, value_delimiter = ',', conflicts_with_all = ["config", "data_dir"])]
    nodes: Vec<String>,
    #[command(flatten)]
    access: Access,
}

impl Remote {
    /// Whether hosts are to be asked.
    pub fn is_meant(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Those hosts.
    pub fn nodes(&self, json: bool) -> Nodes {
        Nodes { nodes: self.nodes.clone(), access: self.access.clone(), json }
    }
}
