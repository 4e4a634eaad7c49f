//! Shadows that come to serve with their own state while messages come.

use super::store::{Memory, end, house_with};
use super::swaps::Between;
use super::*;

/// More than a lane is left with.
const TOPICS: usize = 600;

/// A reading of each of so many topics.
fn of_all(house: &House, topics: usize) {
    let readings: Vec<_> = (0..topics).map(|topic| reading(&format!("dev/{topic}"), 1.0)).collect();
    house.send(&readings);
}

/// Promotes `candidate`, with `meanwhile` each time before its shadow is given what it has missed, and before it serves.
fn promote(house: &House, name: &'static str, candidate: &Arc<Rule>, mut meanwhile: impl FnMut()) {
    let mut deploy = house.pipeline.deploy();
    std::thread::scope(|scope| {
        let (rounds, last) = (Between::at("promote-round", name), Between::at("promote-last", name));
        let promotes = move || deploy.promote(candidate);
        let promotes = std::thread::Builder::new().name(name.into()).spawn_scoped(scope, promotes).unwrap();
        while last.reached.try_recv().is_err() {
            if rounds.reached.recv_timeout(Duration::from_millis(1)).is_ok() {
                meanwhile();
                rounds.pass();
            }
            assert!(!promotes.is_finished(), "nothing was made ready");
        }
        meanwhile();
        drop((rounds, last));
        promotes.join().unwrap().unwrap();
    });
}

/// Guarantees: a shadow that is made ready to serve misses nothing meanwhile, in any part of that, and each reading is handled once by what serves; what it
/// has built is on disk afterwards.
#[test]
fn misses_nothing_while_it_is_made_ready() {
    let (books, store) = (Arc::new(Books::new(10_000)), Arc::<Memory>::default());
    let mut house = house_with(1, &books, &store);
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    of_all(&house, TOPICS);
    let (candidate, report) = house.shadow(&rule, "{ }", ShadowStart::Copied);
    of_all(&house, TOPICS);
    let mut topics = TOPICS;
    promote(&house, "promotes-brittle", &candidate, || {
        topics += 1;
        of_all(&house, topics);
    });
    assert_eq!(topics, TOPICS + 4 + 4 + 1, "as often as a lane may be asked, twice, and at the end");
    of_all(&house, topics);
    end(&house);
    let seen = numbers(&house);
    let mut house = house_with(1, &books, &store);
    house.install("number", "brittle", 10, "dev/#", "{}");
    of_all(&house, topics);
    let after = numbers(&house);
    assert_eq!((seen.len(), after.len()), (topics, topics));
    for (topic, numbers) in seen {
        assert_eq!(numbers, (1..=numbers.len()).map(|number| number as f64).collect::<Vec<_>>(), "{topic}");
        assert_eq!(after[&topic], [numbers.len() as f64 + 1.0], "{topic} after a restart");
    }
    let found = report.totals();
    assert_eq!((found.rows_changed, found.skipped_rows, rule.stats.totals().state_lost), (0, 0, 0));
}

/// Guarantees: of what the one before it has kept nothing is left on disk that the shadow does not have, though it was saved while that was made ready.
#[test]
fn leaves_nothing_of_the_one_before() {
    let (books, store) = (Arc::new(Books::new(10_000)), Arc::<Memory>::default());
    let mut house = house_with(1, &books, &store);
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    of_all(&house, 10);
    // Its state is that of partitions, the other's that of series.
    let candidate = house.next(&rule, |next| next.module = module("precinct"));
    house.deploy.shadow(&candidate, &Arc::new(ShadowReport::new(100)), ShadowStart::Empty).unwrap();
    let mut topics = 10;
    promote(&house, "promotes-precinct", &candidate, || {
        topics += 1;
        of_all(&house, topics);
        wait_until("what the one before it has saved", || store.kept().0 == topics);
    });
    let kept = || {
        let kept = store.load("number").unwrap().into_iter().map(|kept| kept.cells);
        kept.fold((0, 0), |(series, partitions), cells| {
            (series + cells.series.len(), partitions + cells.partitions.len())
        })
    };
    wait_until("the state of the shadow and nothing else", || kept() == (0, topics));
    end(&house);
    assert_eq!(kept(), (0, topics));
}

/// Guarantees: where a lane is held back while shadows are made ready, none serves and each runs on where it was, having missed nothing: it can be promoted
/// later.
#[test]
fn runs_on_where_it_cannot_serve() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let (candidate, report) = house.shadow(&rule, "{ }", ShadowStart::Copied);
    of_all(&house, 2);
    let name = "promotes-in-vain";
    let mut deploy = house.pipeline.deploy();
    let refused = std::thread::scope(|scope| {
        let rounds = Between::at("promote-round", name);
        let promotes = || deploy.promote(&candidate);
        let promotes = std::thread::Builder::new().name(name.into()).spawn_scoped(scope, promotes).unwrap();
        rounds.reached.recv_timeout(Duration::from_secs(180)).unwrap();
        of_all(&house, 2);
        house.gate.close_for("lane-1");
        drop(rounds);
        promotes.join().unwrap()
    });
    assert!(matches!(refused, Err(LoadError::Busy(_))), "{refused:?}");
    house.gate.open();
    of_all(&house, 2);
    let found = report.totals();
    assert_eq!((found.rows_changed, found.skipped_rows, report.lanes()), (0, 0, 2), "{found:?}");
    house.deploy.promote(&candidate).unwrap();
    of_all(&house, 2);
    assert!(numbers(&house).values().all(|numbers| *numbers == [1.0, 2.0, 3.0, 4.0]), "{:?}", numbers(&house));
}

/// Guarantees: of what comes while a shadow is made ready so much is kept for it and no more; what passes it by is counted, and all else is in its state.
#[test]
fn what_finds_no_room_passes_it_by() {
    let (topics, mut sent) = (1_000, 0);
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let (candidate, report) = house.shadow(&rule, "{ }", ShadowStart::Copied);
    promote(&house, "promotes-too-much", &candidate, || {
        if sent == 0 {
            (0..25).for_each(|_| of_all(&house, topics));
            sent = 25 * topics;
        }
    });
    let passed_by = report.totals().skipped_rows;
    assert!(passed_by > 0 && passed_by < 6_000, "{passed_by} rows");
    of_all(&house, topics);
    let last: f64 = numbers(&house).values().filter_map(|numbers| numbers.last()).sum();
    assert_eq!(last, (sent + topics) as f64 - passed_by as f64);
}
