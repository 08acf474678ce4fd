//! The command line of each command, defined once: `--help`, the manual pages and the shells'
//! completions are generated from it.

pub(crate) mod complete;
pub(crate) mod man;
pub(crate) mod option;

use std::fmt::Write as _;

use self::option::{OptionHelp, Options};

/// The command line of one command.
pub(crate) struct CommandSpec {
    /// The command's name; empty for davit itself.
    pub(crate) name: &'static str,
    /// What it does, for the list of commands.
    pub(crate) summary: &'static str,
    /// The arguments after the name, for each form of the command.
    pub(crate) usage: &'static [&'static str],
    /// Paragraphs, separated by an empty line; `words in backquotes` are literal.
    pub(crate) about: &'static str,
    /// Its positional arguments, in order.
    pub(crate) arguments: &'static [Argument],
    /// Its options.
    pub(crate) options: &'static dyn Options,
}

/// A positional argument, as far as a shell can complete it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// The id of an existing container.
    Id,
    /// The id of a container that does not exist yet.
    NewId,
    /// A signal.
    Signal,
    /// The path of a directory.
    Directory,
    /// The path of a file.
    File,
    /// A command of davit.
    Command,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// This argument and all that follow belong to another program; davit reads no options from
    /// here on.
    Rest,
}

/// A term and its description.
pub(crate) type Definition = (&'static str, &'static str);

impl CommandSpec {
    /// All options, with `--help`.
    pub(crate) fn all_options(&self) -> Vec<OptionHelp> {
        let mut all = self.options.all();
        all.push(OptionHelp::HELP);
        all
    }

    /// One line for each form of the command.
    pub(crate) fn usage_lines(&self) -> impl Iterator<Item = String> {
        let program = if self.name.is_empty() { "davit" } else { "davit " };
        self.usage
            .iter()
            .map(move |form| format!("{program}{} {form}", self.name).trim_end().to_owned())
    }

    /// All forms on one line.
    pub(crate) fn short_usage(&self) -> String {
        format!("usage: {}", self.usage_lines().collect::<Vec<_>>().join(", or "))
    }

    /// The text of `--help`; `commands` are listed at the end, for davit itself.
    pub(crate) fn help(&self, commands: &[&Self]) -> String {
        let mut text = String::new();
        for (index, form) in self.usage_lines().enumerate() {
            let head = if index == 0 { "usage: " } else { "       " };
            let _ = writeln!(text, "{head}{form}");
        }
        for paragraph in self.about.split("\n\n") {
            text.push('\n');
            fill(&mut text, 0, paragraph);
        }
        text.push_str("\noptions:\n");
        for option in self.all_options() {
            let dashes = if option.flags.starts_with("--") { "      " } else { "  " };
            let name = format!("{dashes}{} {}", option.flags, option.placeholder());
            definition_row(&mut text, name.trim_end(), 29, option.what);
        }
        if !commands.is_empty() {
            text.push_str("\ncommands:\n");
        }
        for spec in commands {
            definition_row(&mut text, &format!("  {}", spec.name), 14, spec.summary);
        }
        text
    }
}

/// The width of the text, in columns.
const WIDTH: usize = 100;

/// A name and its description beside it, or below it if the name is long.
fn definition_row(text: &mut String, name: &str, column: usize, what: &str) {
    text.push_str(name);
    if name.len() + 2 > column {
        text.push('\n');
        text.push_str(&" ".repeat(column));
    } else {
        text.push_str(&" ".repeat(column - name.len()));
    }
    fill(text, column, what);
}

/// Fills lines with words, from `column` on; the first line has reached that column already.
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
    use super::option::{Setter, Table, Value};
    use super::*;

    static OPTIONS: Table<()> = &[&[
        ("-b, --boat", Setter::Directory(|(), _| {}), "the boat"),
        ("--how", Setter::OneOf(&[("slow", |()| {}), ("fast", |()| {})]), "how"),
        ("-a, --all", Setter::Switch(|(), _| {}), "all"),
    ]];

    static SPEC: CommandSpec = CommandSpec {
        name: "lift",
        summary: "lift it",
        usage: &["[OPTIONS] ID", "--all"],
        about: "Lifts a boat.\n\nOr `all` of them.",
        arguments: &[Argument::Id],
        options: &OPTIONS,
    };

    #[test]
    fn options_have_names_and_values() {
        let all = SPEC.all_options();
        assert_eq!(all[0].names().collect::<Vec<_>>(), ["-b", "--boat"]);
        assert_eq!((all[0].value.clone(), all[0].placeholder()), (Value::Directory, "DIR".into()));
        assert_eq!(all[1].value, Value::OneOf(vec!["slow", "fast"]));
        assert_eq!((all[2].value.clone(), all[2].placeholder()), (Value::None, String::new()));
        assert_eq!(all.last().unwrap().flags, "-h, --help");
    }

    #[test]
    fn help_has_columns() {
        let help = SPEC.help(&[]);
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
        definition_row(&mut text, "  --boat", 10, &"word ".repeat(40));
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert!(text.lines().skip(1).all(|line| line.starts_with("          word")));
    }
}
