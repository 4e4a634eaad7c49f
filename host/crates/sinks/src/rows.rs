//! Walking the rows of a delivery with the texts that some of them have.

use tidegate_model::Texts;

/// Gives the text of rows asked for in ascending order, all of them in one walk.
pub(crate) struct TextCursor<'a> {
    texts: &'a Texts,
    next: usize,
}

impl<'a> TextCursor<'a> {
    /// A cursor for rows from `row` on.
    pub(crate) fn from_row(texts: &'a Texts, row: usize) -> Self {
        Self { texts, next: texts.row.partition_point(|&r| (r as usize) < row) }
    }

    /// The text of `row`, which must not be before the last row asked for; rows may be left out.
    pub(crate) fn of(&mut self, row: usize) -> Option<&'a [u8]> {
        while self.texts.row.get(self.next).is_some_and(|&r| (r as usize) < row) {
            self.next += 1;
        }
        if self.texts.row.get(self.next).is_some_and(|&r| r as usize == row) {
            self.next += 1;
            return Some(self.texts.text.get(self.next - 1));
        }
        None
    }
}

/// The text, or why no sink takes it.
pub(crate) fn readable(text: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(text).map_err(|error| format!("its text is not UTF-8: {error}"))
}

/// Why a point is refused whose series the books do not know.
pub(crate) const UNKNOWN_SERIES: &str = "its series is not known to this host; this is a fault in Tidegate";
