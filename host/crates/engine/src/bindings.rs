//! The host's side of `wit/rule.wit`, generated: parameters borrow the columns, results own them.
//!
//! The world here exports every interface a rule may have; no rule has them all. [`crate::Module`] looks for each by itself.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    dead_code,
    reason = "generated code: its unsafe is wasmtime's derive"
)]

wasmtime::component::bindgen!({
    inline: r#"
        package tidegate:any;
        world any-rule {
            import tidegate:rule/host@0.1.0;
            export tidegate:rule/lifecycle@0.1.0;
            export tidegate:rule/decoder@0.1.0;
            export tidegate:rule/processor@0.1.0;
            export tidegate:rule/naming@0.1.0;
            export tidegate:rule/ticking@0.1.0;
            export tidegate:rule/state@0.1.0;
        }
    "#,
    path: "../../../wit",
    world: "tidegate:any/any-rule",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
});

pub use exports::tidegate::rule::{decoder, lifecycle, naming, processor, state, ticking};
pub use tidegate::rule::{host, telemetry};
