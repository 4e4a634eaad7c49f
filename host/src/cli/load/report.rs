//! What is said while the load runs, and at its end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::QoS;
use serde::Serialize;
use tokio::time::{Instant, interval_at};

use crate::cli::load::connection::Traffic;
use crate::cli::load::pace::Pace;

/// Up to here a load is on time: schedulers and garbage in the network take their milliseconds.
const ON_TIME: Duration = Duration::from_millis(100);

/// A line a second on standard error.
pub struct Progress {
    pace: Pace,
    traffic: Arc<Traffic>,
    qos: QoS,
    most_lag_us: AtomicU64,
}

/// How far a load came by the end of its time.
pub struct Ending {
    written: u64,
    seconds: f64,
    /// How many messages were due for longer than a load on time takes, and not sent.
    behind: u64,
}

impl Progress {
    /// Of a load that begins now.
    pub fn new(pace: Pace, qos: QoS, traffic: Arc<Traffic>) -> Self {
        Self { pace, traffic, qos, most_lag_us: AtomicU64::new(0) }
    }

    /// Prints for ever.
    pub async fn print_each_second(&self) {
        const SECOND: Duration = Duration::from_secs(1);
        let (mut written, mut acked, mut at) = (0, 0, self.pace.began);
        let mut seconds = interval_at(self.pace.began + SECOND, SECOND);
        loop {
            let now = seconds.tick().await;
            let (new_written, new_acked) = self.counts();
            let lag = self.note_lag(now);
            let each_s = |new: u64, old: u64| (new - old) as f64 / (now - at).as_secs_f64();
            let (sent_rate, acked_rate) = (each_s(new_written, written), each_s(new_acked, acked));
            let since = (now - self.pace.began).as_secs_f64();
            let acked_text = match self.qos {
                QoS::AtMostOnce => String::new(),
                QoS::AtLeastOnce | QoS::ExactlyOnce => format!("  acknowledged {acked_rate:>8.0}/s"),
            };
            let behind = if lag > ON_TIME { "   BEHIND its schedule" } else { "" };
            eprintln!(
                "{since:>6.1} s  sent {sent_rate:>8.0}/s{acked_text}  lag {:>6.0} ms{behind}",
                lag.as_secs_f64() * 1e3
            );
            (written, acked, at) = (new_written, new_acked, now);
        }
    }

    /// Where it stands at the end of its time, before what is on the way is waited for.
    pub fn ending(&self) -> Ending {
        let now = Instant::now();
        self.note_lag(now);
        // An end that was asked for stays the end, however late this is called.
        let now = self.pace.end.map_or(now, |end| now.min(end));
        let written = self.counts().0;
        let due = self.pace.due(now.checked_sub(ON_TIME).unwrap_or(now));
        Ending { written, seconds: (now - self.pace.began).as_secs_f64(), behind: due.saturating_sub(written) }
    }

    fn note_lag(&self, now: Instant) -> Duration {
        let lag = self.pace.lag(self.counts().0, now);
        self.most_lag_us.fetch_max(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        lag
    }

    /// Written and acknowledged.
    fn counts(&self) -> (u64, u64) {
        // In this order, so that no more is acknowledged than written.
        let acked = self.traffic.acked.load(Ordering::Relaxed);
        (self.traffic.written.load(Ordering::Relaxed).max(acked), acked)
    }
}

/// The end of a load; the JSON object of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Messages written to the broker.
    sent: u64,
    /// Messages it acknowledged; null at QoS 0, which knows no acknowledgement.
    acked: Option<u64>,
    /// For how long messages were sent; waiting for the last acknowledgements is not counted.
    seconds: f64,
    /// Messages a second that were reached in that time.
    rate: f64,
    /// Messages a second that were asked for.
    target_rate: f64,
    /// Messages that were due before the end and not sent by then.
    behind: u64,
    /// The longest that a message was late, in milliseconds.
    max_lag_ms: f64,
    /// Messages among those sent that are garbage.
    garbage: u64,
    /// Devices that sent them.
    devices: usize,
}

impl Report {
    /// After the connections are closed.
    pub fn new(progress: &Progress, ending: &Ending, devices: usize) -> Self {
        let (sent, acked) = progress.counts();
        let pace = &progress.pace;
        let rounded = |value: f64, digits: f64| (value * digits).round() / digits;
        Self {
            sent,
            acked: (progress.qos != QoS::AtMostOnce).then_some(acked),
            seconds: rounded(ending.seconds, 1e3),
            rate: rounded(ending.written as f64 / ending.seconds.max(1e-3), 10.0),
            target_rate: pace.rate,
            behind: ending.behind,
            max_lag_ms: rounded(progress.most_lag_us.load(Ordering::Relaxed) as f64 / 1e3, 10.0),
            garbage: progress.traffic.garbage.load(Ordering::Relaxed),
            devices,
        }
    }

    /// Whether the broker has all that was sent.
    pub fn is_complete(&self) -> bool {
        self.acked.is_none_or(|acked| acked == self.sent)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, seconds, rate, target_rate, behind, max_lag_ms, garbage, devices, .. } = self;
        writeln!(
            f,
            "sent          {sent:>10} messages of {devices} devices in {seconds:.1} s ({garbage} of them garbage)"
        )?;
        match self.acked {
            Some(acked) => writeln!(f, "acknowledged  {acked:>10}")?,
            None => writeln!(f, "acknowledged           –  (QoS 0 knows none)")?,
        }
        writeln!(f, "rate          {rate:>10.1} messages a second; asked for {target_rate}")?;
        write!(f, "lag           {max_lag_ms:>10.1} ms at most")?;
        if *behind > 0 {
            write!(
                f,
                "\nBEHIND: {behind} messages were due and not sent; the broker or this machine takes no more than {rate:.0} a second"
            )?;
        }
        if let Some(missing) = self.acked.map(|acked| sent.saturating_sub(acked)).filter(|missing| *missing > 0) {
            write!(f, "\nNOT ACKNOWLEDGED: {missing} messages; look into the broker's log")?;
        }
        Ok(())
    }
}
