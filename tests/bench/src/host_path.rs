//! (c) The host's path alone: socket → decode → threshold → discard, by a bare rumqttc loop with the same options on the same feeder.
//!
//! **In**: CPU time of the whole process, from connecting to the last acknowledgement: the MQTT client, the lanes, both rules in
//! WebAssembly, alerts, dead letters, and the sums by which every value and the number of alerts are checked. **Out**: the
//! feeder, which is a process of its own and sends packets encoded beforehand; starting the host and compiling the rules; a
//! broker, of which there is none.
//!
//! At QoS 1 the feeder keeps at most 1,000 messages unacknowledged, the receive maximum the host asks for by default, and
//! checks that each is acknowledged once, in order. Dead letters are counted and discarded like the points; a figure
//! of its own shows what it costs to keep them in SQLite.

use std::sync::Arc;

use anyhow::Result;

use crate::clock;
use crate::consumer::bare::Bare;
use crate::consumer::host::{Host, HostSetup};
use crate::consumer::{Consumer, RECEIVE_MAXIMUM};
use crate::measure::{Effort, Sample, Side, in_turn};
use crate::mqtt::feeder::Feed;
use crate::mqtt::process::Process;
use crate::poison::Hundredth;
use crate::report::Progress;
use crate::workload;

/// Messages of one repetition.
const MESSAGES: usize = 1_000_000;
/// The same where batches are so small that a message costs a lot.
const MESSAGES_IN_SMALL_BATCHES: usize = 100_000;
const REPETITIONS: usize = 9;

/// Nanoseconds of CPU time a message.
pub fn measure(setup: HostSetup, effort: Effort, progress: &Progress) -> Result<Vec<Sample>> {
    let normal = if setup.batch_rows.is_some() { MESSAGES_IN_SMALL_BATCHES } else { MESSAGES };
    let messages = effort.amount(normal);
    let expected = Arc::new(workload::expected(messages));
    in_turn(effort.repetitions(REPETITIONS), progress, |side| {
        let window = usize::from(RECEIVE_MAXIMUM);
        let hundredth = Hundredth::Usual;
        let feed = Feed { messages, version: setup.version, qos: setup.qos, window, hundredth };
        let (feeder, port) = Process::feeder(feed)?;
        let mut consumer: Box<dyn Consumer> = match side {
            Side::Ours => Box::new(Host::start(setup, &expected)?),
            Side::Baseline => Box::new(Bare::new(setup.version, setup.qos, messages)),
        };
        let began = clock::process_cpu();
        consumer.connect(port)?;
        consumer.finished()?;
        feeder.says("done")?;
        let cpu = clock::process_cpu() - began;
        consumer.close()?;
        Ok(clock::nanos_each(cpu, messages))
    })
}
