//! A host's directory before it starts: its configuration and its rules.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::host::Host;
use crate::kafka::Kafka;
use crate::machine::built_module;
use crate::mosquitto::Mosquitto;

/// A version of MQTT, as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// What a host is started with. Without any sink it has the default, SQLite in `data/store.db`.
#[derive(Debug)]
pub struct Setup {
    directory: TempDir,
    top: String,
    sections: String,
    open_files: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// Nothing but a directory.
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("rules.d")).unwrap();
        Self { directory, top: "node = \"test\"\nlanes = 2\n".to_owned(), sections: String::new(), open_files: None }
    }

    /// A line that belongs to no section.
    pub fn line(mut self, line: &str) -> Self {
        self.top += &format!("{line}\n");
        self
    }

    /// Whole sections.
    pub fn toml(mut self, text: &str) -> Self {
        self.sections += &format!("{text}\n");
        self
    }

    /// It may have so many files and connections open.
    pub fn open_files(self, most: u32) -> Self {
        Self { open_files: Some(most), ..self }
    }

    /// Lines for `[admin]`, and tables below it.
    pub fn admin(mut self, lines: &str) -> Self {
        // The configuration begins with that section, so what comes first belongs to it.
        self.sections = format!("{lines}\n{}", self.sections);
        self
    }

    /// The source `plant`: an MQTT broker, these topic filters (as TOML), and lines for the section.
    pub fn mqtt(self, broker: &Mosquitto, protocol: Protocol, topics: &str, lines: &str) -> Self {
        let version = match protocol {
            Protocol::V3 => "3.1.1",
            Protocol::V5 => "5",
        };
        let url = broker.url();
        self.toml(&format!(
            "[sources.mqtt.plant]\nurl = \"{url}\"\nversion = \"{version}\"\ntopics = {topics}\n{lines}\n"
        ))
    }

    /// The source `fleet`: a Kafka topic whose keys are the logical topics. The group forgets a member that was killed soon.
    pub fn kafka(self, kafka: &Kafka, topic: &str) -> Self {
        self.kafka_with(kafka, topic, "")
    }

    /// The same with more of the source's settings.
    pub fn kafka_with(self, kafka: &Kafka, topic: &str, lines: &str) -> Self {
        let brokers = kafka.brokers();
        self.toml(&format!(
            "[sources.kafka.fleet]\nbrokers = \"{brokers}\"\ngroup = \"tidegate\"\ntopics = [\"{topic}\"]\n\
             topic_from = \"key\"\n{lines}\n\n[sources.kafka.fleet.client]\n\"session.timeout.ms\" = 6000\n\
             \"heartbeat.interval.ms\" = 1000\n"
        ))
    }

    /// Points to SQLite, and alerts to the broker behind that port, of which no spool keeps what it does not take.
    pub fn alerts_without_a_spool(self, port: u16) -> Self {
        let url = format!("mqtt://127.0.0.1:{port}");
        self.toml(&format!(
            "[sinks.sqlite.store]\n[sinks.mqtt.alerts]\nurl = \"{url}\"\nspool = {{ enabled = false }}"
        ))
    }

    /// A rule of the library, with its defaults.
    pub fn module(self, name: &str) -> Self {
        let bytes = built_module(name);
        self.bytes(name, &bytes)
    }

    /// A module of one's own.
    pub fn bytes(self, name: &str, module: &[u8]) -> Self {
        std::fs::write(self.rules_dir().join(format!("{name}.wasm")), module).unwrap();
        self
    }

    /// A rule's file.
    pub fn rule(self, name: &str, toml: &str) -> Self {
        std::fs::write(self.rules_dir().join(format!("{name}.toml")), toml).unwrap();
        self
    }

    /// Starts the host and waits until messages flow from end to end.
    pub fn start(self) -> Host {
        let mut host = self.launch();
        host.wait_ready();
        host
    }

    /// Starts the host and waits until it answers and has looked its rules over, ready or not.
    pub fn launch(mut self) -> Host {
        if !self.top.contains("shutdown_timeout_s") {
            // A test that ends its host wants all of it drained, on a slow machine too; and its exit code before the test's own deadline.
            self.top += "shutdown_timeout_s = 150\n";
        }
        Host::launch(self.directory, self.top, self.sections, self.open_files)
    }

    /// The same, and does not wait until its rules have been looked over.
    pub fn launch_early(self) -> Host {
        Host::launch_early(self.directory, self.top, self.sections)
    }

    /// The same for a host that answers probes at a port of their own.
    pub fn launch_at(self, probes: u16) -> Host {
        Host::launch_at(self.directory, self.top, self.sections, probes)
    }

    fn rules_dir(&self) -> PathBuf {
        self.path().join("rules.d")
    }

    /// The directory of the configuration.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}
