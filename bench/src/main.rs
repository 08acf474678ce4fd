//! Measures davit beside other runtimes and the floor, interleaved in one run: `bench --help`.

mod bundle;
mod case;
mod exact;
mod floor;
mod numbers;
mod report;
mod runtime;
mod scene;
mod size;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use lexopt::{Arg, ValueExt};

use crate::case::{CASES, LIGHT};
use crate::numbers::Results;
use crate::runtime::Runtime;
use crate::scene::Scene;

const HELP: &str = "\
bench [--rounds N] [--only WORD] [--write FILE.md FILE.svg]
bench --exact FILE [--rounds N of each of four passes]
bench --compare PAGE FILE [--keep]
  --rounds N   rounds of the light cases (default 60); heavier cases get a part of them
  --only WORD  only cases whose name contains WORD
  --write M S  put the table between the marks of M, and the plot into S, but for a part of the cases
  --exact F    in the virtual machine of `make bench-exact`: write the instructions of the usual commands to F
  --compare P F  compare these with the counts recorded in page P; fails if davit costs more
  --keep       record them in the page instead
Environment: DAVIT (the binary), BENCH_PEERS (\"crun=/path runc=/path\"), BENCH_CACHE (made by setup.sh),
BENCH_MADE (with --exact: the compilers)";

/// The options of the command line.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) only: String,
    write: Option<(PathBuf, PathBuf)>,
    exact: Option<PathBuf>,
    compare: Option<(PathBuf, PathBuf)>,
    keep: bool,
    inside: bool,
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: 60,
        only: String::new(),
        write: None,
        exact: None,
        compare: None,
        keep: false,
        inside: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("rounds") => options.rounds = parser.value()?.parse()?,
            Arg::Long("only") => options.only = parser.value()?.string()?,
            Arg::Long("write") => {
                options.write = Some((parser.value()?.into(), parser.value()?.into()));
            }
            Arg::Long("exact") => options.exact = Some(parser.value()?.into()),
            Arg::Long("compare") => {
                options.compare = Some((parser.value()?.into(), parser.value()?.into()));
            }
            Arg::Long("keep") => options.keep = true,
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
    if let Some((page, counted)) = &options.compare {
        return exact::compare(page, counted, options.keep);
    }
    if !options.inside {
        return scene::with_own_cgroup();
    }
    if let Some(file) = &options.exact {
        return count(&options, file);
    }
    let scene = Scene::enter(Duration::ZERO)?;
    let runtimes = Runtime::all(&scene)?;
    let wanted = |name: &str| name.contains(options.only.as_str());
    let mut results = Results::new(&runtimes);
    for case in CASES {
        if wanted(case.name) {
            run(case, &scene, &runtimes, options.rounds, &mut results);
        }
    }
    if wanted("system calls") {
        trace::system_calls(&scene, &runtimes, &mut results);
    }
    if wanted(size::PROGRAM) {
        size::programs(&runtimes, &mut results)?;
    }
    if wanted(size::LIMIT) {
        size::limits(&scene, &runtimes, &mut results)?;
    }
    let table = report::table(&results, &runtimes);
    report::say(&table);
    if let Some((page, plot)) = options.write.as_ref().filter(|_| options.only.is_empty()) {
        report::write(page, report::MARKS, &table)?;
        std::fs::write(plot, report::plot(&results, &runtimes))?;
    }
    Ok(())
}

/// Time for the kernel to clean up after a call: with this, counts differ by less than 1 %.
const REST: Duration = Duration::from_millis(100);

/// The first containers of a kernel cost up to 4 % more than later ones, because its caches are
/// empty: the first pass does not count.
const PASSES: usize = 4;

/// Counts the instructions of the usual commands.
fn count(options: &Options, file: &Path) -> Result<()> {
    let scene = Scene::enter(REST)?;
    let runtimes = Runtime::all(&scene)?;
    let mut results = Results::new(&runtimes);
    for pass in 1..=PASSES {
        for case in CASES.iter().filter(|case| case.part <= LIGHT) {
            report::note(&format!("{pass} of {PASSES}: {}", case.name));
            run(case, &scene, &runtimes, options.rounds, &mut results);
        }
        if pass == 1 {
            results = Results::new(&runtimes);
        }
    }
    std::fs::write(file, exact::table(&results, &runtimes)?)?;
    Ok(())
}

/// The order of the runtimes in a round; all orders are used in turn. After a large program the
/// CPU's caches are cold, after one that makes the same system calls they are warm.
fn in_turn<'a>(runtimes: &[&'a Runtime], round: usize) -> Vec<&'a Runtime> {
    let (mut left, mut number) = (runtimes.to_vec(), round);
    let mut order = Vec::new();
    while !left.is_empty() {
        let place = number % left.len();
        number /= left.len();
        order.push(left.remove(place));
    }
    order
}

/// Runs the rounds of a case. The runtimes take turns, so that other load on the host affects all
/// of them alike.
fn run(
    case: &case::Case,
    scene: &Scene,
    runtimes: &[Runtime],
    rounds: usize,
    results: &mut Results,
) {
    let mut able: Vec<&Runtime> = runtimes.iter().collect();
    // The first round warms the caches, and finds the runtimes that cannot run the case.
    able.retain(|runtime| match (case.round)(scene, runtime, &mut |_, _| ()) {
        Ok(()) => true,
        Err(error) => {
            report::note(&format!("{}: {}: {error:#}", case.name, runtime.name));
            false
        }
    });
    for round in 0..(rounds / case.part).max(3) {
        for runtime in in_turn(&able, round) {
            let mut sample = |name: &str, sample| results.add(name, runtime, sample);
            if let Err(error) = (case.round)(scene, runtime, &mut sample) {
                report::note(&format!("{}: {}: {error:#}", case.name, runtime.name));
            }
        }
    }
}
