//! The sinks against the real thing: SQLite files, a PostgreSQL and a mosquitto that each test starts for itself and stops.
//!
//! Where a server is not installed, its tests say so and pass, unless TIDEGATE_REQUIRE_SERVERS=1 makes that a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod dead_letters;
mod kafka_again;
mod kafka_sink;
mod mosquitto;
mod mqtt_sink;
mod mqtt_status;
mod ndjson;
mod pgbouncer;
mod postgres;
#[path = "../../../../../tests/src/servers_run.rs"]
mod servers_run;
mod sqlite_sink;
mod timescale_ahead;
mod timescale_faults;
mod timescale_many;
mod timescale_objections;
mod timescale_once;
mod timescale_pool;
mod timescale_sink;
mod timescale_waits;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_model::{Alert, Books, Delivery, DescribedAs, Description, PartitionId, Points, Severity, Transition};

/// 2023-12-23T00:00:00Z.
pub const T0: i64 = 1_703_289_600_000_000;

/// How long a condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// One row for [`points`]: topic, unit, microseconds after [`T0`], value, text.
pub type Row<'a> = (&'a str, Option<&'a str>, i64, f64, Option<&'a [u8]>);

/// A delivery of these points, all of good quality.
pub fn points(books: &Books, rows: &[Row<'_>]) -> Delivery {
    let mut points = Points::default();
    for (row, (topic, unit, after, value, text)) in rows.iter().enumerate() {
        let described = Description { unit: unit.map(Into::into), labels: vec![("site".into(), "north".into())] };
        let series = books.intern_series(topic, PartitionId(0), described).unwrap();
        points.push(series, T0 + after, *value, 192);
        if let Some(text) = text {
            points.texts.push(row as u32, text);
        }
    }
    Delivery { points, ..Delivery::default() }
}

/// A delivery measured in °F and one in °C, a point of the series `t` each, whose unit is K by now.
pub fn through_units(books: &Books) -> [Arc<Delivery>; 2] {
    let of = |unit, after| {
        let delivery = points(books, &[("t", Some(unit), after, after as f64, None)]);
        Arc::new(Delivery { described: DescribedAs::now(books), ..delivery })
    };
    let made = [of("°F", 1), of("°C", 2)];
    of("K", 3);
    made
}

/// An alert with a number of its own.
pub fn alert(n: u32) -> Alert {
    Alert {
        rule: "overheat".into(),
        topic: format!("dev/line{n}/temp").into(),
        key: "".into(),
        time_us: T0 + i64::from(n),
        transition: Transition::Raised,
        severity: Severity::Critical,
        value: 100.5 + f64::from(n),
        message: format!("too hot: {n}"),
    }
}

/// A delivery of `n` alerts from number `from` on.
pub fn alerts(from: u32, n: u32) -> Arc<Delivery> {
    Arc::new(Delivery { alerts: (from..from + n).map(alert).collect(), ..Delivery::default() })
}

/// A port that was free a moment ago, and not one of those that the system gives to whoever connects.
pub fn free_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).take(1_000).find(free).expect("a free port")
}

/// Asks until the answer is `Ok`, within [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(last) if Instant::now() > deadline => panic!("waited {PATIENCE:?} for {what}: still {last}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}

/// Says that a server is missing, or fails where it must not be.
pub fn missing(server: &str) {
    servers_run::missing(server, "not installed");
}
