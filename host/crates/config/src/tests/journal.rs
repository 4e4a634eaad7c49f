//! `journal = true`: what goes with it and what does not.

use super::mistakes::check;
use super::{SOURCE, good};
use crate::{Journal, Name, SourceSettings};

const KAFKA: &str = "[sources.kafka.fleet]\nbrokers = \"b:9092\"\ngroup = \"g\"\ntopics = [\"t\"]\n";
const EXACT: &str = "[sinks.timescale.db]\nurl = \"postgres://u@h/d\"\nexactly_once = \"kafka\"\n";

/// Guarantees: it is off unless it is asked for, source by source; where it is of no use, or not for this host alone to keep, that is a warning.
#[test]
fn accepted() {
    let journals = |text: &str| {
        let config = good(text);
        let name = |text: &str| -> Name { text.parse().unwrap() };
        let mqtt = matches!(&config.sources[&name("plant")], SourceSettings::Mqtt(s) if s.journal == Journal::On);
        let kafka = matches!(&config.sources[&name("fleet")], SourceSettings::Kafka(s) if s.journal == Journal::On);
        (mqtt, kafka, config.warnings.len())
    };
    assert_eq!(journals(&format!("{SOURCE}{KAFKA}")), (false, false, 0));
    assert_eq!(journals(&format!("{SOURCE}journal = true\n{KAFKA}journal = false\n")), (true, false, 0));
    assert_eq!(journals(&format!("{SOURCE}{KAFKA}journal = true\n")), (false, true, 0));
    assert_eq!(journals(&format!("{SOURCE}journal = true\nqos = 0\nshare = \"g\"\n{KAFKA}")), (true, false, 2));
}

/// Guarantees: what would break the promise is refused, with the reason.
#[test]
fn refused() {
    check(
        &format!("{KAFKA}journal = true\n{EXACT}"),
        "t.toml:5:11: a database with `exactly_once` may give back what it had stored, and rules would have had that already; remove `journal`, or `exactly_once`",
    );
    good(&format!("{KAFKA}lane_by = \"partition\"\njournal = true\n"));
    for by in ["[0]", "\"key\""] {
        check(
            &format!("{KAFKA}lane_by = {by}\njournal = true\n"),
            "t.toml:5:11: with journal each Kafka partition keeps to one lane, so `lane_by` cannot choose; remove it, or write \"partition\"; records of one key are of one partition",
        );
    }
}
