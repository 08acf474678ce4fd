//! `davit events`

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::Parser;
use runtime::command;

use super::{About, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "events",
    summary: "print what a container uses, and when it has too little memory",
    usage: &["[OPTIONS] ID"],
    about: "\
        Prints what a container uses, and each time the kernel kills in it for want of memory: one \
        JSON object on a line, of type stats or oom, as runc prints them. On cgroup v2, oom says in \
        its data which cgroup's limit was reached: the container's own, or one above it. Ends with \
        the container.",
    options: &[&[
        ("--interval TIME", "between figures: such as 5s (default), 500ms, 1m30s"),
        ("--stats", "figures once, and no more"),
    ]],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    let (mut interval, mut once) = (Duration::from_secs(5), false);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) => id.take(value)?,
            Word::Option(option) => match option.as_str() {
                "--interval" => {
                    let text = args::text(parser, &option)?;
                    interval = duration(&text).with_context(|| option)?;
                }
                "--stats" => once = args::switch(parser, &option)?,
                other => return Err(args::other(other)),
            },
        }
    }
    let id = id.get()?;
    let print = |event: &command::Event| -> Result<()> { output::print(&format!("{event}\n")) };
    let work = || -> Result<()> {
        match once {
            true => print(&command::statistics(&root(globals)?, &id)?),
            false => command::events(&root(globals)?, &id, interval, print),
        }
    };
    work().with_context(|| About(id.clone()))?;
    Ok(Outcome::Done)
}

/// `1m30s`, `0.5s`, `500ms`, as engines in Go write a time; more than none.
fn duration(text: &str) -> Result<Duration> {
    let wrong = || anyhow!("{text:?} is not a time such as 5s, 500ms or 1m30s");
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = tail;
    }
    match Duration::try_from_secs_f64(seconds) {
        // A shorter one would only keep a processor busy.
        Ok(time) if time >= Duration::from_millis(1) && !text.is_empty() => Ok(time),
        Ok(_) => bail!("{text:?} is too short: 1ms is the shortest"),
        Err(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_writes_them() {
        for (text, millis) in
            [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("0.5s", 500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text).unwrap().as_millis(), millis, "{text}");
        }
        for bad in ["", "5", "s", "-5s", "5x", "0s", "1ns", "1..5s", "5s x", "9e99h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
