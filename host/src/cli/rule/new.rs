//! `tidegate rule new`: a crate that builds as it is, with a test case that passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use tidegate_config::Name;

/// What the new rule does.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Kind {
    /// Messages to points.
    Decoder,
    /// Points to points and alerts.
    Processor,
}

/// What stands in the templates for what differs.
const CARGO: &str = include_str!("template/Cargo.toml.txt");
const README: &str = include_str!("template/README.md.txt");
const DECODER: &str = include_str!("template/decoder.rs.txt");
const PROCESSOR: &str = include_str!("template/processor.rs.txt");

/// The files of one test case.
struct Case {
    name: &'static str,
    config: &'static str,
    input: &'static str,
    expected: &'static str,
}

const DECODED: Case = Case {
    name: "numbers",
    config: "{\"factor\": 0.5}\n",
    input: "{\"topic\":\"dev/a\",\"received_us\":1000000,\"payload\":\"21.5\"}\n{\"topic\":\"dev/a\",\"received_us\":2000000,\"payload\":\"warm\"}\n",
    expected: "{\"point\":{\"topic\":\"dev/a\",\"time_us\":1000000,\"value\":10.75}}\n{\"reject\":{\"row\":1,\"reason\":\"the payload is no number\"}}\n",
};
const WATCHED: Case = Case {
    name: "raised-and-cleared",
    config: "{\"above\": 90}\n",
    input: "{\"topic\":\"dev/a\",\"time_us\":1000000,\"value\":91}\n{\"topic\":\"dev/a\",\"time_us\":2000000,\"value\":95}\n{\"restart\":64}\n{\"topic\":\"dev/a\",\"time_us\":3000000,\"value\":20}\n",
    expected: "{\"alert\":{\"topic\":\"dev/a\",\"time_us\":1000000,\"transition\":\"raised\",\"severity\":\"warning\",\"value\":91,\"message\":\"91 is too high\"}}\n{\"alert\":{\"topic\":\"dev/a\",\"time_us\":3000000,\"transition\":\"cleared\",\"severity\":\"warning\",\"value\":20,\"message\":\"20 is well\"}}\n",
};

pub(super) fn new(name: &Name, kind: Kind, into: Option<&Path>, sdk: Option<&Path>) -> anyhow::Result<ExitCode> {
    let name = name.as_str();
    let sdk = sdk_at(sdk)?;
    let directory = into.map_or_else(|| PathBuf::from(name), Path::to_owned);
    if directory.exists() {
        bail!("{} is there already; name another with --into", directory.display());
    }
    let (word, summary, source, case) = match kind {
        Kind::Decoder => ("decoder", "Reads numbers", DECODER, DECODED),
        Kind::Processor => ("processor", "Watches a limit", PROCESSOR, WATCHED),
    };
    let filled = |text: &str| {
        text.replace("__NAME__", name)
            .replace("__TYPE__", &type_name(name))
            .replace("__KIND__", word)
            .replace("__SUMMARY__", summary)
            .replace("__SDK__", &toml::Value::from(sdk.to_string_lossy().into_owned()).to_string())
    };
    let testcase = format!("testcases/{}", case.name);
    let files = [
        ("Cargo.toml".to_owned(), filled(CARGO)),
        ("README.md".to_owned(), filled(README)),
        (".gitignore".to_owned(), "/target\n".to_owned()),
        ("src/lib.rs".to_owned(), filled(source)),
        (format!("{testcase}/config.json"), case.config.to_owned()),
        (format!("{testcase}/input.ndjson"), case.input.to_owned()),
        (format!("{testcase}/expected.ndjson"), case.expected.to_owned()),
    ];
    for (path, text) in files {
        write(&directory.join(path), &text)?;
    }
    // The versions that the SDK is built and tested with; cargo leaves out what is not needed.
    let lock = sdk.with_file_name("Cargo.lock");
    if lock.exists() {
        let to = directory.join("Cargo.lock");
        fs::copy(&lock, &to).with_context(|| format!("{} cannot be written", to.display()))?;
    }
    println!("{}: a {word}. Now: cd {0} && tidegate rule build && tidegate rule test", directory.display());
    Ok(ExitCode::SUCCESS)
}

/// The SDK's sources: those named, else those of the nearest Tidegate around.
fn sdk_at(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found = match named {
        Some(named) => Some(named.to_owned()),
        None => here.ancestors().map(|directory| directory.join("guest-sdk")).find(|sdk| is_sdk(sdk)),
    };
    let Some(sdk) = found else {
        bail!("the sources of the crate `tidegate-rule` are not around here: name Tidegate's `guest-sdk` with --sdk");
    };
    if !is_sdk(&sdk) {
        bail!("{} is not the crate `tidegate-rule`: name Tidegate's `guest-sdk` with --sdk", sdk.display());
    }
    Ok(fs::canonicalize(sdk)?)
}

fn is_sdk(directory: &Path) -> bool {
    fs::read_to_string(directory.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"tidegate-rule\""))
}

/// `high-pressure` is `HighPressure`.
fn type_name(name: &str) -> String {
    let words = name.split('-').filter(|word| !word.is_empty());
    let camel: String = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    // No type begins with a digit, and these are taken by what the templates use.
    match camel.as_str() {
        "About" | "Alarms" | "Alert" | "Config" | "Decoder" | "Deserialize" | "Exported" | "Message" | "Out"
        | "Quality" | "Reading" | "Reason" | "Result" | "Scope" | "Self" | "Severity" | "State" | "String"
        | "Tracked" => {
            format!("{camel}Rule")
        }
        _ if camel.starts_with(|c: char| c.is_ascii_alphabetic()) => camel,
        _ => format!("Rule{camel}"),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::type_name;

    /// Guarantees: every name makes a type's name that the template can have.
    #[test]
    fn types_are_called_after_rules() {
        for (name, called) in [
            ("frost", "Frost"),
            ("high-pressure-2", "HighPressure2"),
            ("3phase", "Rule3phase"),
            ("alert", "AlertRule"),
            ("x--", "X"),
        ] {
            assert_eq!(type_name(name), called);
        }
    }
}
