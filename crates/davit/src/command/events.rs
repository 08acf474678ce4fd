//! `davit events`

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use davit_runtime::command;
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "events",
    summary: "print resource usage and OOM events",
    usage: &["[OPTIONS] ID"],
    about: "\
        Prints resource usage, and an event each time the OOM killer kills a process of the \
        container: one JSON object per line, of type stats or oom, in runc's format. On cgroup v2 \
        the data of oom name the cgroup whose limit was reached: the container's, or one above \
        it. The command ends when the container ends.",
    arguments: &[Argument::Id],
    options: &OPTIONS,
};

struct Arguments {
    interval: Duration,
    once: bool,
}

static OPTIONS: Table<Arguments> = &[&[
    (
        "--interval",
        Setter::Text("TIME", |events, text| {
            events.interval = duration(&text)?;
            Ok(())
        }),
        "time between samples: 5s (default), 500ms, 1m30s, ...",
    ),
    ("--stats", Setter::Switch(|events, on| events.once = on), "print one sample and exit"),
]];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments { interval: Duration::from_secs(5), once: false };
    let id = args::id_and_options(parser, OPTIONS, &mut arguments)?;
    let print = |event: &command::Event| -> Result<()> { output::print(&format!("{event}\n")) };
    let work = || -> Result<()> {
        match arguments.once {
            true => print(&command::statistics(&root(globals)?, &id)?),
            false => command::events(&root(globals)?, &id, arguments.interval, print),
        }
    };
    work().with_context(|| ContainerContext(id.clone()))?;
    Ok(Outcome::Done)
}

/// The longest interval, a year, which every clock can add.
const LONGEST: Duration = Duration::from_secs(8784 * 3600);

/// Parses a duration in Go's format, such as `1m30s`, `0.5s` or `500ms`; zero is refused.
fn duration(text: &str) -> Result<Duration> {
    let invalid = || anyhow!("{text:?} is not a time such as 5s, 500ms or 1m30s");
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
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
            _ => return Err(invalid()),
        };
        seconds += number.parse::<f64>().map_err(|_| invalid())? * factor;
        rest = tail;
    }
    match Duration::try_from_secs_f64(seconds) {
        // A shorter interval would only keep a CPU busy.
        Ok(time) if time > LONGEST => bail!("{text:?} is too long: 8784h is the longest"),
        Ok(time) if time >= Duration::from_millis(1) && !text.is_empty() => Ok(time),
        Ok(_) => bail!("{text:?} is too short: 1ms is the shortest"),
        Err(_) => Err(invalid()),
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
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "5x",
            "0s",
            "1ns",
            "1..5s",
            "5s x",
            "9e99h",
            "8785h",
            "5000000000000000h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
