//! A TOML file with the places of its keys and values, read into a raw type with all its mistakes at once.
//!
//! serde stops at the first mistake. So the offending key is taken out of a copy and the rest is read again, until it
//! reads: what is left then goes to the checks, which find the rest.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{ConfigError, ConfigErrors, Position};
use crate::nearest::{nearest, suggest};

/// Past so many mistakes nobody reads on.
const MOST_MISTAKES: usize = 50;

/// Where a key stands: the keys and list positions that lead to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Place {
    /// The place of `key` in the table at this place.
    pub(crate) fn key(&self, key: &str) -> Place {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Place(steps)
    }

    /// As a JSON pointer.
    fn pointer(&self) -> String {
        let word = |step: &Step| match step {
            Step::Key(key) => key.replace('~', "~0").replace('/', "~1"),
            Step::Item(index) => index.to_string(),
        };
        self.0.iter().map(|step| format!("/{}", word(step))).collect()
    }

    /// The place of the `index`-th item of the list at this place.
    pub(crate) fn item(&self, index: usize) -> Place {
        let mut steps = self.0.clone();
        steps.push(Step::Item(index));
        Place(steps)
    }

    /// `in [sources.mqtt.plant]`, or `at the top of the file`.
    fn section(&self) -> String {
        let keys: Vec<&str> =
            self.0.iter().filter_map(|s| if let Step::Key(k) = s { Some(k.as_str()) } else { None }).collect();
        if keys.is_empty() { "at the top of the file".to_owned() } else { format!("in [{}]", keys.join(".")) }
    }
}

/// A file as it was written.
pub(crate) struct Document<'t> {
    text: &'t str,
    file: String,
    tree: DeTable<'t>,
    /// Keys that are there under a wrong name: told of once, they are not missing as well.
    misspelled: Vec<Place>,
}

impl<'t> Document<'t> {
    /// Reads `text`; with the mistakes found. What they stand in is left out of the raw form.
    ///
    /// # Errors
    /// The text is not TOML.
    pub(crate) fn read<T: DeserializeOwned + Default>(
        text: &'t str,
        file: &str,
    ) -> Result<(Self, T, Vec<ConfigError>), ConfigErrors> {
        let (tree, syntax) = DeTable::parse_recoverable(text);
        let mut document = Document { text, file: file.to_owned(), tree: tree.into_inner(), misspelled: Vec::new() };
        let mut errors = Vec::new();
        for error in syntax.iter().take(MOST_MISTAKES) {
            let todo = "correct the TOML here (https://toml.io)";
            let what = format!("not TOML: {}", error.message());
            errors.push(document.error_at(error.span(), &Place::default(), what, todo.to_owned()));
        }
        ConfigErrors::none_of(errors)?;
        let mut errors = Vec::new();
        let mut rest = document.tree.clone();
        while errors.len() < MOST_MISTAKES {
            let whole = Spanned::new(0..text.len(), rest.clone());
            match T::deserialize(toml::Deserializer::from(whole)) {
                Ok(raw) => return Ok((document, raw, errors)),
                Err(error) => {
                    let mut steps = error.span().and_then(|span| complained_of(&rest, &span)).unwrap_or_default();
                    if let Some((wrong, known)) = error.message().strip_prefix("unknown field ").map(words)
                        && let Some(meant) = nearest(wrong, &known)
                        && let Some((_, table)) = steps.split_last()
                    {
                        document.misspelled.push(Place(table.to_vec()).key(meant));
                    }
                    // A variant that is a key stands inside of the value which is wrong.
                    if let Some((wrong, _)) = error.message().strip_prefix("unknown variant ").map(words)
                        && steps.last() == Some(&Step::Key(wrong.to_owned()))
                    {
                        steps.pop();
                    }
                    let (what, todo) = explain(error.message(), &Place(steps.clone()));
                    errors.push(document.error_at(error.span(), &Place(steps.clone()), what, todo));
                    if !remove(&mut rest, &steps) {
                        break;
                    }
                }
            }
        }
        Ok((document, T::default(), errors))
    }

    /// Whether there is something at `place`, right or wrong, or misspelled.
    pub(crate) fn has(&self, place: &Place) -> bool {
        self.span(place).1 || self.misspelled.contains(place)
    }

    /// A mistake in what stands at `place`; where nothing does, in the nearest that encloses it.
    pub(crate) fn error(&self, place: &Place, what: impl Into<String>, todo: impl Into<String>) -> ConfigError {
        self.error_at(Some(self.span(place).0), place, what.into(), todo.into())
    }

    fn error_at(&self, span: Option<Range<usize>>, place: &Place, what: String, todo: String) -> ConfigError {
        let position = Some(self.position(span.map_or(0, |s| s.start)));
        ConfigError { file: self.file.clone(), position, pointer: place.pointer(), what, todo }
    }

    fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        Position { line: before.matches('\n').count() + 1, column }
    }

    /// The span of `place` or of the nearest that encloses it, and whether it is `place` itself.
    fn span(&self, place: &Place) -> (Range<usize>, bool) {
        let mut span = 0..0;
        let mut found: Option<&DeValue<'_>> = None;
        for step in &place.0 {
            let next = match (step, found) {
                (Step::Key(key), None) => self.tree.get_key_value(key.as_str()),
                (Step::Key(key), Some(DeValue::Table(table))) => table.get_key_value(key.as_str()),
                (Step::Item(index), Some(DeValue::Array(array))) => {
                    let Some(value) = array.get(*index) else { return (span, false) };
                    span = value.span();
                    found = Some(value.get_ref());
                    continue;
                }
                _ => None,
            };
            let Some((key, value)) = next else { return (span, false) };
            // The value of a `[header]` spans no more than the header; an inline table stands after its key.
            let header = matches!(value.get_ref(), DeValue::Table(_)) && value.span().start <= key.span().start;
            span = if header { key.span() } else { value.span() };
            found = Some(value.get_ref());
        }
        (span, true)
    }
}

/// The steps to what serde complains of at `span`: the key that stands there, else the innermost value around it.
fn complained_of(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    // Keys first: in `[a.b.c]`, the spans of all three tables enclose the key `a`.
    find(table, &|key, _| key == *span).or_else(|| {
        find(table, &|key, value| [key, value].iter().any(|outer| outer.start <= span.start && span.end <= outer.end))
    })
}

/// The steps to the innermost entry whose key and value are at spans that `fits` takes.
fn find(table: &DeTable<'_>, fits: &dyn Fn(Range<usize>, Range<usize>) -> bool) -> Option<Vec<Step>> {
    let mut itself = None;
    for (key, value) in table {
        let step = Step::Key(key.get_ref().to_string());
        if let Some(inner) = find_in(value.get_ref(), fits) {
            return Some([vec![step], inner].concat());
        }
        if fits(key.span(), value.span()) {
            itself = Some(vec![step]);
        }
    }
    itself
}

fn find_in(value: &DeValue<'_>, fits: &dyn Fn(Range<usize>, Range<usize>) -> bool) -> Option<Vec<Step>> {
    match value {
        DeValue::Table(table) => find(table, fits),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(i, item)| {
            let inner = find_in(item.get_ref(), fits)?;
            Some([vec![Step::Item(i)], inner].concat())
        }),
        _ => None,
    }
}

fn remove(table: &mut DeTable<'_>, steps: &[Step]) -> bool {
    match steps {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => table.get_mut(key.as_str()).is_some_and(|v| remove_in(v.get_mut(), rest)),
        _ => false,
    }
}

fn remove_in(value: &mut DeValue<'_>, steps: &[Step]) -> bool {
    match (value, steps) {
        (DeValue::Table(table), steps) => remove(table, steps),
        (DeValue::Array(array), [Step::Item(index), rest @ ..]) => {
            array.get_mut(*index).is_some_and(|v| remove_in(v.get_mut(), rest))
        }
        _ => false,
    }
}

/// What serde says, in the words of somebody who edits the file: (what is wrong, what to do).
///
/// serde has no error type to match on, only these texts; their forms are fixed by `serde::de::Error`. Of a wrong value
/// only its kind is repeated: it could be a secret that slipped into the wrong line.
fn explain(message: &str, place: &Place) -> (String, String) {
    let name = place.0.iter().rev().find_map(|s| if let Step::Key(k) = s { Some(k.as_str()) } else { None });
    let name = name.unwrap_or("this");
    let section = Place(place.0.split_last().map_or(Vec::new(), |(_, rest)| rest.to_vec())).section();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (wrong, known) = words(rest);
        return (format!("unknown key `{wrong}` {section}"), suggest(wrong, &known));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (wrong, known) = words(rest);
        return (format!("`{name}` cannot be `{wrong}`"), suggest(wrong, &known));
    }
    // What the `toml` crate says of an enum whose value is neither.
    if message == "wanted string or table" {
        return (format!("`{name}` must be text"), format!("write it in quotes: {name} = \"…\""));
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        let kind = match found.split_whitespace().next().unwrap_or("") {
            "string" => "text in quotes",
            "integer" => "a whole number",
            "floating" => "a number with a fraction",
            "boolean" => "true or false",
            "sequence" => "a list",
            "map" => "a table",
            _ => "what stands here",
        };
        let (wanted, todo) = match expected {
            "a string" => ("text", format!("write it in quotes: {name} = \"…\"")),
            "a boolean" => ("true or false", format!("write {name} = true or {name} = false")),
            "i64" => ("a whole number", format!("write {name} = 5, without quotes or fraction")),
            "a sequence" => ("a list", format!("write {name} = [ … ]")),
            other if other.starts_with("struct ") || other == "a map" => ("a table", table_hint(place)),
            other => (other, format!("change the value of `{name}`")),
        };
        return (format!("`{name}` must be {wanted}, not {kind}"), todo);
    }
    (message.to_owned(), format!("correct `{name}` {section}"))
}

/// `[sinks.sqlite]` with keys but no name is the usual way to get here.
fn table_hint(place: &Place) -> String {
    match place.0.as_slice() {
        [Step::Key(ends), Step::Key(kind), Step::Key(_)] if ends == "sources" || ends == "sinks" => {
            format!("give it a name, as in [{ends}.{kind}.plant]")
        }
        _ => "write a table, as in [section] or { key = \"value\" }".to_owned(),
    }
}

/// The words in backticks: the wrong one, and the known ones.
fn words(text: &str) -> (&str, Vec<&str>) {
    let mut quoted = text.split('`').skip(1).step_by(2);
    (quoted.next().unwrap_or(""), quoted.collect())
}
