//! The NDJSON sink.

use std::fs;
use std::sync::Arc;

use tidegate_config::NdjsonSink;
use tidegate_model::{Books, Sink, Wants};
use tidegate_sinks::Ndjson;

use crate::{alerts, points, through_units};

/// Guarantees: the lines, byte for byte; a file is appended to, and a line that an earlier run left torn is ended first.
#[tokio::test]
async fn lines_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    fs::write(&path, "{\"point\":{\"to").unwrap();
    let books = Arc::new(Books::new(9));
    let settings = NdjsonSink { path: Some(path.clone()), points: true, alerts: true, dead_letters: false };
    let mut sink = Ndjson::new(settings, Arc::clone(&books));
    assert_eq!(sink.wants(), Wants { points: true, alerts: true, ..Wants::default() });

    let mut delivery = points(
        &books,
        &[
            ("t", Some("°C"), 0, 84.5, None),
            ("t", Some("°C"), 1, f64::NAN, Some(b"o\"n")),
            ("t", None, 2, 1.0, Some(b"\xff")),
        ],
    );
    delivery.alerts = alerts(0, 1).alerts.clone();
    let written = sink.write(&[Arc::new(delivery)]).await.unwrap();
    assert_eq!((written.points, written.alerts, written.rejected.len()), (2, 1, 1));
    sink.write(&[alerts(1, 1)]).await.unwrap();

    let expected = r#"{"point":{"to
{"point":{"topic":"t","time":"2023-12-23T00:00:00.000000Z","time_us":1703289600000000,"value":84.5,"quality":192}}
{"point":{"topic":"t","time":"2023-12-23T00:00:00.000001Z","time_us":1703289600000001,"value_str":"o\"n","quality":192}}
{"alert":{"rule":"overheat","topic":"dev/line0/temp","transition":"raised","severity":"critical","value":100.5,"message":"too hot: 0","time":"2023-12-23T00:00:00.000000Z","time_us":1703289600000000}}
{"alert":{"rule":"overheat","topic":"dev/line1/temp","transition":"raised","severity":"critical","value":101.5,"message":"too hot: 1","time":"2023-12-23T00:00:00.000001Z","time_us":1703289600000001}}
"#;
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

/// Guarantees: a line bears the unit of the time when its point was measured, though the series has another by now.
#[tokio::test]
async fn the_unit_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let books = Arc::new(Books::new(9));
    let settings = NdjsonSink { path: Some(path.clone()), points: true, alerts: false, dead_letters: false };
    Ndjson::new(settings, Arc::clone(&books)).write(&through_units(&books)).await.unwrap();
    let lines = fs::read_to_string(&path).unwrap();
    let units: Vec<_> = lines.lines().map(|line| line.split_once(r#""unit":"#).unwrap().1).collect();
    assert_eq!(units, [r#""°F"}}"#, r#""°C"}}"#]);
}
