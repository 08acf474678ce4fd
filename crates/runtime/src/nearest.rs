//! The known name that a mistyped one was meant to be, for a hint.

/// The name among `known` that differs from `word` least, the first of several; `None` where even
/// that one differs in more than a third of its letters.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    let near = known.into_iter().filter_map(|name| {
        let letters: Vec<char> = name.chars().collect();
        let most = word.len().max(letters.len()) / 3;
        // Checked before the distance, whose cost grows with both lengths: the word may be long.
        let distance = (word.len().abs_diff(letters.len()) <= most)
            .then(|| distance(&word, &letters))
            .filter(|distance| *distance <= most)?;
        Some((distance, name))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How many letters must be inserted, left out, replaced, or exchanged with their neighbour
/// (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let cell = |cells: &[usize], at: usize| cells.get(at).copied().unwrap_or(usize::MAX);
            let replaced = cell(&above, column).saturating_add(usize::from(letter != other));
            let removed = cell(&above, column + 1).saturating_add(1);
            let inserted = cell(&current, column).saturating_add(1);
            let mut least = replaced.min(removed).min(inserted);
            let exchanged = row > 0
                && column > 0
                && from.get(row - 1) == Some(other)
                && to.get(column - 1) == Some(letter);
            if exchanged {
                least = least.min(cell(&before, column - 1).saturating_add(1));
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 8] = ["create", "start", "run", "kill", "delete", "state", "ps", "list"];

    #[test]
    fn a_slip_of_the_finger_is_seen() {
        for (typed, meant) in [
            ("creat", "create"),
            ("craete", "create"),
            ("crreate", "create"),
            ("kyll", "kill"),
            ("rnu", "run"),
            ("dlete", "delete"),
            ("lits", "list"),
            ("state", "state"),
            // As far from start as from state: the first.
            ("stat", "start"),
        ] {
            assert_eq!(nearest(typed, COMMANDS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn another_word_is_no_slip() {
        for typed in ["", "ls", "rm", "inspect", "\u{e9}", "pull", "deletedeletedelete"] {
            assert_eq!(nearest(typed, COMMANDS), None, "{typed}");
        }
        assert_eq!(nearest("run", []), None);
        assert_eq!(nearest(&"x".repeat(1 << 24), COMMANDS), None);
    }

    #[test]
    fn distances_count_each_change_once() {
        let of = |from: &str, to: &str| {
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            distance(&letters(from), &letters(to))
        };
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("abc", "acb", 1),
            ("abcd", "badc", 2),
            ("kitten", "sitting", 3),
            ("propogation", "propagation", 1),
        ] {
            assert_eq!(of(from, to), expected, "{from} {to}");
            assert_eq!(of(to, from), expected, "{to} {from}");
        }
    }
}
