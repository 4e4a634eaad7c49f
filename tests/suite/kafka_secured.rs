//! Kafka over TLS with SCRAM, and topics by pattern, at Apache Kafka: what works with the right settings, and what is said with wrong ones.

use tidegate_tests::{DEADLINE, KAFKA_USER, Kafka, Setup, readings, wait_for};

/// No secret, and told by its own name where it appears.
const WRONG: &str = "a-wrong-pass%word";

/// A `client` table for the secured listener.
fn client(kafka: &Kafka, password: &str, authority: &str, lines: &str) -> String {
    let (user, _) = KAFKA_USER;
    format!(
        "client = {{ \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanism\" = \"SCRAM-SHA-512\", \"sasl.username\" = \"{user}\", \
         \"sasl.password\" = {{ file = \"{password}\" }}, \"ssl.ca.location\" = \"{}\"{lines} }}\n",
        kafka.file(authority).display()
    )
}

/// Guarantees: with the right password and authority a source and a sink work over TLS with SCRAM; a source whose topics are a pattern reads one that is made
/// while it runs. A wrong password and an authority that has not signed the brokers' certificate are told as what they are, with what to do, for sources and
/// sinks, and no secret is told by anything.
#[test]
fn tls_scram_and_topics_by_pattern() {
    let Some(mut kafka) = Kafka::apache_secured("fleet-1", 1) else { return };
    kafka.add_topic("points");
    let brokers = kafka.secured();
    let source = |name: &str, topic: &str, client: String| {
        format!(
            "[sources.kafka.{name}]\nbrokers = \"{brokers}\"\ngroup = \"{name}\"\ntopics = [\"{topic}\"]\ntopic_from = \"key\"\n{client}"
        )
    };
    let sink = |name: &str, client: String| {
        format!("[sinks.kafka.{name}]\nbrokers = \"{brokers}\"\npoints = \"points\"\n{client}")
    };
    let soon = ", \"topic.metadata.refresh.interval.ms\" = 500";
    let shortly = ", \"message.timeout.ms\" = 3000";
    let sections = [
        source("good", "^fleet-.*", client(&kafka, "password", "ca.pem", soon)),
        source("stranger", "fleet-1", client(&kafka, "wrong", "ca.pem", "")),
        source("distrustful", "fleet-1", client(&kafka, "password", "other.pem", "")),
        sink("good-out", client(&kafka, "password", "ca.pem", "")),
        sink("stranger-out", client(&kafka, "wrong", "ca.pem", shortly)),
        sink("distrustful-out", client(&kafka, "password", "other.pem", shortly)),
    ];
    let setup = Setup::new().module("json-reading").toml(&sections.concat());
    for (file, password) in [("password", KAFKA_USER.1), ("wrong", WRONG)] {
        std::fs::write(setup.path().join(file), password).unwrap();
    }
    kafka.deliver(readings(0..100, 10));
    let host = setup.launch();
    let points = |count: i64| {
        wait_for(&format!("{count} points"), DEADLINE, || match kafka.end_of("points") {
            found if found >= count => Ok(()),
            found => Err(format!("{found} points; {}", host.tail())),
        });
    };
    points(100);
    for (name, words) in [("stranger", "check the SASL settings"), ("distrustful", "check the TLS settings")] {
        host.wait_status(&format!("{name} to say what is wrong"), |status| {
            let source = status.sources.iter().find(|source| source.name == name)?;
            source.down.as_ref().is_some_and(|why| why.contains(words) && why.contains(&brokers)).then_some(())
        });
        host.wait_status(&format!("{name}-out to say what is wrong"), |status| {
            let sink = status.sinks.iter().find(|sink| sink.name == format!("{name}-out"))?;
            sink.down.as_ref().is_some_and(|why| why.contains(words) && why.contains(&brokers)).then_some(())
        });
    }
    host.wait_status("the source that may to be up", |status| {
        status.sources.iter().find(|source| source.name == "good")?.up.then_some(())
    });

    kafka.add_topic("fleet-2");
    kafka.deliver_to("fleet-2", readings(100..150, 10));
    wait_for("the points of the new topic", DEADLINE, || match kafka.end_of("points") {
        150.. => Ok(()),
        found => Err(format!("{found} points; {}", host.tail())),
    });
    let told = host.log() + &host.get("/api/v1/status").body + &host.get("/metrics").body;
    for secret in [KAFKA_USER.1, WRONG] {
        assert!(!told.contains(secret), "a secret was told: {told}");
    }
}
