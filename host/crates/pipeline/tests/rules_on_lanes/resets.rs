//! State that is forgotten while messages come.

use tidegate_model::SeriesId;
use tidegate_pipeline::{Kept, StateReset};

use super::store::{Memory, end, house_with};
use super::swaps::{Between, REFUSE, made_of};
use super::*;

const DEVICES: usize = 2;
const TAGS: usize = 400;

/// A reading of each of the first `tags` of each device, which is a partition.
fn of_all(house: &House, tags: usize) {
    let mut parcels = house.inlet.parcels(|_: Vec<()>| Ack::new(|outcome| assert_eq!(outcome, Outcome::Settled)));
    for at in 0..tags * DEVICES {
        let device = format!("dev/{}", at % DEVICES);
        let (topic, payload) = reading(&format!("{device}/{}", at / DEVICES), 1.0);
        let place = house.inlet.topic(&topic, &device).unwrap();
        parcels.push(place, house.inlet.now_us(), Marks::default(), &payload, ());
    }
    house.runtime.block_on(parcels.send()).unwrap();
    house.wait("all messages to be settled", |totals| totals.in_flight == 0);
}

/// Guarantees: readings go on being numbered while state is set apart from what is to be forgotten, in every part of that; what they change is in what
/// is left, and forgotten with the rest, on disk too.
#[test]
fn changes_while_it_is_prepared() {
    type Asked = (&'static str, fn(&Books, SeriesId) -> Reset, fn(&str) -> bool);
    let asked: [Asked; 3] = [
        ("resets-series", |_, one| Reset::Series(one), |topic| topic == "dev/0/0"),
        (
            "resets-device",
            |books, one| Reset::Partition(books.series(one).unwrap().partition),
            |topic| topic.starts_with("dev/0/"),
        ),
        ("resets-all", |_, _| Reset::Everything, |_| true),
    ];
    for (name, of, goes) in asked {
        let (books, store) = (Arc::new(Books::new(10_000)), Arc::<Memory>::default());
        let mut house = house_with(1, &books, &store);
        let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
        of_all(&house, TAGS);
        // Each is some more than the last, and more than what is left for the lane.
        let one = SeriesId(books.all_series().find("dev/0/0").unwrap());
        let (of, mut tags) = (of(&books, one), TAGS);
        let reset = std::thread::scope(|scope| {
            let (rounds, last) = (Between::at("swap-round", name), Between::at("reset-last", name));
            let resets = || house.pipeline.reset_state("number", of);
            let resets = std::thread::Builder::new().name(name.into()).spawn_scoped(scope, resets).unwrap();
            while last.reached.try_recv().is_err() {
                if rounds.reached.recv_timeout(Duration::from_millis(1)).is_ok() {
                    tags += 1;
                    of_all(&house, tags);
                    rounds.pass();
                }
                assert!(!resets.is_finished(), "{name}: nothing was prepared");
            }
            tags += 1;
            of_all(&house, tags);
            drop((rounds, last));
            resets.join().unwrap().unwrap()
        });
        assert_eq!(
            tags,
            TAGS + 4 + 4 + 1,
            "{name}: as often as a lane may be asked, before there is an instance and after"
        );
        of_all(&house, tags);
        end(&house);
        let seen = numbers(&house);
        let forgotten = seen.keys().filter(|topic| goes(topic)).count();
        assert_eq!((seen.len(), reset), (tags * DEVICES, StateReset { cells: forgotten, kept: Kept::Now }), "{name}");
        let mut house = house_with(1, &books, &store);
        house.install("number", "brittle", 10, "dev/#", "{}");
        of_all(&house, tags);
        let after = numbers(&house);
        for (topic, numbers) in seen {
            let mut due: Vec<_> = (1..numbers.len()).map(|number| number as f64).collect();
            due.push(if goes(&topic) { 1.0 } else { numbers.len() as f64 });
            assert_eq!(numbers, due, "{topic}");
            assert_eq!(after[&topic], [due[due.len() - 1] + 1.0], "{topic} after a restart");
        }
        assert_eq!(rule.stats.totals().state_lost, 0);
    }
}

/// Guarantees: who resets a series has that written to disk, and nothing of what is left; a series that has no state costs nothing.
#[test]
fn nothing_else_is_written() {
    let (books, store) = (Arc::new(Books::new(10_000)), Arc::<Memory>::default());
    let mut house = house_with(2, &books, &store);
    house.install("number", "brittle", 10, "dev/#", "{}");
    of_all(&house, TAGS);
    wait_until("all to be kept", || store.kept().0 == DEVICES * TAGS);
    let written = store.written();
    let one = Reset::Series(SeriesId(books.all_series().find("dev/1/7").unwrap()));
    for cells in [1, 0] {
        assert_eq!(house.pipeline.reset_state("number", one), Ok(StateReset { cells, kept: Kept::Now }));
        assert_eq!((store.kept().0, store.written()), (DEVICES * TAGS - 1, written));
    }
}

/// Once it was given rows, a cell each of its first two series, the same each time.
const SAVE_TWO: &str = "(if (i32.eqz (i32.load8_u (i32.const 691))) (then (return (i32.const 0))))
    (i32.store (i32.const 512) (i32.const 700)) (i32.store (i32.const 516) (i32.const 2))
    (i32.store (i32.const 520) (i32.const 708)) (i32.store (i32.const 524) (i32.const 2))
    (i32.store (i32.const 528) (i32.const 716)) (i32.store (i32.const 532) (i32.const 2))
    (i32.store (i32.const 704) (i32.const 1))
    (i32.store (i32.const 708) (i32.const 1)) (i32.store (i32.const 712) (i32.const 2))
    (return (i32.const 512))";

/// Guarantees: a rule that takes its state as a whole only is given that; of one that takes none nothing is forgotten, and it serves on with all.
#[test]
fn what_is_left_is_refused() {
    // It remembers at 690 that it was given some.
    let once =
        format!("(if (i32.load8_u (i32.const 690)) (then {REFUSE})) (i32.store8 (i32.const 690) (i32.const 1))");
    for (restore, taken) in [(once.as_str(), true), (REFUSE, false)] {
        let (books, store) = (Arc::new(Books::new(100)), Arc::<Memory>::default());
        let mut house = house_with(1, &books, &store);
        let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
        let process = "(i32.store8 (i32.const 691) (i32.const 1))";
        let places = [("process", process), ("restore", restore), ("save", SAVE_TWO)];
        let rule = made_of(&mut house, &rule, &places, OnRefusedState::Discard);
        house.deploy.install(&rule).unwrap();
        let both = [reading("dev/a", 7.0), reading("dev/b", 7.0)];
        house.send(&both);
        wait_until("both to be kept", || store.kept().0 == 2);
        let one = Reset::Series(SeriesId(books.all_series().find("dev/a").unwrap()));
        match house.pipeline.reset_state("number", one) {
            Ok(done) => assert_eq!((done.cells, taken), (1, true)),
            Err(ResetError::Refused(why)) => assert!(why.contains("no!") && !taken, "{why}"),
            other => panic!("{other:?}"),
        }
        house.send(&both);
        assert_eq!(numbers(&house)["dev/a"], [7.0, 7.0], "it serves");
        assert_eq!((rule.stats.totals().state_lost, rule.stats.quarantined()), (0, None));
    }
}
