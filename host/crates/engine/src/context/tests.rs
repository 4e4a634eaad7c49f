//! What a guest can make the host keep, by asking.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Guarantees: names that a guest was told of raise its limit, up to so many, and the same names do so once.
#[test]
fn names_are_paid_for() {
    let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
    let mut context = Context::new(Arc::new(Books::new(10)), Arc::default(), &limits);
    context.pay_for_names();
    assert_eq!(context.memory.limit_bytes, 1 << 20);
    for name in [3, 4, 3] {
        context.topics.local_or_add(name);
        context.series.local_or_add(name);
        context.pay_for_names();
    }
    assert_eq!(context.memory.limit_bytes, (1 << 20) + 4 * NAME_BYTES);
    (0..2 * MAX_NAMES_PAID as u32).for_each(|name| _ = context.series.local_or_add(name));
    context.pay_for_names();
    assert_eq!(context.memory.limit_bytes, (1 << 20) + MAX_NAMES_PAID * NAME_BYTES);
}

fn context(books: &Arc<Books>, limits: &Limits) -> Context {
    Context::new(books.clone(), Arc::default(), limits)
}

fn named(topic: &str, unit: Option<&str>, labels: Vec<(String, String)>) -> NewSeries {
    NewSeries { topic: topic.to_owned(), unit: unit.map(str::to_owned), labels, from_row: u32::MAX }
}

fn ask(context: &mut Context, topic: &str) -> Result<u32, Refusal> {
    context.resolve_one(named(topic, None, Vec::new()))
}

/// Guarantees: whoever asks for one series many times in a call gets one id, and the host keeps one entry; what was said of it last counts.
#[test]
fn asked_twice_is_asked_once() {
    let books = Arc::new(Books::new(10));
    books.intern_series("known", PartitionId(0), Description::default()).unwrap();
    let mut context = context(&books, &Limits::default());
    for unit in ["C", "F", "K"] {
        for (at, topic) in ["known", "new"].into_iter().enumerate() {
            assert_eq!(context.resolve_one(named(topic, Some(unit), Vec::new())).ok(), Some(at as u32));
        }
    }
    assert_eq!(context.effects.series.len(), 2);
    context.commit_series(&Rows::None, Descriptions::Told).unwrap();
    assert_eq!((context.series.len(), books.all_series().len()), (2, 2));
    for id in [SeriesId(0), SeriesId(1)] {
        assert_eq!(books.series(id).unwrap().description.load().unit.as_deref(), Some("K"));
    }
}

/// Guarantees: where other lanes have taken the last places, so that a call comes to nothing, what it said of other series is not heard either.
#[test]
fn what_comes_to_nothing_describes_nothing() {
    let books = Arc::new(Books::new(10));
    let known = books.intern_series("known", PartitionId(0), Description::default()).unwrap();
    let mut context = context(&books, &Limits::default());
    ask(&mut context, "known").unwrap();
    context.commit_series(&Rows::None, Descriptions::Told).unwrap();
    context.resolve_one(named("known", Some("K"), Vec::new())).ok().unwrap();
    ask(&mut context, "new").unwrap();
    let others = (0..).take_while(|n| {
        books.intern_series_for_rule(&format!("other/{n}"), PartitionId(0), Description::default()).is_ok()
    });
    assert!(others.count() > 0);
    assert!(context.commit_series(&Rows::None, Descriptions::Told).is_err());
    assert_eq!(books.series(known).unwrap().description.load().unit, None);
}

/// Guarantees: what all requests of one call take up has a limit, whether series are new, known to others or only described anew; the next
/// call has all of it again.
#[test]
fn one_call_has_so_much_room() {
    let books = Arc::new(Books::new(1_000_000));
    let limits = Limits { call_bytes: 1 << 20, ..Limits::default() };
    let mut context = context(&books, &limits);
    let mut last = 0;
    for call in 0..2 {
        let refused = (0..).find(|n| ask(&mut context, &format!("{call}/{n}")).is_err()).unwrap();
        assert!(refused > 1_000 && refused * SERIES_BYTES < 1 << 20, "{refused}");
        context.commit_series(&Rows::None, Descriptions::Told).unwrap();
        last = refused;
    }
    let flip = |n: usize| named("0/0", Some(if n.is_multiple_of(2) { "C" } else { "F" }), Vec::new());
    let refused = (0..).find(|n| context.resolve_one(flip(n + 1)).is_err()).unwrap();
    assert!(refused < 2 * last, "{refused}");
    assert!(context.effects.described.len() < 2 * last);
}

/// Guarantees: a rule makes as many series as its file says, over all its calls and lanes, though the host has room for more; those that are there already
/// cost it nothing.
#[test]
fn a_rule_makes_so_many_series() {
    let books = Arc::new(Books::new(1_000));
    let limits = Limits { series: 3, ..Limits::default() };
    let stats = Arc::<RuleStats>::default();
    let lane = || Context::new(books.clone(), stats.clone(), &limits);
    let (mut one, mut other) = (lane(), lane());
    // In the same call as those that it makes.
    for topic in ["known/0", "known/1", "known/2", "known/3"] {
        books.intern_series(topic, PartitionId(0), Description::default()).unwrap();
        assert!(ask(&mut one, topic).is_ok(), "{topic}");
    }
    let refused = |asked: Result<u32, Refusal>| matches!(asked, Err(Refusal::Limit));
    for topic in ["new/0", "new/1"] {
        assert!(ask(&mut one, topic).is_ok());
    }
    one.commit_series(&Rows::None, Descriptions::Told).unwrap();
    assert!(ask(&mut other, "new/2").is_ok());
    assert!(refused(ask(&mut other, "new/3")), "the fourth, by the third's own call");
    other.commit_series(&Rows::None, Descriptions::Told).unwrap();
    for lane in [&mut one, &mut other] {
        assert!(refused(ask(lane, "new/3")));
        assert!(ask(lane, "new/2").is_ok(), "it is there");
    }
    assert_eq!(books.all_series().len(), 7);
}

/// Guarantees: of labels no more is kept than a series may have, by number and by bytes, and nothing of the list that the others stood in.
#[test]
fn labels_are_bounded() {
    let label = |len: usize| ("k".to_owned(), "v".repeat(len));
    let mut context = context(&Arc::new(Books::new(10)), &Limits::default());
    let many = (0..100_000).map(|_| label(1)).collect();
    let long = (0..32).map(|_| label(200)).collect();
    for (topic, labels) in [("many", many), ("long", long)] {
        assert!(context.resolve_one(named(topic, None, labels)).is_ok());
    }
    let kept = |at: usize| &context.effects.series[at].description.labels;
    assert_eq!((kept(0).len(), kept(1).len()), (MAX_LABELS, MAX_LABELS_BYTES / 201));
    assert!(kept(0).capacity() < 100, "{}", kept(0).capacity());
}

/// Guarantees: the labels that one rule gives to all series it knows, in one call or in many, on one lane or on all, take up no more than they may; beyond
/// that series are made and named as ever, with their units, and nothing is taken from what other rules may tell.
#[test]
fn labels_of_all_series_are_bounded() {
    const SERIES: u32 = 3_000;
    let labels = |n: u32| (0..30).map(|label| (format!("key{label}"), format!("{n:060}"))).collect::<Vec<_>>();
    let books = Arc::new(Books::new(SERIES as usize));
    let limits = Limits { label_bytes: 4 << 20, ..Limits::default() };
    let (hog, neighbour) = (Arc::<RuleStats>::default(), Arc::<RuleStats>::default());
    let mut lanes = [0, 1].map(|_| Context::new(books.clone(), hog.clone(), &limits));
    let held = || {
        let of = |n| books.series(SeriesId(n)).map_or(0, |series| series.description.load().labels.len());
        (0..SERIES).map(of).sum::<usize>() * (size_of::<(String, String)>() + 60)
    };
    // All of them are told anew the second time, by the lane that has not made them.
    for round in [0, 1] {
        for n in 0..SERIES {
            let context = &mut lanes[(n as usize / 100 + round) % 2];
            let asked = context.resolve_one(named(&format!("s/{n}"), Some("K"), labels(n + round as u32)));
            assert!(asked.is_ok());
            if n % 100 == 99 {
                context.commit_series(&Rows::None, Descriptions::Told).unwrap();
            }
        }
        assert!(held() > 2 << 20 && held() <= 4 << 20, "{}", held());
    }
    assert!(hog.labels.now() <= 4 << 20);
    let last = books.series(SeriesId(SERIES - 1)).unwrap().description.load_full();
    assert_eq!((last.unit.as_deref(), last.labels.len()), (Some("K"), 0));
    let mut neighbour = Context::new(books.clone(), neighbour, &limits);
    ask(&mut neighbour, "s/2999").unwrap();
    neighbour.commit_series(&Rows::None, Descriptions::Told).unwrap();
    neighbour.resolve_one(named("s/2999", None, labels(1))).ok().unwrap();
    neighbour.commit_series(&Rows::None, Descriptions::Told).unwrap();
    assert_eq!(books.series(SeriesId(SERIES - 1)).unwrap().description.load().labels, labels(1));
}

/// Guarantees: a rule that makes names without end, in one call or in many, leaves its neighbours some: each gets its share beyond the limit of
/// the host, and no more.
#[test]
fn a_hog_leaves_its_neighbours_room() {
    let books = Arc::new(Books::new(1_000));
    let (limits, share) = (Limits::default(), books.all_series().reserve() / RULES_IN_RESERVE);
    assert!(share > 10, "{share}");
    let mut hog = context(&books, &limits);
    let mut made = 0;
    for call in 0..1_000 {
        let asked = (0..300).take_while(|n| ask(&mut hog, &format!("hog/{call}/{n}")).is_ok()).count();
        hog.commit_series(&Rows::None, Descriptions::Told).unwrap();
        made += asked;
        if asked == 0 {
            break;
        }
    }
    assert_eq!(made, 1_000 + share);
    for neighbour in 1..RULES_IN_RESERVE {
        let mut context = context(&books, &limits);
        let asked = (0..1_000).take_while(|n| ask(&mut context, &format!("{neighbour}/{n}")).is_ok()).count();
        context.commit_series(&Rows::None, Descriptions::Told).unwrap();
        assert_eq!(asked, share);
        assert!(ask(&mut context, "one more").is_err());
    }
    assert!(books.intern_topic("t", "t").is_ok(), "topics have partitions still");
}

/// Guarantees: a series that no row led to belongs with what the instance knows: with the series or device above it, else with the first it was told of, by
/// a batch or by name; a rule of the whole node, and one that knows nothing yet, makes it a partition of its own.
#[test]
fn what_no_row_led_to_stays_on_its_lane() {
    let books = Arc::new(Books::new(100));
    let partitions: Vec<_> = ["dev/a", "dev/b", "dev/c"].map(|name| books.intern_partition(name).unwrap()).into();
    let known = |name: &str, at: usize| books.intern_series(name, partitions[at], Description::default()).unwrap();
    let (a, b) = (known("dev/a", 0), known("dev/b", 1));
    known("dev/c", 2);
    let made = |rowless: Rowless, told: &[SeriesId], rows: &Rows<'_>, topic: &str| {
        let mut context = context(&books, &Limits::default());
        context.rowless = rowless;
        told.iter().for_each(|id| _ = context.series.local_or_add(id.0));
        ask(&mut context, topic).unwrap();
        context.commit_series(rows, Descriptions::Told).unwrap();
        let made = SeriesId(books.all_series().find(topic).unwrap());
        books.partition(books.series(made).unwrap().partition).unwrap().to_string()
    };
    let rest = Rowless::WithTheRest;
    assert_eq!(made(rest, &[a, b], &Rows::None, "dev/b/max/hourly"), "dev/b");
    assert_eq!(made(rest, &[a, b], &Rows::None, "dev/c/max"), "dev/a", "it was never told of dev/c");
    assert_eq!(made(rest, &[b, a], &Rows::None, "plant/avg"), "dev/b");
    assert_eq!(made(rest, &[b, a], &Rows::Series(&[a]), "plant/max"), "dev/a", "the batch's lane");
    assert_eq!(made(rest, &[], &Rows::None, "plant/min"), "plant/min");
    assert_eq!(made(Rowless::ByItself, &[a, b], &Rows::None, "plant/sum"), "plant/sum");
}
