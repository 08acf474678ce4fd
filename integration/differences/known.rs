//! What is known to differ, and why.

use std::collections::BTreeSet;

use crate::trial::Runtime;

const TEXT: &str = include_str!("known.txt");

/// The lines of known.txt: `PATTERN # REASON`. In a pattern a `*` stands for any text, a `?` for
/// one letter.
pub(crate) struct Known(Vec<String>);

impl Known {
    /// Reads them; each has a reason.
    pub(crate) fn read() -> Self {
        let lines =
            TEXT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let patterns = lines.map(|line| {
            let (pattern, reason) = line.split_once(" # ").unwrap_or((line, ""));
            assert!(!reason.trim().is_empty(), "known.txt: no reason: {line}");
            pattern.trim().to_owned()
        });
        Self(patterns.collect())
    }

    /// Whether a difference is known.
    pub(crate) fn covers(&self, line: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, line))
    }

    /// The patterns that no difference has matched, of the runtimes that were there.
    pub(crate) fn unused(&self, found: &BTreeSet<String>, others: &[Runtime]) -> Vec<String> {
        let tried = |pattern: &&String| {
            let of = |name: &str| pattern.contains(&format!("| {name} |"));
            of("*") || others.iter().any(|other| of(other.name))
        };
        let unused = |pattern: &&String| !found.iter().any(|line| matches(pattern, line));
        self.0.iter().filter(tried).filter(unused).cloned().collect()
    }
}

fn matches(pattern: &str, line: &str) -> bool {
    match pattern.chars().next() {
        None => line.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            line.char_indices().any(|(at, _)| matches(rest, &line[at..])) || matches(rest, "")
        }
        Some(wanted) => line.chars().next().is_some_and(|letter| {
            (wanted == '?' || wanted == letter)
                && matches(&pattern[wanted.len_utf8()..], &line[letter.len_utf8()..])
        }),
    }
}

#[test]
fn a_star_is_any_text_and_a_question_mark_a_letter() {
    for (pattern, line, expected) in [
        ("a | b", "a | b", true),
        ("a | b", "a | bc", false),
        ("a*c", "abbc", true),
        ("a*", "a", true),
        ("*=null | runc | *: davit 0, runc 1", "x.y=null | runc | answers: davit 0, runc 1", true),
        ("a*b*c", "a1c2b", false),
        ("?id=1", "uid=1", true),
        ("?id=1", "id=1", false),
    ] {
        assert_eq!(matches(pattern, line), expected, "{pattern} {line}");
    }
}
