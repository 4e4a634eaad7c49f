//! The book by itself.

use super::*;
use crate::lane::LaneKind;

fn alert(transition: Transition, severity: Severity) -> Alert {
    Alert {
        rule: "hot".into(),
        topic: "dev/a".into(),
        key: "".into(),
        time_us: 5,
        transition,
        severity,
        value: 1.0,
        message: String::new(),
    }
}

/// Guarantees: of what a rule says again and again, only the changes are published.
#[test]
fn only_changes_are_news() {
    let book = AlertBook::default();
    let say = |t, s| book.enter(&alert(t, s)) == News::Publish;
    assert!(!say(Transition::Cleared, Severity::Warning), "never raised");
    assert!(say(Transition::Raised, Severity::Warning));
    assert!(!say(Transition::Raised, Severity::Warning), "stands already");
    assert!(say(Transition::Raised, Severity::Critical), "graver now");
    assert!(say(Transition::Event, Severity::Info));
    assert_eq!(book.len(), 1);
    assert!(say(Transition::Cleared, Severity::Critical));
    assert!(book.is_empty());
}

/// Guarantees: of many that stand those are given that have stood longest, in that order, and only those that are wanted.
#[test]
fn the_oldest_first() {
    let book = AlertBook::default();
    for (topic, time_us) in [("c", 3), ("a", 1), ("d", 4), ("b", 2)] {
        book.enter(&Alert { topic: topic.into(), time_us, ..alert(Transition::Raised, Severity::Warning) });
    }
    let topics = |most, but: &str| -> Vec<String> {
        book.oldest(most, |alert| alert.topic != but).into_iter().map(|alert| alert.topic).collect()
    };
    assert_eq!(topics(2, ""), ["a", "b"]);
    assert_eq!(topics(9, "b"), ["a", "c", "d"]);
    assert!(topics(0, "").is_empty());
}

/// Guarantees: who reads what stands holds the book for no longer than a piece: while it is looked at, lanes raise and clear. What stood all the time is
/// read once and in order, however many pieces that takes; and a place that is free is given again.
#[test]
fn lanes_go_on_while_it_is_read() {
    let book = AlertBook::default();
    let say = |topic: String, time_us, transition| {
        book.enter(&Alert { topic: topic.into(), time_us, ..alert(transition, Severity::Warning) })
    };
    let many = 3 * PIECE as i64 + 7;
    for n in 0..many {
        say(format!("dev/{n}"), n, Transition::Raised);
    }
    let mut went = 0..many / 2;
    let going = std::cell::RefCell::new(&mut went);
    let read = book.oldest(usize::MAX, |_| {
        // A lane that would have to wait here would wait for ever.
        if let Some(n) = going.borrow_mut().next() {
            say(format!("dev/{}", 2 * n), 0, Transition::Cleared);
            say(format!("new/{n}"), many + n, Transition::Raised);
        }
        true
    });
    let stood: Vec<i64> = read.iter().map(|it| it.since_us).filter(|n| n % 2 == 1 && *n < many).collect();
    assert_eq!(stood, (0..many).filter(|n| n % 2 == 1).collect::<Vec<_>>());
    assert!(read.is_sorted_by_key(|it| it.since_us));
    assert_eq!((book.len(), book.standing().len()), (many as usize, many as usize));
    assert_eq!(book.lock().listed.piece(many as usize - 1, &mut Vec::new()), None, "places are given again");
    book.clear_where("hot", all, 9, "gone");
    assert!(book.is_empty() && book.standing().is_empty());
}

fn all(_topic: &str, _by: Option<LaneId>) -> bool {
    true
}

/// Guarantees: a rule that goes leaves no alert standing.
#[test]
fn a_rule_that_goes_clears_its_own() {
    let book = AlertBook::default();
    book.enter(&alert(Transition::Raised, Severity::Warning));
    assert!(book.clear_where("other", all, 9, "gone").is_empty());
    let cleared = book.clear_where("hot", all, 9, "the rule was disabled");
    assert_eq!((cleared.len(), cleared[0].transition, cleared[0].time_us), (1, Transition::Cleared, 9));
    assert!(book.is_empty());
}

/// Guarantees: a rule that makes up keys is refused when it has as many as it may, alone, and until one of them is cleared.
#[test]
fn a_rule_has_so_many_and_no_more() {
    let book = AlertBook::default();
    let keyed =
        |transition, key: usize| Alert { key: key.to_string().into(), ..alert(transition, Severity::Warning) };
    for key in 0..MAX_STANDING {
        assert_eq!(book.enter(&keyed(Transition::Raised, key)), News::Publish);
    }
    assert_eq!(book.enter(&keyed(Transition::Raised, MAX_STANDING)), News::Refused);
    assert_eq!(book.enter(&keyed(Transition::Raised, 0)), News::Known);
    assert_eq!(book.enter(&alert(Transition::Event, Severity::Warning)), News::Publish);
    let other = Alert { rule: "cold".into(), ..alert(Transition::Raised, Severity::Warning) };
    assert_eq!(book.enter(&other), News::Publish, "another rule's own");
    assert_eq!(book.enter(&keyed(Transition::Cleared, 0)), News::Publish);
    assert_eq!(book.enter(&keyed(Transition::Raised, MAX_STANDING)), News::Publish, "there is room again");
    assert_eq!(book.clear_where("hot", all, 9, "gone").len(), MAX_STANDING);
    assert_eq!(book.enter(&keyed(Transition::Raised, 0)), News::Publish);
    assert_eq!(book.len(), 2);
}

/// Guarantees: a book made of what stood says so, and knows of each alert how it is now.
#[test]
fn what_stood_stands() {
    let raised = alert(Transition::Raised, Severity::Critical);
    let book = AlertBook::of(std::slice::from_ref(&raised));
    assert_eq!(book.enter(&raised), News::Known);
    let now = book.now(&key_of(&raised));
    assert_eq!((now.transition, now.severity, now.time_us), (Transition::Raised, Severity::Critical, 5));
    assert_eq!(book.clear_where("hot", |topic, _| topic == "dev/b", 9, "reset").len(), 0);
    assert_eq!(book.clear_where("hot", |topic, _| topic == "dev/a", 9, "reset").len(), 1);
    assert_eq!(book.now(&key_of(&raised)).transition, Transition::Cleared);
    assert_eq!(book.enter(&raised), News::Publish);
}

/// Guarantees: what stands by a state that was forgotten is cleared as that, on the lane that is asked, unless a rule has raised it again.
#[test]
fn what_stands_by_nothing() {
    let raised = |rule: &str, topic: &str| Alert {
        rule: rule.into(),
        topic: topic.into(),
        ..alert(Transition::Raised, Severity::Warning)
    };
    let void = [raised("hot", "a"), raised("hot", "b"), raised("hot", "c"), raised("cold", "a")];
    let book = AlertBook::of(&[raised("hot", "d")]).and_void(&void);
    assert_eq!(book.len(), 5);
    assert_eq!(book.enter(&raised("hot", "b")), News::Known);
    let cleared = book.clear_void("hot", |topic| topic != "c", 9, "gone");
    assert_eq!(
        cleared.iter().map(|alert| (&*alert.topic, alert.transition)).collect::<Vec<_>>(),
        [("a", Transition::Cleared)]
    );
    assert_eq!((book.clear_void("hot", |_| true, 9, "gone").len(), book.len()), (1, 3));
}

/// Guarantees: an alert is that lane's which raised it last, whether or not that was news; what an earlier process left is nobody's until one does.
#[test]
fn whose_an_alert_is() {
    let raised = alert(Transition::Raised, Severity::Warning);
    let lane = |index| Some(LaneId { kind: LaneKind::Partitions, index });
    let node = Some(LaneId { kind: LaneKind::Node, index: 0 });
    let book = AlertBook::of(std::slice::from_ref(&raised));
    let whose = |who: Option<LaneId>| book.raised_by("hot", who).len();
    assert_eq!((whose(None), whose(lane(0))), (1, 0));
    assert_eq!(book.enter_by(&raised, lane(0)), News::Known);
    assert_eq!((whose(None), whose(lane(0)), whose(node)), (0, 1, 0));
    assert_eq!(book.enter_by(&alert(Transition::Raised, Severity::Critical), node), News::Publish);
    assert_eq!((whose(lane(0)), whose(node)), (0, 1));
    assert!(book.clear_where("hot", |_, by| by == lane(0), 9, "reset").is_empty());
    assert_eq!(book.clear_where("hot", |_, by| by == node, 9, "reset").len(), 1);
}

/// Guarantees: the texts of what stands are bounded too, where each is as long as it may be, and counted for as long as they stand; another rule has room of
/// its own.
#[test]
fn few_long_ones() {
    const LONG: usize = 1 << 20;
    let book = AlertBook::default();
    let say = |rule: &str, key: usize, transition, severity, long| {
        let (rule, key, message) = (rule.into(), key.to_string().into(), "x".repeat(long));
        book.enter(&Alert { rule, key, message, ..alert(transition, severity) })
    };
    let raise = |rule, key| say(rule, key, Transition::Raised, Severity::Warning, LONG);
    // No further than it takes to see that there is no end.
    let most = (0..2 * MAX_STANDING_BYTES / LONG).take_while(|&key| raise("hot", key) == News::Publish).count();
    assert_eq!(most, MAX_STANDING_BYTES / LONG - 1);
    assert_eq!(raise("cold", 0), News::Publish);
    assert_eq!(say("hot", 0, Transition::Raised, Severity::Critical, 1), News::Publish, "graver, and shorter");
    assert_eq!(raise("hot", most), News::Publish, "of which there is room");
    assert_eq!(raise("hot", most + 1), News::Refused);
    let graver = say("hot", 1, Transition::Raised, Severity::Critical, 2 * LONG);
    assert_eq!(graver, News::Publish, "what stands is never refused");
    let stands = book.now(&("hot".into(), alert(Transition::Raised, Severity::Warning).topic, "1".into()));
    assert_eq!((stands.severity, stands.message.len()), (Severity::Critical, LONG), "its message stays");
    assert_eq!(say("hot", 1, Transition::Cleared, Severity::Warning, 0), News::Publish);
    assert_eq!(raise("hot", most + 1), News::Publish);
    assert_eq!(book.clear_where("hot", |_, _| true, 9, "gone").len(), most + 1);
    assert!((0..most).all(|key| raise("hot", key) == News::Publish) && raise("hot", most) == News::Refused);
}
