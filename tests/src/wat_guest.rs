//! Hostile rules from a few words of WebAssembly text: `tests/wat/guest.wat` with instructions in its places.

use wit_component::StringEncoding;
use wit_parser::Resolve;

const TEMPLATE: &str = include_str!("../wat/guest.wat");
const CONTRACT: &str = include_str!("../../wit/rule.wit");
/// Every place of the template.
const PLACES: [&str; 12] = [
    "deep",
    "realloc",
    "start",
    "describe",
    "configure",
    "declare-series",
    "retire",
    "process",
    "posted",
    "tick",
    "save",
    "restore",
];

/// A processor called `name` for `hostile/#` that keeps state and ticks every second, with these instructions at the beginning of the
/// functions named: a module, as a compiler for wasm32-unknown-unknown would make it.
pub fn wat_guest(name: &str, instructions: &[(&str, &str)]) -> Vec<u8> {
    wat_guest_with_schema(name, "null", instructions)
}

/// The same with a JSON Schema of its configuration, which is JSON.
pub fn wat_guest_with_schema(name: &str, schema: &str, instructions: &[(&str, &str)]) -> Vec<u8> {
    let description = format!(
        r#"{{"name":"{name}","version":"1.0.0","summary":"","default-topics":["hostile/#"],"scope":"series","tick-ms":1000,"config-schema":{schema}}}"#
    );
    let mut text = TEMPLATE.to_owned();
    for (place, _) in instructions {
        assert!(PLACES.contains(place), "the template has no place {place:?}");
    }
    for place in PLACES {
        let words = instructions.iter().find(|(at, _)| *at == place).map_or("", |(_, words)| words);
        text = text.replace(&format!("{{{place}}}"), words);
    }
    of_world("processor-rule", &text, &description)
}

/// A module of the contract's `world`: `text`, which says of itself what `description` does.
pub(crate) fn of_world(world: &str, text: &str, description: &str) -> Vec<u8> {
    let length: String =
        (description.len() as u32).to_le_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect();
    let text = text
        .replace("{length}", &length)
        .replace("{description}", &description.replace('\\', "\\\\").replace('"', "\\\""));
    let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{description}: {error}\n{text}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_source("rule.wit", CONTRACT).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    module
}
