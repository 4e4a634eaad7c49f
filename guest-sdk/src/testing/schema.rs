//! The schema that a rule brings along as text, held against the configuration that it is to describe.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::about::schema_of_type;
use crate::rule::Rule;

/// Where [`crate::About::config_schema`] is to have its text from.
const FILE: &str = "config-schema.json";

/// Refuses a text that is not the schema of the configuration, or no more; with `TIDEGATE_BLESS=1` in the environment the file is written.
pub(super) fn check<R: Rule>(crate_directory: &Path) -> Result<(), String> {
    let Some((text, made)) = R::ABOUT.config_schema.map(|text| (text, schema_of_type::<R>())) else { return Ok(()) };
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        return fs::write(crate_directory.join(FILE), format!("{made:#}\n"))
            .map_err(|fault| format!("{FILE}: {fault}"));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(told) if told == made => Ok(()),
        _ => {
            Err(format!("{FILE} is not the schema of the configuration; TIDEGATE_BLESS=1 has it written:\n{made:#}"))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::about::About;
    use crate::life::Life;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Config {
        #[allow(dead_code, reason = "only its name matters here")]
        high: f64,
    }

    /// A rule whose schema is: 0 that of its configuration, 1 that of another, 2 none, 3 made of its type.
    struct Probe<const TEXT: u8>;

    const SCHEMA: &str = r#"{
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Config", "type": "object",
        "properties": {"high": {"type": "number", "format": "double"}}, "required": ["high"]
    }"#;
    const ANOTHER: &str = r#"{"type": "object", "properties": {"low": {"type": "number"}}}"#;

    impl<const TEXT: u8> Rule for Probe<TEXT> {
        type Config = Config;
        const ABOUT: About = match TEXT {
            0 => crate::about!("Probe").config_schema(SCHEMA),
            1 => crate::about!("Probe").config_schema(ANOTHER),
            2 => crate::about!("Probe").config_schema("{"),
            _ => crate::about!("Probe"),
        };

        fn new(_: Config) -> Result<Self, String> {
            Ok(Self)
        }
    }

    /// Guarantees: only the text that says what the type says passes.
    #[test]
    fn a_stale_schema_fails() {
        let directory = Path::new("nowhere");
        assert_eq!((check::<Probe<0>>(directory), check::<Probe<3>>(directory)), (Ok(()), Ok(())));
        for refused in [check::<Probe<1>>(directory), check::<Probe<2>>(directory)] {
            assert!(refused.unwrap_err().contains("\"high\""));
        }
    }

    /// Guarantees: the text is what a rule says of itself, and by which keys that it does not have are refused, as where it is made of the type.
    #[test]
    fn the_text_is_the_schema() {
        let described = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let made = described(Life::<Probe<3>>::describe());
        assert_eq!(described(Life::<Probe<0>>::describe()), made);
        assert_eq!(described(Life::<Probe<1>>::describe())["config-schema"], described(ANOTHER.to_owned()));
        let refusal = |config: &str| {
            let of = |done: Result<(), String>| done.unwrap_err();
            (of(Life::<Probe<0>>::default().configure(config)), of(Life::<Probe<3>>::default().configure(config)))
        };
        let (told, made) = refusal(r#"{"high": 1, "hihg": 2}"#);
        assert_eq!(told, made);
        assert!(told.contains("`hihg` is not a key"), "{told}");
    }
}
