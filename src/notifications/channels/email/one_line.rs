//! Texts of others, made fit to stand in a line of ours.

/// At most `chars_max` characters, without line breaks and other control characters, and with single
/// spaces; what was cut off shows as an ellipsis.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let spaced = text.replace(char::is_control, " ");
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= chars_max {
        return line;
    }
    let mut cut: String = line.chars().take(chars_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_line_of_limited_length() {
        assert_eq!(one_line("Lamp", 4), "Lamp");
        assert_eq!(one_line("Лампочка", 4), "Лам…");
        assert_eq!(one_line(" a\r\nBcc: b\0c\u{2028}d  e ", 20), "a Bcc: b c d e");
    }
}
