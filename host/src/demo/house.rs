//! The demo's directory: the bundled rules, their files, and a configuration that can be run again without the demo.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::demo::broker::EmbeddedBroker;

/// The rule library, as it was when this binary was built: file name and bytes.
const BUNDLED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// The files beside the modules: what makes named rules of them.
const RULE_FILES: &[(&str, &str)] = &[
    ("json-reading.toml", include_str!("rules.d/json-reading.toml")),
    ("json-fields.toml", include_str!("rules.d/json-fields.toml")),
    ("cabin-fahrenheit.toml", include_str!("rules.d/cabin-fahrenheit.toml")),
    ("overheat.toml", include_str!("rules.d/overheat.toml")),
    ("battery-low.toml", include_str!("rules.d/battery-low.toml")),
    ("silence.toml", include_str!("rules.d/silence.toml")),
    ("hot-together.toml", include_str!("rules.d/hot-together.toml")),
];

/// Where the demo lives.
pub struct House {
    /// Its configuration file.
    pub config: PathBuf,
    /// Its database.
    pub database: PathBuf,
}

impl House {
    /// Furnishes `directory`. What is there already and is not ours to write is left alone: a second demo in the same
    /// directory goes on with the same database and with rules changed meanwhile.
    pub fn furnish(directory: &Path, broker: &EmbeddedBroker, http: u16) -> anyhow::Result<Self> {
        if BUNDLED.is_empty() {
            bail!(
                "this binary was built without the rule library; build it with `make demo`, or run `make rules` and build again"
            );
        }
        let rules = directory.join("rules.d");
        std::fs::create_dir_all(&rules).with_context(|| format!("{} cannot be made", rules.display()))?;
        for (name, bytes) in BUNDLED {
            write_new(&rules.join(name), bytes)?;
        }
        for (name, text) in RULE_FILES {
            write_new(&rules.join(name), text.as_bytes())?;
        }
        let config = directory.join("tidegate.toml");
        // Ports are new each time.
        std::fs::write(&config, configuration(broker, http))
            .with_context(|| format!("{} cannot be written", config.display()))?;
        Ok(Self { config, database: directory.join("data").join("store.db") })
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

fn configuration(broker: &EmbeddedBroker, http: u16) -> String {
    format!(
        r#"# The demo's configuration. Point `url` at a broker of your own and run it with:
#   tidegate run --config tidegate.toml
node = "demo"

[admin]
listen = "127.0.0.1:{http}"

[sources.mqtt.plant]
url = "mqtt://{v5}"
version = "5"
topics = ["dev/#", "users/+/devices/+/telemetry"]
qos = 1

[sinks.sqlite.store]
path = "data/store.db"

[sinks.mqtt.alerts]
url = "mqtt://{v4}"
version = "3.1.1"
"#,
        v5 = broker.v5,
        v4 = broker.v4,
    )
}
