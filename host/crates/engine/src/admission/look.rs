//! What can be told of a module without compiling it: its size, whether it is whole, what it imports, and which test cases it ships.
//!
//! Everything is read once and in order, so that nothing in a module can make this long; what its imports and sections say counts at the outermost level only. Of
//! all levels it is added up what an instance takes up that no limit of memory covers.

use tidegate_cases::{CasesError, SECTION};
use wasmparser::{ElementItems, Parser, Payload};

use crate::context::MAX_INSTANCES;
use crate::load_error::LoadError;
use crate::module::{MAX_MODULE_BYTES, MAX_WASI_MODULE_BYTES};
use crate::terms::Wasi;

/// What an import may be called. Types cost nothing and can do nothing.
const IMPORTS: [&str; 2] = ["tidegate:rule/host@0.1.0", "tidegate:rule/telemetry@0.1.0"];

/// Stands in the names of what a decoder exports: a component the interface, a core module its functions.
const DECODER: &str = "tidegate:rule/decoder@";

/// The most imports and sections that are listed.
const MAX_LISTED: usize = 100;

/// What the core instances of a module may take up beside memory and tables, all together: a component of Python or JavaScript has as many as are allowed, of
/// one large module and of small ones, and is weighed as if all were of the large one.
const MAX_INSTANCES_BYTES: u64 = 4 << 20;
const MAX_WASI_INSTANCES_BYTES: u64 = 64 << 20;
/// What an instance keeps for each global, and for each function that it imports or hands out, at most (wasmtime's `vmcontext`).
const GLOBAL_BYTES: u64 = 16;
const FUNCTION_BYTES: u64 = 64;
const TABLE_BYTES: u64 = 64;

/// What stands in a module's outermost sections.
#[derive(Debug, Default)]
pub(crate) struct Outline<'a> {
    /// Its test cases, unread.
    pub cases: Option<&'a [u8]>,
    /// What it imports; each name once.
    pub imports: Vec<String>,
    /// Names and sizes of its custom sections.
    pub sections: Vec<(String, usize)>,
    /// By the names of what it exports it is a decoder.
    pub decodes: bool,
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
    let (mut instances, mut here, mut heaviest) = (0_usize, Vec::from([0_u64]), 0);
    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(not_wasm)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                here.push(0);
            }
            Payload::End(_) => {
                depth = depth.saturating_sub(1);
                heaviest = here.pop().unwrap_or_default().max(heaviest);
            }
            // How often a component within this one is instantiated is nowhere bounded but when it runs.
            Payload::InstanceSection(section) => {
                instances += if depth == 0 { section.count() as usize } else { MAX_INSTANCES };
            }
            ref weighty @ (Payload::GlobalSection(_)
            | Payload::TableSection(_)
            | Payload::ExportSection(_)
            | Payload::ElementSection(_)) => {
                let bytes = weight(weighty).map_err(not_wasm)?;
                here.last_mut().into_iter().for_each(|here| *here += bytes);
                if depth == 0
                    && let Payload::ExportSection(exports) = weighty
                {
                    for export in exports.clone() {
                        outline.decodes |= export.map_err(not_wasm)?.name.contains(DECODER);
                    }
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    outline.decodes |= export.map_err(not_wasm)?.name.name.contains(DECODER);
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    outline.import(import.map_err(not_wasm)?.name.name, wasi)?;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let module = import.map_err(not_wasm)?.module;
                    here.last_mut().into_iter().for_each(|here| *here += FUNCTION_BYTES);
                    if depth == 0 {
                        outline.import(module, wasi)?;
                    }
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
    // A core module is instantiated once; the component that is made of it has a few more, small ones.
    let bytes = heaviest.saturating_mul(instances.clamp(1, MAX_INSTANCES) as u64);
    let most = match wasi {
        Wasi::Refused => MAX_INSTANCES_BYTES,
        Wasi::Empty => MAX_WASI_INSTANCES_BYTES,
    };
    if bytes > most { Err(LoadError::InstanceSize { bytes, most }) } else { Ok(outline) }
}

/// What a section adds to an instance, at most.
fn weight(section: &Payload<'_>) -> Result<u64, wasmparser::BinaryReaderError> {
    Ok(match section {
        Payload::GlobalSection(section) => u64::from(section.count()) * (GLOBAL_BYTES + FUNCTION_BYTES),
        Payload::TableSection(section) => u64::from(section.count()) * TABLE_BYTES,
        Payload::ExportSection(section) => u64::from(section.count()) * FUNCTION_BYTES,
        Payload::ElementSection(section) => {
            let mut bytes = 0;
            for element in section.clone() {
                bytes += FUNCTION_BYTES
                    * u64::from(match element?.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    });
            }
            bytes
        }
        _ => 0,
    })
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
        let socket = r#"(component (import "wasi:sockets/tcp-create-socket@0.2.3" (instance)))"#;
        let files = r#"(component (import "wasi:filesystem/preopens@0.2.3" (instance)))"#;
        let environment = r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#;
        let network = r#"(component (import "acme:net/socket" (instance)))"#;
        let inner = r#"(component (core module (import "env" "now" (func))))"#;
        for (wat, refused, empty) in [
            (host, "taken", "taken"),
            (foreign, "import", "import"),
            (preview1, "wasi", "import"),
            (clock, "wasi", "taken"),
            (socket, "wasi", "taken"),
            (files, "wasi", "taken"),
            (environment, "wasi", "taken"),
            (network, "import", "import"),
            (inner, "taken", "taken"),
        ] {
            assert_eq!((code(wat, Wasi::Refused), code(wat, Wasi::Empty)), (refused, empty), "{wat}");
        }
    }

    /// Guarantees: what would take up much in each instance and is no memory is refused, at whatever level it stands, by all that makes it up; an ordinary module is
    /// not, nor one that is large and instantiated once.
    #[test]
    fn what_an_instance_takes_up() {
        let many = |what: &str, count: usize| format!("(module {})", what.repeat(count));
        let global = "(global i32 (i32.const 0))";
        let component = |module: &str, times: usize| {
            let core = module.replacen("(module", "(core module $m", 1);
            format!("(component {core} {})", "(core instance (instantiate $m))".repeat(times))
        };
        let nested = |module: &str| format!("(component {})", component(module, 1));
        let elements = |count: usize| format!("(module (func $f) (elem declare func {}))", "$f ".repeat(count));
        for (wat, fate) in [
            (many(global, 1_000), "taken"),
            (many(global, 100_000), "instance_size"),
            (many("(table 0 funcref)", 100_000), "instance_size"),
            (many("(import \"tidegate:rule/host@0.1.0\" \"log\" (func))", 100_000), "instance_size"),
            (elements(10_000), "taken"),
            (elements(100_000), "instance_size"),
            (component(&many(global, 10_000), 1), "taken"),
            (component(&many(global, 10_000), 20), "instance_size"),
            (nested(&many(global, 10_000)), "instance_size"),
        ] {
            assert_eq!(code(&wat, Wasi::Refused), fate, "{} bytes: {}", wat.len(), &wat[..60]);
        }
        assert_eq!(code(&many(global, 100_000), Wasi::Empty), "taken", "one instance of a language's runtime");
        let mut a_million = b"\0asm\x01\0\0\0\x06\xc3\x96\xb1\x02\xc0\x84\x3d".to_vec();
        (0..1_000_000).for_each(|_| a_million.extend(b"\x7f\0\x41\0\x0b"));
        assert_eq!(look(&a_million, Wasi::Empty).unwrap_err().code(), "instance_size");
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
