//! What the registry knows of one rule.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use tidegate_config::RuleFile;

use crate::load_error::LoadError;
use crate::module::hex;
use crate::registry::scan::Wanted;
use crate::registry::status::{Entry, PENDING, QUARANTINED, RuleState, RuleStatus, STILL_CALLED};
use crate::rule::Rule;
use crate::stats::{RuleStats, RuleTotals};

/// How often it is tried again by itself to compile a module for which the machine had too little.
const MOST_TRIES: u32 = 5;
/// The least pause before that: afterwards it is three times as long each time.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// What is known of one rule.
pub(super) struct Known {
    pub wanted: Wanted,
    /// What its files said when what they say last served.
    pub served: Wanted,
    pub serving: Option<Arc<Rule>>,
    /// The generation before it, if that was never quarantined: it returns when the one that serves is.
    pub before: Option<Arc<Rule>>,
    pub stats: Arc<RuleStats>,
    pub problem: Option<Problem>,
    /// Its files want it gone, and it is called still.
    pub held: Option<Problem>,
    /// The last attempt failed for something that passes by itself.
    pub again: bool,
    /// The machine had too little for the last attempt, and then it is tried again.
    pub later: Option<Instant>,
    /// How often that has been so of these files.
    pub tries: u32,
    /// The number of a generation that the lanes were too busy to take, for the next try.
    pub number: Option<u64>,
    /// Its files cannot serve, and the lanes were too busy to take what is kept on disk.
    pub unrevived: bool,
    /// It is not the first time since the host started that its files are looked at.
    pub met: bool,
    /// What serves is one that returned, or nothing could: it is not gone back further by itself.
    pub returned: bool,
    /// What serves stands in for the generation of these files, which was quarantined.
    pub stands_in: Option<StandsIn>,
}

/// For what a generation that returned stands in.
pub(super) struct StandsIn {
    /// The files of the quarantined one.
    pub wanted: Wanted,
    /// What is said of the rule as long as they are its files.
    pub problem: Problem,
}

/// What is wrong with a rule.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub code: &'static str,
    pub text: String,
}

impl Known {
    pub fn new(stats: Arc<RuleStats>) -> Self {
        Self {
            wanted: Wanted::default(),
            served: Wanted::default(),
            serving: None,
            before: None,
            stats,
            problem: None,
            held: None,
            again: false,
            later: None,
            tries: 0,
            number: None,
            unrevived: false,
            met: false,
            returned: false,
            stands_in: None,
        }
    }

    /// It is new, and its module has to be compiled first.
    pub fn pending(stats: Arc<RuleStats>, wanted: Wanted) -> Self {
        let text = "its module is being compiled, or waits for that".to_owned();
        let problem = Some(Problem { code: PENDING, text });
        Self { wanted, problem, again: true, ..Self::new(stats) }
    }

    /// Whether its files are to be looked at, though they have not changed.
    pub fn is_due(&self) -> bool {
        self.again || self.later.is_some_and(|later| later <= Instant::now())
    }

    /// What its files say is looked at.
    pub fn begins(&mut self, wanted: Wanted) {
        if self.wanted != wanted {
            self.tries = 0;
        }
        self.wanted = wanted;
        self.again = false;
        self.later = None;
    }

    /// Whether it is to be tried again without a sign: its newest files, or the generation before one that is quarantined.
    pub fn is_unfinished(&self) -> bool {
        let waits = |rule: &Arc<Rule>| self.before.is_some() && rule.stats.is_quarantined(rule.generation);
        self.again || self.later.is_some() || self.held.is_some() || self.serving.as_ref().is_some_and(waits)
    }

    /// The host has just been started, and what is kept on disk could not be asked to go on yet: what stood in for its files' generation when it ended, or
    /// what served last, where its files cannot.
    pub fn waits_to_return(&self) -> bool {
        let quarantined = self.problem.as_ref().is_some_and(|problem| problem.code == QUARANTINED);
        !self.met && self.again && self.serving.is_none() && (quarantined || self.unrevived)
    }

    /// The number that its last try left, if that is newer than what serves and nothing is known against it.
    pub fn left_number(&mut self) -> Option<u64> {
        let serving = self.serving.as_ref().map_or(0, |rule| rule.generation);
        self.number.take().filter(|&number| number > serving && !self.stats.is_quarantined(number))
    }

    /// As it is shown.
    pub fn entry(&self, name: &str) -> Entry {
        let description = self.serving.as_ref().map(|rule| rule.module.description());
        let file = self.wanted.file.as_ref().ok();
        let state = match (&self.serving, file.map(|file| file.enabled)) {
            (Some(_), _) => RuleState::Serving,
            (None, Some(false)) => RuleState::Disabled,
            (None, _) if self.problem.as_ref().is_some_and(|problem| problem.code == PENDING) => RuleState::Pending,
            (None, _) => RuleState::Failed,
        };
        let topics = match &self.serving {
            Some(rule) => rule.filters.iter().map(ToString::to_string).collect(),
            None => file.and_then(|f| f.topics.as_ref()).into_iter().flatten().map(ToString::to_string).collect(),
        };
        let problem = self.held.as_ref().or(self.problem.as_ref());
        let sha256 = self.serving.as_ref().map(|rule| rule.module.sha256().to_string());
        let status = RuleStatus {
            name: name.to_owned(),
            state,
            problem: problem.map(|problem| problem.text.clone()),
            problem_code: problem.map(|problem| problem.code),
            module: self.wanted.module.clone(),
            etag: etag(file, sha256.as_deref()),
            sha256,
            kind: self.serving.as_ref().map(|rule| rule.kind().as_str()),
            version: description.map(|d| d.version.clone()),
            summary: description.map(|d| d.summary.clone()),
            signature_expires_ms: self.serving.as_ref().and_then(|rule| unix_ms(rule.signature_expires?)),
            topics,
            order: self.serving.as_ref().map(|rule| rule.order).or(file.map(|file| file.order)).unwrap_or(0),
            generation: self.serving.as_ref().map_or(0, |rule| rule.generation),
            stats: RuleTotals::default(),
        };
        let (file, digest) = (self.wanted.file.as_ref().ok().cloned(), self.wanted.digest.as_ref().ok().cloned());
        Entry { status, file, digest, stats: self.stats.clone(), serving: self.serving.clone() }
    }

    /// Its newest files cannot serve.
    pub fn failed(&mut self, name: &str, error: &LoadError) {
        let (code, mut text) = (error.code(), error.to_string());
        if let Some(short) = error.machine_was_short() {
            text += &self.try_later(short);
        }
        let old = if self.serving.is_some() { "; the generation before it goes on serving" } else { "" };
        // What is tried again every other second is said once.
        if self.problem.as_ref().is_none_or(|problem| problem.text != text) {
            tracing::error!(rule = name, reason = code, "the rule was refused: {text}{old}");
        }
        self.stats.refused(code);
        self.problem = Some(Problem { code, text });
        self.again = matches!(error, LoadError::Busy(_)) || self.unrevived;
    }

    /// The machine has been too short for so long: what is said of when it is tried again. Who looks rules over has no time for others meanwhile, so
    /// that is not without end.
    fn try_later(&mut self, short: Duration) -> String {
        if self.tries == MOST_TRIES {
            return format!("; it was tried {MOST_TRIES} times more, and now waits for `retry`");
        }
        let pause = short.max(LEAST_PAUSE) * 3_u32.pow(self.tries);
        self.tries += 1;
        self.later = Some(Instant::now() + pause);
        format!("; it is tried again in {} s", pause.as_secs())
    }

    /// `rule` serves in the place of a quarantined generation, as `text` says.
    pub fn returns(&mut self, rule: Arc<Rule>, text: String) {
        self.serves(rule);
        self.before = None;
        self.returned = true;
        let problem = Problem { code: QUARANTINED, text };
        self.stands_in = Some(StandsIn { wanted: self.served.clone(), problem: problem.clone() });
        self.problem = Some(problem);
    }

    /// Whether its files are those again for whose quarantined generation another stands in, after others that could not serve. Then that goes on:
    /// a change that was refused is no reason to try the quarantined one again.
    pub fn stays_returned(&mut self, wanted: &Wanted) -> bool {
        let Some(stands_in) = self.stands_in.as_ref().filter(|it| it.wanted == *wanted && self.wanted != *wanted)
        else {
            return false;
        };
        self.problem = Some(stands_in.problem.clone());
        self.begins(wanted.clone());
        true
    }

    /// It was to be called no more, for `why`, and is called still.
    pub fn stays(&mut self, name: &str, why: &str, error: &LoadError) {
        let text = format!("{why}, and is called still: {error}");
        if self.held.is_none() {
            tracing::warn!(rule = name, "{text}");
        }
        self.held = Some(Problem { code: STILL_CALLED, text });
    }

    /// `rule` serves from now on.
    pub fn serves(&mut self, rule: Arc<Rule>) {
        tracing::info!(
            rule = &*rule.name,
            generation = rule.generation,
            kind = rule.kind().as_str(),
            sha256 = &**rule.module.sha256(),
            "rule serves"
        );
        self.problem = None;
        self.tries = 0;
        self.serving = Some(rule);
    }
}

/// Milliseconds since 1970.
fn unix_ms(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis().try_into().ok()
}

/// Of a rule's file and of the module that serves. Worked out when it is shown anew, and not by everybody who looks.
fn etag(file: Option<&RuleFile>, sha256: Option<&str>) -> String {
    let mut all = Sha256::new();
    // Compact, with sorted keys: the same for the same file.
    all.update(serde_json::to_vec(&file).unwrap_or_default());
    all.update([0]);
    all.update(sha256.unwrap_or_default());
    format!("\"{}\"", hex(&all.finalize()[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_error::Told;

    /// Guarantees: what the machine had too little for is tried again after ever longer pauses, and not without end, until its files are others; what is wrong with
    /// the module itself is not.
    #[test]
    fn tried_again_by_itself() {
        let limit = Duration::from_secs(20);
        let mut known = Known::new(Arc::default());
        let mut fails = |told| {
            let wanted = known.wanted.clone();
            known.begins(wanted);
            known.failed("a", &LoadError::CompileTime { limit, told });
            let problem = known.problem.clone().map_or(String::new(), |problem| problem.text);
            (problem.rsplit_once("; it ").map_or(String::new(), |(_, again)| again.to_owned()), known.is_unfinished())
        };
        assert_eq!(fails(Told::ByItsLimit), (String::new(), false));
        for pause in [20, 60, 180, 540, 1_620] {
            assert_eq!(fails(Told::ByTheMachine), (format!("is tried again in {pause} s"), true));
        }
        assert_eq!(
            fails(Told::ByTheMachine),
            ("was tried 5 times more, and now waits for `retry`".to_owned(), false)
        );
        known.begins(Wanted { module: "b".to_owned(), ..Wanted::default() });
        known.failed("a", &LoadError::CompileTime { limit, told: Told::ByTheMachine });
        assert!(known.is_unfinished() && !known.is_due());
    }
}
