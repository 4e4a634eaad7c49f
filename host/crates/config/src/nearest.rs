//! "Did you mean …?"

/// The one of `known` that `wrong` was probably meant to be.
pub fn nearest<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = wrong.to_lowercase().replace('-', "_");
    // A part of the right word counts as near too: `listen_address` for `listen`, `session_expiry` for `session_expiry_s`.
    let score = |k: &str| {
        let affix = k.len().min(lower.len()) >= 3 && (k.starts_with(&lower) || lower.starts_with(k));
        strsim::jaro_winkler(&lower, k).max(if affix { 0.9 } else { 0.0 })
    };
    let best = known.iter().map(|k| (score(k), *k)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score >= 0.83).map(|(_, word)| word)
}

/// What to do about `wrong` where one of `known` was wanted: the nearest right one if it is near, else all of them.
pub(crate) fn suggest(wrong: &str, known: &[&str]) -> String {
    match nearest(wrong, known) {
        Some(word) => format!("did you mean `{word}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("known here: {}", quoted(known)),
    }
}

/// `a`, `b`, `c`.
fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}
