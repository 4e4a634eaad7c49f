//! What can be told of a module without compiling it: its size, whether it is whole, what it imports, and which test cases it ships.
//!
//! Only the outermost sections are read, in one pass, so that nothing in a module can make this long.

use tidegate_cases::{CasesError, SECTION};
use wasmparser::{Imports, Parser, Payload};

use crate::load_error::LoadError;
use crate::module::{MAX_MODULE_BYTES, MAX_WASI_MODULE_BYTES, Wasi};

/// What an import may be called. Types cost nothing and can do nothing.
const IMPORTS: [&str; 2] = ["tidegate:rule/host@0.1.0", "tidegate:rule/telemetry@0.1.0"];

/// The most imports and sections that are listed.
const MAX_LISTED: usize = 100;

/// What stands in a module's outermost sections.
#[derive(Debug, Default)]
pub(crate) struct Outline<'a> {
    /// Its test cases, unread.
    pub cases: Option<&'a [u8]>,
    /// What it imports; each name once.
    pub imports: Vec<String>,
    /// Names and sizes of its custom sections.
    pub sections: Vec<(String, usize)>,
}

/// Refuses what is too large.
pub(super) fn size(bytes: &[u8], wasi: Wasi) -> Result<(), LoadError> {
    let most = match wasi {
        Wasi::Refused => MAX_MODULE_BYTES,
        Wasi::Empty => MAX_WASI_MODULE_BYTES,
    };
    if bytes.len() > most { Err(LoadError::too_large(most)) } else { Ok(()) }
}

/// Refuses what is no module, or asks for what it may not have.
pub(super) fn look(bytes: &[u8], wasi: Wasi) -> Result<Outline<'_>, LoadError> {
    if !Parser::is_component(bytes) && !Parser::is_core_wasm(bytes) {
        return Err(LoadError::NotWasm(match bytes.len() {
            0 => "the file is empty".to_owned(),
            _ => "it does not begin with `\\0asm`".to_owned(),
        }));
    }
    let not_wasm = |error: wasmparser::BinaryReaderError| LoadError::NotWasm(error.to_string());
    let mut depth = 0_u32;
    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(not_wasm)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    outline.import(import.map_err(not_wasm)?.name.name, wasi)?;
                }
            }
            Payload::ImportSection(section) if depth == 0 => {
                for imports in section {
                    let module = match imports.map_err(not_wasm)? {
                        Imports::Single(_, import) => import.module,
                        Imports::Compact1 { module, .. } | Imports::Compact2 { module, .. } => module,
                    };
                    outline.import(module, wasi)?;
                }
            }
            Payload::CustomSection(section) if depth == 0 => {
                if section.name() == SECTION && outline.cases.replace(section.data()).is_some() {
                    let why = format!("the section `{SECTION}` is there twice");
                    return Err(LoadError::TestCases(CasesError::Malformed(why)));
                }
                if outline.sections.len() < MAX_LISTED {
                    outline.sections.push((section.name().to_owned(), section.data().len()));
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

impl Outline<'_> {
    fn import(&mut self, name: &str, wasi: Wasi) -> Result<(), LoadError> {
        permit(name, wasi)?;
        if self.imports.len() < MAX_LISTED && !self.imports.iter().any(|known| known == name) {
            self.imports.push(name.to_owned());
        }
        Ok(())
    }
}

fn permit(import: &str, wasi: Wasi) -> Result<(), LoadError> {
    // A core module's WASI is an older one, which a component brings its own adapter for.
    let asks_for_wasi = import.starts_with("wasi:") || import.starts_with("wasi_");
    match wasi {
        _ if IMPORTS.contains(&import) => Ok(()),
        Wasi::Empty if import.starts_with("wasi:") => Ok(()),
        Wasi::Refused if asks_for_wasi => Err(LoadError::Wasi(import.to_owned())),
        _ => Err(LoadError::Import(import.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn code(wat: &str, wasi: Wasi) -> &'static str {
        look(&wat::parse_str(wat).unwrap(), wasi).map_or_else(|error| error.code(), |_| "taken")
    }

    /// Guarantees: what a module imports decides, in core modules and components alike, and only at its outermost level.
    #[test]
    fn imports_decide() {
        let host = r#"(module (import "tidegate:rule/host@0.1.0" "log" (func)))"#;
        let foreign = r#"(module (import "env" "now" (func)))"#;
        let preview1 = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#;
        let clock = r#"(component (import "wasi:clocks/wall-clock@0.2.3" (instance)))"#;
        let network = r#"(component (import "acme:net/socket" (instance)))"#;
        let inner = r#"(component (core module (import "env" "now" (func))))"#;
        for (wat, refused, empty) in [
            (host, "taken", "taken"),
            (foreign, "import", "import"),
            (preview1, "wasi", "import"),
            (clock, "wasi", "taken"),
            (network, "import", "import"),
            (inner, "taken", "taken"),
        ] {
            assert_eq!((code(wat, Wasi::Refused), code(wat, Wasi::Empty)), (refused, empty), "{wat}");
        }
    }

    /// Guarantees: what is empty, half written, foreign or too large is refused before anybody compiles it.
    #[test]
    fn what_is_no_module() {
        let whole = wat::parse_str("(module (func (export \"f\") (nop) (nop)))").unwrap();
        assert!(look(&whole, Wasi::Refused).is_ok());
        for cut in [0, 3, 7, 9, whole.len() - 1] {
            let refused = look(&whole[..cut], Wasi::Refused).unwrap_err();
            assert_eq!(refused.code(), "not_wasm", "the first {cut} bytes: {refused}");
        }
        let large = vec![0; MAX_MODULE_BYTES + 1];
        assert_eq!(size(&large, Wasi::Refused).unwrap_err().code(), "too_large");
        assert!(size(&large, Wasi::Empty).is_ok());
        assert!(look(b"#!/bin/sh", Wasi::Refused).unwrap_err().to_string().contains("no WebAssembly module"));
    }
}
