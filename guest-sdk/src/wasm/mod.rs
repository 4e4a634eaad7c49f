//! The contract's side of a module: generated bindings, and their types moved to and from the
//! SDK's own. Columns are moved whole, never walked; only what is short (alerts, names) is mapped.
//! Built for `wasm32` only: natively a rule is an ordinary library.
#![allow(unsafe_code, reason = "generated bindings read and write the canonical ABI; nothing else here is unsafe")]

use crate::call::{Call, Host, Level, NewSeries, Refusal};
use crate::columns as own;
use crate::life::Life;
use crate::rule::Rule;

// The worlds of `wit/rule.wit` in three parts, because generated export macros of one interface cannot
// stand twice in a crate. A module that exports two parts has the union: the world of the contract.

pub mod common {
    //! What every rule exports.
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package tidegate:guest-common;
            world common-part {
                import tidegate:rule/host@0.1.0;
                export tidegate:rule/lifecycle@0.1.0;
                export tidegate:rule/naming@0.1.0;
                export tidegate:rule/ticking@0.1.0;
                export tidegate:rule/state@0.1.0;
            }
        ",
        world: "tidegate:guest-common/common-part",
        pub_export_macro: true,
        default_bindings_module: "tidegate_rule::wasm::common",
        generate_all,
    });
}

pub mod decoder {
    //! What a decoder exports beside.
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package tidegate:guest-decoder;
            world decoder-part {
                import tidegate:rule/host@0.1.0;
                export tidegate:rule/decoder@0.1.0;
            }
        ",
        world: "tidegate:guest-decoder/decoder-part",
        pub_export_macro: true,
        default_bindings_module: "tidegate_rule::wasm::decoder",
        with: {
            "tidegate:rule/telemetry@0.1.0": crate::wasm::common::tidegate::rule::telemetry,
            "tidegate:rule/host@0.1.0": crate::wasm::common::tidegate::rule::host,
        },
    });
}

pub mod processor {
    //! What a processor exports beside.
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package tidegate:guest-processor;
            world processor-part {
                import tidegate:rule/host@0.1.0;
                export tidegate:rule/processor@0.1.0;
            }
        ",
        world: "tidegate:guest-processor/processor-part",
        pub_export_macro: true,
        default_bindings_module: "tidegate_rule::wasm::processor",
        with: {
            "tidegate:rule/telemetry@0.1.0": crate::wasm::common::tidegate::rule::telemetry,
            "tidegate:rule/host@0.1.0": crate::wasm::common::tidegate::rule::host,
        },
    });
}

mod moves;

use common::exports::tidegate::rule::{lifecycle, naming, state, ticking};
use common::tidegate::rule::{host, telemetry};

/// The one instance a module holds. Implemented by [`crate::export!`].
pub trait Instance {
    type Rule: Rule;
    /// Lends the instance.
    fn with<T>(work: impl FnOnce(&mut Life<Self::Rule>) -> T) -> T;
}

/// What the exports are implemented on.
pub struct Component<I>(std::marker::PhantomData<I>);

/// The host, as a module reaches it.
struct Outside;

impl Host for Outside {
    fn resolve(&mut self, new: Vec<NewSeries>) -> Vec<Result<own::SeriesId, Refusal>> {
        let new: Vec<host::NewSeries> = new
            .into_iter()
            .map(|series| host::NewSeries {
                topic: series.topic,
                unit: series.unit,
                labels: series.labels,
                from_row: series.from_row,
            })
            .collect();
        host::resolve(&new)
            .into_iter()
            .map(|answer| {
                answer.map_err(|refusal| match refusal {
                    host::Refusal::Limit => Refusal::Limit,
                    host::Refusal::BadTopic => Refusal::BadTopic,
                })
            })
            .collect()
    }

    fn log(&mut self, level: Level, message: &str) {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, message);
    }

    fn count(&mut self, name: &str, by: u64) {
        host::count(name, by);
    }

    fn gauge(&mut self, name: &str, value: f64) {
        host::gauge(name, value);
    }
}

impl<I: Instance> lifecycle::Guest for Component<I> {
    fn describe() -> String {
        Life::<I::Rule>::describe()
    }

    fn configure(config: String) -> Result<(), String> {
        I::with(|life| life.configure(&config))
    }
}

impl<I: Instance> naming::Guest for Component<I> {
    fn declare_series(new: Vec<telemetry::Series>) {
        I::with(|life| life.declare_series(new.into_iter().map(own::Series::from).collect()));
    }

    fn retire(series: Vec<u32>, partitions: Vec<u32>) {
        I::with(|life| life.retire(&series, &partitions));
    }
}

impl<I: Instance> ticking::Guest for Component<I> {
    fn tick(now_us: i64) -> ticking::Emitted {
        let mut host = Outside;
        let mut call = Call { now_us, host: &mut host };
        let emitted = I::with(|life| life.tick(&mut call));
        ticking::Emitted {
            points: emitted.points.into(),
            alerts: emitted.alerts.into(),
            commands: emitted.commands.into_iter().map(Into::into).collect(),
            wake_us: emitted.wake_us,
        }
    }
}

impl<I: Instance> state::Guest for Component<I> {
    fn save(everything: bool, max_bytes: u32) -> state::Saved {
        let saved = I::with(|life| life.save(everything, max_bytes));
        let cells = |cells: own::Cells| state::Cells { id: cells.id, ends: cells.ends, bytes: cells.bytes };
        state::Saved {
            by_series: cells(saved.by_series),
            by_partition: cells(saved.by_partition),
            removed_series: saved.removed_series,
            removed_partitions: saved.removed_partitions,
            more: saved.more,
        }
    }

    fn restore(version: String, part: state::Saved) -> Result<(), String> {
        let cells = |cells: state::Cells| own::Cells { id: cells.id, ends: cells.ends, bytes: cells.bytes };
        let part = own::Saved {
            by_series: cells(part.by_series),
            by_partition: cells(part.by_partition),
            removed_series: part.removed_series,
            removed_partitions: part.removed_partitions,
            more: part.more,
        };
        I::with(|life| life.restore(&version, &part))
    }
}

impl<I: Instance> decoder::exports::tidegate::rule::decoder::Guest for Component<I> {
    fn declare_topics(new: Vec<telemetry::Topic>) {
        let new = new.into_iter().map(own::Topic::from).collect();
        I::with(|life| life.declare_topics(new));
    }

    fn decode(now_us: i64, batch: telemetry::Messages) -> decoder::exports::tidegate::rule::decoder::Decoded {
        let mut host = Outside;
        let mut call = Call { now_us, host: &mut host };
        let decoded = I::with(|life| life.decode(&mut call, batch.into()));
        decoder::exports::tidegate::rule::decoder::Decoded {
            made: decoded.made.into(),
            rejects: decoded.rejects.into(),
            held: decoded.held,
            commands: decoded.commands.into_iter().map(Into::into).collect(),
            wake_us: decoded.wake_us,
        }
    }
}

impl<I: Instance> processor::exports::tidegate::rule::processor::Guest for Component<I> {
    fn process(now_us: i64, batch: telemetry::Points) -> processor::exports::tidegate::rule::processor::Outcome {
        use processor::exports::tidegate::rule::processor::Passage;
        let mut host = Outside;
        let mut call = Call { now_us, host: &mut host };
        let outcome = I::with(|life| life.process(&mut call, batch.into()));
        processor::exports::tidegate::rule::processor::Outcome {
            passage: match outcome.passage {
                own::Passage::Unchanged => Passage::Unchanged,
                own::Passage::Keep(rows) => Passage::Keep(rows),
                own::Passage::Values(values) => Passage::Values(values),
                own::Passage::Replaced(made) => Passage::Replaced(made.into()),
                own::Passage::Added(made) => Passage::Added(made.into()),
            },
            alerts: outcome.alerts.into(),
            rejects: outcome.rejects.into(),
            held: outcome.held,
            commands: outcome.commands.into_iter().map(Into::into).collect(),
            wake_us: outcome.wake_us,
        }
    }
}
