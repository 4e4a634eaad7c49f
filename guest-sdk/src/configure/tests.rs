#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde::Deserialize;

use super::*;
use crate::about::About;
use crate::life::Life;

#[derive(Debug)]
struct Probe;

#[derive(Deserialize, schemars::JsonSchema)]
struct Limits {
    high: f64,
    #[serde(default)]
    #[allow(dead_code, reason = "only its name matters here")]
    low: f64,
}

impl Rule for Probe {
    type Config = Limits;
    const ABOUT: About = crate::about!("Probe").topics(&["a/#"]).tick_ms(500);

    fn new(config: Limits) -> Result<Self, String> {
        if config.high > 0.0 { Ok(Self) } else { Err("high must be above 0".to_owned()) }
    }
}

fn refusal(config: &str) -> String {
    match configure::<Probe>(config) {
        Err(why) => why,
        Ok(_) => panic!("{config} was accepted"),
    }
}

/// Guarantees: what cannot be is refused by the name of the key, although the type would let unknown keys pass.
#[test]
fn refusals_name_the_key() {
    assert!(configure::<Probe>(r#"{"high": 3}"#).is_ok());
    assert_eq!(refusal(r#"{"high": 3, "hihg": 4}"#), "`hihg` is not a key of this rule; it has: high, low");
    assert!(refusal("{}").contains("high"));
    assert!(refusal("").contains("high"), "nothing is as good as an empty table");
    assert!(refusal(r#"{"high": "x"}"#).contains("expected f64"));
    assert!(refusal("[]").contains("table"));
    assert!(refusal("{").contains("not JSON"));
    assert_eq!(refusal(r#"{"high": -1}"#), "high must be above 0");
}

/// Guarantees: an instance is configured once, and lives harmlessly before.
#[test]
fn an_instance_is_configured_once() {
    let mut life = Life::<Probe>::default();
    assert!(life.restore("1", &crate::columns::Saved::default()).is_err());
    life.configure(r#"{"high": 3}"#).unwrap();
    assert!(life.configure(r#"{"high": 3}"#).unwrap_err().contains("twice"));
}

/// Guarantees: the description has the keys of the contract.
#[test]
fn the_description_is_the_contracts() {
    let description: Value = serde_json::from_str(&Life::<Probe>::describe()).unwrap();
    assert_eq!(description["name"], "tidegate-rule");
    assert_eq!(description["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(description["summary"], "Probe");
    assert_eq!(description["default-topics"][0], "a/#");
    assert_eq!(description["scope"], "none");
    assert_eq!(description["wants-properties"], false);
    assert_eq!(description["tick-ms"], 500);
    assert_eq!(description["config-schema"]["properties"]["high"]["type"], "number");
}
