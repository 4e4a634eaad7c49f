//! A `.wasm` file, looked over and compiled.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use wasmtime::component::{Component, InstancePre};

use crate::admission::Admission;
use crate::bindings::{decoder, lifecycle, naming, processor, state, ticking};
use crate::clock::Clock;
use crate::context::Context;
use crate::engine::{Engine, Variant};
use crate::load_error::LoadError;
use crate::terms::Terms;

/// The largest module taken: bytes.
pub const MAX_MODULE_BYTES: usize = 10 << 20;
/// The largest taken where its rule's file says `wasi = true`: a Python component has 18 MB, a JavaScript one 12 MB.
pub const MAX_WASI_MODULE_BYTES: usize = 64 << 20;

/// A compiled module; one serves any number of rules.
pub struct Module {
    pub(crate) pre: InstancePre<Context>,
    pub(crate) exports: Exports,
    pub(crate) clock: Arc<Clock>,
    sha256: Arc<str>,
    terms: Terms,
    kind: Kind,
    description: Description,
}

#[derive(Clone)]
pub(crate) struct Exports {
    pub lifecycle: lifecycle::GuestIndices,
    pub decoder: Option<decoder::GuestIndices>,
    pub processor: Option<processor::GuestIndices>,
    pub naming: Option<naming::GuestIndices>,
    pub ticking: Option<ticking::GuestIndices>,
    pub state: Option<state::GuestIndices>,
}

/// What a module does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages to points.
    Decoder,
    /// Points to points and alerts.
    Processor,
}

/// What a module says of itself (`describe`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// What it is called.
    pub name: String,
    /// Its version: semantic, for people and for its own `restore`.
    #[serde(default)]
    pub version: String,
    /// One sentence.
    #[serde(default)]
    pub summary: String,
    /// JSON Schema of its configuration.
    #[serde(default)]
    pub config_schema: serde_json::Value,
    /// Topic filters it runs with when no file says otherwise.
    #[serde(default)]
    pub default_topics: Vec<String>,
    /// What its state belongs to.
    #[serde(default)]
    pub scope: Scope,
    /// Whether it wants user properties, headers and keys.
    #[serde(default)]
    pub wants_properties: bool,
    /// How often it wants `tick`: milliseconds; never if none.
    #[serde(default)]
    pub tick_ms: Option<u64>,
}

/// What a rule's state belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// It has none.
    #[default]
    None,
    /// One series.
    Series,
    /// One partition.
    Partition,
    /// The whole node: it runs on a lane of its own.
    Node,
}

impl Module {
    /// Looks over and compiles `bytes` (a core module, or a component), here, without limits and without its test cases: for tests, and for
    /// modules that are one's own. [`crate::Admission`] is for all others. Slow: tens of milliseconds. Never on a lane.
    ///
    /// # Errors
    /// It cannot serve.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Module, LoadError> {
        Admission::in_process(engine.clone()).untested(bytes, Terms::default()).map(|(module, _)| module)
    }

    /// Of a compiled component: finds what it exports, and asks it what it is.
    pub(crate) fn new(
        engine: &Engine,
        variant: &Variant,
        component: &Component,
        sha256: &str,
        terms: Terms,
    ) -> Result<Module, LoadError> {
        let contract = |error: wasmtime::Error| LoadError::Contract(format!("{error:#}"));
        let pre = variant.linker(terms.wasi).instantiate_pre(component).map_err(contract)?;
        let exports = Exports {
            lifecycle: lifecycle::GuestIndices::new(&pre).map_err(contract)?,
            decoder: decoder::GuestIndices::new(&pre).ok(),
            processor: processor::GuestIndices::new(&pre).ok(),
            naming: naming::GuestIndices::new(&pre).ok(),
            ticking: ticking::GuestIndices::new(&pre).ok(),
            state: state::GuestIndices::new(&pre).ok(),
        };
        let kind = match (&exports.decoder, &exports.processor) {
            (Some(_), None) => Kind::Decoder,
            (None, Some(_)) => Kind::Processor,
            (None, None) => {
                return Err(LoadError::Contract("it exports neither a decoder nor a processor".into()));
            }
            (Some(_), Some(_)) => {
                return Err(LoadError::Contract("it exports both a decoder and a processor".into()));
            }
        };
        let mut module = Module {
            pre,
            exports,
            clock: engine.clock.clone(),
            sha256: sha256.into(),
            terms,
            kind,
            description: Description::default(),
        };
        module.description = crate::instance::store::describe(&module)?;
        if module.description.scope == Scope::Node && kind == Kind::Decoder {
            return Err(LoadError::Unsupported(
                "a decoder's state cannot belong to the whole node (`scope` \"node\"): messages are decoded on the lane of their partition; give that part to a processor"
                    .into(),
            ));
        }
        Ok(module)
    }

    /// The file's sha256, in hex.
    pub fn sha256(&self) -> &Arc<str> {
        &self.sha256
    }

    /// On what terms it was let in.
    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    /// What it does.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({} {})", self.description.name, self.sha256)
    }
}

impl Scope {
    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::None => "none",
            Scope::Series => "series",
            Scope::Partition => "partition",
            Scope::Node => "node",
        }
    }
}

impl Kind {
    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Decoder => "decoder",
            Kind::Processor => "processor",
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
