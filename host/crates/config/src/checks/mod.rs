//! From the raw form to the validated one: bounds, references, and what does not go together.
//!
//! Nothing here stops at a mistake: it is noted, something harmless takes its place, and the next check goes on. The
//! result is handed out only if nothing was noted.

mod admin;
mod dead_letters;
mod exactly_once;
mod journal;
mod kafka;
mod kafka_loops;
mod limit;
mod mqtt;
mod names;
mod postgres;
mod rules;
mod sinks;
mod spool;

#[cfg(test)]
pub(crate) use mqtt::decoded;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::document::{Document, Place};
use crate::env::Env;
use crate::error::{ConfigError, ConfigErrors};
use crate::raw::RawConfig;
use crate::settings::{Config, Name, Secret, SinkSettings, SourceSettings, SqliteSink, Tls};

/// The source of replayed messages, and the sink of dead letters.
const OWN_NAMES: [&str; 2] = ["replay", "dead-letters"];

/// One pass over one file.
pub(crate) struct Checker<'a> {
    document: &'a Document<'a>,
    env: &'a dyn Env,
    /// The directory of the file, which relative paths are relative to.
    base: PathBuf,
    /// The name of this host; looked up when first wanted.
    node: Option<String>,
    /// Who uses which client id at which broker.
    client_ids: BTreeMap<(String, u16, String), Place>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(document: &'a Document<'a>, file: &str, env: &'a dyn Env, errors: Vec<ConfigError>) -> Self {
        let base = Path::new(file).parent().unwrap_or(Path::new("")).to_owned();
        Self { document, env, base, node: None, client_ids: BTreeMap::new(), errors, warnings: Vec::new() }
    }

    /// What was made, unless a mistake was noted in making it.
    pub(crate) fn finish<T>(self, made: T) -> Result<T, ConfigErrors> {
        ConfigErrors::none_of(self.errors).map(|()| made)
    }

    /// The validated form; to be handed out by [`Self::finish`].
    pub(crate) fn config(&mut self, raw: RawConfig) -> Config {
        let root = Place::default();
        self.node = self.node_name(&root, raw.node);
        let data_dir = self.path(raw.data_dir.as_deref().unwrap_or("data"));
        let rules_dir = self.path(raw.rules_dir.as_deref().unwrap_or("rules.d"));
        let lanes = raw.lanes.map(|n| self.number(&root, "lanes", Some(n), 1, 1..=256));
        let batch_rows = self.number(&root, "batch_rows", raw.batch_rows, 10_000, 1..=100_000);
        let max_series = self.number(&root, "max_series", raw.max_series, 100_000, 1..=10_000_000);
        let shutdown_timeout = self.seconds(&root, "shutdown_timeout_s", raw.shutdown_timeout_s, 10, 1..=3600);
        let (place, rules) = (root.key("rules"), raw.rules.unwrap_or_default());
        let compile_timeout = self.seconds(&place, "compile_timeout_s", rules.compile_timeout_s, 20, 1..=3600);
        let signatures = self.signatures(&place, rules);
        let admin = self.admin(&root.key("admin"), raw.admin.unwrap_or_default());

        let raw_sources = raw.sources.unwrap_or_default();
        let place = root.key("sources");
        let (mut sources, mut limits) = (BTreeMap::new(), BTreeMap::new());
        for (name, mut source) in raw_sources.mqtt {
            let at = place.key("mqtt").key(&name);
            let name = self.name(&at, &name);
            limits.insert(name.clone(), self.limits(&at, source.limit.take()));
            let settings = self.mqtt_source(&at, &name, source);
            self.add(&mut sources, &at, name, SourceSettings::Mqtt(settings));
        }
        for (name, mut source) in raw_sources.kafka {
            let at = place.key("kafka").key(&name);
            let name = self.name(&at, &name);
            limits.insert(name.clone(), self.limits(&at, source.limit.take()));
            let settings = self.kafka_source(&at, source);
            self.add(&mut sources, &at, name, SourceSettings::Kafka(settings));
        }
        // With other mistakes about, a source may well be there but misspelled: that is told already.
        if sources.is_empty() && self.errors.is_empty() {
            self.error(&place, "there is no source of telemetry", "add one, as in [sources.mqtt.plant]");
        }

        let raw_sinks = raw.sinks.unwrap_or_default();
        let spool_defaults = self.spool_defaults(&root.key("spool"), &raw.spool.unwrap_or_default());
        let (mut sinks, spools) = self.sinks(&root.key("sinks"), raw_sinks, &data_dir, spool_defaults);
        if sinks.is_empty() {
            let store = self.name(&root, "store");
            sinks.insert(store, SinkSettings::Sqlite(SqliteSink { path: data_dir.join("store.db") }));
        }

        let dead_letters = self.dead_letters(&root.key("dead_letters"), raw.dead_letters.unwrap_or_default());

        let mut config = Config {
            data_dir,
            rules_dir,
            lanes,
            batch_rows,
            max_series,
            shutdown_timeout,
            compile_timeout,
            signatures,
            admin,
            sources,
            limits,
            sinks,
            spools,
            dead_letters,
            shown: String::new(),
            warnings: Vec::new(),
        };
        self.no_dead_letter_circle(&config);
        self.kafka_loops(&config);
        self.exactly_once(&mut config);
        self.journal(&config);
        config.warnings = std::mem::take(&mut self.warnings);
        config
    }

    pub(crate) fn error(&mut self, place: &Place, what: impl Into<String>, todo: impl Into<String>) {
        self.errors.push(self.document.error(place, what, todo));
    }

    fn warn(&mut self, place: &Place, what: impl Into<String>, todo: impl Into<String>) {
        self.warnings.push(self.document.error(place, what, todo).to_string());
    }

    fn add<T>(&mut self, to: &mut BTreeMap<Name, T>, place: &Place, name: Name, settings: T) {
        if to.contains_key(&name) {
            let what = format!("the name `{name}` is taken by another one of a different kind");
            self.error(place, what, "names stand in metrics: give each source and each sink its own");
        }
        if OWN_NAMES.contains(&name.as_str()) {
            let what = format!("the name `{name}` is taken by a part of the host itself");
            self.error(place, what, "names stand in metrics: choose another one");
        }
        to.insert(name, settings);
    }

    fn name(&mut self, place: &Place, text: &str) -> Name {
        text.parse().unwrap_or_else(|_| {
            let what = format!("`{text}` is no name");
            self.error(place, what, "use 1 to 63 of a-z, 0-9 and `-`, not beginning with `-`");
            Name::placeholder()
        })
    }

    /// The value of the bounded number `key`.
    pub(crate) fn number<T>(
        &mut self,
        place: &Place,
        key: &str,
        value: Option<i64>,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let Some(number) = value else { return default };
        match T::try_from(number) {
            Ok(fitting) if bounds.contains(&fitting) => fitting,
            _ => {
                let (low, high) = (bounds.start(), bounds.end());
                let what = format!("`{key}` cannot be {number}");
                self.error(&place.key(key), what, format!("choose from {low} to {high}; the default is {default}"));
                default
            }
        }
    }

    fn seconds(
        &mut self,
        place: &Place,
        key: &str,
        value: Option<i64>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_secs(self.number(place, key, value, default, bounds))
    }

    /// The text of a key that must be there and not be empty.
    pub(crate) fn required(&mut self, place: &Place, key: &str, value: Option<String>, example: &str) -> String {
        match value {
            Some(text) if !text.trim().is_empty() => return text,
            Some(_) => self.error(&place.key(key), format!("`{key}` is empty"), format!("write {key} = {example}")),
            None => self.missing(place, key, example),
        }
        String::new()
    }

    /// Notes that `key` is missing, unless it is there and was taken out for a mistake that is noted already.
    fn missing(&mut self, place: &Place, key: &str, example: &str) {
        if !self.document.has(&place.key(key)) {
            self.error(place, format!("`{key}` is missing"), format!("add {key} = {example}"));
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    /// The secret `<key>` from `<key>_file` or `<key>_env`.
    fn secret(&mut self, place: &Place, key: &str, file: Option<String>, env: Option<String>) -> Option<Secret> {
        let (file_key, env_key) = (format!("{key}_file"), format!("{key}_env"));
        match (file, env) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.error(
                    &place.key(&env_key),
                    format!("the {key} is given twice: by `{file_key}` and `{env_key}`"),
                    "keep one of them",
                );
                None
            }
            (Some(file), None) => self.secret_file(&place.key(&file_key), &file),
            (None, Some(variable)) => self.secret_env(&place.key(&env_key), &variable),
        }
    }

    fn secret_file(&mut self, place: &Place, file: &str) -> Option<Secret> {
        let path = self.path(file);
        match self.env.read(&path) {
            Ok(text) if text.trim_end_matches(['\r', '\n']).is_empty() => {
                self.error(place, format!("{} is empty", path.display()), "write the secret into that file");
            }
            // Editors and `echo` end a file with a newline, which is no part of the secret.
            Ok(text) => return Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(error) => self.error(
                place,
                format!("{} cannot be read: {error}", path.display()),
                "make the file, or let the user of this process read it",
            ),
        }
        None
    }

    fn secret_env(&mut self, place: &Place, variable: &str) -> Option<Secret> {
        match self.env.var(variable) {
            Some(text) if !text.is_empty() => Some(Secret::new(text)),
            _ => {
                let what = format!("the environment variable {variable} is not set");
                self.error(place, what, "set it for this process, or name a file instead");
                None
            }
        }
    }

    /// The TLS files of a connection; they must be readable now, since a host that restarts at night should not find out then.
    fn tls(&mut self, place: &Place, ca: Option<String>, cert: Option<String>, key: Option<String>) -> Tls {
        if cert.is_some() != key.is_some() {
            let (there, missing) = if cert.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
            let what = format!("`{there}` needs `{missing}`");
            self.error(&place.key(there), what, "name both files, or neither");
        }
        let mut pem = |name: &str, file: Option<String>| self.pem(&place.key(name), &file?);
        Tls { ca_file: pem("ca_file", ca), cert_file: pem("cert_file", cert), key_file: pem("key_file", key) }
    }

    /// The path of a PEM file.
    fn pem(&mut self, at: &Place, file: &str) -> Option<PathBuf> {
        let path = self.path(file);
        match self.env.read(&path) {
            Ok(text) if text.contains("-----BEGIN ") => {}
            Ok(_) => self.error(at, format!("{} is no PEM file", path.display()), "name a file in PEM form"),
            Err(error) => self.error(
                at,
                format!("{} cannot be read: {error}", path.display()),
                "make the file, or let the user of this process read it",
            ),
        }
        Some(path)
    }
}
