//! Rules that fail: what their state is afterwards, and who is called no more.

use super::*;

/// Guarantees: after a trap a rule's state is what it was before the row that it trapped on: a rule that numbers its readings leaves
/// out none and gives none twice, whatever was saved when, over traps in many batches and a swap; the poison stands alone in the dead
/// letters.
#[test]
fn state_is_exact_over_traps_and_swaps() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let (topics, mut sound, mut poisons) = (30, 0, 0);
    for batch in 0..40 {
        let messages: Vec<_> = (0..200)
            .map(|i| {
                // No topic has so many that it is quarantined.
                let poison = i == 100 + batch % 7 && batch % 2 == 0;
                (sound, poisons) = (sound + u32::from(!poison), poisons + u32::from(poison));
                reading(&format!("dev/t{}", (i + batch * 11) % topics), if poison { 666.0 } else { f64::from(i) })
            })
            .collect();
        house.send(&messages);
        if batch == 25 {
            house.install("number", "brittle", 10, "dev/#", "{}");
        }
    }
    let numbers = numbers(&house);
    assert_eq!(numbers.len(), topics as usize);
    for (topic, given) in &numbers {
        assert_eq!(*given, (1..=given.len()).map(|n| n as f64).collect::<Vec<_>>(), "{topic}");
    }
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), sound as usize);
    let letters: usize = house.letters.kept.lock().unwrap().iter().map(|d| d.dead_letters.len()).sum();
    assert_eq!(letters, poisons as usize);
    let totals = rule.stats.totals();
    assert!(totals.replayed > 0 && totals.state_lost == 0 && totals.faults["trap"] > 0, "{totals:?}");
}

/// Guarantees: a device that sends poison again and again is set apart: the rule is not called for it any more, and its rows pass by;
/// another device sees nothing of it. A new generation begins afresh. Where the file says so the rows are parked in the dead letters.
#[test]
fn a_partition_is_quarantined() {
    for (choice, bypassed, parked) in [(OnQuarantine::Bypass, 10, 0), (OnQuarantine::Park, 0, 10)] {
        let mut house = House::new(1);
        house.install("read", "json-reading", 0, "dev/#", "{}");
        let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |rule| rule.on_quarantine = choice);
        for _ in 0..5 {
            house.send(&[reading("dev/bad", 666.0), reading("dev/good", 1.0)]);
        }
        assert_eq!(rule.stats.totals().quarantined_partitions.keys().collect::<Vec<_>>(), ["dev/bad"]);
        for _ in 0..10 {
            house.send(&[reading("dev/bad", 666.0), reading("dev/good", 1.0)]);
        }
        let totals = rule.stats.totals();
        assert_eq!((totals.bypassed, totals.parked, totals.faults["trap"]), (bypassed, parked, 5 * 2), "{choice:?}");
        let numbers = numbers(&house);
        assert_eq!(numbers["dev/good"], (1..=15).map(f64::from).collect::<Vec<_>>());
        assert_eq!(numbers.get("dev/bad").map_or(0, Vec::len) as u64, bypassed);
        let parked_letters = house
            .letters
            .kept
            .lock()
            .unwrap()
            .iter()
            .flat_map(|d| d.dead_letters.clone())
            .filter(|letter| letter.reason.starts_with("parked") && letter.stage.as_str() == "parked")
            .count();
        assert_eq!(parked_letters as u64, parked);
        house.install("number", "brittle", 10, "dev/#", "{}");
        house.send(&[reading("dev/bad", 3.0)]);
        let last = self::numbers(&house)["dev/bad"].last().copied();
        assert_eq!(last, Some(1.0), "called again, for the first reading that it could count");
    }
}

/// Guarantees: a quarantine made elsewhere costs a sound instance no state: who comes after it goes on from its last call, though that
/// was never saved.
#[test]
fn a_quarantine_leaves_the_state_as_it_is() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    house.send(&[reading("dev/a", 7.0), reading("dev/a", 7.0)]);
    rule.stats.quarantine(rule.generation, "another lane said so");
    house.send(&[reading("dev/a", 50.0)]);
    let stats = rule.stats.clone();
    house.install_so("number", "brittle", 10, "dev/#", "{}", |rule| rule.stats = stats);
    assert_eq!(rule.stats.quarantined(), None);
    house.send(&[reading("dev/a", 7.0)]);
    assert_eq!(numbers(&house)["dev/a"], [1.0, 2.0, 50.0, 3.0]);
    assert_eq!(rule.stats.totals().state_lost, 0);
}

/// Guarantees: a rule that fails on partition after partition is quarantined as a whole, on every lane; its rows pass by, and its neighbour
/// goes on.
#[test]
fn a_rule_that_fails_all_over_is_quarantined() {
    let mut house = House::new(2);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/bad/#", "{}", |_| {});
    house.install("watch", "threshold", 20, "dev/#", r#"{"above":90.0}"#);
    for _ in 0..5 {
        let poison: Vec<_> = (0..40).map(|device| reading(&format!("dev/bad/{device}"), 666.0)).collect();
        house.send(&poison);
    }
    assert!(rule.stats.is_quarantined(rule.generation), "{:?}", rule.stats.totals());
    assert!(rule.stats.quarantined().is_some_and(|reason| reason.contains("many partitions")));
    let (before, bypassed) = (house.stored().len(), rule.stats.totals().bypassed);
    let more: Vec<_> = (0..40).map(|device| reading(&format!("dev/bad/{device}"), 95.0)).collect();
    house.send(&more);
    let stored = house.stored();
    assert_eq!(stored.len(), before + 40);
    assert!(stored[before..].iter().all(|(_, value)| *value == 95.0), "as they came");
    assert_eq!(rule.stats.totals().bypassed, bypassed + 40, "and each is counted");
    let raised: BTreeSet<_> = house.alerts().into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(raised.len(), 40, "its neighbour watches on");
}

fn letters(house: &House) -> Vec<(String, Vec<u8>)> {
    let kept = house.letters.kept.lock().unwrap();
    let letters = kept.iter().flat_map(|delivery| &delivery.dead_letters);
    letters.map(|letter| (letter.topic.to_string(), letter.payload.clone())).collect()
}

/// Guarantees: with the state of many series on a lane, one poison row in a large batch is one letter, and one episode of its partition, whatever
/// it takes to make new instances; all others are numbered on where they stood, in that batch and after it, and the rule is given all its state
/// anew once.
#[test]
fn one_poison_row_beside_many_series() {
    const SERIES: usize = 30_000;
    let mut house = House::with(1, Arc::new(Books::new(SERIES + 10)), None);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let all: Vec<_> = (0..SERIES).map(|n| reading(&format!("dev/{n}"), 1.0)).collect();
    house.send(&all);
    let restored = || rule.stats.totals().cells_restored;
    let before = restored();
    for _ in 0..3 {
        let mut batch: Vec<_> = (0..1_000).map(|n| reading(&format!("dev/{}", n * 29), 1.0)).collect();
        batch.insert(700, reading("dev/7", 666.0));
        house.send(&batch);
    }
    let totals = rule.stats.totals();
    assert_eq!(letters(&house), vec![reading("dev/7", 666.0); 3], "{totals:?}");
    assert_eq!((rule.stats.quarantined(), totals.state_lost), (None, 0));
    assert!(totals.faults["trap"] <= 3 * 3, "{totals:?}");
    // All of them once a batch, and beside that those of the batch, some times.
    assert!(restored() - before < 3 * (SERIES as u64 + 6_000), "{} cells", restored() - before);
    house.send(&all);
    for (topic, given) in numbers(&house) {
        let again = topic.strip_prefix("dev/").unwrap().parse::<usize>().unwrap();
        let times = if again % 29 == 0 && again < 29_000 { 5 } else { 2 };
        assert_eq!(given, (1..=times).map(f64::from).collect::<Vec<_>>(), "{topic}");
    }
}

/// Guarantees: rows that run into the limit of time, several of one device in a batch or one with a generous limit, are set apart each by itself: a
/// letter each, all others through, and the rule is not quarantined.
#[test]
fn looping_rows_take_no_others_along() {
    for (loops, cpu) in [(&[20, 150, 280][..], Duration::from_millis(50)), (&[150], Duration::from_millis(400))] {
        let mut house = House::new(1);
        let rule = house.install_so("obey", "hostile", 0, "hostile/#", "{}", |rule| rule.limits.batch_cpu = cpu);
        let payload = |n| if loops.contains(&n) { "loop".to_owned() } else { n.to_string() };
        let batch: Vec<_> = (0..300).map(|n| ("hostile/a".to_owned(), payload(n).into_bytes())).collect();
        house.send(&batch);
        let letter = ("hostile/a".to_owned(), b"loop".to_vec());
        assert_eq!(letters(&house), vec![letter; loops.len()], "{:?}", rule.stats.totals());
        assert_eq!(house.stored().len(), 300 - loops.len());
        assert_eq!(rule.stats.quarantined(), None);
        assert!(rule.stats.totals().quarantined_partitions.is_empty());
    }
}

/// Guarantees: a device that is quarantined while a batch is taken apart is so for the rest of that batch too: what it has sent in one go is not
/// tried row by row.
#[test]
fn quarantined_within_a_batch() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    let rule = house.install_so("number", "brittle", 10, "dev/#", "{}", |_| {});
    let batch: Vec<_> =
        (0..200).map(|n| if n % 2 == 0 { reading("dev/bad", 666.0) } else { reading("dev/good", 1.0) }).collect();
    house.send(&batch);
    let totals = rule.stats.totals();
    assert_eq!(totals.quarantined_partitions.keys().collect::<Vec<_>>(), ["dev/bad"]);
    assert_eq!((letters(&house).len(), totals.bypassed), (5, 95));
    assert_eq!(numbers(&house)["dev/good"], (1..=100).map(f64::from).collect::<Vec<_>>());
    let mut house = House::new(1);
    let rule = house.install_so("obey", "hostile", 0, "hostile/#", "{}", |_| {});
    let batch: Vec<_> =
        (0..200).map(|n| (format!("hostile/{}", n % 2), if n % 2 == 0 { "trap" } else { "1" }.into())).collect();
    house.send(&batch);
    assert_eq!((letters(&house).len(), rule.stats.totals().parked, house.stored().len()), (100, 95, 100));
}
