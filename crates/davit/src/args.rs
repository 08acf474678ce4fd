//! Strict command line parsing; errors name the option.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use davit_runtime::{Error, Id, nearest};
use lexopt::{Arg, Parser, ValueExt};

use crate::cli::option::{InfoRequest, NO_OPTIONS, Setter, Table, names};
use crate::globals;

/// Long options that engines pass with a single dash.
const SINGLE_DASH_OPTIONS: [&str; 1] = ["no-subreaper"];

/// Reads options into the request, up to the next positional argument, which is returned.
pub(crate) fn next<R>(
    parser: &mut Parser,
    table: Table<R>,
    request: &mut R,
) -> Result<Option<OsString>> {
    loop {
        let (name, set) = match parser.next()? {
            None => return Ok(None),
            Some(Arg::Value(value)) => return Ok(Some(value)),
            Some(Arg::Long(long)) => {
                find_long(table, long).ok_or_else(|| unknown_option(&format!("--{long}"), table))?
            }
            Some(Arg::Short(short)) => match find_short(table, short) {
                Some(found) => found,
                None => single_dash_option(parser, table, short)?,
            },
        };
        set_value(set, request, name, parser)?;
    }
}

type FoundOption<R> = (&'static str, &'static Setter<R>);

fn find<R>(table: Table<R>, wanted: impl Fn(&str) -> bool) -> Option<FoundOption<R>> {
    let mut rows = table.iter().copied().flatten();
    rows.find_map(|(flags, set, _)| Some((names(flags).find(|name| wanted(name))?, set)))
}

fn find_long<R>(table: Table<R>, long: &str) -> Option<FoundOption<R>> {
    find(table, |name| name.strip_prefix("--") == Some(long))
}

fn find_short<R>(table: Table<R>, short: char) -> Option<FoundOption<R>> {
    find(table, |name| name.strip_prefix('-').is_some_and(|rest| rest.chars().eq([short])))
}

/// Accepts a long option that an engine passes with a single dash.
fn single_dash_option<R>(
    parser: &mut Parser,
    table: Table<R>,
    short: char,
) -> Result<FoundOption<R>> {
    let rest = parser.optional_value().unwrap_or_default();
    let whole = format!("{short}{}", rest.to_string_lossy());
    let found =
        SINGLE_DASH_OPTIONS.contains(&whole.as_str()).then(|| find_long(table, &whole)).flatten();
    found.ok_or_else(|| unknown_option(&format!("-{short}"), table))
}

/// Reads the value of an option and stores it in the request.
fn set_value<R>(set: &Setter<R>, request: &mut R, option: &str, parser: &mut Parser) -> Result<()> {
    match set {
        Setter::Switch(set) => set(request, switch(parser, option)?),
        Setter::Directory(set) | Setter::File(set) | Setter::Socket(set) => {
            set(request, path(parser, option)?);
        }
        Setter::Number(set) => {
            let number = strict_number(&text(parser, option)?);
            set(request, number.with_context(|| option.to_owned())?);
        }
        Setter::OneOf(words) => {
            let text = text(parser, option)?;
            match words.iter().find(|(word, _)| *word == text) {
                Some((_, set)) => set(request),
                None => {
                    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                    return Err(invalid_choice(option, &text, &words));
                }
            }
        }
        Setter::Text(_, set) => {
            set(request, text(parser, option)?).with_context(|| option.to_owned())?;
        }
        Setter::PrintInfo(request) => return Err((*request).into()),
    }
    Ok(())
}

/// The error for a value that is not one of the choices; `of` is the option or the argument.
pub(crate) fn invalid_choice(of: &str, value: &str, choices: &[&str]) -> anyhow::Error {
    let expected = any_of(choices);
    let error = Error::new(format!("invalid value {value:?} for {of} (expected {expected})"));
    suggest(error, nearest(value, choices.iter().copied())).into()
}

/// `a`, `a or b`, `a, b or c`.
fn any_of(choices: &[&str]) -> String {
    match choices {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// The error for an option that a command does not have; `--help` is an option of every command.
fn unknown_option<R>(option: &str, table: Table<R>) -> anyhow::Error {
    if matches!(option, "--help" | "-h") {
        return InfoRequest::Help.into();
    }
    let error = Error::new(format!("unknown option {option:?}"));
    let Some(long) = option.strip_prefix("--") else { return error.into() };
    if find_long(globals::OPTIONS, long).is_some() {
        return error.hint(format!("{option} goes before the command")).into();
    }
    let known = long_names(table).chain(long_names(globals::OPTIONS)).chain(["help"]);
    suggest(error, nearest(long, known).map(|name| format!("--{name}")).as_deref()).into()
}

fn long_names<R>(table: Table<R>) -> impl Iterator<Item = &'static str> {
    let rows = table.iter().copied().flatten();
    rows.flat_map(|(flags, ..)| names(flags)).filter_map(|name| name.strip_prefix("--"))
}

/// The error, with the nearest known name as its hint.
pub(crate) fn suggest(error: Error, meant: Option<&str>) -> Error {
    match meant {
        Some(name) => error.hint(format!("did you mean {name:?}?")),
        None => error,
    }
}

/// Too few or too many arguments.
#[derive(Debug)]
pub(crate) struct WrongArguments(String);

impl std::fmt::Display for WrongArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongArguments {}

/// The error for a surplus argument.
pub(crate) fn unexpected(value: &OsStr) -> anyhow::Error {
    WrongArguments(format!("unexpected argument {:?}", value.to_string_lossy())).into()
}

/// The error for a missing argument.
pub(crate) fn required(what: &str) -> anyhow::Error {
    WrongArguments(format!("{what} is required")).into()
}

/// The error for an option without its value, in crun's words and in runc's: podman looks for them
/// to see whether `restore` has an option.
fn no_argument(option: &str) -> anyhow::Error {
    anyhow!("{option}: requires an argument (flag needs an argument)")
}

/// The text after an option.
fn text(parser: &mut Parser, option: &str) -> Result<String> {
    let value = parser.value().map_err(|_| no_argument(option))?;
    value.string().map_err(|_| anyhow!("{option}: is not UTF-8"))
}

/// The path after an option.
fn path(parser: &mut Parser, option: &str) -> Result<PathBuf> {
    let value = parser.value().map_err(|_| no_argument(option))?;
    if value.is_empty() {
        bail!("{option}: is an empty path");
    }
    Ok(PathBuf::from(value))
}

/// A decimal number without a sign or a blank.
pub(crate) fn strict_number(text: &str) -> Result<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("{text:?} is not a number");
    }
    text.parse().map_err(|_| anyhow!("{text:?} is too large"))
}

/// A user or group id. Parsing is strict: CVE-2026-30892 was a looser parser.
pub(crate) fn id(text: &str) -> Result<u32> {
    match strict_number(text)? {
        u32::MAX => bail!("{text} is not a valid id"),
        id => Ok(id),
    }
}

/// `UID` or `UID:GID`.
pub(crate) fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let parsed = match text.split_once(':') {
        Some((uid, gid)) => (id(uid), Some(id(gid)).transpose()),
        None => (id(text), Ok(None)),
    };
    let explain = || format!("{text:?}");
    Ok((parsed.0.with_context(explain)?, parsed.1.with_context(explain)?))
}

/// The value of a switch: `--flag`, `--flag=true` or `--flag=false`.
fn switch(parser: &mut Parser, option: &str) -> Result<bool> {
    match parser.optional_value() {
        None => Ok(true),
        Some(value) => match value.to_str() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(invalid_choice(option, &value.to_string_lossy(), &["true", "false"])),
        },
    }
}

/// The arguments of a command that takes only an id.
pub(crate) fn only_id(parser: &mut Parser) -> Result<Id> {
    id_and_options(parser, NO_OPTIONS, &mut ())
}

/// The arguments of a command that takes an id and options.
pub(crate) fn id_and_options<R>(
    parser: &mut Parser,
    table: Table<R>,
    request: &mut R,
) -> Result<Id> {
    let mut id = IdArgument::default();
    while let Some(value) = next(parser, table, request)? {
        id.take(value)?;
    }
    id.get()
}

/// The arguments of a command that takes only options.
pub(crate) fn only_options<R>(parser: &mut Parser, table: Table<R>, request: &mut R) -> Result<()> {
    match next(parser, table, request)? {
        Some(value) => Err(unexpected(&value)),
        None => Ok(()),
    }
}

/// The arguments of a command that takes options and at most one argument.
pub(crate) fn at_most_one<R>(
    parser: &mut Parser,
    table: Table<R>,
    request: &mut R,
) -> Result<Option<OsString>> {
    let mut argument = None;
    while let Some(value) = next(parser, table, request)? {
        match argument {
            None => argument = Some(value),
            Some(_) => return Err(unexpected(&value)),
        }
    }
    Ok(argument)
}

/// The container's id, which can be given only once.
#[derive(Default)]
pub(crate) struct IdArgument(Option<Id>);

impl IdArgument {
    /// Parses a positional argument as the id.
    pub(crate) fn take(&mut self, value: OsString) -> Result<()> {
        if self.0.is_some() {
            return Err(unexpected(&value));
        }
        let text = value.into_string().map_err(|_| anyhow!("the container id is not UTF-8"))?;
        self.0 = Some(Id::try_from(text)?);
        Ok(())
    }

    /// Whether the id was given.
    pub(crate) const fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// The id.
    pub(crate) fn get(self) -> Result<Id> {
        self.0.ok_or_else(|| required("a container id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_only_numbers() {
        assert_eq!(user("0").unwrap(), (0, None));
        assert_eq!(user("1000:100").unwrap(), (1000, Some(100)));
        for bad in
            ["", " 1", "-1", "1:", ":1", "1:-1", "4294967295", "4294967296", "root", "1 ", "+1"]
        {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[derive(Default)]
    struct Request {
        boats: Vec<PathBuf>,
        fast: bool,
        all: bool,
        keep: Option<bool>,
        rope: u32,
    }

    static TABLE: Table<Request> = &[
        &[
            ("-b, --boat", Setter::Directory(|r, path| r.boats.push(path)), "the boat"),
            (
                "--how",
                Setter::OneOf(&[("slow", |r| r.fast = false), ("fast", |r| r.fast = true)]),
                "",
            ),
        ],
        &[
            ("-a, --all", Setter::Switch(|r, on| r.all = on), "all"),
            ("--no-subreaper", Setter::Switch(|r, on| r.keep = Some(on)), ""),
            ("--rope", Setter::Number(|r, n| r.rope = n), ""),
        ],
    ];

    fn read(words: &[&str]) -> Result<(Request, Vec<OsString>)> {
        let mut parser = Parser::from_args(words);
        let (mut request, mut free) = (Request::default(), Vec::new());
        while let Some(value) = next(&mut parser, TABLE, &mut request)? {
            free.push(value);
        }
        Ok((request, free))
    }

    #[test]
    fn each_option_sets_its_member_of_the_request() {
        let words = ["-b", "x", "y", "--boat=z", "--how", "fast", "-a", "--rope=7", "-bw"];
        let (request, free) = read(&words).unwrap();
        assert_eq!(request.boats, ["x", "z", "w"].map(PathBuf::from));
        assert!(request.fast && request.all && request.rope == 7 && request.keep.is_none());
        assert_eq!(free, ["y"]);
        assert!(!read(&["-a", "--all=false"]).unwrap().0.all);
    }

    #[test]
    fn a_single_dash_is_accepted_for_options_that_engines_pass_so() {
        assert_eq!(read(&["-no-subreaper"]).unwrap().0.keep, Some(true));
        assert_eq!(
            read(&["-b", "-no-subreaper"]).unwrap().0.boats,
            ["-no-subreaper".into()] as [PathBuf; 1]
        );
        for bad in ["-no-pivot", "-n", "-rope", "-x"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_option_gets_the_nearest_one_as_a_hint() {
        let refused = |words: &[&str]| {
            let error = read(words).map(|_| ()).unwrap_err();
            let ours = error.chain().find_map(|cause| cause.downcast_ref::<Error>()).unwrap();
            (format!("{error:#}"), ours.advice().map(str::to_owned))
        };
        let (text, hint) = refused(&["--baot", "x"]);
        assert_eq!(text, "unknown option \"--baot\"");
        assert_eq!(hint.unwrap(), "did you mean \"--boat\"?");
        assert_eq!(refused(&["--bo"]).1, None);
        assert_eq!(refused(&["-c"]).1, None);
        assert_eq!(refused(&["--root", "x"]).1.unwrap(), "--root goes before the command");
        let (text, hint) = refused(&["--how", "fats"]);
        assert_eq!(text, "invalid value \"fats\" for --how (expected slow or fast)");
        assert_eq!(hint.unwrap(), "did you mean \"fast\"?");
        assert!(read(&["--help"]).map(|_| ()).unwrap_err().is::<InfoRequest>());
    }
}
