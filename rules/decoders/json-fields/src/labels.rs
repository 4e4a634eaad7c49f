//! Labels of series, from the levels of a topic.

use std::collections::BTreeMap;

use tidegate_rule::Message;

enum Piece {
    Words(String),
    Level(usize),
}

/// Label names, and the templates of their values.
pub(crate) struct Labels(Vec<(String, Vec<Piece>)>);

impl Labels {
    pub(crate) fn new(labels: &BTreeMap<String, String>) -> Result<Self, String> {
        labels
            .iter()
            .map(|(name, template)| Ok((name.clone(), pieces(name, template)?)))
            .collect::<Result<_, String>>()
            .map(Self)
    }

    /// Lends the labels of a message's topic. One whose level the topic does not have is left out.
    pub(crate) fn with<T>(&self, message: &Message<'_>, work: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        let levels: Vec<&str> = message.levels().collect();
        let values: Vec<(&str, String)> =
            self.0.iter().filter_map(|(name, pieces)| Some((name.as_str(), filled(pieces, &levels)?))).collect();
        let labels: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        work(&labels)
    }
}

fn filled(pieces: &[Piece], levels: &[&str]) -> Option<String> {
    let mut value = String::new();
    for piece in pieces {
        value.push_str(match piece {
            Piece::Words(words) => words,
            Piece::Level(level) => levels.get(*level)?,
        });
    }
    Some(value)
}

fn pieces(name: &str, template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((words, after)) = rest.split_once('{') {
        pieces.push(Piece::Words(words.to_owned()));
        let level = after.split_once('}').and_then(|(level, after)| Some((level.parse().ok()?, after)));
        let (level, after) = level.ok_or_else(|| {
            format!("labels.{name}: `{template}` must name levels of the topic as {{0}}, {{1}} and so on")
        })?;
        pieces.push(Piece::Level(level));
        rest = after;
    }
    pieces.push(Piece::Words(rest.to_owned()));
    Ok(pieces)
}
