//! What a right file becomes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_model::SpoolOrder;

use super::{FakeEnv, SOURCE, good, parse, parse_in};
use crate::{
    Aggregates, Compression, Config, EXAMPLE, KafkaStart, LaneBy, MqttVersion, ProcessEnv, Qos, RecordHeaders,
    RecordsBy, Refresh, Repeats, ShareBy, SinkSettings, SourceSettings, SpoolSettings, TimeFrom, TopicFrom, Upkeep,
    WhenFull,
};

fn mqtt_source(config: &Config, name: &str) -> crate::MqttSource {
    match config.sources.get(&name.parse().unwrap()) {
        Some(SourceSettings::Mqtt(source)) => source.clone(),
        other => panic!("{other:?}"),
    }
}

/// Guarantees: the shortest file has all defaults; its paths lie beside it, and a SQLite sink is there.
#[test]
fn defaults() {
    let config = good(SOURCE);
    assert_eq!(config.data_dir, Path::new("/etc/tidegate/data"));
    assert_eq!(config.rules_dir, Path::new("/etc/tidegate/rules.d"));
    assert_eq!((config.lanes, config.batch_rows, config.max_series), (None, 10_000, 100_000));
    assert_eq!((config.shutdown_timeout, config.compile_timeout), (Duration::from_secs(10), Duration::from_secs(20)));
    let month = Duration::from_secs(30 * 24 * 3600);
    assert_eq!(config.dead_letters, crate::DeadLetters { max_bytes: 1 << 30, max_age: month });
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
    let source = mqtt_source(&config, "plant");
    assert_eq!((source.endpoint.host.as_str(), source.endpoint.port), ("broker", 1883));
    assert_eq!(source.endpoint.client_id, "tidegate-edge-1-plant");
    assert_eq!(source.endpoint.version, MqttVersion::V5);
    assert!(source.endpoint.tls.is_none());
    assert_eq!((source.connections, source.receive_maximum, source.stale_after), (1, 1000, None));
    assert_eq!(source.subscriptions[0].filter.as_str(), "dev/#");
    assert_eq!((source.subscriptions[0].qos, &source.subscriptions[0].lane_by), (Qos::AtLeastOnce, &LaneBy::Topic));
    let sinks: Vec<String> = config.sinks.keys().map(ToString::to_string).collect();
    assert_eq!(sinks, ["store"]);
    match config.sinks.values().next() {
        Some(SinkSettings::Sqlite(sink)) => assert_eq!(sink.path, Path::new("/etc/tidegate/data/store.db")),
        other => panic!("{other:?}"),
    }
    assert_eq!(config.warnings, Vec::<String>::new());
}

/// Guarantees: every setting of an MQTT source arrives where it belongs.
#[test]
fn mqtt_source_in_full() {
    let env = FakeEnv::new()
        .file("/run/secrets/mqtt", "s3cret\r\n")
        .file("/etc/tidegate/ca.pem", "-----BEGIN CERTIFICATE-----");
    let text = r#"
        node = "press-7"
        [sources.mqtt.sparkplug]
        url = "mqtts://[::1]:8884"
        version = "3.1.1"
        client_id = "gate-{node}"
        topics = ["a/+", { filter = "spBv1.0/#", qos = 1, lane_by = [1, 3] }]
        qos = 0
        share = "edge"
        share_by = "topic"
        connections = 3
        username = "u"
        password_file = "/run/secrets/mqtt"
        keep_alive_s = 60
        max_packet_bytes = 2048
        stale_after_s = 90
        ca_file = "ca.pem"
    "#;
    let config = parse_in(text, &env).unwrap();
    let source = mqtt_source(&config, "sparkplug");
    let endpoint = &source.endpoint;
    assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.version), ("::1", 8884, MqttVersion::V3));
    assert_eq!(endpoint.client_id, "gate-press-7");
    assert_eq!(endpoint.username.as_deref(), Some("u"));
    assert_eq!(endpoint.password.as_ref().unwrap().reveal(), "s3cret");
    assert_eq!((endpoint.keep_alive, endpoint.max_packet_bytes), (Duration::from_secs(60), 2048));
    assert_eq!(endpoint.tls.as_ref().unwrap().ca_file, Some(PathBuf::from("/etc/tidegate/ca.pem")));
    assert_eq!((source.share.as_ref().unwrap().as_str(), source.share_by), ("edge", ShareBy::Topic));
    assert_eq!((source.connections, source.stale_after), (3, Some(Duration::from_secs(90))));
    let [plain, sparkplug] = source.subscriptions.as_slice() else { panic!("{:?}", source.subscriptions) };
    assert_eq!((plain.qos, &plain.lane_by), (Qos::AtMostOnce, &LaneBy::Topic));
    assert_eq!((sparkplug.qos, &sparkplug.lane_by), (Qos::AtLeastOnce, &LaneBy::Levels(vec![1, 3])));
    // MQTT 3.1.1 knows no shared subscriptions; brokers do, so it is a warning.
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains(":9:17: MQTT 3.1.1 does not define shared"), "{:?}", config.warnings);
}

/// Guarantees: retention, the copy of dead letters and the topic of the node's status arrive where they belong.
#[test]
fn dead_letters_and_status() {
    let config = good(&format!(
        "{SOURCE}[dead_letters]\nmax_mib = 3\nmax_age_days = 2\n[sinks.mqtt.out]\nurl = \"mqtt://broker\"\n\
         dead_letters = \"dead\"\nstatus_topic = \"gate/{{node}}/status\"\n"
    ));
    let days = Duration::from_secs(2 * 24 * 3600);
    assert_eq!(config.dead_letters, crate::DeadLetters { max_bytes: 3 << 20, max_age: days });
    let Some(SinkSettings::Mqtt(sink)) = config.sinks.values().next() else { panic!() };
    assert_eq!(sink.dead_letters.as_deref(), Some("dead"));
    assert_eq!(sink.status_topic.as_deref(), Some("gate/edge-1/status"));
}

/// Guarantees: database servers and brokers have a spool unless it is switched off, each with its own settings over the common ones; what is
/// written to files has none, SQLite's unless it asks for one.
#[test]
fn spools() {
    let standard = SpoolSettings { max_bytes: 1 << 30, when_full: WhenFull::HoldBack, order: SpoolOrder::Kept };
    let spools = |text: &str| {
        let config = good(&format!("{SOURCE}{text}"));
        let named = config.spools.iter().map(|(name, spool)| (name.to_string(), *spool));
        named.collect::<Vec<_>>()
    };
    assert_eq!(spools(""), []);
    assert_eq!(spools("[sinks.sqlite.a]\n"), []);
    let broker = "[sinks.mqtt.out]\nurl = \"mqtt://broker\"\n";
    assert_eq!(spools(broker), [("out".to_owned(), standard)]);
    assert_eq!(spools(&format!("[spool]\nenabled = false\n{broker}")), []);
    let text = "
        [spool]
        max_mib = 32
        order = \"live_first\"
        when_full = \"drop_oldest\"
        [sinks.sqlite.a]
        spool = { order = \"kept\" }
        [sinks.timescale.b]
        url = \"postgres://u@h/d\"
        [sinks.timescale.b.spool]
        max_mib = 64
        [sinks.sqlite.off]
        spool = { enabled = false }
        [sinks.mqtt.c]
        url = \"mqtt://broker\"
        [sinks.ndjson.d]
        [sinks.discard.e]
    ";
    let (small, large) = (32 << 20, 64 << 20);
    let settings = |max_bytes, order| SpoolSettings { max_bytes, when_full: WhenFull::DropOldest, order };
    assert_eq!(
        spools(text),
        [
            ("a".to_owned(), settings(small, SpoolOrder::Kept)),
            ("b".to_owned(), settings(large, SpoolOrder::LiveFirst)),
            ("c".to_owned(), settings(small, SpoolOrder::Kept)),
        ]
    );
}

/// Guarantees: each way to say what stays together is taken, and one that is none is answered with those there are.
#[test]
fn what_stays_together() {
    let by = |value: &str| {
        let source = "[sources.kafka.fleet]\nbrokers = \"b\"\ngroup = \"g\"\ntopics = [\"t\"]\n";
        let config = parse_in(&format!("{source}lane_by = {value}\n"), &FakeEnv::new());
        match config.map(|config| config.sources.into_values().next()) {
            Ok(Some(SourceSettings::Kafka(source))) => Ok(source.lane_by),
            other => Err(format!("{other:?}")),
        }
    };
    assert_eq!(by("\"topic\""), Ok(RecordsBy::Topics(LaneBy::Topic)));
    assert_eq!(by("[1, 3]"), Ok(RecordsBy::Topics(LaneBy::Levels(vec![1, 3]))));
    assert_eq!((by("\"key\""), by("\"partition\"")), (Ok(RecordsBy::Key), Ok(RecordsBy::Partition)));
    let wrong = by("\"device\"").unwrap_err();
    assert!(["topic", "key", "partition"].iter().all(|way| wrong.contains(way)), "{wrong}");
    assert!(by("[-1]").is_err());
}

/// Guarantees: a Kafka source takes its settings and secrets, and each way of naming the logical topic.
#[test]
fn kafka_source_in_full() {
    let env = FakeEnv::new().var("KAFKA_PASSWORD", "s3cret");
    let text = r#"
        [sources.kafka.fleet]
        brokers = ["a:9092", "b"]
        group = "g"
        topics = ["^fleet-.*"]
        topic_from = { field = "/topic" }
        time_from = { header = "tidegate.received_us" }
        headers = "left"
        lane_by = [1]
        start = "latest"
        max_in_flight = 7
        [sources.kafka.fleet.client]
        "security.protocol" = "SASL_SSL"
        "sasl.password" = { env = "KAFKA_PASSWORD" }
        "socket.keepalive.enable" = true
        "fetch.wait.max.ms" = 20
    "#;
    let config = parse_in(text, &env).unwrap();
    let Some(SourceSettings::Kafka(source)) = config.sources.values().next() else { panic!() };
    assert_eq!(source.brokers, "a:9092,b");
    assert_eq!(source.topic_from, TopicFrom::Field("/topic".into()));
    assert_eq!(source.time_from, TimeFrom::Header("tidegate.received_us".into()));
    assert_eq!(source.headers, RecordHeaders::Left);
    assert_eq!(
        (source.start, source.max_in_flight, &source.lane_by),
        (KafkaStart::Latest, 7, &RecordsBy::Topics(LaneBy::Levels(vec![1])))
    );
    let client: Vec<_> = source.client.iter().map(|(k, v)| (k.as_str(), v.reveal())).collect();
    assert_eq!(
        client,
        [
            ("fetch.wait.max.ms", "20"),
            ("sasl.password", "s3cret"),
            ("security.protocol", "SASL_SSL"),
            ("socket.keepalive.enable", "true")
        ]
    );
    assert!(config.warnings.is_empty());
    for (written, meant) in [
        ("\"topic\"", TopicFrom::Topic),
        ("\"key\"", TopicFrom::Key),
        ("{ header = \"h\" }", TopicFrom::Header("h".into())),
    ] {
        let config =
            good(&text.replace("{ field = \"/topic\" }", written).replace("{ env = \"KAFKA_PASSWORD\" }", "\"x\""));
        let Some(SourceSettings::Kafka(source)) = config.sources.values().next() else { panic!() };
        assert_eq!(source.topic_from, meant);
    }
}

/// Guarantees: a database's password is merged into its URL such that any character survives, with a host and without.
#[test]
fn database_password() {
    let env = FakeEnv::new().var("PW", "p@ss/w ör?d&%41");
    for url in ["postgres://u@h:5433/d?sslmode=require", "postgres:///d?host=/run/pg&user=u"] {
        let text = format!("{SOURCE}[sinks.timescale.db]\nurl = \"{url}\"\npassword_env = \"PW\"\n");
        let config = parse_in(&text, &env).unwrap();
        let Some(SinkSettings::Timescale(sink)) = config.sinks.values().next() else { panic!() };
        let merged = url::Url::parse(sink.url.reveal()).unwrap();
        let inside = merged.password().map(crate::checks::decoded);
        let after = merged.query_pairs().find(|(k, _)| k == "password").map(|(_, v)| v.into_owned());
        assert_eq!(inside.or(after).as_deref(), Some("p@ss/w ör?d&%41"), "{url}");
        assert_eq!((sink.names.table.as_str(), sink.copy_rows(), sink.manage_schema), ("metrics", 5000, true));
    }
}

/// Guarantees: what is produced is compressed by zstd where nothing else is said.
#[test]
fn how_records_are_compressed() {
    for (line, due) in [("", Compression::Zstd), ("compression = \"lz4\"", Compression::Lz4)] {
        let text = format!("{SOURCE}[sinks.kafka.bus]\nbrokers = \"127.0.0.1:9092\"\npoints = \"points\"\n{line}\n");
        let config = parse(&text).unwrap();
        let Some(SinkSettings::Kafka(sink)) = config.sinks.values().next() else { panic!() };
        assert_eq!(sink.compression, due);
    }
}

/// Guarantees: few connections have more rows in a COPY each, and all together about as many, unless a number is configured.
#[test]
fn rows_of_a_copy() {
    for (lines, rows) in [
        ("connections = 1", 20_000),
        ("connections = 3", 6_666),
        ("connections = 20", 5_000),
        ("max_rows = 700", 700),
    ] {
        let config =
            parse(&format!("{SOURCE}[sinks.timescale.db]\nurl = \"postgres://u@localhost/d\"\n{lines}\n")).unwrap();
        let Some(SinkSettings::Timescale(sink)) = config.sinks.values().next() else { panic!() };
        assert_eq!(sink.copy_rows(), rows, "{lines}");
    }
}

/// Guarantees: a database beyond this machine that is reached without TLS is warned of, whichever of several hosts it is, unless the URL says that
/// it shall be so.
#[test]
fn databases_without_tls() {
    for (url, far) in [
        ("postgres://u@db.example/d", Some("db.example")),
        ("postgres://u@127.0.0.1:1,[2001:db8::1]:3/d", Some("[2001:db8::1]")),
        ("postgres:///d?host=/run/pg,b&user=u", Some("b")),
        ("postgres://u@localhost/d?hostaddr=10.0.0.1", Some("10.0.0.1")),
        ("postgres://u@db.example/d?sslmode=require", None),
        ("postgres://u@db.example/d?sslmode=disable", None),
        ("postgres://u@localhost:1,127.0.0.2,[::1]:3/d", None),
        ("postgres:///d?host=/run/pg&user=u", None),
        ("postgres://u@%2Frun%2Fpg/d", None),
    ] {
        let warnings = good(&format!("{SOURCE}[sinks.timescale.db]\nurl = \"{url}\"\n")).warnings;
        let told = far.map(|far| format!("what goes to `{far}` is not encrypted"));
        assert_eq!(warnings.len(), usize::from(far.is_some()), "{url}: {warnings:?}");
        assert!(told.is_none_or(|told| warnings[0].contains(&told)), "{url}: {warnings:?}");
    }
}

/// Guarantees: of a database with several hosts the URL keeps all of them, with the password where it belongs; names, upkeep and pool are
/// taken as written, and 0 days mean never.
#[test]
fn database_in_full() {
    let env = FakeEnv::new().var("PW", "pw");
    let text = format!(
        "{SOURCE}[sinks.timescale.db]\nurl = \"postgres://u@a:1,b:2,[::1]:3/d?connect_timeout=2\"\npassword_env = \"PW\"
        table = \"plant.raw_telemetry\"\nalerts_table = \"alarms\"\nconnections = 20\ndedupe = true\nretain_days = 0
        chunk_hours = 6\naggregates = false\n[sinks.timescale.db.columns]\ntime = \"ts\"\n
        [sinks.timescale.db.refresh.hour]\nwindow_days = 2\nbehind_minutes = 120\n"
    );
    let config = parse_in(&text, &env).unwrap();
    let Some(SinkSettings::Timescale(sink)) = config.sinks.values().next() else { panic!() };
    assert_eq!(sink.url.reveal(), "postgres://u:pw@a:1,b:2,[::1]:3/d?connect_timeout=2");
    assert_eq!((sink.names.table.as_str(), sink.names.alerts.as_str()), ("plant.raw_telemetry", "alarms"));
    assert_eq!(sink.names.columns.all(), ["ts", "topic", "value", "value_str", "quality", "unit"]);
    assert_eq!((sink.connections, sink.repeats), (20, Repeats::Dropped));
    let mut refresh = Refresh::USUAL;
    (refresh[1].window_days, refresh[1].behind_minutes) = (2, 120);
    let (compress_after_days, aggregates) = (Some(7), Aggregates::Absent);
    let upkeep = Upkeep { chunk_hours: 6, compress_after_days, retain_days: None, aggregates, refresh };
    assert_eq!(sink.upkeep, upkeep);
}

/// Guarantees: a secret stands neither in `Debug` of the settings nor in a warning; one in a URL is warned of.
#[test]
fn secrets_are_not_shown() {
    let text = "
        [sources.mqtt.plant]
        url = \"mqtt://u:hunter2@broker\"
        topics = [\"dev/#\"]
        [sources.kafka.fleet]
        brokers = \"b\"
        group = \"g\"
        topics = [\"t\"]
        client = { \"sasl.password\" = \"hunter2\" }
        [sinks.timescale.db]
        url = \"postgres://u:hunter2@h/d?sslmode=require\"
    ";
    let config = good(text);
    assert_eq!(mqtt_source(&config, "plant").endpoint.password.unwrap().reveal(), "hunter2");
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
    assert!(!format!("{config:?}").contains("hunter2"));
    // Nor in the mistakes of a file that also has others.
    let errors = parse(&format!("{text}\n[sinks.sqlite]\nurl = \"hunter2\"\n[admin]\nlisten = 5\n")).unwrap_err();
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
}

/// Guarantees: in a pod, whose name does not last, the name of the host is warned of unless it was given.
#[test]
fn node_names() {
    let pod = || FakeEnv::default().var("HOSTNAME", "gate-x7f").var("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let id = |config: &Config| mqtt_source(config, "plant").endpoint.client_id;
    let config = parse_in(SOURCE, &pod()).unwrap();
    assert_eq!(id(&config), "tidegate-gate-x7f-plant");
    assert!(config.warnings[0].contains("pod"), "{:?}", config.warnings);
    let config = parse_in(SOURCE, &pod().var("TIDEGATE_NODE", "rack-3")).unwrap();
    assert_eq!((id(&config).as_str(), config.warnings.len()), ("tidegate-rack-3-plant", 0));
    let config = parse_in(SOURCE, &FakeEnv::default().file("/etc/hostname", "press\n")).unwrap();
    assert_eq!(id(&config), "tidegate-press-plant");
}

/// Guarantees: the example is right as it stands, and with every line that is switched off switched on.
#[test]
fn the_example() {
    let config = Config::parse(EXAMPLE, "tidegate.toml", &FakeEnv::new()).unwrap();
    assert_eq!((config.sources.len(), config.sinks.len()), (1, 2));

    let code = |line: &str| line.starts_with("# ") && (line.contains(" = ") || line.starts_with("# ["));
    let all: String = EXAMPLE
        .lines()
        // Each stands beside what it would replace.
        .filter(|line| !["# token_env", "# exactly_once", "# journal"].iter().any(|key| line.starts_with(key)))
        .map(|line| if code(line) { line.replacen("# ", "", 1) } else { line.to_owned() } + "\n")
        .collect();
    let pem = "-----BEGIN CERTIFICATE-----";
    let env = FakeEnv::new()
        .var("PGPASSWORD", "p")
        .file("admin.token", "0123456789abcdef")
        .file("admin.pem", pem)
        .file("admin.key", pem)
        .file("mqtt.password", "p")
        .file("kafka.password", "p")
        .file("ca.pem", pem)
        .file("client.pem", pem)
        .file("client.key", pem);
    let all = all.replacen("mqtt://127.0.0.1:1883\"          #", "mqtts://127.0.0.1:8883\" #", 1);
    let all = all.replace("127.0.0.1:5432/plant\"", "127.0.0.1:5432/plant?sslmode=require\"");
    let config = Config::parse(&all, "tidegate.toml", &env).unwrap_or_else(|e| panic!("{e}\n{all}"));
    assert_eq!((config.sources.len(), config.sinks.len()), (2, 6));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

/// Guarantees: a file that is not there is said to be so, with what to do.
#[test]
fn no_file() {
    let errors = Config::load(Path::new("/nonexistent/tidegate.toml"), &ProcessEnv).unwrap_err().to_string();
    assert!(errors.starts_with("/nonexistent/tidegate.toml: cannot be read: No such file"), "{errors}");
    assert!(errors.contains("--print-example"), "{errors}");
}
