//! What hosts say, as a table for people.

use serde_json::Value;

use super::Said;

/// How a list of objects is shown, or one object as a list of one.
pub struct Table {
    /// Where in the answer the list stands: a JSON pointer.
    list: &'static str,
    columns: Vec<Column>,
    /// What is said where there is nothing; if that is empty, nothing is.
    nothing: &'static str,
    /// The most rows of each host that are shown.
    most: usize,
    /// What tells an answer in its own words, where it is no table.
    tell: Option<fn(&Value) -> String>,
}

/// A column: its heading, and what stands in it.
pub struct Column(pub &'static str, pub fn(&Value) -> String);

impl Table {
    pub fn new(list: &'static str, columns: Vec<Column>, nothing: &'static str) -> Self {
        Self { list, columns, nothing, most: usize::MAX, tell: None }
    }

    /// With the first `most` rows of each host only.
    pub fn first(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// For what has its own words.
    pub fn told(tell: fn(&Value) -> String) -> Self {
        Self { tell: Some(tell), ..Self::whole() }
    }

    /// All that is said, for where there is too much of it for a table.
    pub fn whole() -> Self {
        Self::new("", Vec::new(), "nothing")
    }

    /// For what leaves nothing to show: `done` is said.
    pub fn nothing_but(done: &'static str) -> Self {
        Self::new("/-", Vec::new(), done)
    }

    /// The rows of all hosts; with several, each row says whose it is.
    pub(super) fn text(&self, all: &[Said]) -> String {
        let several = all.len() > 1;
        let mut rows: Vec<Vec<String>> = Vec::new();
        for said in all {
            let Ok(answer) = &said.answer else { continue };
            let items = match answer.pointer(self.list) {
                Some(Value::Array(items)) => items.clone(),
                Some(one) => vec![one.clone()],
                None => Vec::new(),
            };
            for item in items.iter().take(self.most) {
                let node = several.then(|| said.node.clone());
                rows.push(
                    node.into_iter().chain(self.columns.iter().map(|column| visible(&(column.1)(item)))).collect(),
                );
            }
        }
        if let Some(tell) = self.tell {
            return all.iter().filter_map(|said| said.told(several, tell)).collect();
        }
        if self.columns.is_empty() && self.list.is_empty() {
            let pretty = |answer: &Value| serde_json::to_string_pretty(answer).unwrap_or_default() + "\n";
            return all.iter().filter_map(|said| said.told(several, pretty)).collect();
        }
        if rows.is_empty() {
            let any = all.iter().any(|said| said.answer.is_ok());
            return if any && !self.nothing.is_empty() { format!("{}\n", self.nothing) } else { String::new() };
        }
        let headings = several.then_some("NODE").into_iter().chain(self.columns.iter().map(|column| column.0));
        rows.insert(0, headings.map(str::to_owned).collect());
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
            cells.trim_end().to_owned() + "\n"
        };
        rows.iter().map(line).collect()
    }
}

/// What stands at `pointer`, as text; `-` if there is nothing.
pub fn field(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The texts of the list at `pointer`, with commas between.
pub fn joined(value: &Value, pointer: &str) -> String {
    let all = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let all: Vec<&str> = all.filter_map(Value::as_str).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// On one line, without what would steer a terminal.
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::api::client::Refusal;

    /// Guarantees: columns stand below each other, rows say whose they are where there are several hosts, and nothing that a host says
    /// steers the terminal.
    #[test]
    fn aligned() {
        let table =
            Table::new("", vec![Column("NAME", |v| field(v, "/name")), Column("N", |v| field(v, "/n"))], "nothing");
        let said = |node: &str, answer| Said { node: node.to_owned(), answer };
        let one = said("a", Ok(json!([{"name": "x\u{1b}[2J", "n": 1}, {"name": "long-one"}])));
        assert_eq!(table.text(std::slice::from_ref(&one)), "NAME      N\nx [2J     1\nlong-one  -\n");
        let two = [one, said("b", Ok(json!([{"name": "y", "n": 2}]))), said("c", Err(Refusal::unreachable("away")))];
        assert!(table.text(&two).ends_with("b     y         2\n"), "{}", table.text(&two));
        assert_eq!(table.text(&[said("a", Ok(json!([])))]), "nothing\n");
    }
}
