//! What is left out of a write, and how the rest is shared out.

use std::time::Duration;

use super::*;
use crate::timescale::{Stored, Unfinished};
use tidegate_config::{Secret, TimescaleSink};
use tidegate_model::{Description, Marks, Messages, NO_ROW, PartitionId, Points, TopicId};

fn over(most: usize) -> Division {
    Division { most, rows: 5_000, chunks: None, offsets: Offsets::Group, now_us: 0, believed: Believed::ANY }
}

fn delivery(books: &Books, rows: &[(&str, i64, Option<&[u8]>)]) -> Arc<Delivery> {
    let mut points = Points::default();
    for (row, (topic, time_us, text)) in rows.iter().enumerate() {
        let id = books.intern_series(topic, PartitionId(0), Description::default()).unwrap();
        points.push(id, *time_us, row as f64, 192);
        if let Some(text) = text {
            points.texts.push(row as u32, text);
        }
    }
    Arc::new(Delivery { points, ..Delivery::default() })
}

/// Guarantees: each kind of impossible point is found before the wire and named by its own delivery and row, an empty delivery
/// in between disturbs nothing, and any split of a share encodes the same bytes.
#[test]
fn impossible_points_are_named_and_left_out() {
    let books = Books::new(99);
    let deliveries = [
        delivery(&books, &[("a", 1, None), ("a", i64::MIN, None), ("b\0", 2, None)]),
        delivery(&books, &[]),
        delivery(&books, &[("a", 3, Some(b"x\0y")), ("a", 4, Some(b"ok")), ("a", 5, Some(b"\xff"))]),
        delivery(&books, &[("c", 6, None)]),
    ];
    let mut series = SeriesCache::default();
    let survey = Survey::new(&deliveries, &books, &mut series, over(4));
    assert_eq!(survey.shares(), [Share { connection: 0, numbers: vec![0, 4, 6], age: Age::Fresh, places: vec![] }]);

    let share = &survey.shares()[0].numbers;
    let mut whole = BytesMut::new();
    survey.encode(share, &series, &mut whole);
    for cut in 0..=3 {
        let mut parts = BytesMut::new();
        survey.encode(&share[..cut], &series, &mut parts);
        survey.encode(&share[cut..], &series, &mut parts);
        assert_eq!(parts, whole, "cut at {cut}");
    }
    let by_database = [(4, "no".to_owned())];
    let named: Vec<_> = survey.rejected(by_database).iter().map(|r| (r.delivery, r.row)).collect();
    assert_eq!(named, [(0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]);
}

/// Guarantees: a point that was not too old when its message was received is stored however late; one of no message goes by those it came with.
#[test]
fn what_waited_is_not_too_old() {
    let day = 86_400_000_000;
    let now_us = 30_000 * day;
    let books = Books::new(9);
    let mut settings = TimescaleSink::new(Secret::new("postgres://h/d"));
    settings.behind = Some(Duration::from_secs(30 * 86_400));
    let division = Division { now_us, believed: Believed::near(now_us, &settings), ..over(1) };
    let rows = [60, 80, 60].map(|days| ("a", now_us - days * day, None));
    let mut of = Arc::into_inner(delivery(&books, &rows)).unwrap();
    of.from_row = vec![0, 0, NO_ROW];
    let mut origin = Messages::default();
    origin.push(TopicId(0), now_us - 40 * day, Marks::default(), b"");
    of.origin = Arc::new(origin);
    let deliveries = [Arc::new(of)];
    let mut series = SeriesCache::default();
    let survey = Survey::new(&deliveries, &books, &mut series, division);
    assert_eq!(survey.shares()[0].numbers, [0, 2]);
    let rejected = survey.rejected([]);
    assert!(rejected.len() == 1 && rejected[0].reason.contains("`behind_days`"), "{rejected:?}");
}

/// Guarantees: every point is in one share, a series is never in two, and each share keeps the order of arrival; few rows are not
/// split at all.
#[test]
fn series_are_not_torn_apart() {
    let books = Books::new(99);
    let topics: Vec<String> = (0..10).map(|i| format!("t{i}")).collect();
    let rows: Vec<_> = (0..3_500).map(|i| (topics[i * 7 % 10].as_str(), i as i64, None)).collect();
    let deliveries = [delivery(&books, &rows[..1_234]), delivery(&books, &rows[1_234..])];
    let mut series = SeriesCache::default();
    for most in [1, 3, 20] {
        let survey = Survey::new(&deliveries, &books, &mut series, over(most));
        assert_eq!((survey.shares().len(), survey.connections()), (most.min(4), most.min(4)));
        let mut seen = [None; 10];
        for (share, Share { numbers, .. }) in survey.shares().iter().enumerate() {
            assert!(numbers.is_sorted());
            for &number in numbers {
                let of = seen[number as usize * 7 % 10].get_or_insert(share);
                assert_eq!(*of, share);
            }
        }
        assert_eq!(survey.shares().iter().map(|share| share.numbers.len()).sum::<usize>(), 3_500);
    }
    assert_eq!(Survey::new(&deliveries[..0], &books, &mut series, over(4)).shares().len(), 1);
}

/// Guarantees: of messages that come twice in one write, as after a partition was lost and given back, the points are stored once and the
/// others counted, across deliveries and logs; a point that came of no message stays.
#[test]
fn messages_that_come_twice_in_a_write() {
    let books = Books::new(99);
    let logs = [0, 1]
        .map(|partition| Arc::new(Log { cluster: "c".into(), group: "g".into(), topic: "t".into(), partition }));
    // Each message is a partition and an offset, and gives one point; behind them comes one of no message.
    let delivery = |messages: &[(usize, i64)]| {
        let mut of = Delivery::default();
        let id = books.intern_series("a", PartitionId(0), Description::default()).unwrap();
        for (row, (log, offset)) in messages.iter().enumerate() {
            of.positions.push(row as u32, &logs[*log], Position { offset: *offset, after: *offset });
            of.points.push(id, row as i64, 0.0, 192);
            of.from_row.push(row as u32);
        }
        of.points.push(id, 9, 0.0, 192);
        of.from_row.push(NO_ROW);
        Arc::new(of)
    };
    let deliveries = [delivery(&[(0, 5), (0, 6), (1, 5)]), delivery(&[(0, 5), (0, 6), (0, 7), (1, 6), (1, 6)])];
    let mut series = SeriesCache::default();
    let division = Division { offsets: Offsets::WithPoints, ..over(1) };
    let survey = Survey::new(&deliveries, &books, &mut series, division);
    assert_eq!(survey.shares().len(), 1);
    let share = &survey.shares()[0];
    assert_eq!(share.numbers, [0, 1, 2, 3, 6, 7, 9]);
    assert_eq!(survey.again(), 3);
    let reached: Vec<_> = survey.spans_of(share).iter().map(|(_, span)| span.next).collect();
    assert_eq!(reached, [8, 7]);
    // What is between two messages of a write is in it; before the first of each log it must be stored.
    let needed: Vec<_> = survey.spans_of(share).iter().map(|(_, span)| span.after).collect();
    assert_eq!(needed, [5, 5]);
}

/// Guarantees: a share whose points go with their logs' offsets is one, and late if any of its points is: what holds for late rows holds for it.
#[test]
fn late_points_with_offsets() {
    let books = Books::new(9);
    let chunks = Chunks::daily_compressed_after(7);
    let day = 86_400_000_000;
    for (times, age) in [([100 * day, 99 * day], Age::Fresh), ([100 * day, 20 * day], Age::Late)] {
        let rows = times.map(|time_us| ("t", time_us, None));
        let deliveries = [delivery(&books, &rows)];
        let division = Division { chunks: Some(chunks), offsets: Offsets::WithPoints, now_us: 100 * day, ..over(1) };
        let survey = Survey::new(&deliveries, &books, &mut SeriesCache::default(), division);
        let shares: Vec<_> = survey.shares().iter().map(|share| (share.numbers.len(), share.age)).collect();
        assert_eq!(shares, [(2, age)]);
    }
}

/// Guarantees: late rows of one series are dealt out over all connections, behind what is fresh, those of one chunk together; the same way each time.
#[test]
fn late_points_of_one_series() {
    const DAY: i64 = 86_400_000_000;
    let books = Books::new(9);
    // Forty days long ago in turn, and today.
    let times: Vec<i64> = (0..4_000).map(|row| if row % 50 == 0 { 100 * DAY } else { (row % 40) * DAY }).collect();
    let rows: Vec<_> = times.iter().map(|&time_us| ("t", time_us, None)).collect();
    let deliveries = [delivery(&books, &rows)];
    let chunks = Some(Chunks::daily_compressed_after(7));
    let division = Division { chunks, now_us: 100 * DAY, ..over(3) };
    let mut series = SeriesCache::default();
    let survey = Survey::new(&deliveries, &books, &mut series, division);
    let fresh: Vec<_> = survey.shares().iter().filter(|share| share.age == Age::Fresh).collect();
    assert_eq!(fresh.iter().map(|share| share.numbers.len()).sum::<usize>(), 80);
    let late = &survey.shares()[fresh.len()..];
    assert_eq!(late.iter().map(|share| share.connection).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
    let mut days: Vec<i64> = Vec::new();
    for share in late {
        assert!(share.age == Age::Late && share.numbers.is_sorted());
        let mut of_share: Vec<i64> = share.numbers.iter().map(|&number| times[number as usize] / DAY).collect();
        of_share.sort_unstable();
        of_share.dedup();
        days.extend(of_share);
    }
    assert_eq!(days, (0..40).collect::<Vec<_>>(), "each day is in one share");
    assert_eq!(late.iter().map(|share| share.numbers.len()).sum::<usize>(), 3_920);
    assert_eq!(Survey::new(&deliveries, &books, &mut series, division).shares(), survey.shares());
}

/// Guarantees: what is much more than the rows of a transaction is cut evenly, in order, each piece for the connection that all of it was for; a
/// little more, and what has offsets, is not cut.
#[test]
fn transactions_have_about_as_many_rows() {
    let books = Books::new(99);
    let rows = |count: i64| (0..count).map(|i| ("t", i, None)).collect::<Vec<_>>();
    for (count, offsets, pieces) in [
        (7_499, Offsets::Group, &[7_499][..]),
        (7_501, Offsets::Group, &[3_751, 3_750]),
        (16_001, Offsets::Group, &[5_334, 5_334, 5_333]),
        (0, Offsets::Group, &[0]),
        (16_001, Offsets::WithPoints, &[16_001]),
    ] {
        let deliveries = [delivery(&books, &rows(count))];
        let mut series = SeriesCache::default();
        let survey = Survey::new(&deliveries, &books, &mut series, Division { offsets, ..over(1) });
        let sizes: Vec<usize> = survey.shares().iter().map(|share| share.numbers.len()).collect();
        assert_eq!(sizes, pieces);
        let all: Vec<u32> = survey.shares().iter().flat_map(|share| share.numbers.clone()).collect();
        assert!(all.is_sorted() && all.len() == count as usize, "{sizes:?}");
    }
}

/// Guarantees: a row bears the unit that its series had when it was measured, though the series has another by now, which is what the database is told of it.
#[test]
fn the_unit_of_its_time() {
    let books = Books::new(9);
    let made = |unit: &str| {
        let id = delivery(&books, &[("t", 1, None)]).points.series[0];
        books.describe(id, Description { unit: Some(unit.into()), labels: Vec::new() });
        let mut points = Points::default();
        points.push(id, 1, 1.0, 192);
        (
            id,
            Arc::new(Delivery { points, described: tidegate_model::DescribedAs::now(&books), ..Delivery::default() }),
        )
    };
    let [(id, first), (_, second), (_, third)] = ["degF", "degC", "K"].map(made);
    let deliveries = [first, second, third];
    let mut series = SeriesCache::default();
    let survey = Survey::new(&deliveries, &books, &mut series, over(1));
    let mut rows = BytesMut::new();
    survey.encode(&survey.shares()[0].numbers, &series, &mut rows);
    let mut wanted = BytesMut::new();
    for unit in ["degF", "degC", "K"] {
        let description = Description { unit: Some(unit.into()), labels: Vec::new() };
        RowTemplate::new("t", &description).put_row(&mut wanted, timestamp(1).unwrap(), 1.0, 192, None);
    }
    assert_eq!(rows, wanted);
    assert_eq!(series.description(id).unwrap().unit.as_deref(), Some("K"));
}

/// Guarantees: where offsets keep late rows and others in one transaction, the late ones alone are counted as such.
#[test]
fn late_rows_among_others_are_counted() {
    const DAY: i64 = 86_400_000_000;
    let books = Books::new(9);
    let deliveries = [delivery(&books, &[("t", 100 * DAY, None), ("t", DAY, None), ("t", 2 * DAY, None)])];
    let division = Division { chunks: Some(Chunks::daily_compressed_after(7)), now_us: 100 * DAY, ..over(1) };
    let mut series = SeriesCache::default();
    for offsets in [Offsets::Group, Offsets::WithPoints] {
        let survey = Survey::new(&deliveries, &books, &mut series, Division { offsets, ..division });
        assert_eq!(survey.late(), 2, "{offsets:?}");
    }
}

/// Guarantees: of a write made ready ahead that fails in part it is known how it was shared out then: when it comes again, later, a point that was refused is so again
/// and each share has the same points, so that what is stored is told from what is not.
#[test]
fn made_ready_and_shared_out_again_later() {
    const DAY: i64 = 86_400_000_000;
    let books = Books::new(9);
    let mut settings = TimescaleSink::new(Secret::new("postgres://h/d"));
    settings.ahead = Some(Duration::from_secs(3_600));
    let at = |now_us| Division {
        now_us,
        believed: Believed::near(now_us, &settings),
        chunks: Some(Chunks::daily_compressed_after(7)),
        ..over(1)
    };
    // The second is a microsecond too far ahead when it is looked over, and the others are late a day after.
    let now = 30_000 * DAY;
    let ahead_us = 3_600_000_000;
    let times: Vec<i64> =
        (0..10_000).map(|row| if row == 1 { now + ahead_us + 1 } else { now - 7 * DAY + row }).collect();
    let rows: Vec<_> = times.iter().map(|&time_us| ("t", time_us, None)).collect();
    let deliveries = [delivery(&books, &rows)];
    let mut series = SeriesCache::default();
    Survey::new(&deliveries, &books, &mut series, at(now));
    let ahead = Survey::ahead(&deliveries, &books, &series, at(now)).unwrap();
    let later = at(now + DAY);
    assert_ne!(Survey::new(&deliveries, &books, &mut series, later).shares(), ahead.shares());

    let unfinished = Unfinished::of(&ahead, vec![Some(Stored::default()), None]);
    assert!(unfinished.is_of(&deliveries) && unfinished.done.len() == ahead.shares().len());
    let again = Survey::new(&deliveries, &books, &mut series, unfinished.division);
    assert_eq!(again.shares(), ahead.shares());
    assert_eq!(again.rejected([]).len(), 1);
}
