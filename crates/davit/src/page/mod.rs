//! What a command takes, written once: `--help`, the manual pages and the shells' completions are
//! made of it, and an option that does not stand here is unknown.

pub(crate) mod complete;
pub(crate) mod man;

use std::fmt::Write as _;

/// How a command is called.
pub(crate) struct Page {
    /// The command's name; empty for davit itself.
    pub(crate) name: &'static str,
    /// What it does, in one line of davit's own page.
    pub(crate) summary: &'static str,
    /// What follows the name, for each form.
    pub(crate) usage: &'static [&'static str],
    /// Paragraphs, parted by an empty line; `words in these` are typed as they stand.
    pub(crate) about: &'static str,
    /// Its options, in the order in which they are told; groups are shared between commands.
    pub(crate) options: &'static [&'static [Row]],
}

/// An option: how it is spelt, such as `-b, --bundle DIR`, and what it does. The word in capitals
/// tells what its value is; words parted by bars are all that it may be.
pub(crate) type Row = (&'static str, &'static str);

/// What stands before a command's own arguments, and is printed for any.
pub(crate) const HELP: Row = ("-h, --help", "print this");

/// The value of an option, as far as a shell can help with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// There is none.
    None,
    /// A path of a directory.
    Directory,
    /// A path of anything.
    File,
    /// One of these, parted by bars.
    OneOf(&'static str),
    /// Anything else.
    Other,
}

/// A row, taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Spelling {
    /// `-b, --bundle`
    names: &'static str,
    /// `DIR`, or nothing.
    pub(crate) value: &'static str,
}

impl Spelling {
    pub(crate) fn of(row: &Row) -> Self {
        match row.0.rsplit_once(' ') {
            Some((names, value)) if !value.starts_with('-') => Self { names, value },
            _ => Self { names: row.0, value: "" },
        }
    }

    /// Its names, with their dashes.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        self.names.split(", ")
    }

    /// What a shell offers for its value.
    pub(crate) fn takes(self) -> Value {
        match self.value {
            "" => Value::None,
            "DIR" => Value::Directory,
            "FILE" | "SOCKET" => Value::File,
            words if words.contains('|') => Value::OneOf(words),
            _ => Value::Other,
        }
    }
}

impl Page {
    /// Every option, and `--help`.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'static Row> + use<> {
        self.options.iter().copied().flatten().chain(std::iter::once(&HELP))
    }

    /// Whether an option is one of this page's.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.rows().any(|row| Spelling::of(row).names().any(|name| name == option))
    }

    /// The forms of the command, whole.
    pub(crate) fn forms(&self) -> impl Iterator<Item = String> {
        let program = if self.name.is_empty() { "davit" } else { "davit " };
        self.usage
            .iter()
            .map(move |form| format!("{program}{} {form}", self.name).trim_end().to_owned())
    }

    /// Whether a free argument is a container's id.
    pub(crate) fn takes_id(&self) -> bool {
        self.usage.iter().any(|form| form.split(' ').any(|word| word == "ID"))
    }

    /// All that a free argument may be, parted by bars, where that can be told.
    pub(crate) fn choices(&self) -> Option<&'static str> {
        self.usage.iter().copied().find(|form| form.contains('|') && !form.contains(' '))
    }

    /// What `--help` prints; `commands` are listed on davit's own page.
    pub(crate) fn help(&self, commands: &[&Self]) -> String {
        let mut text = String::new();
        for (index, form) in self.forms().enumerate() {
            let head = if index == 0 { "usage: " } else { "       " };
            let _ = writeln!(text, "{head}{form}");
        }
        for paragraph in self.about.split("\n\n") {
            text.push('\n');
            fill(&mut text, 0, paragraph);
        }
        text.push_str("\noptions:\n");
        for row in self.rows() {
            let dashes = if row.0.starts_with("--") { "      " } else { "  " };
            told(&mut text, &format!("{dashes}{}", row.0), 29, row.1);
        }
        if !commands.is_empty() {
            text.push_str("\ncommands:\n");
        }
        for page in commands {
            told(&mut text, &format!("  {}", page.name), 14, page.summary);
        }
        text
    }
}

/// The width that people's terminals have at least.
const WIDTH: usize = 100;

/// A name, and what is told of it beside it; below it where the name is long.
fn told(text: &mut String, name: &str, column: usize, what: &str) {
    text.push_str(name);
    if name.len() + 2 > column {
        text.push('\n');
        text.push_str(&" ".repeat(column));
    } else {
        text.push_str(&" ".repeat(column - name.len()));
    }
    fill(text, column, what);
}

/// Words on lines; the first line has begun already at the column.
fn fill(text: &mut String, column: usize, words: &str) {
    let mut at = column;
    for word in words.split_whitespace() {
        if at > column && at + 1 + word.len() > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(column));
            at = column;
        }
        if at > column {
            text.push(' ');
            at += 1;
        }
        text.push_str(word);
        at += word.chars().count();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page = Page {
        name: "lift",
        summary: "lift it",
        usage: &["[OPTIONS] ID", "--all"],
        about: "Lifts a boat.\n\nOr `all` of them.",
        options: &[&[
            ("-b, --boat DIR", "the boat"),
            ("--how slow|fast", "how"),
            ("-a, --all", "all"),
        ]],
    };

    #[test]
    fn spellings_are_taken_apart() {
        let spelling = Spelling::of(&("-b, --bundle DIR", ""));
        assert_eq!(spelling.names().collect::<Vec<_>>(), ["-b", "--bundle"]);
        assert!(spelling.takes() == Value::Directory);
        let switch = Spelling::of(&("-a, --all", ""));
        assert_eq!(switch.names().collect::<Vec<_>>(), ["-a", "--all"]);
        assert!(switch.takes() == Value::None);
        assert!(Spelling::of(&("--how slow|fast", "")).takes() == Value::OneOf("slow|fast"));
    }

    #[test]
    fn what_does_not_stand_there_is_unknown() {
        assert!(PAGE.has("--boat") && PAGE.has("-a") && PAGE.has("--help"));
        assert!(!PAGE.has("--bo") && !PAGE.has("DIR") && !PAGE.has(""));
    }

    #[test]
    fn help_stands_in_columns() {
        let help = PAGE.help(&[]);
        assert!(help.starts_with(
            "usage: davit lift [OPTIONS] ID\n       davit lift --all\n\nLifts a boat.\n\nOr"
        ));
        assert!(
            help.contains(
                "\n  -b, --boat DIR             the boat\n      --how slow|fast        how\n"
            ),
            "{help}"
        );
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let mut text = String::new();
        told(&mut text, "  --boat", 10, &"word ".repeat(40));
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert!(text.lines().skip(1).all(|line| line.starts_with("          word")));
    }
}
