//! What is seen while benches run, and what is left when they have: a table, and a file of results.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cost::Cost;
use crate::measure::{self, Better, Compared, Sample};

/// The checked-in targets: `target` by the name of the bench.
const TARGETS: &str = include_str!("../targets.toml");

/// Of the table.
const WIDTH: usize = 134;

/// Tells on standard error how far one bench is.
#[derive(Debug)]
pub struct Progress {
    name: String,
    place: String,
    shown: Cell<bool>,
}

impl Progress {
    /// For bench `index` (from 0) of `of`.
    pub fn new(name: &str, index: usize, of: usize) -> Self {
        let progress =
            Self { name: name.to_owned(), place: format!("[{}/{of}]", index + 1), shown: Cell::new(false) };
        progress.say("getting ready");
        progress
    }

    /// Repetition `repetition` begins; 0 is the one that does not count.
    pub fn at(&self, repetition: usize, of: usize) {
        if repetition == 0 {
            self.say("warming up");
        } else {
            self.say(&format!("repetition {repetition} of {of}"));
        }
    }

    fn say(&self, what: &str) {
        let mut to = std::io::stderr();
        // Nobody is there to be told when standard error is closed.
        if to.is_terminal() {
            let _ = write!(to, "\r\x1b[K{} {} · {what}", self.place, self.name);
            let _ = to.flush();
        } else if !self.shown.replace(true) {
            let _ = writeln!(to, "{} {}", self.place, self.name);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut to = std::io::stderr();
        if to.is_terminal() {
            let _ = write!(to, "\r\x1b[K");
            let _ = to.flush();
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Targets {
    targets: BTreeMap<String, f64>,
}

/// The targets; `known` are the names that a target may have.
pub fn targets<'a>(known: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, f64>> {
    let Targets { targets } = toml::from_str(TARGETS).context("tests/bench/targets.toml")?;
    let known: Vec<&str> = known.collect();
    if let Some(stray) = targets.keys().find(|name| !known.contains(&name.as_str())) {
        bail!("tests/bench/targets.toml has a target for {stray:?}, and there is no such bench; there are {known:?}");
    }
    Ok(targets)
}

/// One line of `results.json`.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The bench.
    pub name: String,
    /// Median of ours.
    pub value: f64,
    /// Of value and baseline.
    pub unit: &'static str,
    /// Median of what it is compared with.
    pub baseline: Option<f64>,
    /// Median of the pairs' ratios, value by baseline.
    pub ratio: Option<f64>,
    /// Median of the pairs' differences, value less baseline, where it is those that are judged.
    pub difference: Option<f64>,
    /// For the difference where there is one, else for the ratio, else for the value.
    pub target: Option<f64>,
    /// Which way is good.
    pub better: Better,
    /// See [`measure::holds`]; nothing without a target.
    pub holds: Option<bool>,
    /// Median of the CPU seconds that a repetition of ours took, in this process.
    pub cpu_s: Option<f64>,
    /// Median of the resident memory at its end: MiB.
    pub rss_mib: Option<f64>,
    /// The raw repetitions, in the order they were made.
    pub samples: Vec<Sample>,
}

impl Outcome {
    /// From the repetitions.
    pub fn new(
        name: &str,
        unit: &'static str,
        (better, compared): (Better, Compared),
        target: Option<f64>,
        samples: Vec<Sample>,
    ) -> Self {
        let paired = samples.iter().all(|sample| sample.baseline.is_some());
        let of_pairs = |compared| measure::median(measure::judged(&samples, compared));
        Self {
            name: name.to_owned(),
            value: measure::median(samples.iter().map(|sample| sample.value)),
            unit,
            baseline: paired.then(|| measure::median(samples.iter().filter_map(|sample| sample.baseline))),
            ratio: paired.then(|| of_pairs(Compared::Ratio)),
            difference: (paired && compared == Compared::Difference).then(|| of_pairs(Compared::Difference)),
            target,
            better,
            cpu_s: of_costs(&samples, |cost| cost.cpu_s),
            rss_mib: of_costs(&samples, |cost| cost.rss_mib),
            holds: target.map(|target| measure::holds(&samples, compared, better, target)),
            samples,
        }
    }

    /// Half the distance between the quartiles of what is judged, in percent of its median.
    fn spread_percent(&self) -> f64 {
        let compared = if self.difference.is_some() { Compared::Difference } else { Compared::Ratio };
        let (low, high) = measure::quartiles(measure::judged(&self.samples, compared));
        let middle = self.difference.or(self.ratio).unwrap_or(self.value).abs();
        (high - low) / 2.0 / middle * 100.0
    }
}

/// The median of what repetitions took, where that is known.
fn of_costs(samples: &[Sample], what: impl Fn(&Cost) -> f64) -> Option<f64> {
    let costs: Vec<f64> = samples.iter().filter_map(|sample| sample.cost.as_ref().map(&what)).collect();
    (!costs.is_empty()).then(|| measure::median(costs.into_iter()))
}

/// The first lines of the table.
pub fn print_header() {
    println!(
        "{:<38} {:>11} {:>11}  {:<12} {:>7} {:>7} {:>4}  {:>7} {:>7}  {:>8}  holds",
        "bench", "value", "baseline", "unit", "ratio", "spread", "n", "CPU s", "MiB", "target"
    );
    println!("{}", "─".repeat(WIDTH));
}

/// A line of the table.
pub fn print_row(outcome: &Outcome) {
    let some = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), short);
    let sign = match outcome.better {
        Better::Lower => '≤',
        Better::Higher => '≥',
    };
    let target = outcome.target.map_or_else(|| "–".to_owned(), |target| format!("{sign} {}", short(target)));
    let holds = match outcome.holds {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    println!(
        "{:<38} {:>11} {:>11}  {:<12} {:>7} {:>7} {:>4}  {:>7} {:>7}  {:>8}  {holds}",
        outcome.name,
        short(outcome.value),
        some(outcome.baseline),
        outcome.unit,
        outcome.difference.map_or_else(|| some(outcome.ratio), signed),
        format!("±{:.1} %", outcome.spread_percent()),
        outcome.samples.len(),
        some(outcome.cpu_s),
        some(outcome.rss_mib),
        target,
    );
    again(&outcome.samples).into_iter().for_each(|told| println!("{told}"));
}

/// How often slots were measured again, if that was done.
fn again(samples: &[Sample]) -> Option<String> {
    let of = |side: fn(&Sample) -> usize| samples.iter().map(side).sum::<usize>();
    let (ours, baseline) = (of(|sample| sample.again.ours), of(|sample| sample.again.baseline));
    let again = ours + baseline;
    (again > 0).then(|| {
        format!(
            "  {again} pairs of slots were disturbed and measured again: {ours} in ours, {baseline} in the baseline"
        )
    })
}

/// The last lines of the table.
pub fn print_footer(file: &str, outcomes: &[Outcome]) {
    let judged = outcomes.iter().filter_map(|outcome| outcome.holds);
    let (all, held) = judged.fold((0, 0), |(all, held), holds| (all + 1, held + usize::from(holds)));
    println!("{}", "─".repeat(WIDTH));
    println!(
        "{held} of {all} targets hold. Value and baseline are medians, the ratio is the median of the pairs' ratios (with a sign: of their\n\
         differences), its spread half the distance of the quartiles; a target is for it where there is one. CPU seconds and resident memory are\n\
         medians of what a repetition of ours takes, in this process: feeders, brokers and databases are others. All samples: {file}"
    );
}

/// The same, with its sign: so a difference is told from a ratio.
fn signed(number: f64) -> String {
    format!("{}{}", if number < 0.0 { "" } else { "+" }, short(number))
}

/// Three to four digits that count.
fn short(number: f64) -> String {
    let size = number.abs();
    if size >= 1_000.0 {
        format!("{number:.0}")
    } else if size >= 100.0 {
        format!("{number:.1}")
    } else if size >= 0.1 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    }
}

/// Writes the results as JSON, whole or not at all.
pub fn write(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_string_pretty(outcomes)? + "\n")
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::measure::Again;

    /// Guarantees: the file has exactly the fields it is read by, and a bench without target or baseline has nulls there.
    #[test]
    fn fields_of_results() {
        let sample = Sample::new(3.0, None, Some(Cost { cpu_s: 0.5, rss_mib: 8.0 }));
        let outcome = Outcome::new("a", "ns", (Better::Lower, Compared::Ratio), None, vec![sample]);
        assert_eq!(
            serde_json::to_value(outcome).unwrap(),
            serde_json::json!({
                "name": "a", "value": 3.0, "unit": "ns", "baseline": null, "ratio": null, "difference": null, "target": null,
                "better": "lower", "holds": null, "cpu_s": 0.5, "rss_mib": 8.0,
                "samples": [{ "value": 3.0, "cpu_s": 0.5, "rss_mib": 8.0 }],
            })
        );
    }

    /// Guarantees: slots that were measured again stand below the figure and with their repetition, by side; where there were none, nothing does.
    #[test]
    fn measured_again() {
        let sound = Sample::new(1.0, Some(1.0), None);
        let disturbed = |ours, baseline| Sample { again: Again { ours, baseline }, ..sound };
        let all = [sound, disturbed(2, 0), disturbed(1, 4)];
        let told = "  7 pairs of slots were disturbed and measured again: 3 in ours, 4 in the baseline";
        assert_eq!((again(&all).as_deref(), again(&[sound])), (Some(told), None));
        let written = serde_json::to_value(all).unwrap();
        assert_eq!((&written[0]["again"], &written[2]["again"]["baseline"]), (&json!(null), &json!(4)));
    }

    /// Guarantees: a target for a bench that is not there is refused, so that a renamed bench cannot lose its target unseen.
    #[test]
    fn stray_targets_are_refused() {
        assert!(targets(std::iter::empty()).unwrap_err().to_string().contains("no such bench"));
    }
}
