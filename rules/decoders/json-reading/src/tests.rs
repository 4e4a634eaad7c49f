use tidegate_rule::testing::{RuleTest, Seen, run_cases};

use crate::Exported;

fn decode(payload: &[u8]) -> Seen {
    RuleTest::<Exported>::new("{}").decode(5_000, &[("dev/a", payload)])
}

#[test]
fn cases() {
    run_cases::<Exported>(env!("CARGO_MANIFEST_DIR"));
}

/// Guarantees: what is not a reading is rejected with its reason, and never traps.
#[test]
fn what_is_no_reading_is_rejected() {
    for (payload, part) in [
        (&b""[..], "ends in the middle"),
        (b" ", "ends in the middle"),
        (b"84.5", "not a JSON object"),
        (b"[{\"v\":1}]", "not a JSON object"),
        (b"{}", "no value"),
        (b"{\"q\":\"good\"}", "no value"),
        (b"{\"v\":1", "ends in the middle"),
        (b"{\"v\":1}}", "follows"),
        (b"{\"v\":NaN}", "cannot stand"),
        (b"{\"v\":Infinity}", "cannot stand"),
        (b"{\"v\":1e999}", "too large"),
        (b"{\"v\":{}}", "object or array"),
        (b"{\"v\":[1]}", "object or array"),
        (b"{\"v\":1,\"q\":\"fine\"}", "quality"),
        (b"{\"v\":1,\"q\":-1}", "quality"),
        (b"{\"v\":1,\"q\":1.5}", "quality"),
        (b"{\"v\":1,\"q\":true}", "quality"),
        (b"{\"v\":1,\"ts\":\"now\"}", "not a number"),
        (b"{\"v\":1,\"ts\":-1}", "before 1970"),
        (b"{\"v\":1,\"ts\":9223372036855}", "after 2262"),
        (b"{\"v\":1,\"ts\":1e300}", "after 2262"),
        (b"{\"v\":1,\"u\":1}", "unit"),
        (b"\xff\xff", "cannot stand"),
        (b"{\"v\":\"\xff\"}", "UTF-8"),
        (b"{\"v\":\"a\x00\"}", "control"),
        (b"\x00\x01\x02", "cannot stand"),
        (b"\x89PNG\r\n\x1a\n", "cannot stand"),
    ] {
        let seen = decode(payload);
        assert!(seen.points.is_empty(), "{}", String::from_utf8_lossy(payload));
        assert!(seen.rejects[0].1.contains(part), "{}: {}", String::from_utf8_lossy(payload), seen.rejects[0].1);
    }
    for open in ["[", "{\"a\":"] {
        let bomb = format!("{{\"x\":{}", open.repeat(100_000));
        assert!(decode(bomb.as_bytes()).rejects[0].1.contains("too deep"));
    }
}

/// Guarantees: the unit is a series' own, changes when the payload says so, and stays when it says nothing.
#[test]
fn the_unit_follows_the_payload() {
    let mut rule = RuleTest::<Exported>::new("{}");
    let mut unit = |payload: &str| rule.decode(1, &[("dev/a", payload.as_bytes())]).points[0].unit.clone();
    assert_eq!(unit(r#"{"v":1}"#), None);
    assert_eq!(unit(r#"{"v":1,"u":"°C"}"#).as_deref(), Some("°C"));
    assert_eq!(unit(r#"{"v":1}"#).as_deref(), Some("°C"));
    assert_eq!(unit(r#"{"v":1,"u":"\u00b0C"}"#).as_deref(), Some("°C"));
    assert_eq!(unit(r#"{"v":1,"u":"K"}"#).as_deref(), Some("K"));
    assert_eq!(rule.host().resolves, (3, 3));
}

/// Guarantees: a long text, as long as a broker lets through, comes out whole.
#[test]
fn a_long_text_comes_out_whole() {
    let text = "ä\\n".repeat(100_000);
    let seen = decode(format!("{{\"v\":\"{text}\"}}").as_bytes());
    assert_eq!(seen.points[0].text.as_ref().map(String::len), Some(300_000));
}

/// Guarantees: configurations that cannot be are refused by the name of the key.
#[test]
fn refusals_name_the_key() {
    let refusal = RuleTest::<Exported>::refusal;
    assert!(refusal(r#"{"value_key": ""}"#).contains("value_key"));
    assert!(refusal(r#"{"value_key": "q"}"#).contains("`q`"));
    assert!(refusal(r#"{"valuekey": "q"}"#).contains("`valuekey`"));
    assert!(refusal(r#"{"time_unit": "h"}"#).contains("ms"));
}

/// Guarantees: a text as long as a point may have is taken, and one byte more rejects its message only, with the reason: the sender cannot have
/// the call fail.
#[test]
fn a_text_has_a_limit() {
    let message = |len: usize| format!("{{\"v\":\"{}\"}}", "x".repeat(len)).into_bytes();
    let (most, more) = (message(1 << 20), message((1 << 20) + 1));
    let seen =
        RuleTest::<Exported>::new("{}").decode(5_000, &[("dev/a", &most), ("dev/a", &more), ("dev/a", b"{\"v\":1}")]);
    assert_eq!(seen.points.len(), 2);
    assert_eq!(seen.rejects.len(), 1);
    assert!(seen.rejects[0].0 == 1 && seen.rejects[0].1.contains("more than 1 MiB"), "{:?}", seen.rejects);
}
