//! All benches: names, units, and which way is good.

use std::rc::Rc;

use anyhow::Result;
use tidegate_config::{Offsets, RecordHeaders};

use crate::broker::Figure;
use crate::consumer::host::{HostSetup, Letters};
use crate::loading::{Compiled, Modules};
use crate::measure::{Better, Compared, Effort, Sample};
use crate::mqtt::wire::{Qos, Version};
use crate::poison::Hundredth;
use crate::report::Progress;
use crate::resident::Pages;
use crate::{
    api, bridge, broker, chain, crossing, host_path, hostile, kafka, loading, native, poison, postgres, routing,
    spool, swap, wasm, whole_line,
};

/// One figure.
pub struct Bench {
    pub name: String,
    pub unit: &'static str,
    pub better: Better,
    pub compared: Compared,
    pub measure: Box<Measure>,
}

pub type Measure = dyn Fn(Effort, &Progress) -> Result<Vec<Sample>>;

impl Bench {
    fn new(
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        measure: impl Fn(Effort, &Progress) -> Result<Vec<Sample>> + 'static,
    ) -> Self {
        Self { name: name.into(), unit, better, compared: Compared::Ratio, measure: Box::new(measure) }
    }

    /// What is judged is how much more ours takes, not how many times as much.
    fn by_difference(mut self) -> Self {
        self.compared = Compared::Difference;
        self
    }
}

/// All of them, in the order they run.
pub fn all() -> Vec<Bench> {
    let mut all = Vec::new();
    for rows in [1, 10, 100, 1_000] {
        all.push(Bench::new(format!("wasm/{}", of(rows)), "ns/row", Better::Lower, move |effort, progress| {
            wasm::measure(rows, effort, progress)
        }));
    }
    all.push(Bench::new("crossing/fixed", "ns/call", Better::Lower, |effort, progress| {
        crossing::per_call(0, effort, progress)
    }));
    for rows in [1, 10, 100, 1_000] {
        all.push(Bench::new(format!("crossing/{}", of(rows)), "ns/row", Better::Lower, move |effort, progress| {
            crossing::per_row(rows, effort, progress)
        }));
    }
    for rows in [10, 100, 1_000] {
        let name = format!("routing/half-match-{}", of(rows));
        all.push(Bench::new(name, "ns/row·rule", Better::Lower, move |effort, progress| {
            routing::measure(rows, effort, progress)
        }));
    }
    all.extend(engine_and_lanes());
    all.extend(poisons());
    all.extend(host_paths());
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let setup = HostSetup { version: Version::V3, qos, batch_rows: None, dead_letters: Letters::Discarded };
        let name = format!("mosquitto/qos-{}", qos.level());
        let cpu_name = format!("{name}-cpu");
        all.push(Bench::new(name, "msgs/s", Better::Higher, move |effort, progress| {
            broker::measure(setup, Figure::Rate, effort, progress)
        }));
        all.push(Bench::new(cpu_name, "ns CPU/msg", Better::Lower, move |effort, progress| {
            broker::measure(setup, Figure::Cpu, effort, progress)
        }));
    }
    for (figure, headers, name, unit, better) in [
        (Figure::Rate, RecordHeaders::Kept, "kafka/host", "records/s", Better::Higher),
        (Figure::Cpu, RecordHeaders::Kept, "kafka/host-cpu", "ns CPU/rec", Better::Lower),
        (Figure::Rate, RecordHeaders::Left, "kafka/host-headers-left", "records/s", Better::Higher),
    ] {
        all.push(Bench::new(name, unit, better, move |effort, progress| {
            kafka::measure(figure, headers, effort, progress)
        }));
    }
    all.push(Bench::new("bridge/mqtt-to-kafka", "msgs/s", Better::Higher, bridge::measure));
    for (name, manner) in postgres::Manner::all() {
        all.push(Bench::new(name, "points/s", Better::Higher, move |effort, progress| {
            postgres::measure(manner, effort, progress)
        }));
    }
    for (offsets, name) in
        [(Offsets::Group, "line/kafka-to-postgres"), (Offsets::WithPoints, "line/kafka-to-postgres-exactly-once")]
    {
        all.push(Bench::new(name, "points/s", Better::Higher, move |effort, progress| {
            whole_line::measure(offsets, effort, progress)
        }));
    }
    all.extend(spools());
    all.extend(apis());
    all
}

/// What rules cost, many of them and hostile ones.
fn engine_and_lanes() -> Vec<Bench> {
    let mut all = Vec::new();
    for which in native::Which::ALL {
        let bench =
            Bench::new(format!("native/{}", which.name()), "ns/row", Better::Lower, move |effort, progress| {
                native::measure(which, effort, progress)
            });
        all.push(bench.by_difference());
    }
    for rules in [1, 10, 100] {
        let name = if rules == 1 { "chain/1-rule".to_owned() } else { format!("chain/{rules}-rules") };
        all.push(Bench::new(name, "ns/row·rule", Better::Lower, move |effort, progress| {
            chain::chain(rules, effort, progress)
        }));
    }
    all.push(Bench::new("routing/1000-rules-one-matches", "ns/row", Better::Lower, chain::one_of_many));
    for (name, modules, compiled) in [
        ("loading/module-cold", 1, Compiled::Not),
        ("loading/module-cached", 1, Compiled::Before),
        ("loading/restart-50-rules-cached", 50, Compiled::Before),
    ] {
        all.push(Bench::new(name, "ms", Better::Lower, move |effort, progress| {
            loading::measure(modules, compiled, effort, progress)
        }));
    }
    for (name, compiled) in [("loading/dropped-cold", Compiled::Not), ("loading/dropped-cached", Compiled::Before)] {
        let bench = Bench::new(name, "ms", Better::Lower, move |effort, progress| {
            loading::dropped(compiled, effort, progress)
        });
        all.push(bench.by_difference());
    }
    for (name, modules, pages) in [
        ("loading/memory-one-module", Modules::Shared, Pages::Private),
        ("loading/memory-own-modules", Modules::Own, Pages::Private),
        ("loading/mapped-own-modules", Modules::Own, Pages::Mapped),
    ] {
        all.push(Bench::new(name, "KiB/rule", Better::Lower, move |effort, progress| {
            loading::memory(modules, pages, effort, progress)
        }));
    }
    all.extend(swaps());
    for name in hostile::MEASURED {
        all.push(Bench::new(format!("stop/{name}"), "ms CPU", Better::Lower, move |effort, progress| {
            hostile::stop(name, effort, progress)
        }));
    }
    for name in hostile::MEASURED {
        all.push(Bench::new(format!("neighbour/p99-{name}"), "ms", Better::Lower, move |effort, progress| {
            hostile::neighbour(name, effort, progress)
        }));
    }
    all
}

fn swaps() -> Vec<Bench> {
    let mut all = Vec::new();
    for next in swap::Next::ALL {
        // The swaps of one run, all figures.
        let swaps = Rc::new(swap::Swaps::of(next));
        for figure in swap::Figure::ALL {
            let (swaps, name) = (swaps.clone(), format!("swap/{}-100000-series{}", figure.name(), next.suffix()));
            let bench =
                Bench::new(name, "ms", Better::Lower, move |effort, progress| swaps.figure(figure, effort, progress));
            all.push(if figure == swap::Figure::Delay { bench.by_difference() } else { bench });
        }
    }
    all
}

fn poisons() -> impl Iterator<Item = Bench> {
    Hundredth::POISONS.into_iter().map(|poison| {
        Bench::new(format!("poison/{}", poison.name()), "msgs/s", Better::Higher, move |effort, progress| {
            poison::measure(poison, effort, progress)
        })
    })
}

fn spools() -> Vec<Bench> {
    let mut all = Vec::new();
    for phase in spool::Phase::ALL {
        let name = format!("spool/{}", phase.name());
        all.push(Bench::new(name, "msgs/s", Better::Higher, move |effort, progress| {
            spool::measure(phase, effort, progress)
        }));
    }
    // One outage, two figures.
    let outage = Rc::new(spool::Outage::default());
    let seen = outage.clone();
    all.push(Bench::new("spool/database-down-drain", "points/s", Better::Higher, move |effort, progress| {
        seen.drain(effort, progress)
    }));
    let memory = Bench::new("spool/database-down-memory", "MiB", Better::Lower, move |effort, progress| {
        outage.memory(effort, progress)
    });
    all.push(memory.by_difference());
    all
}

fn apis() -> Vec<Bench> {
    let mut all = Vec::new();
    for (beside, name) in [(api::Beside::Parrot, "under-load"), (api::Beside::Nobody, "alone")] {
        all.push(Bench::new(format!("api/rate-{name}"), "points/s", Better::Higher, move |effort, progress| {
            api::rate(beside, effort, progress)
        }));
        // The messages of one run, two figures.
        let delays = Rc::new(api::Delays::new(beside));
        let same = delays.clone();
        all.push(Bench::new(format!("api/p99-{name}"), "ms", Better::Lower, move |effort, progress| {
            delays.of_slots(effort, progress)
        }));
        all.push(Bench::new(format!("api/p99-{name}-pooled"), "ms", Better::Lower, move |effort, progress| {
            same.pooled(effort, progress)
        }));
    }
    all.push(Bench::new("api/rule-change", "ms", Better::Lower, api::rule_change));
    all
}

fn host_paths() -> Vec<Bench> {
    let bench = |name: String, setup: HostSetup| {
        Bench::new(name, "ns CPU/msg", Better::Lower, move |effort, progress| {
            host_path::measure(setup, effort, progress)
        })
    };
    let mut all = Vec::new();
    for version in [Version::V3, Version::V5] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let setup = HostSetup { version, qos, batch_rows: None, dead_letters: Letters::Discarded };
            all.push(bench(format!("host-path/mqtt-{}-qos-{}", version.as_str(), qos.level()), setup));
        }
    }
    let normal =
        HostSetup { version: Version::V3, qos: Qos::AtLeastOnce, batch_rows: None, dead_letters: Letters::Discarded };
    for rows in [1, 10, 100] {
        let setup = HostSetup { batch_rows: Some(rows), ..normal };
        all.push(bench(format!("host-path/mqtt-3.1.1-qos-1-{}", of(rows)), setup));
    }
    let setup = HostSetup { dead_letters: Letters::Kept, ..normal };
    all.push(bench("host-path/mqtt-3.1.1-qos-1-sqlite".to_owned(), setup));
    all
}

fn of(rows: usize) -> String {
    if rows == 1 { "1-row".to_owned() } else { format!("{rows}-rows") }
}
