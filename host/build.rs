//! Takes the built rule library into the binary, so that `tidegate demo` needs nothing beside it.
//!
//! The modules are made by `deploy/dev/build-rules.sh` into `target/rules`. Without them the build still works; the demo
//! then says how to get them.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let host = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let rules = host.join("../target/rules");
    println!("cargo::rerun-if-changed={}", rules.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut modules: Vec<PathBuf> = match fs::read_dir(&rules) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_wasm(path)).collect(),
        Err(_) => Vec::new(),
    };
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

fn is_wasm(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm")
}
