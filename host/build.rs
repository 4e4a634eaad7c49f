//! Takes the built rule library into the binary, so that `tidegate demo` needs nothing beside it.
//!
//! The modules are made by `deploy/dev/build-rules.sh` into `target/rules`. Without them the build still works; the demo
//! then says how to get them.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let host = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let (sources, built) = (host.join("../rules"), host.join("../target/rules"));
    println!("cargo::rerun-if-changed={}", built.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut modules = Vec::new();
    // The library and nothing else: tests and examples build their modules into the same folder.
    for family in subfolders(&sources) {
        for rule in subfolders(&family) {
            let name = rule.file_name().unwrap_or_default().to_string_lossy().into_owned();
            modules.push(built.join(format!("{name}.wasm")));
        }
    }
    modules.retain(|path| path.exists());
    modules.sort();
    let mut code = String::from("&[\n");
    for path in modules {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = fs::canonicalize(&path)?;
        println!("cargo::rerun-if-changed={}", path.display());
        code += &format!("    ({name:?}, include_bytes!({path:?}).as_slice()),\n");
    }
    code += "]\n";
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("bundled.rs"), code)
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect()
}
