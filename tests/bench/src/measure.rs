//! Repetitions, and what may be said of them.
//!
//! Where there is a baseline, both sides are measured in turn, A B, B A, A B …, so that a machine that grows slower or faster
//! meets both alike, and each pair gives one ratio. What is quoted is the median: of the pairs' ratios, not the ratio of medians.
//!
//! Where the question is how much more ours takes than the other side, and not how many times as much, it is the pairs' differences that are
//! quoted and judged ([`Compared`]).
//!
//! A target **holds** when the median meets it and at least two thirds of the repetitions meet it one by one: a median that sits
//! on the target by luck does not hold it.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cost::{self, Cost};
use crate::report::Progress;

/// One repetition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Ours, in the bench's unit.
    pub value: f64,
    /// The same of what it is compared with, in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// What ours took; of both sides together where they are not measured one after the other.
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// Pairs of slots that were disturbed, and measured again.
    #[serde(skip_serializing_if = "Again::is_none")]
    pub again: Again,
}

/// How many pairs of slots were measured again, by the side that was disturbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Again {
    pub ours: usize,
    pub baseline: usize,
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
}

/// What is made of a pair, and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Ours by the baseline.
    Ratio,
    /// Ours less the baseline, in the bench's unit.
    Difference,
}

/// What comes of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot<T> {
    /// What was seen.
    Seen(T),
    /// What was to be there while it was measured was not, and why. That must not depend on what is measured: what is slow is no reason.
    Disturbed(String),
}

/// Which of the two is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Baseline,
}

/// How much is done: all of it, or just enough to see that it works.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Instead of each bench's own number.
    pub repetitions: Option<usize>,
    /// A tenth of the amounts, and three repetitions.
    pub quick: bool,
    /// Also what takes a quarter of an hour.
    pub full: bool,
}

impl Effort {
    /// How many repetitions, where `normal` is what the bench wants.
    pub fn repetitions(&self, normal: usize) -> usize {
        self.repetitions.unwrap_or(if self.quick { 3 } else { normal }).max(1)
    }

    /// How many rows or messages, where `normal` is what the bench wants.
    pub fn amount(&self, normal: usize) -> usize {
        if self.quick { normal / 10 } else { normal }
    }
}

impl Again {
    /// Whether none was.
    pub fn is_none(&self) -> bool {
        self.all() == 0
    }

    /// Of both sides.
    pub fn all(&self) -> usize {
        self.ours + self.baseline
    }

    fn count(&mut self, side: Side) {
        match side {
            Side::Ours => self.ours += 1,
            Side::Baseline => self.baseline += 1,
        }
    }
}

impl Sample {
    /// Of a pair, or of ours alone.
    pub fn new(value: f64, baseline: Option<f64>, cost: Option<Cost>) -> Self {
        Self { value, baseline, cost, again: Again::default() }
    }

    /// What a target is compared with: what `compared` makes of the pair where there is a baseline, else the value.
    pub fn judged(&self, compared: Compared) -> f64 {
        match (self.baseline, compared) {
            (None, _) => self.value,
            (Some(baseline), Compared::Ratio) => self.value / baseline,
            (Some(baseline), Compared::Difference) => self.value - baseline,
        }
    }
}

/// Measures both sides in turn, after one round of each that does not count.
pub fn in_turn(
    repetitions: usize,
    progress: &Progress,
    mut measure: impl FnMut(Side) -> Result<f64>,
) -> Result<Vec<Sample>> {
    let ours = |measure: &mut dyn FnMut(Side) -> Result<f64>| cost::of(|| measure(Side::Ours));
    let mut samples = Vec::with_capacity(repetitions);
    for repetition in 0..=repetitions {
        progress.at(repetition, repetitions);
        let ((value, cost), baseline) = if repetition % 2 == 0 {
            let ours = ours(&mut measure)?;
            (ours, measure(Side::Baseline)?)
        } else {
            let baseline = measure(Side::Baseline)?;
            (ours(&mut measure)?, baseline)
        };
        if repetition > 0 {
            samples.push(Sample::new(value, Some(baseline), Some(cost)));
        }
    }
    Ok(samples)
}

/// A repetition that is made of short slots of both sides in turn, and what was seen in each.
pub struct Slots<T> {
    ours: Vec<T>,
    baseline: Vec<T>,
    /// What ours took, all slots together.
    cost: Option<Cost>,
    again: Again,
}

impl<T> Slots<T> {
    /// With one figure of what each side's slots saw.
    pub fn sample(&self, figure: impl Fn(&[T]) -> f64) -> Sample {
        let (value, baseline) = (figure(&self.ours), Some(figure(&self.baseline)));
        Sample { again: self.again, ..Sample::new(value, baseline, self.cost) }
    }
}

/// As [`in_turn`], with each repetition made of short slots of both sides in turn: what a machine does for a second meets both
/// sides of a repetition, and a percentile of delays is made of just such seconds. `measure` gives what one slot saw.
///
/// Where a slot was disturbed, it and the other side's beside it are both measured again, whichever of them it was: neither side is rid of seconds that the
/// other keeps. In one repetition that is done as often as it has slots, and no more.
pub fn in_slots<T>(
    repetitions: usize,
    slots: usize,
    progress: &Progress,
    mut measure: impl FnMut(Side) -> Result<Slot<T>>,
) -> Result<Vec<Slots<T>>> {
    let mut all = Vec::with_capacity(repetitions);
    for repetition in 0..=repetitions {
        progress.at(repetition, repetitions);
        let (mut ours, mut baseline, mut costs, mut again) = (Vec::new(), Vec::new(), Vec::new(), Again::default());
        while ours.len() < slots {
            let order = if ours.len() % 2 == 0 { [Side::Ours, Side::Baseline] } else { [Side::Baseline, Side::Ours] };
            let seen = match pair(order, &mut measure)? {
                Ok(seen) => seen,
                Err((side, why)) => {
                    again.count(side);
                    ensure!(
                        again.all() <= slots,
                        "{} pairs were disturbed, with {} sound: {why}",
                        again.all(),
                        ours.len()
                    );
                    continue;
                }
            };
            for (side, slot, cost) in seen {
                match side {
                    Side::Ours => {
                        ours.push(slot);
                        costs.push(cost);
                    }
                    Side::Baseline => baseline.push(slot),
                }
            }
        }
        if repetition > 0 {
            let cost = costs.into_iter().reduce(|all, slot| all.and(slot));
            all.push(Slots { ours, baseline, cost, again });
        }
    }
    Ok(all)
}

/// What was seen on each side, and what it took; or which was disturbed, and how.
type Pair<T> = std::result::Result<Vec<(Side, T, Cost)>, (Side, String)>;

fn pair<T>(order: [Side; 2], measure: &mut impl FnMut(Side) -> Result<Slot<T>>) -> Result<Pair<T>> {
    let mut seen = Vec::with_capacity(order.len());
    for side in order {
        match cost::of(|| measure(side))? {
            (Slot::Seen(slot), cost) => seen.push((side, slot, cost)),
            (Slot::Disturbed(why), _) => return Ok(Err((side, why))),
        }
    }
    Ok(Ok(seen))
}

/// Measures what has no baseline, after one round that does not count.
pub fn alone(
    repetitions: usize,
    progress: &Progress,
    mut measure: impl FnMut() -> Result<f64>,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::with_capacity(repetitions);
    for repetition in 0..=repetitions {
        progress.at(repetition, repetitions);
        let (value, cost) = cost::of(&mut measure)?;
        if repetition > 0 {
            samples.push(Sample::new(value, None, Some(cost)));
        }
    }
    Ok(samples)
}

/// Whether the target holds; see the module's text.
pub fn holds(samples: &[Sample], compared: Compared, better: Better, target: f64) -> bool {
    let meets = |judged: f64| match better {
        Better::Lower => judged <= target,
        Better::Higher => judged >= target,
    };
    let met = samples.iter().filter(|sample| meets(sample.judged(compared))).count();
    let all = samples.len();
    all > 0 && meets(median(judged(samples, compared))) && met * 3 >= all * 2
}

/// What is judged of each.
pub fn judged(samples: &[Sample], compared: Compared) -> impl Iterator<Item = f64> {
    samples.iter().map(move |sample| sample.judged(compared))
}

/// The middle one, or the mean of the two in the middle; NaN of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The quarter from below and from above: half of all repetitions lie between.
pub fn quartiles(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let sorted = sorted(values);
    (quantile(&sorted, 0.25), quantile(&sorted, 0.75))
}

/// The value below which `share` of all are.
pub fn quantile_of(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    quantile(&sorted(values), share)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// By linear interpolation between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Seconds since `began`.
pub fn seconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn pairs(pairs: &[(f64, f64)]) -> Vec<Sample> {
        pairs.iter().map(|&(value, baseline)| Sample::new(value, Some(baseline), None)).collect()
    }

    /// Guarantees: it is the pairs that are compared. Here the machine slows down threefold in the middle; each pair
    /// is 1.5, and the ratio of medians would not be.
    #[test]
    fn drift_cancels_in_pairs() {
        let drifting = pairs(&[(15.0, 10.0), (15.0, 10.0), (15.0, 30.0 / 3.0), (45.0, 30.0), (45.0, 30.0)]);
        assert_eq!(median(judged(&drifting, Compared::Ratio)), 1.5);
        assert!(holds(&drifting, Compared::Ratio, Better::Lower, 1.6));
        assert!(!holds(&drifting, Compared::Ratio, Better::Lower, 1.4));
        assert!(holds(&drifting, Compared::Ratio, Better::Higher, 1.4));
    }

    /// Guarantees: a median that meets the target is not enough when almost half of the repetitions do not.
    #[test]
    fn luck_does_not_hold() {
        let split = pairs(&[(1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 1.0)]);
        assert_eq!(median(judged(&split, Compared::Ratio)), 1.0);
        assert!(!holds(&split, Compared::Ratio, Better::Lower, 1.5));
        assert!(holds(&split[..4], Compared::Ratio, Better::Lower, 1.5));
        assert!(!holds(&[], Compared::Ratio, Better::Lower, 1.5));
    }

    /// Guarantees: without a baseline the value itself is judged.
    #[test]
    fn value_alone() {
        let samples = [Sample::new(4.0, None, None)];
        assert!(holds(&samples, Compared::Ratio, Better::Lower, 5.0));
        assert!(!holds(&samples, Compared::Ratio, Better::Lower, 3.9));
    }

    /// Guarantees: where differences are asked for, it is those that are judged.
    #[test]
    fn differences() {
        let pairs = pairs(&[(7.0, 1.0), (8.0, 2.0), (9.0, 3.5)]);
        assert_eq!(median(judged(&pairs, Compared::Difference)), 6.0);
        assert!(holds(&pairs, Compared::Difference, Better::Lower, 6.0));
        assert!(!holds(&pairs, Compared::Difference, Better::Lower, 5.9));
    }

    /// Guarantees: where one side is disturbed both are measured again, the disturbed ones are in no figure, and they are told by side; as often as there are
    /// slots, and no more.
    #[test]
    fn disturbed_slots() {
        let quiet = Progress::new("a", 0, 1);
        let slots = |disturbed: &dyn Fn(usize) -> bool| {
            let mut at = 0;
            let one = |side: Side| {
                at += 1;
                if disturbed(at) { Ok(Slot::Disturbed("a burst".into())) } else { Ok(Slot::Seen((side, at))) }
            };
            in_slots(1, 3, &quiet, one)
        };
        // Six that do not count; a pair; the other side and ours, disturbed; both again; ours and the other side, disturbed; both again.
        let seen = slots(&|at| at == 10 || at == 14).unwrap();
        let [Slots { ours, baseline, again, .. }] = &seen[..] else { panic!("one repetition") };
        assert_eq!(*again, Again { ours: 1, baseline: 1 });
        let of = |side| move |at: &usize| (side, *at);
        assert_eq!(*ours, [7, 12, 15].iter().map(of(Side::Ours)).collect::<Vec<_>>());
        assert_eq!(*baseline, [8, 11, 16].iter().map(of(Side::Baseline)).collect::<Vec<_>>());
        let endless = slots(&|_| true).err().unwrap().to_string();
        assert!(endless.contains("4 pairs") && endless.contains("a burst"), "{endless}");
    }

    /// Guarantees: quartiles as the textbook has them for a small list.
    #[test]
    fn quartiles_of_five() {
        assert_eq!(quartiles([5.0, 1.0, 4.0, 2.0, 3.0].into_iter()), (2.0, 4.0));
    }
}
