//! Modules that somebody vouches for, and what becomes of all others: over files, over the API, and over restarts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_tests::{DEADLINE, Host, Setup, binary, built_module, variant, wait_for};

use crate::api::quiet;

/// Who signs: a directory with keys and modules that is on no host.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn tidegate(&self, args: &[&str]) -> Output {
        Command::new(binary()).args(args).current_dir(self.0.path()).output().unwrap()
    }

    /// Makes a key; gives the line that makes it known.
    fn key(&self, name: &str) -> String {
        let made = self.tidegate(&["rule", "keygen", "--name", name, "--out", &format!("{name}.pem"), "--json"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        format!("{name} = \"{}\"\n", made["public"].as_str().unwrap())
    }

    /// Signs a module as a version of `threshold`; gives its path.
    fn sign(&self, module: &[u8], version: &str, key: &str) -> PathBuf {
        let path = self.0.path().join(format!("{version}-{key}.wasm"));
        std::fs::write(&path, module).unwrap();
        let key = format!("{key}.pem");
        let args =
            ["rule", "sign", path.to_str().unwrap(), "--key", &key, "--version", version, "--name", "threshold"];
        let signed = self.tidegate(&args);
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        path
    }
}

/// A manifest that has expired, as some other program would have signed it: `rule sign` makes none. None, loudly, where there is no openssl.
fn expired(desk: &Desk, signed: &Path, key: &str) -> Option<Vec<u8>> {
    if !tidegate_tests::installed("openssl", "openssl") {
        return None;
    }
    let mut manifest: Value = serde_json::from_slice(&manifest(signed)).unwrap();
    manifest["expires"] = json!("2020-01-31T00:00:00Z");
    let field = |name: &str| manifest[name].as_str().unwrap();
    let text = format!(
        "tidegate module manifest v1\nname {}\nversion {}\nsha256 {}\nexpires {}\n",
        field("name"),
        field("version"),
        field("sha256"),
        field("expires")
    );
    std::fs::write(desk.0.path().join("text"), text).unwrap();
    let key = format!("{key}.pem");
    let made = Command::new("openssl")
        .args(["pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", "text", "-out", "signature"])
        .current_dir(desk.0.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let signature = std::fs::read(desk.0.path().join("signature")).unwrap();
    manifest["signature"] = json!(signature.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    Some(manifest.to_string().into_bytes())
}

/// Guarantees: what has expired vouches for nothing: not for a module that is dropped, nor for one that comes over the API, nor for one that served until the host was
/// started again; and for how long one that serves is good is told before.
#[test]
fn until_it_expires() {
    let desk = Desk::new();
    let keys = desk.key("release");
    let module = built_module("json-reading");
    let signed = desk.sign(&module, "1.0.0", "release");
    let Some(old) = expired(&desk, &signed, "release") else { return };
    let mut host = guarded(&keys).launch();
    lay(&host, &module, Some(&old));
    wait_rule(&host, "failed", Some("signature_expired"), None);
    let sha256 = serde_json::from_slice::<Value>(&old).unwrap()["sha256"].as_str().unwrap().to_owned();
    let vouch = host.ask("PUT", &format!("/api/v1/modules/{sha256}/signature")).body("application/json", &old);
    vouch.send().expect_problem(422, "signature_expired");
    let left = |host: &Host| -> Option<f64> {
        let told = host.ask("GET", "/metrics").send().body;
        let line = told.lines().find(|line| line.starts_with("tidegate_rule_signature_expires_seconds{"))?;
        assert!(line.contains("rule=\"hot\""), "{line}");
        line.rsplit(' ').next().unwrap().parse().ok()
    };
    assert_eq!(left(&host), None);

    lay(&host, &module, Some(&manifest(&signed)));
    let serving = wait_rule(&host, "serving", None, None);
    assert!(serving["signature_expires_ms"].is_u64(), "{serving}");
    wait_for("how long it is good", DEADLINE, || {
        let (year, hour) = (365.0 * 86_400.0, 3_600.0);
        match left(&host) {
            Some(seconds) if seconds > year - hour && seconds <= year => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(host.stop().success());
    std::fs::write(host.rules_dir().join("hot.wasm.sig"), &old).unwrap();
    // Else what it has kept itself would serve on, by the manifest that was good then.
    std::fs::remove_dir_all(host.data_dir().join("generations")).unwrap();
    host.launch_again();
    wait_rule(&host, "failed", Some("signature_expired"), None);
}

fn manifest(module: &Path) -> Vec<u8> {
    std::fs::read(format!("{}.sig", module.display())).unwrap()
}

fn guarded(keys: &str) -> Setup {
    quiet().toml(&format!("[rules]\nrequire_signatures = true\n[rules.keys]\n{keys}"))
}

/// Lays a module and its manifest into the rules directory, the manifest first, as careful programs do.
fn lay(host: &Host, module: &[u8], manifest: Option<&[u8]>) {
    match manifest {
        Some(manifest) => host.drop_by_rename("hot.wasm.sig", manifest),
        None => drop(std::fs::remove_file(host.rules_dir().join("hot.wasm.sig"))),
    }
    host.drop_by_rename("hot.wasm", module);
}

/// Waits until the rule `hot` is in a state, with a code of its problem; gives it.
#[track_caller]
fn wait_rule(host: &Host, state: &str, code: Option<&str>, sha256: Option<&str>) -> Value {
    wait_for(&format!("the rule to be {state}, {code:?}"), DEADLINE, || {
        let answer = host.ask("GET", "/api/v1/rules/hot").send();
        let rule = if answer.code == 200 { answer.json() } else { Value::Null };
        let same = sha256.is_none_or(|sha256| rule["sha256"] == sha256);
        if rule["state"] == state && rule["problem_code"].as_str() == code && same {
            Ok(rule)
        } else {
            Err(format!("{answer:?}"))
        }
    })
}

/// Guarantees: a dropped module serves only with a manifest that a key of ours has signed for these bytes; each other case is refused with
/// its word in the API, the log and the metrics, and leaves serving what serves; and what has served bars what is older, also after a
/// restart.
#[test]
fn over_files() {
    let desk = Desk::new();
    let keys = desk.key("release");
    desk.key("stranger");
    let (one, two) = (built_module("json-reading"), variant(&built_module("json-reading"), 2));
    let (first, second) = (desk.sign(&one, "1.0.0", "release"), desk.sign(&two, "1.1.0", "release"));
    let mut host = guarded(&keys).launch();

    lay(&host, &one, None);
    wait_rule(&host, "failed", Some("unsigned"), None);
    lay(&host, &one, Some(&manifest(&desk.sign(&one, "1.0.0", "stranger"))));
    wait_rule(&host, "failed", Some("signature_untrusted"), None);
    lay(&host, &one, Some(b"{}"));
    wait_rule(&host, "failed", Some("manifest_malformed"), None);
    lay(&host, &one, Some(&manifest(&first)));
    let serving = wait_rule(&host, "serving", None, None);
    let sha256 = serving["sha256"].as_str().unwrap().to_owned();

    // Tampered with: these bytes are not those that were signed. What served goes on.
    lay(&host, &two, Some(&manifest(&first)));
    wait_rule(&host, "serving", Some("signature_other_module"), Some(&sha256));
    lay(&host, &two, Some(&manifest(&second)));
    let newer = wait_rule(&host, "serving", None, None);
    assert_ne!(newer["sha256"], json!(sha256));

    // Back to what was good once: not here, and not after a restart.
    lay(&host, &one, Some(&manifest(&first)));
    wait_rule(&host, "serving", Some("signature_downgrade"), newer["sha256"].as_str());
    let told = host.ask("GET", "/metrics").send().body;
    for code in
        ["unsigned", "signature_untrusted", "manifest_malformed", "signature_other_module", "signature_downgrade"]
    {
        assert!(host.log().contains(code), "{code} is not in the log");
        let counted = told.lines().any(|line| line.starts_with("tidegate_rule_refused") && line.contains(code));
        assert!(counted, "{code} is not counted: {told}");
    }
    assert!(host.stop().success());
    host.launch_again();
    let kept = wait_rule(&host, "serving", Some("signature_downgrade"), newer["sha256"].as_str());
    assert_eq!(kept["signature_expires_ms"], newer["signature_expires_ms"], "of what serves, from disk: {kept}");
    // The same bytes, vouched for anew.
    lay(&host, &one, Some(&manifest(&desk.sign(&one, "1.2.0", "release"))));
    wait_rule(&host, "serving", None, Some(&sha256));
    // Stripped of its manifest, it is not loaded again.
    std::fs::remove_file(host.rules_dir().join("hot.wasm.sig")).unwrap();
    wait_rule(&host, "serving", Some("unsigned"), Some(&sha256));
    assert!(host.stop().success());
    std::fs::remove_dir_all(host.data_dir().join("generations")).unwrap();
    host.launch_again();
    wait_rule(&host, "failed", Some("unsigned"), None);
}

/// Guarantees: over the API a module comes in only after its manifest, which no one but its signer can have made; it can be vouched for
/// anew, loses its manifest only with itself, and is moved with it.
#[test]
fn over_the_api() {
    let desk = Desk::new();
    let keys = desk.key("release");
    desk.key("stranger");
    let module = built_module("json-reading");
    let (ours, theirs) = (desk.sign(&module, "1.0.0", "release"), desk.sign(&module, "1.0.0", "stranger"));
    let host = guarded(&keys).launch();
    let sha256 = serde_json::from_slice::<Value>(&manifest(&ours)).unwrap()["sha256"].as_str().unwrap().to_owned();
    let at = format!("/api/v1/modules/{sha256}");
    let upload = |bytes: &[u8]| host.ask("POST", "/api/v1/modules").body("application/wasm", bytes).send();
    let vouch =
        |at: &str, bytes: &[u8]| host.ask("PUT", &format!("{at}/signature")).body("application/json", bytes).send();
    upload(&module).expect_problem(422, "unsigned");
    // Not parsed before: what is no module at all is refused for the same reason.
    upload(b"no module").expect_problem(422, "unsigned");
    vouch(&at, &manifest(&theirs)).expect_problem(422, "signature_untrusted");
    vouch(&format!("/api/v1/modules/{}", "0".repeat(64)), &manifest(&ours))
        .expect_problem(422, "signature_other_module");
    vouch(&at, b"{\"name\": 1}").expect_problem(422, "manifest_malformed");
    assert_eq!(std::fs::read_dir(host.rules_dir()).unwrap().count(), 0, "something was kept");
    let taken = vouch(&at, &manifest(&ours)).expect(201);
    assert_eq!((&taken["version"], &taken["key"]), (&json!("1.0.0"), &json!("release")));
    upload(&variant(&module, 1)).expect_problem(422, "unsigned");
    let kept = upload(&module).expect(201);
    assert_eq!(host.ask("GET", &at).send().expect(200)["signature"]["version"], "1.0.0");

    let definition = json!({"module": kept["file"], "topics": ["dev/#"]});
    assert_eq!(host.ask("PUT", "/api/v1/rules/hot").json(&definition).send().expect(201)["state"], "serving");
    vouch(&at, &manifest(&desk.sign(&module, "1.1.0", "release"))).expect(200);
    assert_eq!(host.ask("GET", &at).send().expect(200)["signature"]["version"], "1.1.0");
    vouch(&at, &manifest(&ours)).expect_problem(422, "signature_downgrade");
    host.ask("DELETE", "/api/v1/rules/hot").send().expect(204);
    host.ask("DELETE", &at).send().expect(204);
    let left = tidegate_tests::files(&host.rules_dir());
    assert!(left.is_empty(), "{left:?}");
    let audit = std::fs::read_to_string(host.data_dir().join("audit.ndjson")).unwrap();
    assert!(audit.contains("putModuleSignature") && audit.contains("signature_untrusted"), "{audit}");

    // One that was dropped keeps its manifest when it is set aside.
    lay(&host, &module, Some(&manifest(&desk.sign(&module, "1.2.0", "release"))));
    wait_rule(&host, "serving", None, None);
    host.ask("DELETE", "/api/v1/rules/hot").send().expect(204);
    assert_eq!(host.ask("PUT", "/api/v1/rules/warm").json(&definition).send().expect(201)["state"], "serving");

    let open = quiet().launch();
    open.ask("PUT", &format!("{at}/signature"))
        .body("application/json", &manifest(&ours))
        .send()
        .expect_problem(409, "no_keys");
}

/// Guarantees: a candidate that is uploaded for a backtest brings along what vouches for it, as it does everywhere else; one that nobody vouches
/// for is not looked at.
#[test]
fn candidates_of_backtests() {
    let desk = Desk::new();
    let keys = desk.key("release");
    let module = built_module("json-reading");
    let signed = desk.sign(&module, "1.0.0", "release");
    let host = guarded(&keys).launch();
    lay(&host, &module, Some(&manifest(&signed)));
    wait_rule(&host, "serving", None, None);
    let (candidate, unsigned) = (variant(&module, 1), desk.0.path().join("unsigned.wasm"));
    let signed = desk.sign(&candidate, "1.1.0", "release");
    std::fs::write(&unsigned, &candidate).unwrap();
    let messages = desk.0.path().join("messages.ndjson");
    let message = json!({"topic": "dev/a/temp", "payload": "{\"v\": 1.0}", "received_us": 1});
    std::fs::write(&messages, format!("{message}\n")).unwrap();
    let node = format!("http://127.0.0.1:{}", host.port());
    let backtest = |module: &Path| {
        let (module, messages) = (module.to_str().unwrap(), messages.to_str().unwrap());
        desk.tidegate(&["backtest", "hot", "--module", module, "--file", messages, "--json", "--node", &node])
    };
    let refused = backtest(&unsigned);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("unsigned"), "{refused:?}");
    let tried = backtest(&signed);
    assert!(tried.status.success(), "{tried:?}");
}

/// Guarantees: a new key is made known beside the old one, modules are signed again, and the old one is taken away; at no time does a host
/// start without its rules.
#[test]
fn keys_follow_each_other() {
    let desk = Desk::new();
    let (old, new) = (desk.key("y2025"), desk.key("y2026"));
    let module = built_module("json-reading");
    let (by_old, by_new) = (desk.sign(&module, "1.0.0", "y2025"), desk.sign(&module, "1.0.1", "y2026"));
    let mut host = guarded(&format!("{old}{new}")).bytes("hot", &module).launch();
    host.drop_by_rename("hot.wasm.sig", &manifest(&by_old));
    wait_rule(&host, "serving", None, None);
    host.drop_by_rename("hot.wasm.sig", &manifest(&by_new));
    wait_for("the new manifest to be what serves", DEADLINE, || {
        let kept = std::fs::read_to_string(host.data_dir().join("signatures.json")).unwrap_or_default();
        if kept.contains("1.0.1") { Ok(()) } else { Err(format!("{kept}; {}", host.tail())) }
    });
    assert!(host.stop().success());
    host.replace_in_config(&old, "");
    host.launch_again();
    wait_rule(&host, "serving", None, None);
    host.drop_by_rename("hot.wasm.sig", &manifest(&by_old));
    wait_rule(&host, "serving", Some("signature_untrusted"), None);
}

/// Guarantees: who signs can check what hosts would say, with a key or with a host's configuration; what `openssl` makes is a key as well;
/// a private key is for its owner only and is not written over.
#[test]
fn by_hand() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let key = desk.key("release");
    let public = key.split('"').nth(1).unwrap();
    let pem = desk.0.path().join("release.pem");
    assert_eq!(std::fs::metadata(&pem).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!desk.tidegate(&["rule", "keygen", "--name", "release", "--out", "release.pem"]).status.success());
    let module = desk.sign(&built_module("json-reading"), "1.0.0", "release");
    let module = module.to_str().unwrap();
    let verified = desk.tidegate(&["rule", "verify", module, "--key", public]);
    assert!(
        verified.status.success() && String::from_utf8_lossy(&verified.stdout).contains("threshold 1.0.0"),
        "{verified:?}"
    );
    let rules = desk.0.path().join("rules.d");
    std::fs::create_dir(&rules).unwrap();
    std::fs::copy(module, rules.join("hot.wasm")).unwrap();
    let config = format!(
        "[sources.mqtt.plant]\nurl = \"mqtt://127.0.0.1:1\"\ntopics = [\"dev/#\"]\n[rules]\nrequire_signatures = true\n[rules.keys]\n{key}"
    );
    std::fs::write(desk.0.path().join("tidegate.toml"), config).unwrap();
    assert!(desk.tidegate(&["rule", "verify", module, "--config", "tidegate.toml"]).status.success());
    let check = || {
        let checked = desk.tidegate(&["check"]);
        (checked.status.success(), String::from_utf8_lossy(&checked.stderr).into_owned())
    };
    let (valid, words) = check();
    assert!(!valid && words.contains("not signed"), "{words}");
    std::fs::copy(format!("{module}.sig"), rules.join("hot.wasm.sig")).unwrap();
    assert!(check().0, "{}", check().1);
    std::fs::write(module, b"other bytes").unwrap();
    let refused = desk.tidegate(&["rule", "verify", module, "--key", public]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("another module"),
        "{refused:?}"
    );

    if tidegate_tests::installed("openssl", "openssl") {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "ed25519", "-out", "openssl.pem"])
            .current_dir(desk.0.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        desk.sign(b"any bytes", "1.0.0", "openssl");
    }
}

/// Guarantees: a candidate that is tried by command is vouched for by what stands beside it, as one that is uploaded is; one without is refused.
#[test]
fn a_candidate_by_command() {
    let desk = Desk::new();
    let host = guarded(&desk.key("release")).launch();
    let signed = desk.sign(&built_module("threshold"), "1.0.0", "release");
    let unsigned = desk.0.path().join("unsigned.wasm");
    std::fs::write(&unsigned, variant(&built_module("threshold"), 1)).unwrap();
    let file = "module = \"any.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = 90.0\n";
    std::fs::write(desk.0.path().join("hot.toml"), file).unwrap();
    std::fs::write(desk.0.path().join("points.ndjson"), "{\"topic\":\"dev/a\",\"time_us\":1,\"value\":99}\n")
        .unwrap();
    let node = format!("http://127.0.0.1:{}", host.port());
    let tried = |module: &Path| {
        let module = module.to_str().unwrap();
        let args = ["backtest", "hot", "--definition", "hot.toml", "--file", "points.ndjson", "--module", module];
        desk.tidegate(&[&args[..], &["--json", "--node", &node]].concat())
    };
    let found: Value = serde_json::from_slice(&tried(&signed).stdout).unwrap();
    assert_eq!(found["alerts"]["raised"], 1, "{found}");
    let refused = tried(&unsigned);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stdout).contains("unsigned"),
        "{refused:?}"
    );
}
