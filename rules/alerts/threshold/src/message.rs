//! What an alert says: a sentence with places to fill in, read once.

use std::fmt;

use crate::limits::Side;

enum Piece {
    Words(String),
    Value,
    Limit,
    Side,
}

/// A sentence with places to fill in.
pub(crate) struct Template(Vec<Piece>);

impl Template {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((words, after)) = rest.split_once('{') {
            pieces.push(Piece::Words(words.to_owned()));
            let (place, after) =
                after.split_once('}').ok_or_else(|| format!("message: a `{{` is not closed in `{text}`"))?;
            pieces.push(match place {
                "value" => Piece::Value,
                "limit" => Piece::Limit,
                "side" => Piece::Side,
                _ => return Err(format!("message: `{{{place}}}` is none of {{value}}, {{limit}} and {{side}}")),
            });
            rest = after;
        }
        pieces.push(Piece::Words(rest.to_owned()));
        Ok(Self(pieces))
    }

    pub(crate) fn filled(&self, value: f64, limit: &str, side: Side) -> impl fmt::Display {
        fmt::from_fn(move |formatter| {
            self.0.iter().try_for_each(|piece| match piece {
                Piece::Words(words) => formatter.write_str(words),
                Piece::Value => write!(formatter, "{value}"),
                Piece::Limit => formatter.write_str(limit),
                Piece::Side => formatter.write_str(side.word()),
            })
        })
    }
}
