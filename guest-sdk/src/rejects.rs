//! Why a row could not be used, and the columns such rows go into.

use std::borrow::Cow;

use crate::columns::Rejects;

/// How many distinct reasons one call gives; what comes after shares the last place.
const MAX_REASONS: usize = 64;
const TOO_MANY: &str = "for one of more reasons than one batch lists";

/// Why a row could not be used: one sentence for the dead letter. Give the same words for the same
/// cause, and no value of the row in it: the original bytes lie beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Cow<'static, str>);

impl Reason {
    /// The sentence.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Reason {
    fn from(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }
}

impl From<String> for Reason {
    fn from(reason: String) -> Self {
        Self(Cow::Owned(reason))
    }
}

impl Rejects {
    /// Rejects a row.
    pub fn push(&mut self, row: u32, reason: &Reason) {
        let reason = self.intern(reason.as_str());
        self.row.push(row);
        self.reason.push(reason);
    }

    fn intern(&mut self, reason: &str) -> u32 {
        if let Some(index) = self.reasons.iter().position(|known| known == reason) {
            return index as u32;
        }
        match self.reasons.len() {
            full if full >= MAX_REASONS => return (full - 1) as u32,
            last if last == MAX_REASONS - 1 => self.reasons.push(TOO_MANY.to_owned()),
            _ => self.reasons.push(reason.to_owned()),
        }
        (self.reasons.len() - 1) as u32
    }

    /// Puts rows in ascending order, each with its reason.
    pub(crate) fn sort(&mut self) {
        if self.row.is_sorted() {
            return;
        }
        let mut rows: Vec<(u32, u32)> =
            std::mem::take(&mut self.row).into_iter().zip(std::mem::take(&mut self.reason)).collect();
        rows.sort_unstable();
        (self.row, self.reason) = rows.into_iter().unzip();
    }
}
