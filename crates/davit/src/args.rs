//! What is typed, taken apart: strictly, with an error that names the option.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::{Arg, Parser, ValueExt};
use runtime::Id;

use crate::page::Page;

/// Long options that engines give with one dash.
const ONE_DASH: [&str; 1] = ["-no-subreaper"];

/// The arguments with engines' habits mended.
pub(crate) fn tolerant(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mend = |argument: OsString| match argument.to_str() {
        Some(text) if ONE_DASH.contains(&text) => OsString::from(format!("-{text}")),
        _ => argument,
    };
    arguments.map(mend).collect()
}

/// One argument.
pub(crate) enum Word {
    /// An option with its dashes: `--force`, `-f`.
    Option(String),
    /// Anything else.
    Value(OsString),
}

/// Reads the next argument: an option only where the page has it.
pub(crate) fn next(parser: &mut Parser, page: &Page) -> Result<Option<Word>> {
    let option = match parser.next()? {
        None => return Ok(None),
        Some(Arg::Value(value)) => return Ok(Some(Word::Value(value))),
        Some(Arg::Short(short)) => format!("-{short}"),
        Some(Arg::Long(long)) => format!("--{long}"),
    };
    if page.has(&option) { Ok(Some(Word::Option(option))) } else { Err(other(&option)) }
}

/// The error for an option that a command does not have; `--help`, which every command has.
pub(crate) fn other(option: &str) -> anyhow::Error {
    match option {
        "--help" | "-h" => HelpWanted.into(),
        option => anyhow!("unknown option {option:?}"),
    }
}

/// The error for an argument too many.
pub(crate) fn unexpected(value: &OsStr) -> anyhow::Error {
    anyhow!("unexpected argument {:?}", value.to_string_lossy())
}

/// `--help` was asked for.
#[derive(Debug)]
pub(crate) struct HelpWanted;

impl std::fmt::Display for HelpWanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("help")
    }
}

impl std::error::Error for HelpWanted {}

/// The text after an option.
pub(crate) fn text(parser: &mut Parser, option: &str) -> Result<String> {
    let value = parser.value().map_err(|_| anyhow!("{option}: requires an argument"))?;
    value.string().map_err(|_| anyhow!("{option}: is not UTF-8"))
}

/// The path after an option.
pub(crate) fn path(parser: &mut Parser, option: &str) -> Result<PathBuf> {
    let value = parser.value().map_err(|_| anyhow!("{option}: requires an argument"))?;
    if value.is_empty() {
        bail!("{option}: is an empty path");
    }
    Ok(PathBuf::from(value))
}

/// The number after an option.
pub(crate) fn number(parser: &mut Parser, option: &str) -> Result<u32> {
    let text = text(parser, option)?;
    strict_number(&text).with_context(|| option.to_owned())
}

/// A decimal number and nothing else: no sign, no blank.
pub(crate) fn strict_number(text: &str) -> Result<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("{text:?} is not a number");
    }
    text.parse().map_err(|_| anyhow!("{text:?} is too large"))
}

/// A user or group id: a number that means one (CVE-2026-30892 was a looser reading).
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
    let explain = || format!("--user {text:?}");
    Ok((parsed.0.with_context(explain)?, parsed.1.with_context(explain)?))
}

/// A switch that may be written `--flag`, `--flag=true` or `--flag=false`.
pub(crate) fn switch(parser: &mut Parser, option: &str) -> Result<bool> {
    match parser.optional_value() {
        None => Ok(true),
        Some(value) => match value.to_str() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => bail!("{option}: {:?} is neither true nor false", value.to_string_lossy()),
        },
    }
}

/// The format after an option: `json`, or the word for what people read.
pub(crate) fn json(parser: &mut Parser, option: &str, word: &str) -> Result<bool> {
    match text(parser, option)?.as_str() {
        "json" => Ok(true),
        other if other == word => Ok(false),
        other => bail!("{option}: {other:?} is neither {word} nor json"),
    }
}

/// The arguments of a command that takes an id and nothing else.
pub(crate) fn only_id(parser: &mut Parser, page: &Page) -> Result<Id> {
    let mut id = IdArgument::default();
    while let Some(word) = next(parser, page)? {
        match word {
            Word::Value(value) => id.take(value)?,
            Word::Option(option) => return Err(other(&option)),
        }
    }
    id.get()
}

/// The container's id, given once.
#[derive(Default)]
pub(crate) struct IdArgument(Option<Id>);

impl IdArgument {
    /// Takes a free argument for the id.
    pub(crate) fn take(&mut self, value: OsString) -> Result<()> {
        if self.0.is_some() {
            return Err(unexpected(&value));
        }
        let text = value.into_string().map_err(|_| anyhow!("the container id is not UTF-8"))?;
        self.0 = Some(Id::try_from(text)?);
        Ok(())
    }

    /// Whether it was given.
    pub(crate) const fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// The id.
    pub(crate) fn get(self) -> Result<Id> {
        self.0.ok_or_else(|| anyhow!("a container id is required"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_and_nothing_else() {
        assert_eq!(user("0").unwrap(), (0, None));
        assert_eq!(user("1000:100").unwrap(), (1000, Some(100)));
        for bad in
            ["", " 1", "-1", "1:", ":1", "1:-1", "4294967295", "4294967296", "root", "1 ", "+1"]
        {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_dash_is_tolerated_where_engines_write_it() {
        let given = ["davit", "run", "-no-subreaper", "-no-pivot"].map(OsString::from);
        assert_eq!(tolerant(given.into_iter())[2..], ["--no-subreaper", "-no-pivot"]);
    }
}
