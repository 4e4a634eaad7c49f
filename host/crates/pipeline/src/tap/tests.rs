#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use tidegate_model::{Description, Marks, Severity, Transition};

use super::*;

fn wanted(topics: Option<&str>) -> Wanted {
    let topics = topics.map(|text| text.parse().unwrap());
    Wanted { topics, messages: true, points: true, alerts: true, rows_per_s: 100, payload_bytes: 8 }
}

/// A batch of one message, one point and one alert a topic.
fn batch(books: &Books, topics: &[&str]) -> (Delivery, Vec<Fate>) {
    let (mut messages, mut delivery) = (Messages::default(), Delivery::default());
    for name in topics {
        let topic = books.intern_topic(name, name).unwrap();
        let partition = books.topic(topic).unwrap().partition;
        let series = books.intern_series(name, partition, Description::default()).unwrap();
        messages.push(topic, 1, Marks::default(), b"0123456789");
        delivery.points.push(series, 2, 3.0, 192);
        delivery.alerts.push(Alert {
            rule: "hot".into(),
            topic: (*name).into(),
            key: "".into(),
            time_us: 4,
            transition: Transition::Raised,
            severity: Severity::Warning,
            value: 5.0,
            message: String::new(),
        });
    }
    delivery.sources = vec![(0, "plant".into())];
    delivery.origin = Arc::new(messages);
    (delivery, vec![Fate::Decoded; topics.len()])
}

/// Guarantees: who looks on sees what matches, of each kind, and nothing else; a long payload is cut and marked; a topic without an id
/// is matched by its name.
#[tokio::test]
async fn what_matches_is_shown() {
    let (taps, books) = (Arc::new(Taps::default()), Books::new(10));
    let mut tail = taps.open(wanted(Some("dev/+/temp")), &books).unwrap();
    for _ in 0..2 {
        let (mut delivery, fates) = batch(&books, &["dev/a/temp", "dev/a/rpm", "x"]);
        let mut messages = (*delivery.origin).clone();
        messages.unnamed.push((2, "dev/z/temp".into()));
        delivery.origin = Arc::new(messages);
        taps.show(&delivery, &fates, &books);
        let seen = tail.next().await;
        assert_eq!((seen.messages.len(), seen.points.len(), seen.alerts.len()), (2, 1, 1));
        assert_eq!(seen.messages.payload.get(0), b"01234567");
        assert!(Marks(seen.messages.marks[0]).has(Marks::TRUNCATED));
        assert_eq!(seen.messages.unnamed, [(1, "dev/z/temp".into())]);
        assert_eq!((&*seen.sources[0], seen.fates[0]), ("plant", Fate::Decoded));
        assert_eq!((books.series_topic(seen.points.series[0]), &*seen.alerts[0].topic), ("dev/a/temp", "dev/a/temp"));
    }
    assert_eq!(tail.skipped(), 0);
    let (delivery, fates) = batch(&books, &["x"]);
    taps.show(&delivery, &fates, &books);
    assert!(tokio::time::timeout(Duration::from_millis(1), tail.next()).await.is_err(), "nothing matches");
}

/// Guarantees: every row that was wanted is either shown or counted as skipped, and a reader who reads nothing takes up so many glimpses
/// and no more.
#[tokio::test]
async fn shown_or_counted() {
    let (taps, books) = (Arc::new(Taps::default()), Books::new(10));
    let mut tail = taps.open(Wanted { rows_per_s: 5, ..wanted(None) }, &books).unwrap();
    let (delivery, fates) = batch(&books, &["a", "b"]);
    for _ in 0..100 {
        taps.show(&delivery, &fates, &books);
    }
    let mut shown = 0;
    while let Ok(seen) = tokio::time::timeout(Duration::from_millis(1), tail.next()).await {
        shown += seen.messages.len() + seen.points.len() + seen.alerts.len();
    }
    assert_eq!(shown, 5, "the budget of a second, and nothing refills it but reading");
    assert_eq!(tail.skipped(), 600 - 5);
    assert_eq!(tail.skipped(), 0, "it has been told");
}

/// Guarantees: one who reads nothing is shown what waits for him and no more; what he is not shown costs nothing of his budget, and is
/// counted; once he reads again he is shown what passes then.
#[tokio::test]
async fn who_reads_nothing() {
    let (taps, books) = (Arc::new(Taps::default()), Books::new(10));
    let mut tail = taps.open(wanted(None), &books).unwrap();
    let (delivery, fates) = batch(&books, &["a", "b"]);
    for _ in 0..100 {
        taps.show(&delivery, &fates, &books);
    }
    let rows = 6 * WAITING;
    let left = taps.lock()[0].budget.load(Relaxed);
    assert_eq!((left, tail.skipped()), (100 - rows as i64, (600 - rows) as u64));
    for _ in 0..WAITING {
        assert_eq!(tail.next().await.points.len(), 2);
    }
    taps.show(&delivery, &fates, &books);
    assert_eq!((tail.next().await.points.len(), tail.skipped()), (2, 0));
}

/// Guarantees: alerts come before all else, and the sample is even.
#[test]
fn samples() {
    assert_eq!(sampled((0..1000).collect(), 4), [0, 250, 500, 750]);
    assert_eq!(sampled((0..3).collect(), 4), [0, 1, 2]);
    assert_eq!(sampled((0..1000).collect(), usize::MAX).len(), ROWS_A_BATCH);
    assert!(sampled(vec![1], 0).is_empty());
}

/// Guarantees: so many may look on, and no more; one who goes makes room, and lanes see that nobody is left.
#[tokio::test]
async fn so_many_and_no_more() {
    let (taps, books) = (Arc::new(Taps::default()), Books::new(10));
    let mut all: Vec<_> = (0..MOST_TAILS).map(|_| taps.open(wanted(None), &books).unwrap()).collect();
    assert_eq!(taps.open(wanted(None), &books).err(), Some(TooManyTails));
    all.pop();
    all.push(taps.open(wanted(None), &books).unwrap());
    drop(all);
    assert_eq!(taps.watching.load(Relaxed), 0);
}
