//! A change on many hosts: on all at once, or on one after another and no further than to the first on which it does not go well.
//!
//! A rolling change says of each host what became of it: changed and well; changed and not well, which ends it; or not changed. Nothing is taken back: what
//! went wrong on the last host can be looked at there, and `tidegate rules rollback` undoes it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Client, Nodes, Refusal, Said, Table, field};

/// How often a host is looked at while it is watched.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// In which order hosts are changed.
#[derive(Clone, Debug, clap::Args)]
pub struct Rollout {
    /// One host after another, as they are named, each once the one before serves well; the first that does not is the last to be changed.
    #[arg(long)]
    rolling: bool,
    /// How long a rule must have served without a fault on a host before the next host is changed.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::cli::time::length, requires = "rolling")]
    soak: Duration,
}

impl Rollout {
    /// Has hosts make a change, and shows what they say. `look` gives the rules that were changed, as they are, with what the change's answer was.
    ///
    /// # Errors
    /// The hosts cannot be asked at all, or what they say cannot be printed.
    pub fn change<C, L>(&self, nodes: &Nodes, show: &Table, change: C, look: L) -> anyhow::Result<ExitCode>
    where
        C: Fn(&Client) -> Result<Value, Refusal> + Sync,
        L: Fn(&Client, &Value) -> Result<Vec<Value>, Refusal>,
    {
        if !self.rolling {
            return nodes.ask(show, change);
        }
        let mut all: Vec<Said> = Vec::new();
        let mut stopped: Option<String> = None;
        for client in nodes.clients()? {
            let node = client.node().to_owned();
            let answer = match &stopped {
                Some(at) => {
                    Err(Refusal::new("not_changed", &format!("not changed, since it did not go well on {at}")))
                }
                None => change(&client).and_then(|answer| {
                    self.watch(|| look(&client, &answer))
                        .map(|()| answer)
                        .map_err(|why| Refusal::new("not_well", &format!("changed, and not well since: {why}")))
                }),
            };
            match (&stopped, &answer) {
                (None, Ok(_)) => {
                    eprintln!("tidegate: {node}: changed, and well for {}", humantime::format_duration(self.soak))
                }
                (None, Err(_)) => stopped = Some(node.clone()),
                (Some(_), _) => {}
            }
            all.push(Said { node, answer });
        }
        nodes.show(std::slice::from_ref(show), &all).map(|(code, _)| code)
    }

    /// Looks at rules until they have been well for long enough, or are not.
    fn watch(&self, look: impl Fn() -> Result<Vec<Value>, Refusal>) -> Result<(), String> {
        let look = || look().map_err(|refusal| refusal.to_string());
        let (first, until) = (look()?, Instant::now() + self.soak);
        let mut now = first.clone();
        loop {
            now.iter().try_for_each(|rule| well(&first, rule))?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
            now = look()?;
        }
    }
}

/// Whether a rule does what it is to do, and is still the one that it was after the change.
fn well(first: &[Value], rule: &Value) -> Result<(), String> {
    let name = field(rule, "/name");
    let state = field(rule, "/state");
    if let Some(problem) = rule["problem"].as_str() {
        return Err(format!("rule {name} is {state}: {problem}"));
    }
    if !matches!(state.as_str(), "serving" | "disabled") {
        return Err(format!("rule {name} is {state}"));
    }
    let Some(before) = first.iter().find(|it| it["name"] == rule["name"]) else { return Ok(()) };
    if rule["generation"] != before["generation"] || rule["state"] != before["state"] {
        return Err(format!("rule {name} has been changed by somebody else, or by its quarantine"));
    }
    let failed = faults(rule).saturating_sub(faults(before));
    if failed > 0 {
        return Err(format!("rule {name} has failed {failed} times since"));
    }
    Ok(())
}

fn faults(rule: &Value) -> u64 {
    rule["stats"]["faults"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: a rule that has a problem, has gone back to another generation, or fails, is not well; one that goes on is, and so is one that was switched
    /// off, or that failed before.
    #[test]
    fn what_is_well() {
        let rule = |state: &str, generation: u64, traps: u64| json!({"name": "hot", "state": state, "generation": generation, "stats": {"faults": {"trap": traps}}});
        let first = [rule("serving", 4, 2)];
        assert!(well(&first, &rule("serving", 4, 2)).is_ok());
        assert!(well(&[rule("disabled", 4, 0)], &rule("disabled", 4, 0)).is_ok());
        for other in [rule("serving", 3, 2), rule("serving", 4, 3), rule("quarantined", 4, 2), rule("disabled", 4, 2)]
        {
            assert!(well(&first, &other).is_err(), "{other}");
        }
        let mut wrong = rule("serving", 4, 2);
        wrong["problem"] = "its newest file cannot be read".into();
        assert!(well(&[wrong.clone()], &wrong).is_err());
    }
}
