//! `<rule>.toml` in the rules directory: a named use of a module.

use tidegate_model::TopicFilter;
use toml_edit::{DocumentMut, Item, value};

use crate::checks::Checker;
use crate::document::{Document, Place};
use crate::env::ProcessEnv;
use crate::error::ConfigErrors;
use crate::raw::RawRuleFile;

/// Each topic that is first seen is matched against all of them.
const MOST_FILTERS: usize = 1000;

/// What one `<rule>.toml` says. The rule is called as the file is.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFile {
    /// The module's file name in the rules directory: no slashes, ends in `.wasm`.
    pub module: String,
    /// Whether the rule runs.
    pub enabled: bool,
    /// Rules run by ascending order.
    pub order: i32,
    /// What the rule gets; what its module asks for if none.
    pub topics: Option<Vec<TopicFilter>>,
    /// What the module is configured with: an object.
    pub config: serde_json::Value,
    /// Where the rule may send commands.
    pub commands: Vec<TopicFilter>,
    /// What it may use up.
    pub limits: RuleLimits,
}

/// What one rule may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleLimits {
    /// Memory of one instance, in MiB: 1 to 64.
    pub memory_mib: u32,
    /// CPU time of one call, in milliseconds: 1 to 10,000.
    pub cpu_ms: u32,
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self { memory_mib: 16, cpu_ms: 50 }
    }
}

impl RuleFile {
    /// Checks `text`, the content of a file called `file_name`.
    ///
    /// # Errors
    /// Every mistake that can be told at once.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        let (document, raw, errors) = Document::read::<RawRuleFile>(text, file_name)?;
        let mut checker = Checker::new(&document, file_name, &ProcessEnv, errors);
        let file = checker.rule_file(raw);
        checker.finish(file)
    }

    /// `text` of a rule file with `enabled` set as given, and everything else, comments included, as it was; without a
    /// text, that of a file which names `module` and leaves the rest to its defaults.
    ///
    /// # Errors
    /// The text is not TOML; `file:line:column` then says `<module>`'s rule file.
    pub fn with_enabled(text: Option<&str>, module: &str, enabled: bool) -> Result<String, ConfigErrors> {
        let Some(text) = text else {
            let mut document = DocumentMut::new();
            document.insert("module", value(module));
            document.insert("enabled", value(enabled));
            return Ok(document.to_string());
        };
        let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
            ConfigErrors::unreadable(
                &format!("the rule file of {module}"),
                format!("not TOML: {}", e.message()),
                "correct it by hand first: `tidegate check` says where",
            )
        })?;
        match document.get_mut("enabled") {
            Some(Item::Value(old)) => {
                // Its decor is the space and the comment around it.
                let decor = old.decor().clone();
                *old = enabled.into();
                *old.decor_mut() = decor;
            }
            _ => drop(document.insert("enabled", value(enabled))),
        }
        Ok(document.to_string())
    }

    /// The JSON Schema (2020-12) of rule files.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(RawRuleFile).to_value()
    }
}

impl Checker<'_> {
    fn rule_file(&mut self, raw: RawRuleFile) -> RuleFile {
        let root = Place::default();
        let module = self.required(&root, "module", raw.module, "\"<module>.wasm\"");
        let stem = module.strip_suffix(".wasm");
        let safe = |stem: &str| {
            (1..=200).contains(&stem.len()) && !stem.contains(['/', '\\', '\0']) && !stem.starts_with('.')
        };
        if !module.is_empty() && !stem.is_some_and(safe) {
            self.error(
                &root.key("module"),
                format!("`{module}` is no file name of a module"),
                "name a `.wasm` file in this very directory, without a path, as in \"threshold.wasm\"",
            );
        }
        let limits = root.key("limits");
        let raw_limits = raw.limits.unwrap_or_default();
        let default = RuleLimits::default();
        let config = raw.config.unwrap_or_default();
        RuleFile {
            module,
            enabled: raw.enabled.unwrap_or(true),
            order: self.number(&root, "order", raw.order, 100, -1_000_000..=1_000_000),
            topics: raw.topics.map(|topics| {
                if topics.is_empty() {
                    self.error(
                        &root.key("topics"),
                        "`topics` names no filter, so the rule would get nothing",
                        "name one, remove the line for the module's own, or write enabled = false",
                    );
                }
                self.filters(&root.key("topics"), topics)
            }),
            config: self.json(&root.key("config"), toml::Value::Table(config)),
            commands: self.filters(&root.key("commands"), raw.commands.unwrap_or_default()),
            limits: RuleLimits {
                memory_mib: self.number(&limits, "memory_mib", raw_limits.memory_mib, default.memory_mib, 1..=64),
                cpu_ms: self.number(&limits, "cpu_ms", raw_limits.cpu_ms, default.cpu_ms, 1..=10_000),
            },
        }
    }

    fn filters(&mut self, place: &Place, texts: Vec<String>) -> Vec<TopicFilter> {
        if texts.len() > MOST_FILTERS {
            let what = format!("there are {} filters", texts.len());
            self.error(place, what, format!("name no more than {MOST_FILTERS}"));
        }
        let texts = texts.iter().take(MOST_FILTERS).enumerate();
        texts.filter_map(|(i, text)| self.filter(&place.item(i), text)).collect()
    }

    /// TOML as JSON: a date becomes its text. JSON has no infinity and no NaN.
    fn json(&mut self, place: &Place, value: toml::Value) -> serde_json::Value {
        match value {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => {
                if !number.is_finite() {
                    self.error(place, format!("{number} cannot be passed to a rule"), "write a finite number");
                }
                number.into()
            }
            toml::Value::Boolean(on) => on.into(),
            toml::Value::Datetime(time) => time.to_string().into(),
            toml::Value::Array(items) => {
                items.into_iter().enumerate().map(|(i, item)| self.json(&place.item(i), item)).collect()
            }
            toml::Value::Table(table) => {
                let fields = table.into_iter().map(|(key, value)| {
                    let value = self.json(&place.key(&key), value);
                    (key, value)
                });
                serde_json::Value::Object(fields.collect())
            }
        }
    }
}
