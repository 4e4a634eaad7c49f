use std::time::Duration;

use super::*;
use crate::module::hex;

const DAY: Duration = Duration::from_secs(86_400);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::of(&[seed; 32])
}

fn digest(of: u8) -> String {
    hex(&[of; 32])
}

fn trust(keys: &[(&str, &SigningKey)], data_dir: &Path) -> Trust {
    let keys = keys.iter().map(|(called, key)| (name(called), key.public())).collect();
    Trust::open(&Signatures { required: true, keys }, Some(data_dir)).unwrap()
}

fn manifest(version: &str, sha256: &str, key: &SigningKey) -> Manifest {
    Manifest::sign(name("threshold"), version.parse().unwrap(), sha256, SystemTime::now() + DAY, key).unwrap()
}

fn refused(trust: &Trust, sha256: &str, manifest: Option<&str>) -> &'static str {
    trust.check(sha256, manifest.map(str::as_bytes)).map_or_else(|error| error.code(), |_| "taken")
}

/// Guarantees: with a clock that has not been set a manifest is good that was when the host last wrote something, and no other.
#[test]
fn an_unset_clock() {
    let (directory, ours) = (tempfile::tempdir().unwrap(), key(1));
    let unset = SystemTime::UNIX_EPOCH + DAY;
    let signed = |expires: SystemTime| {
        Manifest::sign(name("threshold"), "1.2.0".parse().unwrap(), &digest(7), expires, &ours).unwrap()
    };
    let now = SystemTime::now();
    let taken =
        |expires| trust(&[("release", &ours)], directory.path()).verify(&signed(expires), &digest(7), unset).is_ok();
    assert!(taken(now - DAY), "nothing is known");
    std::fs::write(directory.path().join("audit.ndjson"), "").unwrap();
    assert!(!taken(now - DAY) && taken(now + DAY));
}

/// Guarantees: a module is believed only with a manifest that a key of ours has signed, for these very bytes, and that is still good; and
/// each way in which that is not so has a word of its own.
#[test]
fn what_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (key(1), key(2));
    let trust = trust(&[("release", &ours)], directory.path());
    let good = manifest("1.2.0", &digest(7), &ours).to_json();
    let signed = trust.check(&digest(7), Some(good.as_bytes())).unwrap().unwrap();
    assert_eq!((signed.key.as_str(), signed.version.to_string()), ("release", "1.2.0".to_owned()));
    let old = Manifest::sign(name("threshold"), "1.2.0".parse().unwrap(), &digest(7), SystemTime::now() - DAY, &ours);
    for (what, sha256, shown, code) in [
        ("stripped", digest(7), None, "unsigned"),
        ("another key", digest(7), Some(manifest("1.2.0", &digest(7), &theirs).to_json()), "signature_untrusted"),
        ("other bytes", digest(8), Some(good.clone()), "signature_other_module"),
        ("another digest written in", digest(8), Some(good.replace(&digest(7), &digest(8))), "signature_untrusted"),
        ("another version", digest(7), Some(good.replace("1.2.0", "1.3.0")), "signature_untrusted"),
        ("another name", digest(7), Some(good.replace("threshold", "thresholds")), "signature_untrusted"),
        ("expired", digest(7), Some(old.unwrap().to_json()), "signature_expired"),
        ("empty", digest(7), Some(String::new()), "manifest_malformed"),
        ("more than it has", digest(7), Some(good.replace('{', "{\"more\": 1, ")), "manifest_malformed"),
        ("no version", digest(7), Some(good.replace("1.2.0", "newest")), "manifest_malformed"),
        ("too large", digest(7), Some(good + &" ".repeat(MAX_MANIFEST_BYTES)), "manifest_malformed"),
    ] {
        assert_eq!(refused(&trust, &sha256, shown.as_deref()), code, "{what}");
    }
}

/// Guarantees: no bit of a signature or of what it is for can be changed.
#[test]
fn no_bit_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let ours = key(1);
    let trust = trust(&[("release", &ours)], directory.path());
    let good = manifest("1.2.0", &digest(7), &ours).to_json();
    for at in 0..good.len() {
        let mut other = good.clone().into_bytes();
        other[at] ^= 1;
        // Where it is no text any more, or the white space between: the first is refused, the second is the same manifest.
        if Manifest::read(&other).is_ok_and(|read| read == Manifest::read(good.as_bytes()).unwrap()) {
            continue;
        }
        assert!(trust.check(&digest(7), Some(&other)).is_err(), "byte {at}: {}", String::from_utf8_lossy(&other));
    }
}

/// Guarantees: several keys are good at once, so that one can follow another; one that is taken away is good no more.
#[test]
fn keys_follow_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (key(1), key(2));
    let by = |key| manifest("1.2.0", &digest(7), key).to_json();
    let both = trust(&[("y2025", &old), ("y2026", &new)], directory.path());
    assert_eq!(refused(&both, &digest(7), Some(&by(&old))), "taken");
    assert_eq!(refused(&both, &digest(7), Some(&by(&new))), "taken");
    let after = trust(&[("y2026", &new)], directory.path());
    assert_eq!(refused(&after, &digest(7), Some(&by(&old))), "signature_untrusted");
    assert_eq!(refused(&after, &digest(7), Some(&by(&new))), "taken");
}

/// Guarantees: what is older than what has served is refused, also after a restart; what was only looked at changes nothing; and the
/// same bytes signed again with a higher version are taken.
#[test]
fn no_way_back() {
    let directory = tempfile::tempdir().unwrap();
    let ours = key(1);
    let shown = |version: &str| manifest(version, &digest(7), &ours).to_json();
    let first = trust(&[("release", &ours)], directory.path());
    let newest = first.check(&digest(7), Some(shown("1.10.0").as_bytes())).unwrap().unwrap();
    assert_eq!(refused(&first, &digest(7), Some(&shown("1.9.0"))), "taken", "nothing has served yet");
    first.serves(&newest).unwrap();
    for trust in [first, trust(&[("release", &ours)], directory.path())] {
        for (version, code) in [
            ("1.9.0", "signature_downgrade"),
            ("1.10.0-rc.1", "signature_downgrade"),
            ("1.10.0", "taken"),
            ("1.10.1", "taken"),
        ] {
            assert_eq!(refused(&trust, &digest(7), Some(&shown(version))), code, "{version}");
        }
    }
    std::fs::write(directory.path().join("signatures.json"), "{\"threshold\": ").unwrap();
    let settings = Signatures { required: true, keys: vec![(name("release"), ours.public())] };
    let damaged = Trust::open(&settings, Some(directory.path())).unwrap_err();
    assert!(damaged.to_string().contains("is damaged"), "{damaged}");
}

/// Guarantees: a key that makes a signature for anything, or is no point of the curve, is not taken.
#[test]
fn weak_keys() {
    let identity = [&[1][..], &[0; 31]].concat();
    for bytes in [[0; 32], identity.try_into().unwrap(), [2; 32]] {
        let settings = Signatures { required: true, keys: vec![(name("weak"), bytes)] };
        assert!(matches!(Trust::open(&settings, None), Err(TrustError::Key(_))), "{bytes:?}");
    }
}

/// Guarantees: keys are read as they are written, and as `openssl` writes them (the example of RFC 8410, section 10.3).
#[test]
fn keys_as_documents() {
    let ours = key(9);
    assert_eq!(SigningKey::from_pkcs8(&ours.to_pkcs8()).unwrap().public(), ours.public());
    let seed: [u8; 32] = manifest::unhex("d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842").unwrap();
    let public: [u8; 32] =
        manifest::unhex("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1").unwrap();
    let known = SigningKey::of(&seed);
    assert_eq!(known.public(), public);
    let with_public = [&known.to_pkcs8()[..], &[0x81, 0x21, 0x00], &public].concat();
    assert_eq!(SigningKey::from_pkcs8(&with_public).unwrap().public(), public);
    assert!(SigningKey::from_pkcs8(&known.to_pkcs8()[..40]).is_err());
    assert!(!format!("{known:?}").contains("d4"));
}
