//! What a rule says of itself: the constant behind the contract's `describe()`.

use crate::rule::Rule;

/// What a rule's state belongs to, and so what must stay on one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No state.
    None,
    Series,
    Partition,
    /// State over everything the node sees; the rule runs on a lane of its own.
    Node,
}

impl Scope {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Series => "series",
            Self::Partition => "partition",
            Self::Node => "node",
        }
    }
}

/// Name, version and wishes of a rule. Made by [`crate::about!`].
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub name: &'static str,
    pub version: &'static str,
    pub summary: &'static str,
    pub topics: &'static [&'static str],
    pub scope: Scope,
    pub properties: Properties,
    pub tick_ms: Option<u32>,
    pub state_layout: u8,
    pub config_schema: Option<&'static str>,
}

/// Whether a decoder wants the messages' properties; they cost time, so most do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Properties {
    Unwanted,
    Wanted,
}

impl About {
    /// Name and version of a crate, and a sentence on what the rule does. A leading `rule-` of the
    /// crate's name is left out. Use [`crate::about!`], which knows both.
    pub const fn new(package: &'static str, version: &'static str, summary: &'static str) -> Self {
        Self {
            name: without_prefix(package),
            version,
            summary,
            topics: &["#"],
            scope: Scope::None,
            properties: Properties::Unwanted,
            tick_ms: None,
            state_layout: 1,
            config_schema: None,
        }
    }

    /// The topic filters the rule serves when no file names others; `#` unless said.
    #[must_use]
    pub const fn topics(mut self, filters: &'static [&'static str]) -> Self {
        self.topics = filters;
        self
    }

    /// What the state belongs to; none unless said.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Asks for user properties, headers and keys of messages.
    #[must_use]
    pub const fn with_properties(mut self) -> Self {
        self.properties = Properties::Wanted;
        self
    }

    /// Asks for a tick every so many milliseconds, message or none.
    #[must_use]
    pub const fn tick_ms(mut self, every_ms: u32) -> Self {
        self.tick_ms = Some(every_ms);
        self
    }

    /// Which layout the saved state has. Raise it when the state's type changes, so that state of
    /// another layout is refused with a reason instead of being misread.
    #[must_use]
    pub const fn state_layout(mut self, layout: u8) -> Self {
        self.state_layout = layout;
        self
    }

    /// Gives the JSON Schema of the configuration as text: `include_str!("../config-schema.json")`. Unless it is given, a module carries the code that
    /// makes it of the type, a third of all that the host has to compile of a small rule. `testing::run_cases` fails where it is not that of the type, and
    /// with `TIDEGATE_BLESS=1` in the environment writes the file.
    #[must_use]
    pub const fn config_schema(mut self, schema: &'static str) -> Self {
        self.config_schema = Some(schema);
        self
    }
}

const fn without_prefix(package: &'static str) -> &'static str {
    match package.as_bytes() {
        [b'r', b'u', b'l', b'e', b'-', ..] => package.split_at(5).1,
        _ => package,
    }
}

/// The JSON that `describe()` answers.
pub(crate) fn describe<R: Rule>() -> String {
    let about = R::ABOUT;
    // Put in one by one, and not by `json!`, which has a serialiser to values in each module for what is none yet.
    let mut description = serde_json::Map::new();
    let mut say = |key: &str, is: serde_json::Value| drop(description.insert(key.to_owned(), is));
    say("name", about.name.into());
    say("version", about.version.into());
    say("summary", about.summary.into());
    say("config-schema", config_schema::<R>());
    say("default-topics", about.topics.into());
    say("scope", about.scope.word().into());
    say("wants-properties", (about.properties == Properties::Wanted).into());
    if let Some(every_ms) = about.tick_ms {
        say("tick-ms", every_ms.into());
    }
    // Of a `Value` this cannot fail; its `Display` would be the same by two more serialisers, for the host to compile in each module.
    serde_json::to_string(&serde_json::Value::Object(description)).unwrap_or_default()
}

/// The JSON Schema of a rule's configuration. In one place: its making is much code, and a copy of it in each function is compiled in each.
#[inline(never)]
pub(crate) fn config_schema<R: Rule>() -> serde_json::Value {
    match R::ABOUT.config_schema {
        // One that is no JSON is found by the rule's own tests.
        Some(schema) => serde_json::from_str(schema).unwrap_or_default(),
        None => schema_of_type::<R>(),
    }
}

/// The same as its type has it.
pub(crate) fn schema_of_type<R: Rule>() -> serde_json::Value {
    schemars::schema_for!(R::Config).to_value()
}

/// What a rule says of itself: name and version of the crate it stands in, and the given sentence.
///
/// ```
/// use tidegate_rule::{About, Scope};
/// const ABOUT: About = tidegate_rule::about!("Raises an alert above a limit")
///     .topics(&["plant/#"])
///     .scope(Scope::Series);
/// assert_eq!(ABOUT.scope, Scope::Series);
/// ```
#[macro_export]
macro_rules! about {
    ($summary:expr) => {
        $crate::About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), $summary)
    };
}
