//! Differences: davit beside runc and crun on the same input, which is generated.
//!
//! Small changes of a config.json (a member is absent, null, of another type, zero, extreme,
//! reversed, doubled) and of the commands' options. What each runtime answers, what the container
//! sees and what is left are compared; what is known to differ stands in known.txt with its reason.
//! A new difference fails, and so does a known one that is gone. Only the runtimes of Debian 12 are
//! compared with: others differ otherwise.
//!
//! `DIFFERENCES=PART` runs only the cases whose name holds PART; all that they differ in is
//! printed.

mod commands;
mod configs;
mod known;
mod trial;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use integration::*;

use crate::known::Known;
use crate::trial::{Case, Runtime, Seen};

/// How many cases are tried at once: a runtime waits more than it works.
const WORKERS: usize = 4;

#[test]
fn davit_differs_from_the_others_as_is_known() {
    spec!();
    skip_if!((!runtime::runtime().is_davit()).then(|| "it compares davit with them".to_owned()));
    skip_if!((!nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned()));
    let others = trial::others();
    skip_if!(others.is_empty().then(|| "neither runc nor crun runs here".to_owned()));
    let part = std::env::var("DIFFERENCES").unwrap_or_default();
    let mut cases = configs::cases();
    cases.extend(commands::cases());
    cases.retain(|case| case.name.contains(&part));
    let known = Known::read();
    let found = compare_all(&cases, &others, &known);
    let new: Vec<&String> = found.iter().filter(|line| !known.covers(line)).collect();
    assert!(new.is_empty(), "{} new differences:\n{}", new.len(), lines(&new));
    if part.is_empty() {
        let gone = known.unused(&found, &others);
        assert!(gone.is_empty(), "known.txt has differences that are gone:\n{}", gone.join("\n"));
    }
    println!("{} cases beside {}: {} known differences", cases.len(), names(&others), found.len());
}

fn names(others: &[Runtime]) -> String {
    others.iter().map(|other| other.name).collect::<Vec<_>>().join(" and ")
}

fn lines(lines: &[&String]) -> String {
    lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// A case with davit, and with the others.
struct Tried<'a> {
    case: &'a Case,
    ours: Seen,
    theirs: Vec<(&'static str, Seen)>,
}

/// The lines of what differs. A case with a new difference is tried a second time, for the others
/// have races of their own: runc 1.1.5 finds a container that was killed while it was paused now
/// frozen, now not. davit must do the same both times.
fn compare_all(cases: &[Case], others: &[Runtime], known: &Known) -> BTreeSet<String> {
    let all: Vec<&Case> = cases.iter().collect();
    let mut found = BTreeSet::new();
    let mut again = Vec::new();
    for (tried, lines) in compare(&all, others) {
        let (is_known, new): (Vec<_>, Vec<_>) = lines.into_iter().partition(|l| known.covers(l));
        found.extend(is_known);
        if !new.is_empty() {
            again.push((tried, new));
        }
    }
    let second: Vec<&Case> = again.iter().map(|(tried, _)| tried.case).collect();
    for (tried, lines) in compare(&second, others) {
        let first = again.iter().find(|(first, _)| first.case.name == tried.case.name);
        let (first, new) = first.expect("a first try");
        let (before, now) = (&first.ours.answers, &tried.ours.answers);
        if before != now || saw(&first.ours, &tried.ours).is_some() {
            found.extend(new.iter().cloned());
            found.insert(format!("{} | davit | {before}, and {now} again", tried.case.name));
        }
        found.extend(lines);
    }
    found
}

/// Tries each case with davit and with each other runtime; with each the lines of what differs.
fn compare<'a>(cases: &[&'a Case], others: &[Runtime]) -> Vec<(Tried<'a>, Vec<String>)> {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ours = trial::with(case, &trial::davit());
            let others = others.iter().filter(|other| !case.runc_only || other.name == "runc");
            let theirs = others.map(|other| (other.name, trial::with(case, other))).collect();
            all.lock().expect("a lock").push(Tried { case, ours, theirs });
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    let left = leftovers();
    let lines = |tried: Tried<'a>| {
        let lines = differences(&tried, &left);
        (tried, lines)
    };
    all.into_inner().expect("a lock").into_iter().map(lines).collect()
}

/// All that is left on the host of all of them: to look once is much cheaper than to look after
/// each.
fn leftovers() -> Vec<String> {
    let name = format!("davit-test-{}-", std::process::id());
    let directories = std::env::temp_dir().join(&name);
    // A killed process goes when the kernel gets round to it.
    call::within(Duration::from_secs(2), || leftovers::processes(&name).is_empty().then_some(()));
    let found = leftovers::find(&name, &directories);
    leftovers::sweep(&name, &directories);
    found
}

/// A line for each difference: `CASE | RUNTIME | WHAT: davit THIS, RUNTIME THAT`.
fn differences(tried: &Tried<'_>, left: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let ours = &tried.ours;
    for (other, theirs) in &tried.theirs {
        let mut tell = |what: &str, ours: &str, theirs: &str| {
            let case = &tried.case.name;
            lines.push(format!("{case} | {other} | {what}: davit {ours}, {other} {theirs}"));
        };
        if ours.answers != theirs.answers {
            tell("answers", &ours.answers, &theirs.answers);
        } else if let Some((ours, theirs)) = saw(ours, theirs) {
            tell("sees", &ours, &theirs);
        }
        let (ours, theirs) = (trial::left(left, &ours.id), trial::left(left, &theirs.id));
        if ours != theirs {
            tell("leaves", &format!("{ours:?}"), &format!("{theirs:?}"));
        }
    }
    lines
}

/// What only one of them has seen, and only the other.
fn saw(ours: &Seen, theirs: &Seen) -> Option<(String, String)> {
    let [ours, theirs] = [ours, theirs].map(|seen| seen.saw.iter().collect::<BTreeSet<_>>());
    let only = |one: &BTreeSet<_>, other: &BTreeSet<_>| {
        format!("{:?}", one.difference(other).collect::<Vec<_>>())
    };
    (ours != theirs).then(|| (only(&ours, &theirs), only(&theirs, &ours)))
}
