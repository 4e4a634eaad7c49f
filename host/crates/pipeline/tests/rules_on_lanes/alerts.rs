//! Whose an alert is that stands: who clears it, and what a promoted shadow makes of it.

use tidegate_engine::ShadowStart::{Copied, Empty};
use tidegate_model::{Description, SeriesId};
use tidegate_pipeline::{MAX_STANDING, Reset};

use super::store::{Memory, end, house_with};
use super::*;

const HOT: &str = r#"{"above":90.0}"#;
const HOTTER: &str = r#"{"above":97.0}"#;

/// Two lanes, and a series whose messages come to the second, though its partition is one of the first: it was known before its topic.
fn crossed(store: &Arc<Memory>) -> (House, Arc<Rule>, SeriesId) {
    let books = Arc::new(Books::new(10_000));
    let first = books.intern_partition("of the first lane").unwrap();
    assert_eq!(first.index(), 0);
    let series = books.intern_series("dev/a", first, Description::default()).unwrap();
    let mut house = house_with(2, &books, store);
    house.inlet.topic("dev/a", "dev/a").unwrap();
    let rule = house.install_so("watch", "threshold", 20, "dev/#", HOT, |_| {});
    (house, rule, series)
}

/// Readings of `dev/a` one after the other.
fn say(house: &House, values: &[f64]) {
    values.iter().for_each(|value| house.send(&[reading("dev/a", *value)]));
}

fn transitions(house: &House) -> Vec<Transition> {
    house.alerts().into_iter().map(|(_, transition)| transition).collect()
}

/// Guarantees: an alert belongs to the lane that raised it, whatever partition its series is of: a promoted shadow raises none again that its rule
/// had cleared, clears none that it has raised itself, and what it believes to stand it clears.
#[test]
fn a_promotion_asks_the_lane_that_raised_it() {
    for (start, before, while_it_shadows, standing, then) in [
        // What stood when it began is cleared by both.
        (Copied, &[95.0][..], &[20.0][..], 0, vec![Transition::Raised]),
        // It begins without, raises it, and it stands.
        (Empty, &[95.0], &[98.0], 1, vec![Transition::Cleared]),
        // To the shadow it is hot at 97 only.
        (Empty, &[95.0], &[96.0], 0, vec![Transition::Raised]),
        (Copied, &[], &[98.0], 1, vec![Transition::Cleared]),
    ] {
        let (mut house, rule, _) = crossed(&Arc::default());
        say(&house, before);
        let (candidate, _) = house.shadow(&rule, HOTTER, start);
        say(&house, while_it_shadows);
        let published = transitions(&house).len();
        house.deploy.promote(&candidate).unwrap();
        assert_eq!(house.pipeline.status().alerts_standing, standing, "{start:?} {while_it_shadows:?}");
        say(&house, if standing == 1 { &[20.0] } else { &[99.0] });
        let mut after = transitions(&house).split_off(published);
        if start == Empty && standing == 0 {
            assert_eq!(after.remove(0), Transition::Cleared, "the shadow does not know of it");
        }
        assert_eq!(after, then, "{start:?} {while_it_shadows:?}");
    }
}

/// Guarantees: the lane that forgets the state of a series clears what it has raised about it.
#[test]
fn a_reset_clears_what_its_lane_raised() {
    let (house, _, series) = crossed(&Arc::default());
    say(&house, &[95.0]);
    assert_eq!(house.pipeline.reset_state("watch", Reset::Series(series)).map(|done| done.cells), Ok(1));
    assert_eq!(house.pipeline.status().alerts_standing, 0);
    say(&house, &[95.0]);
    assert_eq!(transitions(&house), [Transition::Raised, Transition::Cleared, Transition::Raised]);
}

/// Guarantees: of an alert that an earlier process left, any lane's shadow that was given its state may say that it is over, and that is heard; as long
/// as none says so it stands. What none of the shadows was given it is cleared.
#[test]
fn after_a_restart_the_lane_that_knows_speaks() {
    for (start, value, standing) in [(Copied, 20.0, 0), (Copied, 98.0, 1), (Empty, 98.0, 1), (Empty, 20.0, 0)] {
        let store = Arc::<Memory>::default();
        let (house, _, _) = crossed(&store);
        say(&house, &[98.0]);
        end(&house);
        let (mut house, rule, _) = crossed(&store);
        assert_eq!(house.pipeline.status().alerts_standing, 1);
        // The one that serves holds it for hot at any value, so that it says nothing.
        let rule = house.install_so("watch", "threshold", 20, "dev/#", r#"{"above":0.0}"#, |next| {
            next.stats = rule.stats.clone()
        });
        let (candidate, _) = house.shadow(&rule, HOT, start);
        say(&house, &[value]);
        assert!(house.alerts().is_empty(), "{:?}", house.alerts());
        house.deploy.promote(&candidate).unwrap();
        assert_eq!(house.pipeline.status().alerts_standing, standing, "{start:?} {value}");
        say(&house, &[99.0, 20.0]);
        assert_eq!(house.pipeline.status().alerts_standing, 0, "{start:?} {value}");
    }
}

/// Guarantees: what a promoted shadow raises beside the most that may stand is counted, as if it served.
#[test]
fn a_promotion_past_the_most_is_counted() {
    let store = Arc::<Memory>::default();
    // The state by which they stand: else they would be cleared.
    let (house, _, _) = crossed(&store);
    house.send(&[reading("dev/b", 98.0)]);
    end(&house);
    assert_eq!(store.kept(), (1, 1));
    store.stand("watch", MAX_STANDING - 1);
    let (mut house, rule, _) = crossed(&store);
    assert_eq!(house.pipeline.status().alerts_standing, MAX_STANDING);
    let (candidate, _) = house.shadow(&rule, HOT, Copied);
    say(&house, &[98.0]);
    assert_eq!(rule.stats.totals().alerts_refused, 1, "of the one that serves");
    house.deploy.promote(&candidate).unwrap();
    assert_eq!((house.pipeline.status().alerts_standing, rule.stats.totals().alerts_refused), (MAX_STANDING, 2));
    assert!(house.alerts().is_empty(), "{:?}", house.alerts());
}

/// Guarantees: a rule that was removed, whose alert's end no sink had confirmed when the host died, and that is there again afterwards, begins without
/// state and without that alert: it is published that it is over, and raised again when it is so again.
#[test]
fn back_after_a_crash() {
    let store = Arc::<Memory>::default();
    let (mut house, _, _) = crossed(&store);
    say(&house, &[95.0]);
    wait_until("state and alert to be kept", || store.kept() == (1, 1));
    *house.points.down.lock().unwrap() = true;
    house.deploy.remove("watch", "the rule was removed").unwrap();
    wait_until("the state to be forgotten", || store.kept() == (0, 1));
    let (again, _, _) = crossed(&store.as_it_is());
    *house.points.down.lock().unwrap() = false;
    assert_eq!(again.pipeline.status().alerts_standing, 0);
    say(&again, &[20.0, 95.0]);
    assert_eq!(transitions(&again), [Transition::Cleared, Transition::Raised]);
}
