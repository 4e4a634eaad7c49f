//! What is said of what is wrong: golden texts, since they are what a user gets to see.

use super::{FakeEnv, SOURCE, mistakes_in, parse_in};

#[track_caller]
pub(super) fn check(text: &str, expected: &str) {
    check_in(text, &FakeEnv::new(), expected);
}

#[track_caller]
fn check_in(text: &str, env: &FakeEnv, expected: &str) {
    assert_eq!(mistakes_in(text, env), expected.trim_start().trim_end(), "in\n{text}");
}

/// Like [`check`], for lines that go below the url and topics of an MQTT source; they begin at line 4.
#[track_caller]
fn check_source(lines: &str, expected: &str) {
    check(&format!("{SOURCE}{lines}"), expected);
}

/// Guarantees: a misspelled key is named with its place and the nearest right one, at every depth.
#[test]
fn misspelled_keys() {
    check_source(
        "brokrs = 1",
        "t.toml:4:1: unknown key `brokrs` in [sources.mqtt.plant]; known here: `url`, `version`, `client_id`, `topics`, `qos`, `share`, `share_by`, `connections`, `username`, `password_file`, `password_env`, `keep_alive_s`, `receive_maximum`, `session_expiry_s`, `stale_after_s`, `journal`, `limit`, `max_packet_bytes`, `ca_file`, `cert_file`, `key_file`",
    );
    check_source(
        "clientid = \"x\"",
        "t.toml:4:1: unknown key `clientid` in [sources.mqtt.plant]; did you mean `client_id`?",
    );
    check_source(
        "keep_alive = 5",
        "t.toml:4:1: unknown key `keep_alive` in [sources.mqtt.plant]; did you mean `keep_alive_s`?",
    );
    check(
        "[sources.kafka.fleet]\nbrokrs = \"a:1\"\ngroup = \"g\"\ntopics = [\"t\"]",
        "
t.toml:2:1: unknown key `brokrs` in [sources.kafka.fleet]; did you mean `brokers`?",
    );
    check(
        &format!("lane = 2\n[admni]\n{SOURCE}"),
        "
t.toml:1:1: unknown key `lane` at the top of the file; did you mean `lanes`?
t.toml:2:2: unknown key `admni` at the top of the file; did you mean `admin`?",
    );
    check(
        "[source.mqtt.plant]\nurl = \"mqtt://b\"",
        "t.toml:1:2: unknown key `source` at the top of the file; did you mean `sources`?",
    );
    check("[sources.mqqt.plant]\n", "t.toml:1:10: unknown key `mqqt` in [sources]; did you mean `mqtt`?");
    check(
        "[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = [\"a\", { filter = \"b\", qoss = 1 }, { filtre = \"c\" }]",
        "
t.toml:3:32: unknown key `qoss` in [sources.mqtt.p.topics]; did you mean `qos`?
t.toml:3:46: unknown key `filtre` in [sources.mqtt.p.topics]; did you mean `filter`?",
    );
}

/// Guarantees: all mistakes of a file are told at once, in its order, whatever finds them.
#[test]
fn all_at_once() {
    check(
        "lanes = \"two\"
batch_rows = 0
[admin]
listen = \"0.0.0.0:8081\"
[sources.mqtt.Plant]
url = \"http://b\"
topics = [\"a/#/b\"]
qos = 2
[sinks.timescale.db]
url = \"postgres://u@h/d\"
table = \"drop table\"
colour = \"red\"
",
        "
t.toml:1:9: `lanes` must be a whole number, not text in quotes; write lanes = 5, without quotes or fraction
t.toml:2:14: `batch_rows` cannot be 0; choose from 1 to 100000; the default is 10000
t.toml:4:10: 0.0.0.0:8081 can be reached from other machines, and there is no token; make one with `tidegate token new`, or listen on 127.0.0.1
t.toml:4:10: 0.0.0.0:8081 can be reached from other machines, and tokens would cross the network in plain text; set `cert_file` and `key_file`; or, if a proxy in front has TLS, insecure = \"yes, behind a proxy\"
t.toml:5:15: `Plant` is no name; use 1 to 63 of a-z, 0-9 and `-`, not beginning with `-`
t.toml:6:7: `http` is no way to reach an MQTT broker; write mqtt://host:1883, or mqtts://host:8883 for TLS
t.toml:7:11: in \"a/#/b\", `#` must stand alone in the last level, as in `plant/#`; correct the filter
t.toml:8:7: QoS 2 is not taken: a message is acknowledged only when it is stored, which its handshake of four packets does not wait for, and a restart can deliver it again all the same; use qos = 1, at least once
t.toml:11:9: `drop table` is no name of a table; use up to 63 letters, digits and `_`, not beginning with a digit; `schema.table` if need be
t.toml:12:1: unknown key `colour` in [sinks.timescale.db]; known here: `url`, `password_file`, `password_env`, `table`, `alerts_table`, `series_table`, `columns`, `manage_schema`, `chunk_hours`, `compress_after_days`, `retain_days`, `aggregates`, `refresh`, `connections`, `dedupe`, `exactly_once`, `max_rows`, `statement_timeout_s`, `ahead_hours`, `behind_days`, `ca_file`, `cert_file`, `key_file`, `spool`",
    );
}

/// Guarantees: wrong types are told in words of TOML, and their values, which could be secrets, are not repeated.
#[test]
fn wrong_types() {
    check_source("version = 5", "t.toml:4:11: `version` must be text; write it in quotes: version = \"…\"");
    check_source("version = \"4\"", "t.toml:4:11: `version` cannot be `4`; known here: `3.1.1`, `5`");
    check_source(
        "qos = true",
        "t.toml:4:7: `qos` must be a whole number, not true or false; write qos = 5, without quotes or fraction",
    );
    check_source(
        "keep_alive_s = 1.5",
        "t.toml:4:16: `keep_alive_s` must be a whole number, not a number with a fraction; write keep_alive_s = 5, without quotes or fraction",
    );
    check_source(
        "[sinks.sqlite]\npath = \"hunter2\"",
        "t.toml:5:8: `path` must be a table, not text in quotes; give it a name, as in [sinks.sqlite.plant]",
    );
    check(
        "[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = \"dev/#\"",
        "t.toml:3:10: `topics` must be a list, not text in quotes; write topics = [ … ]",
    );
    check(
        "[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = [5]",
        "t.toml:3:11: `topics` must be a topic filter in quotes or a table with `filter`, not a whole number; change the value of `topics`",
    );
    check(
        "[sources.kafka.k]\nbrokers = \"b:1\"\ngroup = \"g\"\ntopics = [\"t\"]\ntopic_from = { headers = \"x\" }\nstart = \"erliest\"",
        "
t.toml:5:16: `topic_from` cannot be `headers`; did you mean `header`?
t.toml:6:9: `start` cannot be `erliest`; did you mean `earliest`?",
    );
}

/// Guarantees: text that is no TOML is placed by line and column.
#[test]
fn not_toml() {
    let text = mistakes_in("lanes = 2\nbatch_rows = \n[admin\n", &FakeEnv::new());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("t.toml:2:14: not TOML: "), "{text}");
    assert!(lines.iter().any(|l| l.starts_with("t.toml:3:7: not TOML: ")), "{text}");
    assert!(mistakes_in("a = 1\na = 2", &FakeEnv::new()).starts_with("t.toml:2:1: not TOML: duplicate key"));
}

/// Guarantees: columns count characters, not bytes.
#[test]
fn columns_are_characters() {
    check(
        "[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = [\"Öfen/größe\", \"#/x\"]",
        "t.toml:3:25: in \"#/x\", `#` must stand alone in the last level, as in `plant/#`; correct the filter",
    );
}

/// Guarantees: a refresh that has no room for two buckets, by its own settings or by what is kept, is refused.
#[test]
fn refreshes_without_room() {
    let of = |settings: &str| {
        let text = format!(
            "[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = [\"#\"]\n[sinks.timescale.db]\nurl = \"postgres://u@h/d\"\n{settings}"
        );
        mistakes_in(&text, &FakeEnv::new())
    };
    let by_itself = of("[sinks.timescale.db.refresh.day]\nwindow_days = 2");
    assert!(
        by_itself.contains("`behind_minutes` and `window_days` there are no two buckets of a day"),
        "{by_itself}"
    );
    let by_retention = of("retain_days = 1\n[sinks.timescale.db.refresh.minute]\nbehind_minutes = 1440");
    assert!(by_retention.contains("`behind_minutes` and `retain_days` there are no two"), "{by_retention}");
    // What days are made of is not dropped; something else is wrong.
    let of_the_minutes =
        of("retain_days = 1\nconnections = 0\n[sinks.timescale.db.refresh.day]\nbehind_minutes = 1440");
    assert!(
        of_the_minutes.contains("`connections` cannot be 0") && !of_the_minutes.contains("no two"),
        "{of_the_minutes}"
    );
}

/// Guarantees: what an MQTT source cannot be is refused, with the reason.
#[test]
fn mqtt_sources() {
    check_source(
        "connections = 4",
        "t.toml:4:15: 4 connections without `share` would each get every message; add share = \"tidegate\", or remove `connections`",
    );
    check_source(
        "connections = 65",
        "t.toml:4:15: `connections` cannot be 65; choose from 1 to 64; the default is 1",
    );
    check_source(
        "share = \"A b\"",
        "t.toml:4:9: `A b` is no name; use 1 to 63 of a-z, 0-9 and `-`, not beginning with `-`",
    );
    check_source(
        "client_id = \"\"",
        "t.toml:4:13: an empty client id makes the broker invent one; the session under it, with the messages not yet delivered, is lost at each restart; remove the line for `tidegate-{node}-<name>`, or write an id that stays",
    );
    check_source(
        "client_id = \"tg-{random}\"",
        "t.toml:4:13: a random client id does not go with a persistent session: the broker would keep messages for an id that never returns; write an id that stays, such as \"tidegate-{node}\"",
    );
    check_source(
        "client_id = \"tg-{host}\"",
        "t.toml:4:13: `tg-{host}` has braces that stand for nothing known; only {node} is filled in",
    );
    check_source("cert_file = \"c.pem\"", "
t.toml:2:7: there are TLS files, but mqtt:// is without TLS; use mqtts://
t.toml:4:13: `cert_file` needs `key_file`; name both files, or neither
t.toml:4:13: /etc/tidegate/c.pem cannot be read: no such file; make the file, or let the user of this process read it");
    check_source(
        "password_env = \"P\"",
        "t.toml:4:16: the environment variable P is not set; set it for this process, or name a file instead",
    );
    check(
        "[sources.mqtt.p]\nurl = \"broker:1883\"\ntopics = []",
        "
t.toml:2:7: `broker` is no way to reach an MQTT broker; write mqtt://host:1883, or mqtts://host:8883 for TLS
t.toml:3:10: `topics` has 0 filters; name from 1 to 1000, as in [\"dev/#\"]",
    );
    check(
        "[sources.mqtt.p]\n",
        "
t.toml:1:15: `url` is missing; add url = \"mqtt://127.0.0.1:1883\"
t.toml:1:15: `topics` is missing; add topics = [\"dev/#\"]",
    );
    check(
        "[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = [\"$share/g/a\", \"b\", \"b\", {filter = \"c\", lane_by = [-1]}]",
        "
t.toml:3:11: `$share/g/a` is a shared subscription; write share = \"<group>\" and the filter alone
t.toml:3:30: `b` is subscribed to twice; remove one of them
t.toml:3:60: there is no topic level -1; levels count from 0 to 63",
    );
    check(
        "[sources.mqtt.p]\nurl = \"mqtt://b/dev/#\"\ntopics = [\"a\"]",
        "t.toml:2:7: the URL has more than a host and a port; topics go into `topics`, the rest into keys of their own",
    );
    check("", "t.toml:1:1: there is no source of telemetry; add one, as in [sources.mqtt.plant]");
}

/// Guarantees: names are unique over kinds, and so are client ids at one broker, since the broker would throw one out.
#[test]
fn names_and_client_ids() {
    check(
        &format!("{SOURCE}[sinks.sqlite.out]\n[sinks.ndjson.out]\n"),
        "t.toml:5:15: the name `out` is taken by another one of a different kind; names stand in metrics: give each source and each sink its own",
    );
    check(
        &format!("{SOURCE}client_id = \"a\"\n[sinks.mqtt.alerts]\nurl = \"mqtt://broker\"\nclient_id = \"a\"\n"),
        "t.toml:7:13: two connections to broker:1883 have the client id `a`: the broker would let only one stay; give each its own `client_id`",
    );
    check(
        &format!("{SOURCE}[sinks.sqlite.a]\npath = \"x\"\n[sinks.sqlite.b]\npath = \"x\"\n"),
        "t.toml:7:8: /etc/tidegate/x is written by the sink `a` too; give each sink its own `path`",
    );
    check_in(
        SOURCE,
        &FakeEnv::default(),
        "t.toml:1:1: this host has no name to make MQTT client ids from; add node = \"edge-1\" at the top of the file, or set TIDEGATE_NODE",
    );
}

/// Guarantees: settings of librdkafka that delivery rests on are refused, each with its reason.
#[test]
fn kafka_sources() {
    let source = "[sources.kafka.k]\nbrokers = \"b:1\"\ngroup = \"g\"\ntopics = [\"t\"]\n";
    for key in [
        "enable.auto.commit",
        "enable.auto.offset.store",
        "group.id",
        "bootstrap.servers",
        "auto.offset.reset",
        "offset.store.method",
        "partition.assignment.strategy",
    ] {
        let text = mistakes_in(&format!("{source}[sources.kafka.k.client]\n\"{key}\" = \"x\"\n"), &FakeEnv::new());
        let begin = "t.toml:6:".to_owned();
        assert!(text.starts_with(&begin) && text.contains(&format!("`{key}` is set by Tidegate itself; ")), "{text}");
    }
    check(
        &format!(
            "{source}[sources.kafka.k.client]\n\"sasl.password\" = {{ file = \"p\", env = \"P\" }}\n\"ssl.x\" = {{ env = \"P\" }}"
        ),
        "
t.toml:6:19: `sasl.password` needs either `file` or `env`; write { file = \"…\" } or { env = \"…\" }
t.toml:7:11: the environment variable P is not set; set it for this process, or name a file instead",
    );
    check(
        "[sources.kafka.k]\nbrokers = [\"b\", \"http://b:1\"]\ngroup = \"\"\ntopics = [\"a b\", \"^a .*\"]\ntopic_from = { field = \"topic\" }\nmax_in_flight = 0",
        "
t.toml:2:11: `http://b:1` is no broker; write host:port, as in \"127.0.0.1:9092\"
t.toml:3:9: `group` is empty; write group = \"tidegate\"
t.toml:4:11: `a b` is no Kafka topic; use letters, digits, `.`, `_` and `-`; a regular expression begins with `^`
t.toml:5:14: `topic` is no JSON pointer (RFC 6901); begin it with `/`, as in { field = \"/topic\" }
t.toml:6:17: `max_in_flight` cannot be 0; choose from 1 to 1000000; the default is 50000",
    );
}

/// Guarantees: a database's URL is checked without being repeated.
#[test]
fn database_urls() {
    for (url, expected) in [
        (
            "mysql://u@h/d",
            "`mysql` is no way to reach PostgreSQL; write url = \"postgres://tidegate@127.0.0.1:5432/plant\"",
        ),
        ("postgres://u@h/d?sslmod=require", "`sslmod` is no parameter of the URL; did you mean `sslmode`?"),
        (
            "postgres://u@h/d?sslmode=verify-full",
            "this sslmode is not taken; write sslmode=require: the certificate and the host's name are checked with it, always",
        ),
        (
            "postgres://u@h/d?sslmode=prefer",
            "whoever stands between could switch the TLS of this sslmode off, so it is not taken; write sslmode=require, or sslmode=disable where the network may be trusted",
        ),
        ("postgres://u@h", "the URL names no database; write url = \"postgres://tidegate@127.0.0.1:5432/plant\""),
        ("postgres://h/d", "the URL names no user; write url = \"postgres://tidegate@127.0.0.1:5432/plant\""),
        (
            "postgres://u:hunter2@h:port/d",
            "this is no URL: invalid port number; write url = \"postgres://tidegate@127.0.0.1:5432/plant\"",
        ),
    ] {
        check(&format!("{SOURCE}[sinks.timescale.db]\nurl = \"{url}\"\n"), &format!("t.toml:5:7: {expected}"));
    }
    check_in(
        &format!("{SOURCE}[sinks.timescale.db]\nurl = \"postgres://u:hunter2@h/d\"\npassword_env = \"P\"\n"),
        &FakeEnv::new().var("P", "hunter2"),
        "t.toml:5:7: the password is given twice: in `url` and by its own key; take it out of the URL",
    );
}

/// Guarantees: a copy of dead letters that would come back as telemetry is refused; the host's own names are not given away.
#[test]
fn dead_letters() {
    check(
        "[dead_letters]\nmax_mib = 0\nmax_days = 3\n[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = [\"dev/#\"]\n",
        "
t.toml:2:11: `max_mib` cannot be 0; choose from 1 to 1048576; the default is 1024
t.toml:3:1: unknown key `max_days` in [dead_letters]; did you mean `max_age_days`?",
    );
    let copy = |levels: &str, broker: &str| {
        format!("{SOURCE}[sinks.mqtt.out]\nurl = \"mqtt://{broker}\"\ndead_letters = \"{levels}\"\n")
    };
    check(
        &copy("dev/dead", "broker"),
        "t.toml:6:16: the source `plant` takes in what is published below `dev/dead`, by `dev/#`: a dead letter would come back, die again, and so on; choose levels that no source subscribes to, or narrow its `topics`",
    );
    assert!(parse_in(&copy("dev/dead", "another"), &FakeEnv::new()).is_ok());
    assert!(parse_in(&copy("dead", "broker"), &FakeEnv::new()).is_ok());
    check(
        "[sources.mqtt.replay]\nurl = \"mqtt://b\"\ntopics = [\"dev/#\"]\n",
        "t.toml:1:15: the name `replay` is taken by a part of the host itself; names stand in metrics: choose another one",
    );
}

/// Guarantees: a spool too small to hold a batch is refused, and so are alerts out of order, but only where they are asked for.
#[test]
fn spools() {
    let mqtt = "[sinks.mqtt.out]\nurl = \"mqtt://broker\"\n";
    check(
        &format!("{SOURCE}{mqtt}spool = {{ max_mib = 1, order = \"live_first\", when_full = \"drop\" }}\n"),
        "
t.toml:6:21: `max_mib` cannot be 1; choose from 16 to 1048576; the default is 1024
t.toml:6:32: alerts and messages cannot be published out of order: an old `raised` after its `cleared` would stand for ever; remove it, or write order = \"kept\"
t.toml:6:58: `when_full` cannot be `drop`; did you mean `drop_oldest`?",
    );
    assert!(parse_in(&format!("[spool]\norder = \"live_first\"\n{SOURCE}{mqtt}"), &FakeEnv::new()).is_ok());
}

/// Guarantees: a database's names, numbers and hosts are checked, each with what to do.
#[test]
fn database_settings() {
    check(
        &format!(
            "{SOURCE}[sinks.timescale.db]\nurl = \"postgres://u@a,b:x/d\"\ntable = \"a.b.c\"\nalerts_table = \"1st\"\n\
             connections = 21\ncolumns = {{ time = \"topic\" }}\n"
        ),
        "t.toml:5:7: `b:x` is no host; write host1:5432,host2:5432 with nothing else between
t.toml:6:9: `a.b.c` is no name of a table; use up to 63 letters, digits and `_`, not beginning with a digit; `schema.table` if need be
t.toml:7:16: `1st` is no name; use up to 63 letters, digits and `_`, not beginning with a digit
t.toml:8:15: `connections` cannot be 21; choose from 1 to 20; the default is 4
t.toml:9:11: two columns are called `topic`; give each a name of its own",
    );
}

/// Guarantees: a Kafka sink that would produce nothing, or to a topic that cannot be, or with a setting that would lose or double records, is
/// refused.
#[test]
fn kafka_sinks() {
    check(
        &format!("{SOURCE}[sinks.kafka.out]\nbrokers = \"b\"\n"),
        "t.toml:4:14: this sink would produce nothing; name a topic for `messages`, `points`, `alerts` or `dead_letters`",
    );
    check(
        &format!(
            "{SOURCE}[sinks.kafka.out]\nbrokers = \"b\"\npoints = \"a b\"\nclient = {{ \"enable.idempotence\" = false }}\n"
        ),
        "t.toml:6:10: `a b` is no Kafka topic; use 1 to 249 letters, digits, `.`, `_` and `-`
t.toml:7:35: `enable.idempotence` is set by Tidegate itself; remove it: without it a record that is sent again is stored twice, or out of order",
    );
    check(
        &format!(
            "{SOURCE}[sinks.kafka.out]\nbrokers = \"b\"\npoints = \"p\"\nclient = {{ \"delivery.report.only.error\" = true }}\n"
        ),
        "t.toml:7:43: `delivery.report.only.error` is set by Tidegate itself; remove it: a write waits for a word on each of its records",
    );
    check(
        &format!("{SOURCE}[sinks.kafka.out]\nbrokers = \"b\"\npoints = \"p\"\nmessages_from = [\"plant\"]\n"),
        "t.toml:7:17: `messages_from` says which messages to produce, but not where; add messages = \"<Kafka topic>\"",
    );
    check(
        &format!("{SOURCE}[sinks.kafka.out]\nbrokers = \"b\"\nmessages = \"raw\"\nmessages_from = [\"plan\"]\n"),
        "t.toml:7:18: there is no source `plan`; did you mean `plant`?",
    );
    let circle = "[sources.kafka.k]\nbrokers = [\"a\", \"b\"]\ngroup = \"g\"\ntopics = [\"raw\"]\n\
                  [sinks.kafka.out]\nbrokers = \"b\"\nmessages = \"raw\"\n";
    check(
        circle,
        "t.toml:7:12: the source `k` reads the topic `raw`: each message would come back, again and again; \
         choose another topic, or leave that source out of `messages_from`",
    );
    assert!(parse_in(&format!("{SOURCE}{circle}messages_from = [\"plant\"]\n"), &FakeEnv::new()).is_ok());
}

/// Guarantees: signatures that nobody, or everybody, could give are not asked for.
#[test]
fn signing_keys() {
    let rules = |lines: &str| format!("[sources.mqtt.p]\nurl = \"mqtt://b\"\ntopics = [\"a\"]\n[rules]\n{lines}");
    check(
        &rules("require_signatures = true"),
        "t.toml:5:22: signatures are required, and no key is named; make one with `tidegate rule keygen`, and write what it prints under [rules.keys]",
    );
    check(
        &rules("[rules.keys]\nmine = \"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\""),
        "t.toml:6:8: this is an example's key, whose private half everybody knows; make one with `tidegate rule keygen`",
    );
}

/// Guarantees: whatever a Kafka sink writes to a topic that a source of the same brokers reads, by name or by pattern, is found; what comes back only where
/// rules make it so is a warning; other brokers, other topics and those that librdkafka passes by are not found.
#[test]
fn kafka_loops() {
    let config = |source: &str, sink: &str| {
        format!("[sources.kafka.k]\ngroup = \"g\"\n{source}\n[sinks.kafka.out]\nbrokers = \"B:9092\"\n{sink}\n")
    };
    let by_pattern = "brokers = \"a,b\"\ntopics = [\"t\", \"^tide.*\"]";
    check(
        &config(by_pattern, "points = \"tide-points\"\ndead_letters = \"tide-letters\"\nmessages = \"tide-raw\""),
        "
t.toml:7:10: the source `k` reads the topic `tide-points`, by `^tide.*`: each point would come back as a message, again and again; \
choose another topic, or one that no source of this host reads
t.toml:8:16: the source `k` reads the topic `tide-letters`, by `^tide.*`: each dead letter would come back, and end as another; \
choose another topic, or one that no source of this host reads
t.toml:9:12: the source `k` reads the topic `tide-raw`, by `^tide.*`: each message would come back, again and again; \
choose another topic, or leave that source out of `messages_from`",
    );
    let warnings = |source: &str, sink: &str| parse_in(&config(source, sink), &FakeEnv::new()).unwrap().warnings;
    let warned = warnings(by_pattern, "alerts = \"tide-alerts\"");
    assert!(matches!(&warned[..], [one] if one.contains("raises an alert for an alert")), "{warned:?}");
    for (source, sink) in [
        (by_pattern, "points = \"other-tide\"\nalerts = \"alerts\"\ndead_letters = \"letters\""),
        ("brokers = \"b:9093\"\ntopics = [\"^tide.*\"]", "points = \"tide-points\""),
        ("brokers = \"b\"\ntopics = [\"tide\"]", "points = \"tide-points\""),
        (
            "brokers = \"b\"\ntopics = [\"^tide.*\"]\nclient = { \"topic.blacklist\" = \"x,^tide-p\" }",
            "points = \"tide-points\"",
        ),
    ] {
        assert_eq!(warnings(source, sink), [""; 0], "{source} {sink}");
    }
}
