//! `<rule>.toml` in the rules directory: a named use of a module.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_model::TopicFilter;
use toml_edit::{DocumentMut, Item, value};

use crate::checks::Checker;
use crate::document::{Document, Place};
use crate::env::ProcessEnv;
use crate::error::ConfigErrors;
use crate::raw::{RawRuleFile, RawRuleLimits};
use crate::rule_json;

/// Each topic that is first seen is matched against all of them.
const MOST_FILTERS: usize = 1000;

/// The stacks that a rule's calls may have, in KiB: few, since the engine is there once for each.
pub const STACKS_KIB: [u32; 7] = [64, 128, 256, 512, 1024, 2048, 4096];

/// What one `<rule>.toml` says. The rule is called as the file is. As JSON it has the keys of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleFile {
    /// The module's file name in the rules directory: no slashes, ends in `.wasm`.
    pub module: String,
    /// Whether the rule runs.
    pub enabled: bool,
    /// Rules run by ascending order.
    pub order: i32,
    /// What the rule gets; what its module asks for if none.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rule_json::filters_or_none")]
    pub topics: Option<Vec<TopicFilter>>,
    /// What the module is configured with: an object.
    pub config: serde_json::Value,
    /// Where the rule may send commands.
    #[serde(serialize_with = "rule_json::filters")]
    pub commands: Vec<TopicFilter>,
    /// Whether its module may import WASI.
    pub wasi: bool,
    /// What becomes of rows of a partition on which the rule failed again and again.
    pub on_quarantine: OnQuarantine,
    /// Whether it begins without state where it refuses that of the version before it.
    pub discard_state: bool,
    /// What it may use up.
    pub limits: RuleLimits,
}

/// What becomes of rows of a partition on which a rule failed again and again. A decoder has no choice: nothing can be made of messages
/// without it, so they go to the dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnQuarantine {
    /// They pass the rule by, as they are.
    #[default]
    Bypass,
    /// Their messages go to the dead letters, to be replayed when the rule has been mended.
    Park,
}

/// What one rule may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RuleLimits {
    /// Memory of one instance, in MiB: 1 to 64.
    pub memory_mib: u32,
    /// CPU time of one call, in milliseconds: 1 to 10,000.
    pub cpu_ms: u32,
    /// How long one call may last by the wall, in milliseconds.
    pub wall_ms: u32,
    /// CPU time of one call that is no batch and no tick, in milliseconds: 1 to 10,000.
    pub lifecycle_cpu_ms: u32,
    /// Stack of its calls, in KiB: one of [`STACKS_KIB`].
    pub stack_kib: u32,
    /// What one call may hand over, in MiB.
    pub call_mib: u32,
    /// Lines it may log a second.
    pub log_lines_per_s: u32,
    /// Names it may count under, and as many it may gauge under.
    pub metric_names: u32,
    /// Series it may make, within what the host takes in.
    pub series: u32,
    /// Points it may make for each row it gets.
    pub rows_out_per_row: u32,
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self {
            memory_mib: 16,
            cpu_ms: 50,
            wall_ms: 2_000,
            lifecycle_cpu_ms: 500,
            stack_kib: 512,
            call_mib: 64,
            log_lines_per_s: 20,
            metric_names: 64,
            series: 100_000_000,
            rows_out_per_row: 10_000,
        }
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
        with(text, module, "enabled", enabled.into())
    }

    /// `text` of a rule file with `module` set as given, and everything else, comments included, as it was.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn with_module(text: &str, module: &str) -> Result<String, ConfigErrors> {
        with(text, module, "module", module.into())
    }

    /// The text of a file that names a module and leaves all else to it.
    pub fn naming(module: &str) -> String {
        let mut document = DocumentMut::new();
        document.insert("module", value(module));
        document.to_string()
    }

    /// The JSON Schema (2020-12) of rule files.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(RawRuleFile).to_value()
    }
}

/// `text` with one key set, and everything else as it was.
fn with(text: &str, module: &str, key: &str, new: toml_edit::Value) -> Result<String, ConfigErrors> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
        ConfigErrors::unreadable(
            &format!("the rule file of {module}"),
            format!("not TOML: {}", e.message()),
            "correct it by hand first: `tidegate check` says where",
        )
    })?;
    match document.get_mut(key) {
        Some(Item::Value(old)) => {
            // Its decor is the space and the comment around it.
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        _ => drop(document.insert(key, Item::Value(new))),
    }
    Ok(document.to_string())
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
            wasi: raw.wasi.unwrap_or(false),
            on_quarantine: raw.on_quarantine.unwrap_or_default(),
            discard_state: raw.discard_state.unwrap_or(false),
            limits: self.rule_limits(&root.key("limits"), raw.limits.unwrap_or_default()),
        }
    }

    fn rule_limits(&mut self, place: &Place, raw: RawRuleLimits) -> RuleLimits {
        let default = RuleLimits::default();
        let limits = RuleLimits {
            memory_mib: self.number(place, "memory_mib", raw.memory_mib, default.memory_mib, 1..=64),
            cpu_ms: self.number(place, "cpu_ms", raw.cpu_ms, default.cpu_ms, 1..=10_000),
            wall_ms: self.number(place, "wall_ms", raw.wall_ms, default.wall_ms, 1..=600_000),
            lifecycle_cpu_ms: self.number(
                place,
                "lifecycle_cpu_ms",
                raw.lifecycle_cpu_ms,
                default.lifecycle_cpu_ms,
                1..=10_000,
            ),
            stack_kib: self.stack(place, raw.stack_kib, default.stack_kib),
            call_mib: self.number(place, "call_mib", raw.call_mib, default.call_mib, 1..=256),
            log_lines_per_s: self.number(
                place,
                "log_lines_per_s",
                raw.log_lines_per_s,
                default.log_lines_per_s,
                0..=10_000,
            ),
            metric_names: self.number(place, "metric_names", raw.metric_names, default.metric_names, 0..=1_000),
            series: self.number(place, "series", raw.series, default.series, 0..=100_000_000),
            rows_out_per_row: self.number(
                place,
                "rows_out_per_row",
                raw.rows_out_per_row,
                default.rows_out_per_row,
                1..=1_000_000,
            ),
        };
        // Who gives more CPU time gives the time to use it in, unless they say otherwise.
        match raw.wall_ms {
            None => RuleLimits { wall_ms: limits.wall_ms.max(limits.cpu_ms.saturating_mul(4)), ..limits },
            Some(_) if limits.wall_ms < limits.cpu_ms => {
                let what = format!("`wall_ms` = {} is less than `cpu_ms` = {}", limits.wall_ms, limits.cpu_ms);
                self.error(
                    &place.key("wall_ms"),
                    what,
                    "a call needs more time by the wall than of the CPU: set it to several times `cpu_ms`",
                );
                limits
            }
            Some(_) => limits,
        }
    }

    fn stack(&mut self, place: &Place, kib: Option<i64>, default: u32) -> u32 {
        let Some(kib) = kib else { return default };
        STACKS_KIB.into_iter().find(|&size| i64::from(size) == kib).unwrap_or_else(|| {
            let choice = STACKS_KIB.map(|size| size.to_string()).join(", ");
            let what = format!("`stack_kib` cannot be {kib}");
            self.error(&place.key("stack_kib"), what, format!("choose from {choice}; the default is {default}"));
            default
        })
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
