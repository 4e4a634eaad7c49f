//! Words of a guest that people are to read, cut to what somebody might read.

/// Cuts `text` after at most `most` bytes, at a character; says so by an ellipsis. What is cut off takes no memory any more.
pub(crate) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    /// Guarantees: no character is split, and what fits stays as it is.
    #[test]
    fn characters_stay_whole() {
        let after = |text: &str, most| {
            let mut text = text.to_owned();
            cut(&mut text, most);
            text
        };
        assert_eq!(after("hot", 3), "hot");
        assert_eq!(after("heiß!", 4), "hei…");
        assert_eq!(after("é", 0), "…");
        let mut long = "x".repeat(1 << 20);
        cut(&mut long, 10);
        assert!(long.capacity() < 1_000, "{} bytes for what is left", long.capacity());
    }
}
