//! How rules come to serve: compiled once, and not again at the next start.

use std::time::Instant;

use tidegate_tests::{Mosquitto, Protocol, Setup, built_module, variant, wat_guest};

const RULES: u32 = 50;
/// Of these many are of a size that takes a compiler a while; the rest are small, so that a slow machine gets done too.
const LARGE: u32 = 10;

/// Guarantees: modules are compiled once: after a restart fifty rules come from the cache, and the host is ready; one whose compiled file was
/// damaged meanwhile is compiled again, and serves too; nobody else can read the cache.
#[test]
fn a_restart_compiles_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let Some(broker) = Mosquitto::start() else { return };
    let mut setup = Setup::new().mqtt(&broker, Protocol::V5, r#"["dev/#"]"#, "").module("json-reading");
    let threshold = built_module("threshold");
    for number in 0..RULES - 1 {
        let name = format!("watch-{number}");
        let module = if number < LARGE { variant(&threshold, number) } else { wat_guest(&name, &[]) };
        let file = format!("module = \"{name}.wasm\"\ntopics = [\"dev/#\"]\n[config]\nabove = {number}.0\n");
        setup = setup.bytes(&name, &module).rule(&name, &file);
    }
    let mut host = setup.start();
    let cache = |host: &tidegate_tests::Host| host.status().module_cache.expect("there is a cache");
    let cold = cache(&host);
    assert_eq!((cold.hits, cold.misses, cold.damaged), (0, u64::from(RULES), 0));
    let directory = host.data_dir().join("cache");
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(host.stop().success());

    let began = Instant::now();
    host.start_again();
    println!("{RULES} rules, warm cache: ready after {:?}", began.elapsed());
    let warm = cache(&host);
    assert_eq!((warm.hits, warm.misses, warm.damaged), (u64::from(RULES), 0, 0));
    assert!(host.stop().success());

    let files = || std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
    let ends = |file: &std::path::Path, wanted| file.extension().is_some_and(|ending| ending == wanted);
    let passed = files().filter(|file| ends(file, "passed")).count();
    assert_eq!(passed, 1 + LARGE as usize, "their test cases were run, and are not run again");
    let file = files().find(|file| ends(file, "aot")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    host.start_again();
    let mended = cache(&host);
    assert_eq!((mended.hits, mended.misses, mended.damaged), (u64::from(RULES) - 1, 0, 1));
    assert!(host.status().rules.iter().all(|rule| rule.state == "serving"));
}
