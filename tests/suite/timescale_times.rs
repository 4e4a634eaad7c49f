//! Points whose times are far from now, in a real TimescaleDB.

use tidegate_tests::{Kafka, Mosquitto, Protocol, Publisher, Qos, Setup, Timescale};

use crate::timescale::{DAY_MS, now_ms, number, seconds, wait_rows};

/// Guarantees: points of a hundred days more than a year to come make no chunk: each is a dead letter that says why; the others of the same write are stored, of days to
/// come too. Points that are older than a sink was told to believe are dead letters as well.
#[test]
fn clocks_that_are_wrong() {
    let (Some(broker), Some(database)) = (Mosquitto::start(), Timescale::start()) else { return };
    let host = Setup::new()
        .mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "")
        .toml(&format!(
            "[sinks.timescale.db]\nurl = \"{}\"\nconnections = 1\nbehind_days = 30\nspool = {{ enabled = false }}",
            database.url()
        ))
        .module("json-reading")
        .start();
    let now = now_ms();
    let mut publisher = Publisher::connect(&broker, Qos::One);
    publisher.deliver(seconds(now, 10));
    publisher.deliver((368..468).flat_map(|days| seconds(now + days * DAY_MS, 1)));
    publisher.deliver(seconds(now + 5 * DAY_MS, 1));
    publisher.deliver(seconds(now - 40 * DAY_MS, 5));
    publisher.deliver(seconds(now - 20 * DAY_MS, 5));
    host.wait_settled(120).assert_balanced("wrong clocks");
    wait_rows(&database, &host, 16);
    let letters = host.dead_letters();
    let of = |setting: &str| letters.iter().filter(|letter| letter.reason.contains(setting)).count();
    assert_eq!((letters.len(), of("`ahead_hours`"), of("`behind_days`")), (105, 100, 5), "{letters:?}");
    // The ten may be of two days, and so may the five; and one is of a day to come.
    let chunks =
        number(&database, "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'metrics'");
    assert!((3..=5).contains(&chunks), "{chunks} chunks");
}

/// Guarantees: with `exactly_once` and `dedupe` late rows are stored, and repeats among them are told, however few compressed rows the database lets a statement unpack.
#[test]
fn late_rows_beyond_what_may_be_unpacked() {
    let Some(database) = Timescale::start() else { return };
    let mut kafka = Kafka::start("fleet", 1);
    let limit = "timescaledb.max_tuples_decompressed_per_dml_transaction";
    // For the sessions to come; and, by the bridge, for the one that there is.
    let name = database.query("SELECT current_database()").unwrap().remove(0).remove(0);
    database.execute(&format!("ALTER DATABASE {name} SET {limit} = 10"));
    let host = Setup::new()
        .kafka(&kafka, "fleet")
        .toml(&format!(
            "[sinks.timescale.db]\nurl = \"{}\"\nconnections = 1\ndedupe = true\nexactly_once = \"kafka\"\n",
            database.url()
        ))
        .module("json-reading")
        .start();
    let noon = now_ms() / DAY_MS * DAY_MS - 20 * DAY_MS + DAY_MS / 2;
    kafka.deliver(seconds(noon, 600));
    wait_rows(&database, &host, 600);
    database.rest_jobs();
    database.run_job("policy_compression", "metrics");
    database.execute(&format!("SET {limit} = 10"));
    // Not every version unpacks for repeats, and so asks for the limit: it is looked at as the transaction has it.
    database.execute("CREATE TABLE noted (most text)");
    database.execute(&format!(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted VALUES (current_setting('{limit}')); RETURN NEW; END $$"
    ));
    database.execute(
        "CREATE TRIGGER noting AFTER INSERT OR UPDATE ON source_positions FOR EACH ROW EXECUTE FUNCTION note()",
    );

    // A third of them is there.
    kafka.deliver(seconds(noon + 400_000, 600));
    wait_rows(&database, &host, 1_000);
    let status = host.wait_settled(1_200);
    status.assert_balanced("late rows");
    assert_eq!((status.sinks[0].repeats, status.sinks[0].late), (200, 1_200), "{status:?}");
    assert!(host.dead_letters().is_empty(), "{:?}", host.dead_letters());
    assert_eq!(database.query("SELECT DISTINCT most FROM noted").unwrap(), [["0"]]);
    assert_eq!(number(&database, "SELECT sum(next_offset)::bigint FROM source_positions"), 1_200);
}
