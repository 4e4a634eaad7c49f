#![allow(clippy::unwrap_used, reason = "tests")]

use tidegate_model::Description;

use super::*;

/// A rule as a test says it.
#[derive(Clone, Debug)]
struct Told {
    name: Arc<str>,
    kind: Kind,
    order: i32,
    filters: Vec<TopicFilter>,
}

fn told(name: &str, filters: &[&str]) -> Told {
    let filters = filters.iter().map(|filter| filter.parse().unwrap()).collect();
    Told { name: name.into(), kind: Kind::Processor, order: 0, filters }
}

fn rules_are(routes: &mut Routes, rules: &[Told]) {
    routes.rules_are(rules.iter().map(|rule| Routed {
        name: &rule.name,
        kind: rule.kind,
        order: rule.order,
        filters: &rule.filters,
    }));
}

/// Books with these series, and a reading of each.
fn readings(topics: impl IntoIterator<Item = String>) -> (Books, Points) {
    let books = Books::new(200_000);
    let mut points = Points::default();
    for topic in topics {
        let partition = books.intern_partition(&topic).unwrap();
        points.push(books.intern_series(&topic, partition, Description::default()).unwrap(), 0, 0.0, 192);
    }
    (books, points)
}

fn looks(routes: &mut Routes, points: &Points, books: &Books) -> usize {
    let before = routes.looks;
    routes.look(points, books);
    routes.looks - before
}

/// Guarantees: with 1,000 series and 300 rules, each series is matched with all of them once; where one rule's filters change, with that one only,
/// when it comes again; where one goes, moves, or stays as it is, with none.
#[test]
fn only_what_changed_is_looked_at() {
    let (books, points) = readings((0..1_000).map(|at| format!("dev/{at}")));
    let mut rules: Vec<Told> = (0..300).map(|at| told(&format!("rule-{at:03}"), &[&format!("dev/{at}")])).collect();
    let mut routes = Routes::default();
    rules_are(&mut routes, &rules);
    assert_eq!(looks(&mut routes, &points, &books), 300_000);
    assert_eq!(looks(&mut routes, &points, &books), 0);
    assert_eq!(routes.share(7, &points), Share::Some(vec![7]));

    rules[7] = told("rule-007", &["dev/8", "dev/900"]);
    rules_are(&mut routes, &rules);
    let half = points.gather(&(0..500).collect::<Vec<_>>());
    assert_eq!(looks(&mut routes, &half, &books), 500);
    assert_eq!(looks(&mut routes, &points, &books), 500);
    assert_eq!(routes.share(7, &points), Share::Some(vec![8, 900]));
    assert_eq!(routes.share(8, &points), Share::Some(vec![8]));

    rules.remove(3);
    rules_are(&mut routes, &rules);
    rules.swap(0, 100);
    rules_are(&mut routes, &rules);
    rules_are(&mut routes, &rules);
    assert_eq!(looks(&mut routes, &points, &books), 0);
    assert_eq!(routes.share(6, &points), Share::Some(vec![8, 900]));
    assert_eq!(routes.share(100, &points), Share::Some(vec![0]));

    rules.insert(0, told("all", &["#"]));
    rules_are(&mut routes, &rules);
    assert_eq!(looks(&mut routes, &points, &books), 1_000);
    assert_eq!(routes.share(0, &points), Share::All);
    routes.hand_over_what(["dev/5".parse().unwrap()].into());
    assert_eq!(looks(&mut routes, &points, &books), 1_000);
    assert_eq!(routes.share(NODE_LANE, &points), Share::Some(vec![5]));
    routes.hand_over_what(["dev/5".parse().unwrap()].into());
    assert_eq!(looks(&mut routes, &points, &books), 0);
}

/// Guarantees: however often filters change, there are no more routes than series that have one, where all of them keep coming; what those keep
/// that do not come any more is bounded; and all is as it should be afterwards.
#[test]
fn what_is_out_of_date_is_bounded() {
    let (books, points) = readings((0..40).flat_map(|round| (0..200).map(move |at| format!("dev/{at}/{round}"))));
    let mut rules: Vec<Told> = (0..200).map(|at| told(&format!("rule-{at:03}"), &["dev/#"])).collect();
    rules.extend((0..200).map(|at| told(&format!("own-{at:03}"), &[&format!("dev/{at}/#")])));
    rules.push(told("changes", &["#"]));
    let mut routes = Routes::default();
    for silent in [false, true] {
        let mut most = 0;
        for round in 0..40 {
            rules[400] = told("changes", &[&format!("dev/{round}/#")]);
            rules_are(&mut routes, &rules);
            let from = if silent { round * 200 } else { 0 };
            let points = points.gather(&(from..from + 200).collect::<Vec<_>>());
            routes.look(&points, &books);
            assert!(silent || routes.routes.len() <= 200, "{}", routes.routes.len());
            most = most.max(routes.routes.iter().map(|route| 1 + route.filters.len()).sum());
            assert_eq!(routes.share(400, &points), Share::Some(vec![round]));
            assert_eq!((routes.share(3, &points), routes.share(203, &points)), (Share::All, Share::Some(vec![3])));
        }
        assert!(most < MOST_OUTDATED + 200 * 203 && silent == (most > MOST_OUTDATED), "{most}");
    }
}

/// Guarantees: what was worked out for topics holds while the decoders are what they were, wherever they stand now.
#[test]
fn decoders_are_found_again() {
    let decoder = |name: &str, filter: &str, order: i32| Told { kind: Kind::Decoder, order, ..told(name, &[filter]) };
    let mut rules = vec![told("a", &["#"]), decoder("d", "dev/#", 0), decoder("e", "#", 0)];
    let (books, mut routes) = (Books::new(10), Routes::default());
    let topic = books.intern_topic("dev/1", "dev/1").unwrap();
    rules_are(&mut routes, &rules);
    routes.decoder_of = vec![0];
    rules.remove(0);
    rules_are(&mut routes, &rules);
    assert_eq!(routes.decoder(topic, &[], &books), Some(0));
    for change in [
        |rules: &mut Vec<Told>| rules[0].order = 1,
        |rules: &mut Vec<Told>| rules[0].filters = vec!["other/#".parse().unwrap()],
        |rules: &mut Vec<Told>| rules.truncate(1),
    ] {
        change(&mut rules);
        rules_are(&mut routes, &rules);
        assert!(routes.decoder_of.is_empty());
        routes.decoder_of = vec![0];
    }
}

/// Guarantees: after any changes, whichever series come between them, each rule gets the rows whose topics its filters match.
#[test]
fn as_if_matched_anew() {
    const FILTERS: [&str; 7] = ["#", "a/#", "b/+", "a/1", "+/2", "c", "b/3"];
    const TOPICS: [&str; 8] = ["a/1", "a/2", "b/1", "b/2", "b/3", "c", "d/4", "a/3"];
    let (books, points) = readings(TOPICS.map(str::to_owned));
    let mut chance = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let (mut rules, mut of_node) = (Vec::<Told>::new(), told("node", &[]));
        let mut routes = Routes::default();
        for _ in 0..40 {
            let filters: Vec<&str> = (0..chance.usize(0..3)).map(|_| FILTERS[chance.usize(0..7)]).collect();
            let name = chance.usize(0..6).to_string();
            if name == "5" {
                of_node = told("node", &filters);
                routes.hand_over_what(of_node.filters.clone().into());
            } else {
                rules.retain(|rule| *rule.name != *name);
                if !filters.is_empty() {
                    rules.insert(chance.usize(0..=rules.len()), told(&name, &filters));
                }
                rules_are(&mut routes, &rules);
            }
            let rows: Vec<u32> = (0..8).filter(|_| chance.bool()).collect();
            let points = points.gather(&rows);
            routes.look(&points, &books);
            for (slot, rule) in rules.iter().enumerate().chain([(NODE_LANE, &of_node)]) {
                let topic = |row: u32| TOPICS[rows[row as usize] as usize];
                let wants = |row: &u32| rule.filters.iter().any(|filter| filter.matches(topic(*row)));
                let due: Vec<u32> = (0..rows.len() as u32).filter(wants).collect();
                let share = match routes.share(slot, &points) {
                    Share::None => Vec::new(),
                    Share::All => (0..rows.len() as u32).collect(),
                    Share::Some(rows) => rows,
                };
                assert_eq!(share, due, "{rule:?} among {rules:?}");
            }
        }
    }
}
