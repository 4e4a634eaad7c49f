//! Rules and payloads that want more than there is: of the host's memory, and of a lane's time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_model::Journaled;

use super::store::{Memory, house_with};
use super::*;

pub fn wat(instructions: &[(&str, &str)]) -> Arc<Module> {
    Arc::new(Module::load(&ENGINE, &wat_guest::wat_guest("guest", instructions)).unwrap())
}

/// Guarantees: a rule that saves more, bit by bit, than its memory could ever hold is stopped before the host keeps it; its rows pass by.
#[test]
fn state_that_grows_without_end() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    // A cell of 15 MiB for one series; of another once that was saved, or restored.
    let save = "(if (i32.lt_u (memory.size) (i32.const 242)) (then (drop (memory.grow (i32.const 240)))))
        (i32.store (i32.const 512) (i32.const 708)) (i32.store (i32.const 516) (i32.const 1))
        (i32.store (i32.const 520) (i32.const 704)) (i32.store (i32.const 524) (i32.const 1))
        (i32.store (i32.const 528) (i32.const 131072)) (i32.store (i32.const 532) (i32.const 15728640))
        (i32.store (i32.const 704) (i32.const 15728640))
        (i32.store (i32.const 708) (i32.load (i32.const 712)))
        (i32.store (i32.const 712) (i32.const 1))
        (return (i32.const 512))";
    let restore = "(i32.store (i32.const 712) (i32.const 1))";
    let module = wat(&[("save", save), ("restore", restore)]);
    let rule = house.install_so("hoarder", "threshold", 10, "dev/#", r#"{"above":1.0}"#, |rule| rule.module = module);
    wait_until("the hoarder to be quarantined", || {
        house.send(&[reading("dev/a", 1.0), reading("dev/b", 1.0)]);
        rule.stats.quarantined().is_some()
    });
    let reason = rule.stats.quarantined().unwrap();
    assert!(reason.contains("its state has more than"), "{reason}");
    assert!(rule.stats.state.peak() <= 16 << 20, "{} bytes were kept", rule.stats.state.peak());
    let before = house.stored().len();
    house.send(&[reading("dev/a", 2.0)]);
    assert_eq!(house.stored().len(), before + 1);
}

/// Guarantees: of a message of two thousand points that a rule refuses, for ever other reasons, there is one letter, which says for how many it
/// speaks; the points are accounted for one by one.
#[test]
fn one_letter_a_message() {
    let mut house = House::new(1);
    house.install("read", "json-fields", 0, "#", r#"{"max_fields":2000}"#);
    // Refuses all rows: their numbers take the place of the series, and two reasons in turn that of the times.
    let process = "(block $done (loop $next
          (br_if $done (i32.ge_u (local.get $i) (local.get $rows)))
          (i32.store (i32.add (local.get $series) (i32.shl (local.get $i) (i32.const 2))) (local.get $i))
          (i32.store (i32.add (local.get $times) (i32.shl (local.get $i) (i32.const 2))) (i32.and (local.get $i) (i32.const 1)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $next)))
        (i32.store (i32.const 652) (local.get $series)) (i32.store (i32.const 656) (local.get $rows))
        (i32.store (i32.const 660) (local.get $times)) (i32.store (i32.const 664) (local.get $rows))
        (i32.store (i32.const 668) (i32.const 480)) (i32.store (i32.const 672) (i32.const 2))
        (i32.store (i32.const 480) (i32.const 1280)) (i32.store (i32.const 484) (i32.const 6))
        (i32.store (i32.const 488) (i32.const 1282)) (i32.store (i32.const 492) (i32.const 6))
        (call $give_back)
        (return (i32.const 512))";
    let module = wat(&[("process", process)]);
    house.install_so("fussy", "threshold", 10, "#", r#"{"above":1.0}"#, |rule| rule.module = module);
    let fields: Vec<String> = (0..2_000).map(|n| format!(r#""f{n}":{n}"#)).collect();
    let payload = format!("{{{}}}", fields.join(",")).into_bytes();
    let message = ("users/a/devices/b/telemetry".to_owned(), payload.clone());
    house.send(&[message.clone(), message]);
    assert_eq!(house.stored(), []);
    assert_eq!(house.pipeline.status().points.dead_lettered, 4_000);
    let kept = house.letters.kept.lock().unwrap();
    let letters: Vec<_> = kept.iter().flat_map(|delivery| &delivery.dead_letters).collect();
    assert_eq!(letters.len(), 2, "one for each message");
    for letter in letters {
        assert!(letter.payload == payload && letter.rule.as_deref() == Some("fussy"), "{}", letter.reason);
        assert!(letter.reason.ends_with("(and 1000 more of its points for other reasons)"), "{}", letter.reason);
    }
}

/// Guarantees: a rule that wants to be ticked again at once, and stays under its limit each time, gets a share of its lane's time and not all of it;
/// what it took is counted.
#[test]
fn ticks_have_a_share() {
    let mut house = House::new(1);
    // Some milliseconds of steps, counted as one; then `wake-us` = 0, which stands after points, alerts and commands.
    let tick = "(i32.store (i32.const 700) (i32.const 5000000))
        (loop $on
          (i32.store (i32.const 700) (i32.sub (i32.load (i32.const 700)) (i32.const 1)))
          (br_if $on (i32.load (i32.const 700))))
        (i64.store (i32.const 720) (i64.const 0x736b636974))
        (call $count (i32.const 720) (i32.const 5) (i64.const 1))
        (i32.store8 (i32.const 648) (i32.const 1))
        (return (i32.const 512))";
    let module = wat(&[("tick", tick)]);
    let mut of_one_tick = Duration::MAX;
    let rule = house.install_so("eager", "threshold", 10, "#", r#"{"above":1.0}"#, |rule| {
        rule.module = module;
        (rule.limits.batch_cpu, rule.limits.batch_wall) = (Duration::from_secs(10), Duration::from_secs(60));
        let mut alone = Arc::new(rule.clone()).rehearse(&Arc::new(Books::new(10))).unwrap();
        for now_us in 0..5 {
            let began = thread_cpu();
            alone.tick(now_us).unwrap();
            of_one_tick = of_one_tick.min(thread_cpu() - began);
        }
    });
    let ticks = || rule.stats.totals().counts.get("ticks").copied().unwrap_or(0);
    wait_until("a first tick", || ticks() > 0);
    let (began, first) = (Instant::now(), ticks());
    wait_until("some more", || ticks() >= first + 5);
    let whole_rounds = ticks() - first - 1;
    // Ten times, but that the machine may have been slower when one tick was measured.
    let least = of_one_tick * 3 * whole_rounds as u32;
    assert!(began.elapsed() >= least, "{whole_rounds} rounds of {of_one_tick:?} in {:?}", began.elapsed());
    let beside = Duration::from_nanos(rule.stats.totals().beside_nanos);
    assert!(beside >= of_one_tick, "{beside:?} were counted");
}

/// Guarantees: to save is no way to a lane's time: a rule that takes longer for it than for a batch, though no longer than it may to be made ready, and
/// gives next to nothing, has failed, and is quarantined when it goes on so; its rows pass by, and no state of it is kept that it did not give in time.
#[test]
fn saves_take_no_longer_than_batches() {
    let mut house = House::new(1);
    house.install("read", "json-reading", 0, "dev/#", "{}");
    // At three steps in memory each, this takes 20 ms on no machine; and then one cell of a byte.
    let save = "(i32.store (i32.const 700) (i32.const 600000000))
        (loop $on
          (i32.store (i32.const 700) (i32.sub (i32.load (i32.const 700)) (i32.const 1)))
          (br_if $on (i32.load (i32.const 700))))
        (i32.store (i32.const 512) (i32.const 708)) (i32.store (i32.const 516) (i32.const 1))
        (i32.store (i32.const 520) (i32.const 704)) (i32.store (i32.const 524) (i32.const 1))
        (i32.store (i32.const 528) (i32.const 1024)) (i32.store (i32.const 532) (i32.const 1))
        (i32.store (i32.const 704) (i32.const 1))
        (return (i32.const 512))";
    let module = wat(&[("save", save)]);
    let rule = house.install_so("dawdler", "threshold", 10, "dev/#", r#"{"above":1.0}"#, |rule| {
        rule.module = module;
        rule.limits.batch_cpu = Duration::from_millis(20);
        // So that nothing else stops it.
        (rule.limits.lifecycle_cpu, rule.limits.lifecycle_wall) = (Duration::from_secs(60), Duration::from_secs(600));
    });
    wait_until("the dawdler to be quarantined", || {
        house.send(&[reading("dev/a", 1.0)]);
        rule.stats.quarantined().is_some()
    });
    let (totals, reason) = (rule.stats.totals(), rule.stats.quarantined().unwrap());
    assert!(reason.contains("`save` took longer") || reason.contains("CPU time"), "{reason}");
    assert!(totals.faults["timeout"] >= 3 && rule.stats.state.peak() == 0, "{totals:?}");
    assert_eq!(house.stored().len() as u64, house.inlet.ledger().totals().received);
}

/// Guarantees: a rule that takes its time for each save, and stays well under its limit, gets a share of its lane's time and not all of it, also where acks wait
/// for each of its saves: they wait longer.
#[test]
fn saves_have_a_share() {
    let (books, store) = (Arc::new(Books::new(100)), Arc::<Memory>::default());
    let mut house = house_with(1, &books, &store);
    // Some ten milliseconds, for no state.
    let save = "(i32.store (i32.const 700) (i32.const 40000000))
        (loop $on
          (i32.store (i32.const 700) (i32.sub (i32.load (i32.const 700)) (i32.const 1)))
          (br_if $on (i32.load (i32.const 700))))";
    let module = wat(&[("save", save)]);
    let mut of_one_save = Duration::MAX;
    let rule = house.install_so("slow", "threshold", 10, "dev/#", r#"{"above":1.0}"#, |rule| {
        rule.module = module;
        (rule.limits.batch_cpu, rule.limits.batch_wall) = (Duration::from_secs(10), Duration::from_secs(60));
        let mut alone = Arc::new(rule.clone()).rehearse(&Arc::new(Books::new(10))).unwrap();
        for _ in 0..5 {
            let began = thread_cpu();
            alone.save(Cells::Changed).unwrap();
            of_one_save = of_one_save.min(thread_cpu() - began);
        }
    });
    let acked = Arc::<AtomicU64>::default();
    let send_one = |sent: u64| {
        let counted = acked.clone();
        let ack = move |_: Vec<()>| {
            let counted = counted.clone();
            Ack::new(move |outcome| {
                assert_eq!(outcome, Outcome::Settled);
                counted.fetch_add(1, Relaxed);
            })
        };
        let journaled = |_: &[()], _: &mut _| Some(Box::new(Journaled { streams: Vec::new(), enough: 1 }));
        let mut parcels = house.inlet.parcels(ack).journaled(journaled);
        let (topic, payload) = reading("dev/a", 1.0);
        let place = house.inlet.topic(&topic, &topic).unwrap();
        parcels.push(place, house.inlet.now_us(), Marks::default(), &payload, ());
        house.runtime.block_on(parcels.send()).unwrap();
        wait_until("the state to be kept", || acked.load(Relaxed) == sent);
    };
    send_one(1);
    let began = Instant::now();
    (2..=5).for_each(send_one);
    // Ten times for each, but that the machine may have been slower when one save was measured.
    let least = of_one_save * 4 * 4;
    assert!(began.elapsed() >= least, "4 saves of {of_one_save:?} in {:?}", began.elapsed());
    assert_eq!((rule.stats.quarantined(), rule.stats.totals().faults.values().sum::<u64>()), (None, 0));
}

/// Guarantees: whether a rule is ticked by its period or asks to be woken, it is ticked on as before where the clock is set back by hours, also where it was
/// resting then.
#[test]
fn a_clock_that_is_set_back() {
    let counted = "(i64.store (i32.const 720) (i64.const 0x736b636974))
        (call $count (i32.const 720) (i32.const 5) (i64.const 1))";
    // `wake-us`, which stands after points, alerts and commands: in 100 ms.
    let woken = format!(
        "{counted} (i32.store8 (i32.const 648) (i32.const 1))
        (i64.store (i32.const 656) (i64.add (local.get $now) (i64.const 100000)))
        (return (i32.const 512))"
    );
    for tick in [counted, &woken] {
        let mut house = House::new(1);
        let module = wat(&[("tick", tick)]);
        let rule = house.install_so("ticker", "threshold", 10, "#", r#"{"above":1.0}"#, |rule| rule.module = module);
        let ticks = || rule.stats.totals().counts.get("ticks").copied().unwrap_or(0);
        for _ in 0..2 {
            let before = ticks();
            wait_until("it to be ticked", || ticks() > before);
            house.gate.set_back(Duration::from_secs(7_200));
        }
        let before = ticks();
        wait_until("it to be ticked by the other clock", || ticks() > before + 1);
    }
}
