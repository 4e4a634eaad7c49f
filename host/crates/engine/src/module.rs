//! A `.wasm` file, looked over and compiled.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use wasmparser::Parser;
use wasmtime::component::{Component, InstancePre};
use wit_component::ComponentEncoder;

use crate::bindings::{decoder, lifecycle, naming, processor, state, ticking};
use crate::context::Context;
use crate::engine::Engine;
use crate::fault::Fault;

/// The largest module taken.
pub const MAX_MODULE_BYTES: usize = 10 << 20;

/// What an import may be called. Types cost nothing and can do nothing.
const IMPORTS: [&str; 2] = ["tidegate:rule/host@0.1.0", "tidegate:rule/telemetry@0.1.0"];

/// A compiled module; one serves any number of rules.
pub struct Module {
    pub(crate) pre: InstancePre<Context>,
    pub(crate) exports: Exports,
    pub(crate) engine: Engine,
    sha256: Arc<str>,
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
    /// The whole node.
    Node,
}

/// Why a module cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Past [`MAX_MODULE_BYTES`].
    #[error(
        "the module has {bytes} bytes; the most is {MAX_MODULE_BYTES}: build with `--release` and strip debug information"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Half written, or no module at all.
    #[error("this is no WebAssembly module: {0}")]
    NotWasm(String),
    /// It was not built against the rule contract.
    #[error(
        "the module does not follow the rule contract tidegate:rule@0.1.0: {0}; build it with the `tidegate-rule` crate"
    )]
    Contract(String),
    /// It wants what no rule gets.
    #[error(
        "the module imports `{0}`, and a rule may import nothing but `tidegate:rule/host@0.1.0`: build it for wasm32-unknown-unknown, without WASI"
    )]
    Import(String),
    /// Its own code failed while it was made ready.
    #[error("while the module was made ready, {0}")]
    Fault(#[from] Fault),
    /// Its `describe` returned something else than the contract says.
    #[error("`describe` returned no valid description: {0}")]
    Description(String),
    /// Its configuration was refused, by its schema or by itself.
    #[error("its configuration was refused: {0}")]
    Config(String),
    /// It took the state of its predecessor for wrong.
    #[error("it refused the state of the generation before it: {0}")]
    State(String),
    /// It asks for something this version does not do.
    #[error("{0}")]
    Unsupported(String),
    /// Something else has to be waited for: it is tried again.
    #[error("{0}")]
    Busy(String),
    /// The file cannot be read or is no rule file.
    #[error("{0}")]
    File(String),
}

impl Module {
    /// Compiles `bytes` (a core module, or a component) and asks it what it is. Slow: tens of milliseconds. Never on a lane.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Module, LoadError> {
        if bytes.len() > MAX_MODULE_BYTES {
            return Err(LoadError::TooLarge { bytes: bytes.len() });
        }
        let wrapped;
        let component_bytes = if Parser::is_component(bytes) {
            bytes
        } else if Parser::is_core_wasm(bytes) {
            wasmparser::validate(bytes).map_err(|e| LoadError::NotWasm(e.to_string()))?;
            wrapped = wrap(bytes)?;
            &wrapped
        } else {
            return Err(LoadError::NotWasm(match bytes.len() {
                0 => "the file is empty".to_owned(),
                _ => "it does not begin with `\\0asm`".to_owned(),
            }));
        };
        let component = Component::new(&engine.wasmtime, component_bytes)
            .map_err(|error| LoadError::NotWasm(format!("{:#}", error)))?;
        for (name, _) in component.component_type().imports(&engine.wasmtime) {
            if !IMPORTS.contains(&name) {
                return Err(LoadError::Import(name.to_owned()));
            }
        }
        let contract = |error: wasmtime::Error| LoadError::Contract(format!("{error:#}"));
        let pre = engine.linker.instantiate_pre(&component).map_err(contract)?;
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
        let sha256 = hex(&Sha256::digest(bytes)).into();
        let mut module =
            Module { pre, exports, engine: engine.clone(), sha256, kind, description: Description::default() };
        module.description = crate::instance::describe(&module)?;
        if module.description.scope == Scope::Node {
            return Err(LoadError::Unsupported(
                "its state belongs to the whole node (`scope = \"node\"`), which this version cannot run yet".into(),
            ));
        }
        Ok(module)
    }

    /// The file's sha256, in hex.
    pub fn sha256(&self) -> &Arc<str> {
        &self.sha256
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

impl Kind {
    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Decoder => "decoder",
            Kind::Processor => "processor",
        }
    }
}

/// Makes a component of a core module, by what its bindings noted in it.
fn wrap(core: &[u8]) -> Result<Vec<u8>, LoadError> {
    ComponentEncoder::default()
        .module(core)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| LoadError::Contract(format!("{error:#}")))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
