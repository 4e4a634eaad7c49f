//! Codecs against what brokers send, and what they had better not.

use rumqttc::v5::mqttbytes::v5 as raw_5;
use tidegate_config::MqttVersion;

use super::*;
use crate::mqtt::tests::wire::{connack, no_properties, packet, publish, suback, text};
use crate::mqtt::tests::{VERSIONS, settings};
use crate::mqtt::{codec, options};

const MAX_PACKET: u32 = 1 << 16;

/// All packets of these bytes, or what is wrong with one of them.
fn decode(version: MqttVersion, bytes: &[u8]) -> Result<Vec<Packet>, String> {
    let mut incoming = BytesMut::from(bytes);
    let mut packets = Vec::new();
    while let Some(packet) = codec(version).next(&mut incoming, MAX_PACKET).map_err(|error| error.to_string())? {
        packets.push(packet);
    }
    Ok(packets)
}

/// What a well-behaved broker says.
fn conversation(version: MqttVersion) -> Vec<Vec<u8>> {
    let retained = packet(0x31, &[&text("dev/b"), no_properties(version), b"kept"].concat());
    let ping = packet(0xD0, &[]);
    vec![connack(version), suback(version), publish(version, 7, b"live"), ping, retained]
}

/// Guarantees: each packet says what its bytes do, however the network cuts them.
#[test]
fn whole_and_in_pieces() {
    for version in VERSIONS {
        let bytes = conversation(version).concat();
        let welcome = Welcome { session: SessionState::New, keep_alive: None, max_packet: None };
        let live = Publish {
            topic: "dev/a".into(),
            payload: "live".into(),
            id: PacketId(7),
            retained: false,
            duplicate: false,
            said: Vec::new(),
            properties: Vec::new(),
        };
        let kept = Publish {
            topic: "dev/b".into(),
            payload: "kept".into(),
            id: PacketId::NONE,
            retained: true,
            duplicate: false,
            said: Vec::new(),
            properties: Vec::new(),
        };
        let expected = vec![
            Packet::Connected(welcome),
            Packet::Subscribed(vec![Answer::Granted(Qos::AtLeastOnce)]),
            Packet::Message(live),
            Packet::Alive,
            Packet::Message(kept),
        ];
        assert_eq!(decode(version, &bytes).unwrap(), expected, "{version:?}");

        let (mut incoming, mut packets) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            incoming.extend([byte]);
            packets.extend(codec(version).next(&mut incoming, MAX_PACKET).unwrap());
        }
        assert_eq!(packets, expected, "{version:?}, byte by byte");
    }
}

/// Guarantees: whatever bytes come, nothing panics, nothing goes round without end, and a packet that is not whole is only
/// waited for within the limit.
#[test]
fn any_bytes() {
    let mut random = fastrand::Rng::with_seed(0x71de);
    for version in VERSIONS {
        let conversation = conversation(version);
        for _ in 0..20_000 {
            let mut bytes = random.choice(&conversation).unwrap().clone();
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..4) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes[at] ^= 1 << random.u8(..8),
                    2 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, random.u8(..)),
                }
            }
            // Every type of packet there is, also those that only clients send.
            if random.bool() {
                bytes[0] = random.u8(..);
            }
            let mut incoming = BytesMut::from(&bytes[..]);
            loop {
                let before = incoming.len();
                match codec(version).next(&mut incoming, MAX_PACKET) {
                    Ok(Some(_)) => assert!(incoming.len() < before, "{version:?} {bytes:02x?}: stands still"),
                    Ok(None) => {
                        assert_eq!(incoming.len(), before, "{version:?} {bytes:02x?}: swallowed without a word");
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }
}

/// Guarantees: a packet over our limit that is no message is refused by its first bytes, with the name of the setting.
#[test]
fn too_large_by_its_header() {
    for version in VERSIONS {
        let refused = decode(version, &[0x90, 0x80, 0x80, 0x80, 0x01]).unwrap_err();
        assert!(refused.contains("2097152 bytes") && refused.contains("max_packet_bytes"), "{version:?}: {refused}");
        assert_eq!(
            decode(version, &[0x90, 0x80, 0x80, 0x04]).unwrap(),
            [],
            "{version:?}: what is allowed is waited for"
        );
    }
}

/// Guarantees: what a broker must not send, or ends a connection with, is told in words that say what it was.
#[test]
fn told_in_words() {
    let alias = [&text("")[..], &[0, 7], &[3, 35, 0, 1], b"x"].concat();
    let dropped = [&[0x8E][..], &[8, 31], &text("say\n\"")].concat();
    let refused = [&[0, 0x87][..], &[10, 31], &text("no soup")].concat();
    let qos_2 = [&text("dev/a")[..], &[0, 7], &[0], b"x"].concat();
    for (version, bytes, words) in [
        (MqttVersion::V3, packet(0x20, &[0, 5]), "refused us: NotAuthorized"),
        (MqttVersion::V3, packet(0x34, &qos_2), "at QoS 2"),
        (MqttVersion::V3, packet(0x32, &[0, 9, b'd']), "malformed"),
        (MqttVersion::V3, packet(0xC0, &[]), "a subscriber cannot get"),
        (MqttVersion::V5, packet(0x20, &refused), "refused us: NotAuthorized, \"no soup\""),
        (MqttVersion::V5, packet(0x34, &qos_2), "at QoS 2"),
        (MqttVersion::V5, packet(0x32, &alias), "topic alias"),
        (MqttVersion::V5, packet(0x82, &[0, 1, 0, 0, 1, b'a', 0]), "a subscriber cannot get"),
        // It ends before the length of its properties.
        (MqttVersion::V5, packet(0x30, &text("dev/a")), "malformed"),
        (MqttVersion::V5, packet(0xE0, &dropped), "ended the connection: SessionTakenOver, \"say\\n\\\"\""),
        (MqttVersion::V5, packet(0xE0, &[0x8B]), "ended the connection: ServerShuttingDown"),
        (MqttVersion::V5, packet(0xE0, &[]), "ended the connection: NormalDisconnection"),
    ] {
        let error = decode(version, &bytes).unwrap_err();
        assert!(error.contains(words), "{version:?} {bytes:02x?}: {error:?} should say {words:?}");
    }
}

/// Guarantees: what a broker of version 5 changes about our wishes is taken up.
#[test]
fn welcome_of_version_5() {
    let properties = [&[19, 0, 7][..], &[39, 0, 0, 1, 0]].concat();
    let bytes = packet(0x20, &[&[1, 0, properties.len() as u8], &properties[..]].concat());
    let welcome = Welcome { session: SessionState::Resumed, keep_alive: Some(7), max_packet: Some(256) };
    assert_eq!(decode(MqttVersion::V5, &bytes).unwrap(), [Packet::Connected(welcome)]);
}

/// Guarantees: a subscription that is taken back is gone also if there was none; what a broker of version 5 says against it is told.
#[test]
fn taken_back() {
    assert_eq!(decode(MqttVersion::V3, &packet(0xB0, &[0, 9])).unwrap(), [Packet::Unsubscribed(9, None)]);
    for (reason, gone) in [(0, true), (0x11, true), (0x80, false), (0x87, false)] {
        let packets = decode(MqttVersion::V5, &packet(0xB0, &[0, 9, 0, reason])).unwrap();
        let [Packet::Unsubscribed(9, refused)] = &packets[..] else { panic!("{packets:?}") };
        assert_eq!(refused.is_none(), gone, "{reason:#x}");
    }
    let told = packet(0xB0, &[&[0, 9][..], &[10, 31], &text("no soup"), &[0x87]].concat());
    let refused = Packet::Unsubscribed(9, Some("NotAuthorized, \"no soup\"".into()));
    assert_eq!(decode(MqttVersion::V5, &told).unwrap(), [refused]);
}

/// Guarantees: our session is the one that stands, lasts as long as configured, and limits what comes in number; not in size, since a broker
/// would throw away what is larger, and say nothing.
#[test]
fn connect_and_subscribe() {
    let mut settings = settings(1883, MqttVersion::V5, Qos::AtLeastOnce);
    settings.endpoint.username = Some("gate".into());
    settings.share = Some("group".parse().unwrap());
    let mut outgoing = BytesMut::new();
    codec(MqttVersion::V5).connect(&settings, "gate-1", &mut outgoing).unwrap();
    let filters: Vec<_> = options::filters(&settings).collect();
    codec(MqttVersion::V5).subscribe(&filters, &mut outgoing).unwrap();
    let raw_5::Packet::Connect(connect, will, login) = raw_5::Packet::read(&mut outgoing, None).unwrap() else {
        panic!("CONNECT comes first")
    };
    let properties = connect.properties.unwrap();
    assert_eq!((connect.client_id.as_str(), connect.clean_start, connect.keep_alive), ("gate-1", false, 30));
    assert_eq!((properties.session_expiry_interval, properties.receive_maximum), (Some(3600), Some(200)));
    assert_eq!((properties.max_packet_size, properties.topic_alias_max), (None, None));
    assert_eq!((will, login.unwrap().username), (None, "gate".to_owned()));
    let raw_5::Packet::Subscribe(subscribe) = raw_5::Packet::read(&mut outgoing, None).unwrap() else {
        panic!("SUBSCRIBE follows")
    };
    let filter = &subscribe.filters[0];
    assert_eq!(filter.path, "$share/group/dev/#");
    assert_eq!(filter.retain_forward_rule, raw_5::RetainForwardRule::OnNewSubscribe);

    outgoing.clear();
    codec(MqttVersion::V3).connect(&settings, "gate-1", &mut outgoing).unwrap();
    let rumqttc::Packet::Connect(connect) = rumqttc::Packet::read(&mut outgoing, 1024).unwrap() else {
        panic!("CONNECT comes first")
    };
    assert_eq!((connect.client_id.as_str(), connect.clean_session, connect.keep_alive), ("gate-1", false, 30));
}
