//! Hosts to be asked by commands that else read a host's files.

use super::{Access, Nodes};
use crate::cli::place::Place;

/// Names hosts where the command line names neither hosts nor files.
const NODES: &str = "TIDEGATE_NODES";

/// Hosts to be asked, instead of files; for commands that have a [`Place`] as well.
#[derive(Debug, clap::Args)]
pub struct Remote {
    /// Ask this running host over its API, instead of reading its files; may be given several times, and all are asked at once. TIDEGATE_NODES can name them
    /// too, with commas between: then --config or --data-dir say that files are meant.
    #[arg(long = "node", value_name = "URL", global = true, value_delimiter = ',', conflicts_with_all = ["config", "data_dir"])]
    nodes: Vec<String>,
    #[command(flatten)]
    access: Access,
}

impl Remote {
    /// The hosts that the command line names, for what is done with files only: it is for the caller to say that hosts cannot do it.
    pub fn given(&self) -> Option<Hosts<'_>> {
        (!self.nodes.is_empty()).then(|| Hosts { nodes: self.nodes.clone(), access: &self.access })
    }

    /// The hosts that are to be asked, with an answer as JSON or for people; none where files are meant, at `place`.
    pub fn meant(&self, place: &Place) -> Option<Hosts<'_>> {
        let named = std::env::var(NODES).unwrap_or_default();
        let nodes = chosen(&self.nodes, place.is_named(), &named);
        (!nodes.is_empty()).then_some(Hosts { nodes, access: &self.access })
    }
}

/// Hosts that are to be asked.
pub struct Hosts<'a> {
    nodes: Vec<String>,
    access: &'a Access,
}

impl Hosts<'_> {
    /// With answers as JSON, or for people.
    pub fn nodes(&self, json: bool) -> Nodes {
        Nodes { nodes: self.nodes.clone(), access: self.access.clone(), json }
    }
}

/// What stands on the command line goes before what stands in the environment.
fn chosen(given: &[String], files_are_named: bool, environment: &str) -> Vec<String> {
    match (given.is_empty(), files_are_named) {
        (false, _) => given.to_vec(),
        (true, true) => Vec::new(),
        (true, false) => {
            environment.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: hosts of the environment are asked, as by all other commands, unless the command line names hosts or files.
    #[test]
    fn whom() {
        let given = ["http://c:1".to_owned()];
        assert_eq!(chosen(&[], false, "http://a:1, http://b:1,"), ["http://a:1", "http://b:1"]);
        assert_eq!(chosen(&given, false, "http://a:1"), given);
        assert!(chosen(&[], true, "http://a:1").is_empty());
        assert!(chosen(&[], false, "").is_empty());
    }
}
