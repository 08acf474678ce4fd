//! Measures davit beside its peers and the floor, interleaved in one run: `bench --help`.

mod bundle;
mod case;
mod floor;
mod numbers;
mod report;
mod runtime;
mod scene;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::{Arg, ValueExt};

use crate::case::CASES;
use crate::numbers::Results;
use crate::runtime::Runtime;
use crate::scene::Scene;

const HELP: &str = "\
bench [--rounds N] [--only WORD] [--heavy] [--write FILE.md FILE.svg]
  --rounds N   rounds of the light cases (default 60); heavier cases get a part of them
  --only WORD  only cases whose name contains WORD
  --heavy      also the cases that take minutes
  --write M S  put the table between the marks of M, and the plot into S
Environment: DAVIT (the binary), BENCH_PEERS (\"crun=/path runc=/path\"), BENCH_CACHE (made by setup.sh)";

/// What was typed.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) only: String,
    pub(crate) heavy: bool,
    write: Option<(PathBuf, PathBuf)>,
    inside: bool,
}

fn options() -> Result<Options> {
    let mut options =
        Options { rounds: 60, only: String::new(), heavy: false, write: None, inside: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("rounds") => options.rounds = parser.value()?.parse()?,
            Arg::Long("only") => options.only = parser.value()?.string()?,
            Arg::Long("heavy") => options.heavy = true,
            Arg::Long("write") => {
                options.write = Some((parser.value()?.into(), parser.value()?.into()));
            }
            Arg::Long("inside") => options.inside = true,
            Arg::Long("help") => bail!("{HELP}"),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let options = options()?;
    if !options.inside {
        return scene::with_own_cgroup();
    }
    let scene = Scene::enter()?;
    let runtimes = Runtime::all(&scene)?;
    let mut results = Results::new(&runtimes);
    for case in CASES {
        if case.name.contains(options.only.as_str()) && (options.heavy || !case.heavy) {
            run(case, &scene, &runtimes, options.rounds, &mut results);
        }
    }
    if options.only.is_empty() || "system calls".contains(options.only.as_str()) {
        trace::system_calls(&scene, &runtimes, &mut results);
    }
    let table = report::table(&results, &runtimes);
    report::say(&table);
    if let Some((page, plot)) = &options.write {
        report::write(page, &table)?;
        std::fs::write(plot, report::plot(&results, &runtimes))?;
    }
    Ok(())
}

/// All runtimes take turns, so that what else the machine does meets all of them.
fn run(
    case: &case::Case,
    scene: &Scene,
    runtimes: &[Runtime],
    rounds: usize,
    results: &mut Results,
) {
    let mut able: Vec<&Runtime> = runtimes.iter().collect();
    // The first round warms caches, and shows who cannot.
    able.retain(|runtime| match (case.round)(scene, runtime, &mut |_, _| ()) {
        Ok(()) => true,
        Err(error) => {
            report::note(&format!("{}: {}: {error:#}", case.name, runtime.name));
            false
        }
    });
    for _ in 0..(rounds / case.part).max(3) {
        for runtime in &able {
            let mut sample = |name: &str, sample| results.add(name, runtime, sample);
            if let Err(error) = (case.round)(scene, runtime, &mut sample) {
                report::note(&format!("{}: {}: {error:#}", case.name, runtime.name));
            }
        }
    }
}
