//! (d) Through a real mosquitto: messages a second that the host receives, settles and acknowledges, by those of a bare rumqttc loop;
//! and what either spends of the CPU on a message.
//!
//! The rate is by wall time, from letting the publisher go to the last message: received by the bare loop; decoded, looked at by the threshold rule
//! and handed to the sink by the host. Publisher, broker and consumer share the machine's cores, as on a small edge node.
//! Each run has a broker of its own, with `max_inflight_messages 200` and `max_queued_messages 0`, so that nothing is dropped, and
//! the same publisher process, which sends packets encoded beforehand. **Out**: starting and connecting all three.
//!
//! mosquitto writes each message to the socket by itself, so consumers meet them one by one: the CPU time here is that of small batches,
//! of this process alone. Where cores are few it decides the rate, since it is taken from the broker.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::clock;
use crate::consumer::Consumer;
use crate::consumer::bare::Bare;
use crate::consumer::host::{Host, HostSetup};
use crate::measure::{Effort, Sample, Side, in_turn};
use crate::mqtt::process::Process;
use crate::mqtt::publisher::Publish;
use crate::mqtt::wire::Qos;
use crate::report::Progress;
use crate::servers::mosquitto::Mosquitto;
use crate::workload;

/// Messages of one repetition: a second or two of them.
const MESSAGES: [(Qos, usize); 2] = [(Qos::AtMostOnce, 200_000), (Qos::AtLeastOnce, 80_000)];
const RATE_REPETITIONS: usize = 11;
const CPU_REPETITIONS: usize = 5;
/// The most messages the publisher has unacknowledged.
const PUBLISHING: usize = 1_000;

/// What is measured of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Messages a second.
    Rate,
    /// Nanoseconds of CPU time a message.
    Cpu,
}

/// The figure of both.
pub fn measure(setup: HostSetup, figure: Figure, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let normal = MESSAGES.iter().find(|(qos, _)| *qos == setup.qos).map_or(100_000, |(_, messages)| *messages);
    let messages = effort.amount(normal);
    let expected = Arc::new(workload::expected(messages));
    let repetitions = match figure {
        Figure::Rate => RATE_REPETITIONS,
        Figure::Cpu => CPU_REPETITIONS,
    };
    in_turn(effort.repetitions(repetitions), progress, |side| {
        let broker = Mosquitto::start()?;
        let mut consumer: Box<dyn Consumer> = match side {
            Side::Ours => Box::new(Host::start(setup, &expected)?),
            Side::Baseline => Box::new(Bare::new(setup.version, setup.qos, messages)),
        };
        consumer.connect(broker.port())?;
        consumer.subscribed()?;
        let publish = Publish { port: broker.port(), messages, qos: setup.qos, window: PUBLISHING };
        let mut publisher = Process::publisher(publish)?;
        let (began, cpu_before) = (Instant::now(), clock::process_cpu());
        publisher.go()?;
        let ended = consumer.finished()?;
        let cpu = clock::process_cpu() - cpu_before;
        publisher.says("done")?;
        consumer.close()?;
        Ok(match figure {
            Figure::Rate => messages as f64 / (ended - began).as_secs_f64(),
            Figure::Cpu => clock::nanos_each(cpu, messages),
        })
    })
}
