//! Late points, on their way beside all others.

use super::*;

/// A delivery of points of these times; the value of a late one is what it is in turn, that of the others 100 more.
fn timed(times: &[i64]) -> Arc<Delivery> {
    let mut points = Points::default();
    for (row, &time_us) in times.iter().enumerate() {
        points.push(SeriesId(0), time_us, row as f64 + if time_us < 0 { 0.0 } else { 100.0 }, 192);
    }
    let from_row = vec![tidegate_model::NO_ROW; times.len()];
    Arc::new(Delivery { points, from_row, ..Delivery::default() })
}

/// Guarantees: while late points cannot be stored, what came with them and what comes behind them is; a message is acknowledged when all its points are
/// stored, and each of them is once.
#[test]
fn late_points_hold_nobody_up() {
    let late = House::of_late(GRACE, Mood::Hangs, 0);
    // Its spool takes nothing, so that its acks wait for the sink.
    late.world.most.store(0, Relaxed);
    let house = House::beside(Some(&late), SpoolOrder::Kept, Mood::Works, 0);
    house.send_one(timed(&[0, -1, 0, -5]));
    house.send_one(timed(&[-1]));
    house.send_one(timed(&[0]));
    house.wait("all but the late ones to be stored", |house| house.taken() == [100, 102, 100]);
    house.wait("what is stored to be acknowledged", |house| house.settled() == 1);
    assert!(late.taken().is_empty());
    late.mood(Mood::Works);
    house.wait("the others", |house| house.settled() == 3);
    assert_eq!(late.taken(), [1, 3, 0]);
    assert_eq!(house.world.outcomes.lock().unwrap().1, 0);
    house.end();
    late.end();
}

/// Guarantees: late points that find no room in the queue of their own task stay in the write they came with: none is lost, none is stored twice, and
/// nobody waits.
#[test]
fn late_points_without_room() {
    let late = House::of_late(GRACE, Mood::Hangs, 0);
    late.world.most.store(0, Relaxed);
    let house = House::beside(Some(&late), SpoolOrder::Kept, Mood::Works, 0);
    // More than the other task can have: a batch of eight in hand, and four that wait.
    for _ in 0..20 {
        house.send_one(timed(&[-1, 0]));
    }
    let fresh = |house: &House| house.taken().iter().filter(|value| **value == 101).count();
    house.wait("the others to be stored", |house| fresh(house) == 20);
    let passed_on = |house: &House| 20 - (house.taken().len() - 20);
    assert!((1..=12).contains(&passed_on(&house)), "{} passed on", passed_on(&house));
    house.wait("those to be acknowledged that are whole", |house| house.settled() == 20 - passed_on(house));
    late.mood(Mood::Works);
    house.wait("all", |house| house.settled() == 20);
    assert_eq!(late.taken().len(), passed_on(&house));
    house.end();
    late.end();
}

/// Guarantees: late points keep off the other writes while their own task writes and while it drains its spool, however long either takes: what comes
/// meanwhile is spooled.
#[test]
fn late_points_are_spooled_as_they_come() {
    for standing in [0, 400] {
        // Nothing is spooled for having taken long.
        let late = House::of_late(10 * DEADLINE, Mood::Works, standing);
        late.wait("its sink to work", |late| standing == 0 || late.taken().len() > 24);
        late.mood(Mood::Hangs);
        let house = House::beside(Some(&late), SpoolOrder::Kept, Mood::Works, 0);
        for sent in 1..=20 {
            house.send_one(timed(&[-1, 0]));
            house.wait("what is not late", |house| house.taken().len() == sent);
            late.wait("room", |late| late.queue.capacity() > 2);
        }
        assert_eq!(house.taken(), [101; 20]);
        late.mood(Mood::Works);
        house.wait("all", |house| house.settled() == 20);
        late.wait("the drain", |late| late.taken().len() as u64 == standing + 20);
        house.end();
        late.end();
    }
}

/// Guarantees: late points that their sink refuses are dead letters, counted for the delivery they came with.
#[test]
fn late_points_that_are_refused() {
    let late = House::of_late(GRACE, Mood::Refuses, 0);
    let house = House::beside(Some(&late), SpoolOrder::Kept, Mood::Works, 0);
    let delivery = timed(&[0, -1]);
    house.send_one(delivery.clone());
    house.wait("it to be settled", |house| house.settled() == 1);
    assert_eq!((house.taken(), late.taken().len()), (vec![100], 0));
    assert_eq!((delivery.refused.points.load(Relaxed), late.world.letters.lock().unwrap().len()), (1, 1));
    house.end();
    late.end();
}
