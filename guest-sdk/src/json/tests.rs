#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::Value as Tree;

use super::*;

/// A tree of what the reader reads, so that it can be compared; recursion is bounded by the reader's own depth check.
fn tree(json: &mut Json<'_>, depth: u32) -> Result<Tree, Fault> {
    let mut scratch = String::new();
    Ok(match json.value()? {
        Value::Null => Tree::Null,
        Value::Bool(on) => on.into(),
        Value::Number => match json.number().beyond_float() {
            Some(digits) => serde_json::from_str(digits).map_err(|_| Fault::Number)?,
            None => json.number().value.into(),
        },
        Value::Text => json.text().read(&mut scratch)?.into(),
        Value::Array | Value::Object if depth == MAX_DEPTH => return Err(Fault::Depth),
        Value::Array => {
            let mut elements = Vec::new();
            while json.element()? {
                elements.push(tree(json, depth + 1)?);
            }
            elements.into()
        }
        Value::Object => {
            let mut members = serde_json::Map::new();
            while json.key()? {
                let key = json.text().read(&mut scratch)?.to_owned();
                members.insert(key, tree(json, depth + 1)?);
            }
            members.into()
        }
    })
}

fn read(bytes: &[u8]) -> Result<Tree, Fault> {
    let mut json = Json::new(bytes);
    let value = tree(&mut json, 0)?;
    json.end()?;
    Ok(value)
}

/// Equal, but that serde_json's floats may be off in the last bit: it does not round correctly
/// without its `float_roundtrip`. That ours are exact is `reads_every_float_exactly`.
fn same(ours: &Tree, theirs: &Tree) -> bool {
    match (ours, theirs) {
        (Tree::Number(ours), Tree::Number(theirs)) => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            (ours - theirs).abs() <= ours.abs() * 4e-16
        }
        (Tree::Array(ours), Tree::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        (Tree::Object(ours), Tree::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| ours.0 == theirs.0 && same(ours.1, theirs.1))
        }
        _ => ours == theirs,
    }
}

fn agree(bytes: &[u8]) {
    let ours = read(bytes);
    let theirs: Result<Tree, _> = serde_json::from_slice(bytes);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert!(same(&ours, &theirs), "{}: ours {ours}, serde_json {theirs}", String::from_utf8_lossy(bytes));
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{:?}: ours {ours:?}, serde_json {theirs:?}", String::from_utf8_lossy(bytes)),
    }
    // Skipping finds a fault wherever reading does, but for texts nobody reads that are not UTF-8.
    let mut json = Json::new(bytes);
    let skipped = json.value().and_then(|begun| json.skip(begun)).and_then(|()| json.end());
    let found = match read(bytes) {
        Ok(_) => skipped.is_ok(),
        Err(Fault::Utf8) => true,
        Err(_) => skipped.is_err(),
    };
    assert!(found, "{}: {skipped:?}", String::from_utf8_lossy(bytes));
}

/// Guarantees: on hand-picked edges of the grammar the reader takes and refuses what serde_json does.
#[test]
fn agrees_with_serde_json_on_edges() {
    let cases: &[&[u8]] = &[
        b"",
        b" ",
        b"{}",
        b"[]",
        b"{ }",
        b"[ ]",
        b"null",
        b"true",
        b"false",
        b"nul",
        b"nulll",
        b"True",
        b"0",
        b"-0",
        b"-",
        b"01",
        b"-01",
        b"1.",
        b".5",
        b"1.5",
        b"1e5",
        b"1E+5",
        b"1e-5",
        b"1e",
        b"1e+",
        b"+1",
        b"1.5e3.2",
        b"0x10",
        b"1_000",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e308",
        b"1e309",
        b"-1e309",
        b"1e-400",
        b"123456789012345678901234567890",
        b"9007199254740992",
        b"9007199254740993",
        b"-9007199254740993",
        b"18446744073709551615",
        b"18446744073709551616",
        b"0.1",
        b"0.30000000000000004",
        b"2.2250738585072011e-308",
        b"1e99999999999999999999",
        b"0e99999999999999999999",
        b"0.000000000000000000000000000000000001",
        b"4.35",
        b"1.7976931348623157e308",
        b"5e-324",
        br#""""#,
        br#""a"#,
        br#""\n\t\r\b\f\/\\\"""#,
        br#""\u00e9""#,
        br#""\ud83d\ude00""#,
        br#""\ud83d""#,
        br#""\ude00""#,
        br#""\ud83d\u0041""#,
        br#""\u12""#,
        br#""\x41""#,
        br#""\u+123""#,
        b"\"\x01\"",
        b"\"\x7f\"",
        b"\"\xff\"",
        b"\"\xc3\xa9\"",
        b"\"\xc3\"",
        b"\xef\xbb\xbf{}",
        b"{\"a\":1}",
        b"{\"a\":1,}",
        b"{,\"a\":1}",
        b"{\"a\" 1}",
        b"{\"a\":}",
        b"{a:1}",
        b"{'a':1}",
        b"[1,2,3]",
        b"[1,2,]",
        b"[,1]",
        b"[1 2]",
        b"[1",
        b"{\"a\":1",
        b"{\"a\"",
        b"{\"a\":1}}",
        b"[]]",
        b"{} {}",
        b"{}x",
        b"{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":\"e\"}",
        b"{\"a\":1,\"a\":2}",
        b"[[[[]]]]",
        b"[{]}",
        b"{[}]",
        b"\x00",
        b"{}\x00",
        b"[1]\n",
        b"\t{ \"a\" : [ 1 , 2 ] }\r\n",
        b"/* c */ 1",
        b"[1,//\n2]",
    ];
    for case in cases {
        agree(case);
    }
    for text in ["{\"v\":84.5,\"q\":\"good\",\"ts\":1703289600000,\"u\":\"\u{b0}C\"}", "[1e5,-2.5E-3,0.0]"] {
        for end in 0..=text.len() {
            agree(&text.as_bytes()[..end]);
        }
    }
}

/// Guarantees: on 200,000 documents made by mutating real ones the reader agrees with serde_json.
#[test]
fn agrees_with_serde_json_on_mutations() {
    let seeds: [&[u8]; 4] = [
        br#"{"v":84.5,"q":"good","ts":1703289600000,"u":"\u00b0C"}"#,
        r#"{"temp":{"in":-3.25e1,"out":null},"tags":["a","ü\n",true,{"x":[0.001,12345678901234567890]}]}"#.as_bytes(),
        br#"[0,1,-1,1.5e10,"\ud83d\ude00",{"a":{"b":{"c":[]}}},false]"#,
        br#"{"a":123456789.123456789,"b":1e-7,"c":"\\\"/"}"#,
    ];
    let alphabet = b"{}[]\",:.0123456789eE+-\\untrfalse \x00\x1f\x80\xc3\xa9";
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for round in 0..200_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = alphabet[next(alphabet.len())],
                1 => bytes.insert(at, alphabet[next(alphabet.len())]),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        agree(&bytes);
    }
}

/// Guarantees: floats printed in full come back bit by bit.
#[test]
fn reads_every_float_exactly() {
    let mut bits = 0x0123_4567_89AB_CDEF_u64;
    for _ in 0..100_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = f64::from_bits(bits);
        if !value.is_finite() {
            continue;
        }
        for text in [format!("{value}"), format!("{value:e}"), format!("{:.3}", value.abs() % 1e6)] {
            let mut json = Json::new(text.as_bytes());
            assert_eq!(json.value(), Ok(Value::Number), "{text}");
            let number = json.number();
            assert_eq!(number.value.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }
}

/// Guarantees: integers keep their digits exactly where a float cannot hold them.
#[test]
fn integers_beyond_two_to_53_keep_their_digits() {
    let digits = |text: &'static str| {
        let mut json = Json::new(text.as_bytes());
        assert_eq!(json.value(), Ok(Value::Number), "{text}");
        json.number().beyond_float()
    };
    assert_eq!(digits("9007199254740991"), None);
    assert_eq!(digits("9007199254740992"), None);
    assert_eq!(digits("9007199254740993"), Some("9007199254740993"));
    assert_eq!(digits("-9007199254740993"), Some("-9007199254740993"));
    assert_eq!(digits("123456789012345678901234567890"), Some("123456789012345678901234567890"));
    assert_eq!(digits("1e300"), None, "not written as an integer");
    assert_eq!(digits("9007199254740993.0"), None, "not written as an integer");
}

/// Guarantees: a nesting bomb is refused at the bound, in constant stack.
#[test]
fn a_nesting_bomb_is_refused() {
    for open in ["[", "{\"a\":"] {
        let bomb = open.repeat(100_000);
        let mut json = Json::new(bomb.as_bytes());
        let begun = json.value().unwrap();
        assert_eq!(json.skip(begun), Err(Fault::Depth));
    }
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    let mut json = Json::new(deep.as_bytes());
    let begun = json.value().unwrap();
    assert_eq!(json.skip(begun).and_then(|()| json.end()), Ok(()));
}

fn text(quoted: &str) -> Text<'_> {
    let mut json = Json::new(quoted.as_bytes());
    assert_eq!(json.value(), Ok(Value::Text), "{quoted}");
    json.text()
}

/// Guarantees: texts compare by what they say, whatever their length, escapes and place in the payload.
#[test]
fn texts_compare_by_what_they_say() {
    assert!(text(r#""\u0076alue""#).is(&Key::new("value")));
    assert!(!text(r#""\u0076alue""#).is(&Key::new("valve")));
    assert!(text("\"UnCertain\"").is_word("uncertain"));
    assert!(!text("\"UnCertain\"").is_word("uncertaim"));
    for written in ["", "a", "eightlet", "ninechars", "much longer than eight"] {
        for behind in ["", " ", "                "] {
            let quoted = format!("\"{written}\"{behind}");
            let text = text(&quoted);
            assert!(text.is(&Key::new(written)) && text.is_word(written));
            assert!(!text.is(&Key::new(&format!("{written}x"))));
        }
    }
}
