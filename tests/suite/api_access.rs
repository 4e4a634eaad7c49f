//! Who may do what with the API: made from the document that is made from the router, so that a new route cannot be forgotten.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_tests::{
    Answer, DEADLINE, Host, Message, Mosquitto, Publisher, Qos, Setup, binary, installed, plain, sqlite_dead_letters,
    wait_for,
};

use crate::api::quiet;

const SCOPES: [&str; 4] = ["read", "rules", "data", "admin"];

/// A token by `tidegate token new`, and the lines that make it known.
pub(crate) fn token(name: &str, scopes: &str, more: &str) -> (String, String) {
    let output =
        Command::new(binary()).args(["token", "new", "--name", name, "--scopes", scopes, "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (token, sha256) = (made["token"].as_str().unwrap().to_owned(), made["sha256"].as_str().unwrap());
    let scopes: Vec<&str> = scopes.split(',').collect();
    (token, format!("[admin.tokens.{name}]\nsha256 = \"{sha256}\"\nscopes = {scopes:?}\n{more}\n"))
}

struct Guarded {
    host: Host,
    /// By scope.
    tokens: Vec<(&'static str, String)>,
    expired: String,
}

fn guarded(lines: &str) -> Guarded {
    guarded_host(quiet().module("json-reading"), lines)
}

/// A host as it was set up, and with tokens.
fn guarded_host(setup: Setup, lines: &str) -> Guarded {
    let (mut tokens, mut sections) = (Vec::new(), format!("{lines}\n"));
    for scope in SCOPES {
        let (made, section) = token(&format!("only-{scope}"), scope, "");
        tokens.push((scope, made));
        sections += &section;
    }
    let (expired, section) = token("old", "admin", "expires = \"2020-01-01\"");
    let host = setup.admin(&(sections + &section)).launch();
    Guarded { host, tokens, expired }
}

/// Fails unless the document tells of an answer with this code and content type to what was asked.
#[track_caller]
pub(crate) fn assert_told(document: &Value, method: &str, path: &str, answer: &Answer) {
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let mut told = &responses[answer.code.to_string()];
    if let Some(to) = told["$ref"].as_str() {
        told = document.pointer(to.trim_start_matches('#')).unwrap();
    }
    assert!(told.is_object(), "{method} {path}: no word of {}: {answer:?}", answer.code);
    let essence = answer.header("content-type").map(|kind| kind.split(';').next().unwrap().trim());
    let (kinds, given) = (told["content"].as_object(), essence.unwrap_or_default());
    let agrees = kinds.map_or(essence.is_none(), |kinds| kinds.contains_key(given));
    assert!(agrees, "{method} {path}: {} is not told to be {given:?}: {told}", answer.code);
}

/// Every operation of the document: method, path with its blanks filled in by nothing that is there, and what it needs.
fn operations(host: &Host) -> Vec<(String, String, Option<String>)> {
    let document = host.ask("GET", "/api/v1/openapi.json").send().expect(200);
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.replace("{rule}", "nobody").replace("{sha256}", &"0".repeat(64)).replace("{id}", "1");
            let scope = operation["x-scope"].as_str().map(str::to_owned);
            assert_eq!(scope.is_some(), operation["security"].is_array(), "{method} {path}");
            all.push((method.to_uppercase(), path, scope));
        }
    }
    all
}

/// Guarantees: every route the router has, asked with no token, a wrong one, an expired one, and one of each scope: who may not is
/// refused in one form, and who may is not refused for that; no refusal that matters is missing in the audit log.
#[test]
fn the_matrix() {
    let Guarded { host, tokens, expired } = guarded("");
    let operations = operations(&host);
    assert!(operations.len() >= 30, "{operations:?}");
    let open: Vec<&str> =
        operations.iter().filter(|(_, _, scope)| scope.is_none()).map(|(_, path, _)| path.as_str()).collect();
    // What anybody may see is decided here, once more.
    assert_eq!(open, ["/api/v1", "/api/v1/openapi.json", "/health", "/livez", "/metrics", "/readyz"]);
    // And that values and payloads are not for those who may see how things are, nor for those who change rules.
    for (method, path) in [
        ("GET", "backtests/1"),
        ("GET", "rules/nobody/shadow/differences"),
        ("GET", "tail"),
        ("POST", "trace"),
        ("GET", "dead-letters"),
    ] {
        let path = format!("/api/v1/{path}");
        let found = operations.iter().find(|(of, at, _)| of == method && *at == path);
        assert_eq!(found.and_then(|(_, _, needs)| needs.as_deref()), Some("data"), "{method} {path}");
    }
    let document = host.ask("GET", "/api/v1/openapi.json").send().expect(200);
    let mut denied: u64 = 0;
    for (method, path, needs) in &operations {
        let ask = || host.ask(method, path);
        let template = path.replace("nobody", "{rule}").replace(&"0".repeat(64), "{sha256}");
        let template = template.replace("/1/", "/{id}/");
        let template = template.strip_suffix("/1").map_or(template.clone(), |above| format!("{above}/{{id}}"));
        let told = |answer: &Answer| assert_told(&document, method, &template, answer);
        let Some(needs) = needs else {
            for answer in [ask().send(), ask().token("wrong").send()] {
                assert!(![401, 403].contains(&answer.code), "{method} {path}: {answer:?}");
                told(&answer);
            }
            // A probe answers all the same.
            denied += u64::from(!path.starts_with("/api/"));
            continue;
        };
        for (answer, challenge) in [
            (ask().send(), "Bearer realm=\"tidegate\""),
            (ask().token(&"0".repeat(64)).send(), "Bearer realm=\"tidegate\", error=\"invalid_token\""),
            (ask().token(&expired).send(), "Bearer realm=\"tidegate\", error=\"invalid_token\""),
            (
                ask().header("Authorization", "Basic YTpi").send(),
                "Bearer realm=\"tidegate\", error=\"invalid_token\"",
            ),
        ] {
            answer.expect_problem(401, "unauthorized");
            told(&answer);
            assert_eq!(answer.header("www-authenticate"), Some(challenge), "{method} {path}");
            denied += 1;
        }
        for (scope, token) in &tokens {
            let answer = ask().token(token).send();
            told(&answer);
            if scope == needs || *scope == "admin" {
                assert!(
                    ![401, 403].contains(&answer.code) && answer.code < 500,
                    "{method} {path} with {scope}: {answer:?}"
                );
            } else {
                answer.expect_problem(403, "forbidden");
                denied += 1;
            }
        }
    }
    wait_told(&host, denied);
    // As it was: nothing here named anything that is there.
    let rules = host.ask("GET", "/api/v1/rules").token(&tokens[0].1).send().expect(200);
    assert_eq!((rules.as_array().unwrap().len(), &rules[0]["state"]), (1, &json!("serving")));
}

/// Waits until the book of refusals tells of `refused`, written or counted. Each look is one more.
fn wait_told(host: &Host, mut refused: u64) {
    wait_for("all refusals to be told", DEADLINE, || {
        host.ask("GET", "/api/v1/status").token("wrong").send();
        refused += 1;
        let log = std::fs::read_to_string(host.data_dir().join("denials.ndjson")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let told: u64 = lines.map(|line| 1 + line["unwritten"].as_u64().unwrap_or(0)).sum();
        if told == refused { Ok(()) } else { Err(format!("{told} of {refused}")) }
    });
}

/// A broker that knows one user, and lets in without a name who only publishes.
fn broker_with(user: &str, password: &str) -> Option<(Mosquitto, TempDir)> {
    if !installed("mosquitto_passwd", "mosquitto") {
        return None;
    }
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("users");
    let made =
        Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args([user, password]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let broker = Mosquitto::start_with(&format!("password_file {}", file.display()))?;
    Some((broker, directory))
}

/// Guarantees: no secret stands in the log, the audit log, the metrics, the dead letters, the spools or any answer: no token, nor what somebody sends as one by mistake,
/// nor the passwords of a broker, a database and a Kafka cluster, of which two are away so that their clients have told all they have to say.
#[test]
fn no_secret_is_told() {
    const BROKER: &str = "swordfish-swordfish";
    const DATABASE: &str = "halibut-halibut-halibut";
    const CLUSTER: &str = "mackerel-mackerel-mackerel";
    const FILED: &str = "sturgeon-sturgeon-sturgeon-sturgeon";
    let Some((broker, _users)) = broker_with("plant", BROKER) else { return };
    let url = format!("mqtt://plant:{BROKER}@127.0.0.1:{}", broker.port());
    let setup = Setup::new().module("json-reading").toml(&format!(
        "[sources.mqtt.plant]\nurl = \"{url}\"\ntopics = [\"dev/#\"]\n\
         [sinks.timescale.history]\nurl = \"postgres://tidegate@127.0.0.1:1/plant?password={DATABASE}\"\n\
         [sinks.kafka.lake]\nbrokers = \"127.0.0.1:1\"\npoints = \"points\"\nclient = {{ \"security.protocol\" = \"SASL_PLAINTEXT\", \
         \"sasl.mechanism\" = \"PLAIN\", \"sasl.username\" = \"plant\", \"sasl.password\" = {{ file = \"kafka.password\" }}, \
         \"message.timeout.ms\" = 3000 }}\n"
    ));
    for (file, secret) in [("kafka.password", CLUSTER), ("admin.token", FILED)] {
        std::fs::write(setup.path().join(file), secret).unwrap();
    }
    let Guarded { host, tokens, expired } = guarded_host(setup, "token_file = \"admin.token\"");
    let slip = "hunter2-hunter2-hunter2";
    let admin = &tokens.last().unwrap().1;
    let get = |path: &str| host.ask("GET", path).token(admin).send();
    let connected = |status: &Value| status["sources"][0]["up"] == json!(true);
    wait_for("the source", DEADLINE, || {
        let status = get("/api/v1/status").expect(200);
        if connected(&status) { Ok(()) } else { Err(status.to_string()) }
    });
    let garbage = Message::poison("dev/a/temp".to_owned(), b"{\"v\":".to_vec());
    Publisher::connect(&broker, Qos::One).deliver([plain("dev/a/temp", 1, 5.0), garbage]);
    let letters = wait_for("the letter", DEADLINE, || {
        let letters = get("/api/v1/dead-letters").expect(200);
        if letters["matching"] == 1 { Ok(letters) } else { Err(letters.to_string()) }
    });
    assert_eq!(letters["letters"][0]["topic"], "dev/a/temp", "{letters}");
    assert_eq!(sqlite_dead_letters(&host.data_dir()).len(), 1);
    wait_for("what the clients of both have to say", DEADLINE, || {
        let (readiness, log) = (get("/readyz").body, host.log());
        let told = ["sink history", "sink lake"].iter().all(|sink| readiness.contains(sink));
        let logged = ["history", "lake"].iter().all(|sink| log.contains(&format!("sink=\"{sink}\"")));
        if told && logged { Ok(()) } else { Err(format!("{readiness}; {}", host.tail())) }
    });

    let mut told = String::new();
    for (method, path, _) in operations(&host) {
        for shown in [admin.as_str(), FILED, slip, expired.as_str()] {
            let answer = host.ask(&method, &path).token(shown).body("application/json", b"{}").send();
            told += &format!("{}\n{}\n", answer.headers, answer.body);
        }
    }
    told += &host.log();
    for file in tidegate_tests::files(&host.data_dir()) {
        told += &String::from_utf8_lossy(&std::fs::read(host.data_dir().join(file)).unwrap());
    }
    for looked_at in ["only-admin", "sink history", "sink lake", "dev/a/temp"] {
        assert!(told.contains(looked_at), "{looked_at} was not looked at");
    }
    let all = tokens.iter().map(|(_, token)| token.as_str());
    for secret in all.chain([&*expired, slip, BROKER, DATABASE, CLUSTER, FILED]) {
        assert!(!told.contains(secret), "a secret is told");
        assert!(!told.contains(&secret[..16]), "a part of a secret is told");
    }
}

/// Guarantees: paths are taken as they are written: what would lead elsewhere once decoded, and what is no name, leads nowhere, and
/// no file is made, read or changed for it.
#[test]
fn path_tricks() {
    let host = quiet().module("threshold").launch();
    // Without what the host writes of its own accord: its books of changes and refusals, and what it is subscribed to.
    let files = || -> Vec<_> {
        let all = tidegate_tests::files(host.path()).into_iter();
        all.filter(|path| !path.starts_with("data/mqtt") && path.extension().is_none_or(|it| it != "ndjson"))
            .collect()
    };
    let before = files();
    let long = "a".repeat(3_900);
    let names = [
        "..",
        ".",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%2fhot",
        "../hot",
        "hot%00",
        "hot%00.toml",
        "%00",
        "h%6ft",
        "Hot",
        "hot.toml",
        "hot/",
        "hot//",
        "-hot",
        "hot_",
        "%F0%9F%94%A5",
        "\u{443}",
        "ho\u{301}t",
        "%c0%ae%c0%ae",
        "..;",
        "hot;x",
        "*",
        "~",
        "hot\\..",
        "C:hot",
        "",
        &long,
        &"a".repeat(64),
    ];
    for name in names {
        for (method, path) in [
            ("GET", format!("/api/v1/rules/{name}")),
            ("PUT", format!("/api/v1/rules/{name}")),
            ("DELETE", format!("/api/v1/rules/{name}")),
            ("POST", format!("/api/v1/rules/{name}/enable")),
            ("GET", format!("/api/v1/modules/{name}")),
            ("DELETE", format!("/api/v1/modules/{name}")),
            ("GET", format!("/api/v1/modules/{name}/content")),
            ("GET", format!("/api/v1/dead-letters/{name}")),
        ] {
            let answer = host.ask(method, &path).json(&json!({"module": "threshold.wasm", "topics": ["#"]})).send();
            // Bytes that no path can have are refused by the reader of requests, without a body.
            assert!([400, 404, 405].contains(&answer.code), "{method} {path}: {answer:?}");
        }
    }
    host.ask("GET", &format!("/api/v1/rules/{}", "a".repeat(5_000))).send().expect_problem(414, "uri_too_long");
    for module in
        ["../threshold.wasm", "/etc/passwd", "a/b.wasm", ".hidden.wasm", "threshold.wasm\0", "threshold", "..wasm"]
    {
        let answer = host.ask("PUT", "/api/v1/rules/hot").json(&json!({"module": module, "topics": ["#"]})).send();
        assert_eq!(answer.code, 422, "{module}: {answer:?}");
    }
    assert_eq!(files(), before);
}

/// Guarantees: what is not served is refused in one form, with the methods that are; no page of another origin can read or change
/// anything; every answer has the headers that keep browsers from making something else of it.
#[test]
fn refusals_and_headers() {
    let host = quiet().module("threshold").launch();
    host.ask("GET", "/api/v2").send().expect_problem(404, "not_found");
    host.ask("GET", "/api/v1/rules/").send().expect_problem(404, "not_found");
    let wrong = host.ask("POST", "/api/v1/rules").send();
    wrong.expect_problem(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), Some("GET"));
    assert_eq!(host.ask("BREW", "/livez").send().code, 405);
    host.ask("GET", "/api/v1/series?limit=0").send().expect_problem(400, "bad_request");
    host.ask("GET", "/api/v1/series?colour=red").send().expect_problem(400, "bad_request");
    host.ask("GET", "/api/v1/series?topic=a%2F%23%2Fb").send().expect_problem(400, "bad_request");
    host.ask("POST", "/api/v1/dead-letters/purge").send().expect_problem(400, "bad_request");
    let page = "http://evil.example";
    host.ask("POST", "/api/v1/rules/threshold/disable")
        .header("Origin", page)
        .send()
        .expect_problem(403, "foreign_origin");
    host.ask("GET", "/api/v1/status").header("Origin", page).send().expect_problem(403, "foreign_origin");
    host.ask("GET", "/api/v1/status")
        .header("Sec-Fetch-Site", "cross-site")
        .header("Sec-Fetch-Mode", "no-cors")
        .send()
        .expect_problem(403, "foreign_origin");
    wait_for("foreign pages to be written down", DEADLINE, || {
        let told = host.ask("GET", "/api/v1/audit?denials=true").send().expect(200);
        let lines = told["lines"].as_array().unwrap().iter();
        let found: Vec<_> = lines
            .map(|line| (line["operation"].as_str().unwrap().to_owned(), line["refused"] == "foreign_origin"))
            .collect();
        let expected = ["disableRule", "status", "status"].map(|operation| (operation.to_owned(), true));
        if found == expected { Ok(()) } else { Err(told) }
    });
    host.ask("GET", "/api/v1/status").header("Origin", "http://127.0.0.1").send().expect(200);
    let preflight = host
        .ask("OPTIONS", "/api/v1/rules")
        .header("Origin", page)
        .header("Access-Control-Request-Method", "PUT")
        .send();
    assert_eq!(preflight.code, 403);
    for answer in [
        host.ask("GET", "/api/v1").send(),
        host.ask("GET", "/api/v1/status").send(),
        host.ask("GET", "/nowhere").send(),
        preflight,
    ] {
        let headers = |name: &str| answer.header(name).unwrap_or_else(|| panic!("no {name}: {answer:?}"));
        assert_eq!((headers("x-content-type-options"), headers("x-frame-options")), ("nosniff", "DENY"));
        assert!(headers("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(headers("cache-control"), "no-store");
        assert!(!answer.headers.to_lowercase().contains("access-control-"), "{answer:?}");
    }
    let html = host.ask("GET", "/api/v1").send();
    assert!(
        html.header("content-type").unwrap().starts_with("text/html")
            && html.body.contains("/api/v1/rules/{rule}/test")
    );
}

/// Guarantees: each caller has a rate of its own: who is over it is told when to come again, and costs nobody else anything; a flood
/// of refusals does not fill the audit log.
#[test]
fn rates() {
    let Guarded { host, tokens, .. } = guarded("requests_per_s = 1");
    // As many at once as a machine may need to be over any rate.
    let ask = || host.ask("GET", "/api/v1/rules").token("wrong").send();
    let flood: Vec<Answer> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..10).map(|_| ask()).collect::<Vec<_>>())).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let over = flood.iter().find(|answer| answer.code == 429).expect("nobody was over the rate");
    over.expect_problem(429, "too_many_requests");
    assert_eq!(over.header("retry-after"), Some("1"));
    for (_, token) in &tokens {
        assert_ne!(host.ask("GET", "/api/v1/status").token(token).send().code, 429);
    }
    // Whoever asks whether a host lives, is ready and how it does is answered, however many do.
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        assert!((0..20).all(|_| host.ask("GET", path).send().code != 429), "{path}");
    }
    wait_told(&host, flood.len() as u64);
    assert!(
        !host.data_dir().join("audit.ndjson").exists(),
        "nothing was changed, so nothing stands among the changes"
    );
}

/// Guarantees: who shows no token hears of a host's health names and our own words, and nothing that brokers, databases or modules have said;
/// who may read hears why.
#[test]
fn health_for_anybody() {
    let Guarded { host, tokens, .. } = guarded("");
    let (_, reader) = tokens.iter().find(|(name, _)| *name == "read").unwrap();
    let anybody = host.ask("GET", "/readyz").send();
    assert_eq!(anybody.code, 503);
    assert_eq!(anybody.json()["reasons"], json!(["source plant: it is not connected"]));
    tidegate_tests::wait_for("the reason", tidegate_tests::DEADLINE, || {
        let told = host.ask("GET", "/readyz").token(reader).send().body;
        if told.contains("source plant: ") && !told.contains("yet") { Ok(()) } else { Err(told) }
    });
    for path in ["/readyz", "/health"] {
        let told = |ask: tidegate_tests::Ask| ask.send().body;
        let (anybody, wrong) = (told(host.ask("GET", path)), told(host.ask("GET", path).token("wrong")));
        assert!(anybody == wrong && anybody.contains("it is not connected"), "{path}: {anybody} {wrong}");
        assert!(!told(host.ask("GET", path).token(reader)).contains("it is not connected"), "{path}");
    }
    // The tokens that were tried stand where all that are refused do.
    wait_told(&host, 2);
}

/// Guarantees: probes are no place to find out a token: with so many wrong ones that others would be refused, nobody is told more for a right one.
#[test]
fn no_oracle_at_probes() {
    let Guarded { host, tokens, .. } = guarded("requests_per_s = 1");
    let (_, reader) = tokens.iter().find(|(name, _)| *name == "read").unwrap();
    let told = |token: &str| host.ask("GET", "/health").token(token).send().body;
    wait_for("the reason", DEADLINE, || {
        let told = told(reader);
        if told.contains("it is not connected") { Err(told) } else { Ok(()) }
    });
    wait_for("too many wrong ones", DEADLINE, || {
        (0..5).for_each(|_| drop(told("wrong")));
        let told = told(reader);
        if told.contains("it is not connected") { Ok(()) } else { Err(told) }
    });
}

/// Guarantees: with an address of their own, probes are there and only there, and nothing else is.
#[test]
fn probes_apart() {
    let port = tidegate_tests::free_port();
    let host = quiet().admin(&format!("probes_listen = \"127.0.0.1:{port}\"")).launch_at(port);
    let apart = |path: &str| tidegate_tests::Ask::new(port, "GET", path).send().code;
    assert_eq!((apart("/livez"), apart("/metrics")), (200, 200));
    assert_eq!((apart("/api/v1/status"), apart("/api/v1")), (404, 404));
    assert_eq!(host.ask("GET", "/metrics").send().code, 404);
    assert_eq!(host.ask("GET", "/api/v1/status").send().code, 200);
}

/// Guarantees: over TLS the same is served, and nothing without; a caller without a certificate of the right authority is not even
/// spoken with, and one with it may do what certificates may.
#[test]
fn tls_and_certificates() {
    if !(installed("openssl", "openssl") && installed("curl", "curl")) {
        return;
    }
    let setup = quiet().module("threshold");
    let directory = setup.path().to_owned();
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for authority in ["ca", "other"] {
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}"
        ));
    }
    std::fs::write(directory.join("server.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for (name, authority) in [("server", "ca"), ("ops", "ca"), ("stranger", "other")] {
        openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -out {name}.pem -days 2 -extfile server.ext"
        ));
    }
    let port = tidegate_tests::free_port();
    let (secret, section) = token("robot", "rules", "");
    let admin = format!(
        "cert_file = \"server.pem\"\nkey_file = \"server.key\"\nclient_ca_file = \"ca.pem\"\nclient_scopes = [\"read\"]\nprobes_listen = \"127.0.0.1:{port}\"\n{section}"
    );
    let host = setup.admin(&admin).launch_at(port);
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", host.port());
    let curl = |args: &[&str]| {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--max-time",
                &DEADLINE.as_secs().to_string(),
                "--cacert",
                "ca.pem",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ])
            .args(args)
            .current_dir(&directory)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let ops = ["--cert", "ops.pem", "--key", "ops.key"];
    let stranger = ["--cert", "stranger.pem", "--key", "stranger.key"];
    wait_for("TLS", DEADLINE, || {
        let code = curl(&[&ops[..], &[&url("/api/v1/rules")]].concat());
        if code == "200" { Ok(()) } else { Err(code) }
    });
    assert_eq!(curl(&[&url("/api/v1/rules")]), "000", "no certificate");
    assert_eq!(curl(&[&stranger[..], &[&url("/api/v1/rules")]].concat()), "000", "of another authority");
    let disable = url("/api/v1/rules/threshold/disable");
    assert_eq!(curl(&[&ops[..], &["--request", "POST", &disable]].concat()), "403", "certificates may read");
    let bearer = format!("Authorization: Bearer {secret}");
    assert_eq!(curl(&[&ops[..], &["--request", "POST", "--header", &bearer, &disable]].concat()), "200");
    assert_eq!(
        curl(&[&stranger[..], &["--request", "POST", "--header", &bearer, &disable]].concat()),
        "000",
        "a token is not enough"
    );
    let plain = std::panic::catch_unwind(|| host.ask("GET", "/api/v1/rules").send());
    assert!(plain.is_err(), "it was served without TLS");
    let book = |name: &str| std::fs::read_to_string(host.data_dir().join(name)).unwrap();
    wait_for("refused certificates to be written down", DEADLINE, || {
        let lines = book("denials.ndjson");
        let refused = lines.lines().filter(|line| line.contains("\"certificate_refused\"")).count();
        if refused >= 3 { Ok(()) } else { Err(lines) }
    });
    let log = book("audit.ndjson") + &book("denials.ndjson");
    assert!(log.contains("\"who\":\"certificate ") && log.contains("\"who\":\"robot\""), "{log}");
}
