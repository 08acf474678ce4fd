//! The options of a command. Each is one row of a table: its flags, the kind of its value, the
//! function that stores the value, and its description. The command line is parsed by these rows;
//! `--help`, the manual pages and the shells' completions are generated from them.

use std::path::PathBuf;

use anyhow::Result;

/// An option of a command whose request is an `R`: its flags, such as `-b, --bundle`; its value;
/// its description.
pub(crate) type OptionSpec<R> = (&'static str, Setter<R>, &'static str);

/// The options of a command, in the order of `--help`; groups are shared between commands.
pub(crate) type Table<R> = &'static [&'static [OptionSpec<R>]];

/// A value that an option can have, and the function that sets it in the request.
pub(crate) type Choice<R> = (&'static str, fn(&mut R));

/// The kind of an option's value, and the function that stores it in the request.
pub(crate) enum Setter<R: 'static> {
    /// No value, or `=true` or `=false`.
    Switch(fn(&mut R, bool)),
    /// The path of a directory.
    Directory(fn(&mut R, PathBuf)),
    /// The path of a file.
    File(fn(&mut R, PathBuf)),
    /// The path of a unix socket.
    Socket(fn(&mut R, PathBuf)),
    /// A decimal number.
    Number(fn(&mut R, u32)),
    /// One of these values.
    OneOf(&'static [Choice<R>]),
    /// A text, with the name that `--help` shows for it.
    Text(&'static str, fn(&mut R, String) -> Result<()>),
    /// No value: davit prints this and does nothing else.
    PrintInfo(InfoRequest),
}

/// A text that is printed instead of executing the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InfoRequest {
    /// The help of the command.
    Help,
    /// The version of davit.
    Version,
}

impl std::fmt::Display for InfoRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Help => "help",
            Self::Version => "version",
        })
    }
}

impl std::error::Error for InfoRequest {}

/// The table of a command without options.
pub(crate) static NO_OPTIONS: Table<()> = &[];

/// The single flags of a row.
pub(crate) fn names(flags: &'static str) -> impl Iterator<Item = &'static str> {
    flags.split(", ")
}

/// The description of an option, for help, manual and completions.
pub(crate) struct OptionHelp {
    /// `-b, --bundle`
    pub(crate) flags: &'static str,
    /// The kind of its value.
    pub(crate) value: Value,
    /// What it does.
    pub(crate) what: &'static str,
}

/// The kind of an option's value, as far as a shell can complete it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// No value.
    None,
    /// The path of a directory.
    Directory,
    /// The path of a file.
    File,
    /// The path of a socket.
    Socket,
    /// One of these.
    OneOf(Vec<&'static str>),
    /// Any other value, with its name.
    Other(&'static str),
}

impl OptionHelp {
    /// `--help`, an option of every command.
    pub(crate) const HELP: Self =
        Self { flags: "-h, --help", value: Value::None, what: "print this help" };

    /// Its flags, with their dashes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        names(self.flags)
    }

    /// The placeholder of its value, such as `DIR`, or an empty text.
    pub(crate) fn placeholder(&self) -> String {
        match &self.value {
            Value::None => String::new(),
            Value::Directory => "DIR".to_owned(),
            Value::File => "FILE".to_owned(),
            Value::Socket => "SOCKET".to_owned(),
            Value::OneOf(words) => words.join("|"),
            Value::Other(name) => (*name).to_owned(),
        }
    }
}

/// The options of any command.
pub(crate) trait Options: Sync {
    /// The descriptions of all options.
    fn all(&self) -> Vec<OptionHelp>;
}

impl<R> Options for Table<R> {
    fn all(&self) -> Vec<OptionHelp> {
        let about = |(flags, set, what): &'static OptionSpec<R>| OptionHelp {
            flags,
            what,
            value: match set {
                Setter::Switch(_) | Setter::PrintInfo(_) => Value::None,
                Setter::Directory(_) => Value::Directory,
                Setter::File(_) => Value::File,
                Setter::Socket(_) => Value::Socket,
                Setter::Number(_) => Value::Other("N"),
                Setter::OneOf(words) => Value::OneOf(words.iter().map(|(word, _)| *word).collect()),
                Setter::Text(name, _) => Value::Other(name),
            },
        };
        self.iter().copied().flatten().map(about).collect()
    }
}
