//! Escapes control characters, so that a text stays on one line.

use std::borrow::Cow;

/// The text with `\n` for a newline, and escapes for other control characters.
pub(crate) fn escaped<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let text = text.into();
    if !text.contains(char::is_control) {
        return text;
    }
    let escape = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    text.chars().map(escape).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_characters_are_escaped() {
        assert_eq!(escaped("a\nb\tc\u{1b}[0m"), "a\\nb\\tc\\u{1b}[0m");
        assert!(matches!(escaped("/b\u{e9} \\n"), Cow::Borrowed("/b\u{e9} \\n")));
    }
}
