//! Labels of series, from the levels of a topic, and from headers and key of a message.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use tidegate_rule::Message;

/// What the host calls the key of a Kafka record.
const KEY: &str = "kafka.key";

enum Piece {
    Words(String),
    Level(usize),
    /// A header or user property of this name, or the key.
    Property(String),
}

/// Label names, and the templates of their values.
pub(crate) struct Labels {
    labels: Vec<(String, Vec<Piece>)>,
    /// The properties that they are made of.
    properties: Vec<String>,
}

impl Labels {
    pub(crate) fn new(labels: &BTreeMap<String, String>) -> Result<Self, String> {
        let labels: Vec<(String, Vec<Piece>)> = labels
            .iter()
            .map(|(name, template)| Ok((name.clone(), pieces(name, template)?)))
            .collect::<Result<_, String>>()?;
        let name = |piece: &Piece| if let Piece::Property(name) = piece { Some(name.clone()) } else { None };
        let properties = labels.iter().flat_map(|(_, pieces)| pieces).filter_map(name).collect();
        Ok(Self { labels, properties })
    }

    /// Tells apart messages that give different labels for what they came with; 0 where nothing of that is asked for.
    #[inline]
    pub(crate) fn print(&self, message: &Message<'_>) -> u64 {
        if self.properties.is_empty() {
            return 0;
        }
        let mut print = FixedState::with_seed(0x6c61_6265).build_hasher();
        for (name, value) in message.properties().filter(|(name, _)| self.properties.iter().any(|own| own == name)) {
            for word in [name.as_bytes(), value] {
                print.write_usize(word.len());
                print.write(word);
            }
        }
        print.finish()
    }

    /// Lends the labels of a message. One of which a level or a property is not there, or is no text, is left out.
    pub(crate) fn with<T>(&self, message: &Message<'_>, work: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        let levels: Vec<&str> = message.levels().collect();
        let value = |pieces: &[Piece]| filled(pieces, &levels, message);
        let values: Vec<(&str, String)> =
            self.labels.iter().filter_map(|(name, pieces)| Some((name.as_str(), value(pieces)?))).collect();
        let labels: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        work(&labels)
    }
}

fn filled(pieces: &[Piece], levels: &[&str], message: &Message<'_>) -> Option<String> {
    let mut value = String::new();
    for piece in pieces {
        value.push_str(match piece {
            Piece::Words(words) => words,
            Piece::Level(level) => levels.get(*level)?,
            Piece::Property(name) => {
                let (_, text) = message.properties().find(|(given, _)| given == name)?;
                std::str::from_utf8(text).ok()?
            }
        });
    }
    Some(value)
}

fn pieces(name: &str, template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((words, after)) = rest.split_once('{') {
        pieces.push(Piece::Words(words.to_owned()));
        let found = after.split_once('}').and_then(|(word, after)| Some((piece(word)?, after)));
        let (piece, after) = found.ok_or_else(|| {
            format!(
                "labels.{name}: `{template}` must name levels of the topic as {{0}}, {{1}} and so on, a header or user property as {{header:site}}, \
                 or the key of a Kafka record as {{key}}"
            )
        })?;
        pieces.push(piece);
        rest = after;
    }
    pieces.push(Piece::Words(rest.to_owned()));
    Ok(pieces)
}

fn piece(word: &str) -> Option<Piece> {
    if word == "key" {
        return Some(Piece::Property(KEY.to_owned()));
    }
    match word.strip_prefix("header:") {
        Some("") => None,
        Some(name) => Some(Piece::Property(name.to_owned())),
        None => word.parse().ok().map(Piece::Level),
    }
}
