//! `embed-cases <module.wasm> <testcases>`: puts a rule's test cases into its module, in place.
//!
//! For `deploy/dev/build-rules.sh`, which makes the modules that the host's binary brings along, and so cannot ask that binary.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [module, folder] = arguments.as_slice() else {
        eprintln!("embed-cases: give a module and its folder of test cases");
        return ExitCode::from(2);
    };
    match run(Path::new(module), Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed-cases: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn run(module: &Path, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(cases) = tidegate_cases::pack(folder)? {
        let bytes = std::fs::read(module)?;
        std::fs::write(module, tidegate_cases::embed(&bytes, &cases))?;
    }
    Ok(())
}
