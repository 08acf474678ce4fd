//! Counted instructions: their table, which is recorded in a page, and the changes since.
//!
//! In the virtual machine of `make bench-exact` a microsecond of CPU time is a thousand
//! instructions. The table holds the counts, and the line above it the circumstances (kernel,
//! compilers): only counts of equal circumstances can be compared.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::numbers::{Results, Unit};
use crate::report;
use crate::runtime::Runtime;

/// The marks of the table in its page.
const MARKS: &str = "bench-exact";

/// The accepted increase in per cent: twice the difference of two runs of the same davit.
const ALLOWED: f64 = 2.0;

/// The counts of davit in a table.
#[derive(Debug, PartialEq)]
struct Counts<'a> {
    circumstances: &'a str,
    davit: Vec<(&'a str, f64)>,
}

/// The recorded and the new count of one case.
#[derive(Debug, PartialEq)]
struct Change<'a> {
    case: &'a str,
    kept: Option<f64>,
    now: Option<f64>,
}

impl Change<'_> {
    fn percent(&self) -> Option<f64> {
        Some((self.now? / self.kept? - 1.0) * 100.0)
    }

    /// Whether the count grew too much, or the case is no longer counted.
    fn is_bad(&self) -> bool {
        let Some(now) = self.now else { return true };
        self.kept.is_some_and(|kept| now * 100.0 > kept * (100.0 + ALLOWED))
    }
}

/// The circumstances, and one row for each case. The first quartile stands for all rounds:
/// disturbances make a round more expensive, and a few are cheaper by chance.
pub(crate) fn table(results: &Results, runtimes: &[Runtime]) -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let made =
        std::env::var("BENCH_MADE").context("BENCH_MADE: the compilers of what is measured")?;
    let titles: Vec<_> = runtimes
        .iter()
        .map(|runtime| format!("{} {}", runtime.name, runtime.version).trim_end().to_owned())
        .collect();
    let other = runtimes.get(1).map_or("-", |runtime| runtime.name.as_str());
    let mut text = format!(
        "Linux {}; {made}\n\n| thousand instructions | {} | davit / {other} |\n",
        kernel.trim_end(),
        titles.join(" | ")
    );
    text.push_str(&"|---".repeat(titles.len() + 2));
    text.push_str("|\n");
    for row in results.rows.iter().filter(|row| matches!(row.1, Unit::Cpu | Unit::OwnCpu)) {
        let counts: Vec<_> =
            runtimes.iter().map(|runtime| results.summary(row, &runtime.name)).collect();
        let cell = |count: Option<f64>| count.map_or("-".to_owned(), |count| format!("{count:.0}"));
        let counts: Vec<_> =
            counts.iter().map(|summary| summary.map(|found| found.quartile)).collect();
        let ratio = match counts.as_slice() {
            [Some(ours), Some(theirs), ..] => format!("{:.3}", ours / theirs),
            _ => "-".to_owned(),
        };
        let cells: Vec<_> = counts.into_iter().map(cell).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} | {ratio} |", row.0, cells.join(" | "));
    }
    Ok(text)
}

/// Reads a table.
fn parse(text: &str) -> Result<Counts<'_>> {
    let (circumstances, table) = text.split_once("\n\n").context("no circumstances")?;
    let rows = table.lines().skip(2).filter(|line| !line.is_empty());
    let davit = rows.map(|line| count(line).with_context(|| format!("no count in {line:?}")));
    Ok(Counts { circumstances, davit: davit.collect::<Result<_>>()? })
}

/// Name and davit's count of a row.
fn count(row: &str) -> Option<(&str, f64)> {
    let mut cells = row.strip_prefix('|')?.split('|').map(str::trim);
    let (case, count) = (cells.next()?, cells.next()?.parse().ok()?);
    (count > 0.0).then_some((case, count))
}

/// All cases of both tables, the recorded ones first.
fn changes<'a>(kept: &Counts<'a>, now: &Counts<'a>) -> Vec<Change<'a>> {
    let find = |counts: &Counts<'_>, case: &str| {
        counts.davit.iter().find(|(name, _)| *name == case).map(|(_, count)| *count)
    };
    let old = kept.davit.iter().map(|(case, count)| Change {
        case,
        kept: Some(*count),
        now: find(now, case),
    });
    let new = now
        .davit
        .iter()
        .filter(|(case, _)| find(kept, case).is_none())
        .map(|(case, count)| Change { case, kept: None, now: Some(*count) });
    old.chain(new).collect()
}

fn show(changes: &[Change<'_>]) -> String {
    let mut text = "| davit | kept | now | change |\n|---|---|---|---|\n".to_owned();
    let cell = |count: Option<f64>| count.map_or("-".to_owned(), |count| format!("{count:.0}"));
    for change in changes {
        let percent = change.percent().map_or("-".to_owned(), |percent| format!("{percent:+.1} %"));
        let mark = if change.is_bad() { " **more**" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {percent}{mark} |",
            change.case,
            cell(change.kept),
            cell(change.now)
        );
    }
    text
}

/// Compares new counts with those recorded in the page; fails if a case costs more. With `keep` the
/// new counts are recorded instead.
pub(crate) fn compare(page: &Path, counted: &Path, keep: bool) -> Result<()> {
    let counted = fs::read_to_string(counted).with_context(|| counted.display().to_string())?;
    let kept = report::read(page, MARKS)?;
    let now = parse(&counted)?;
    ensure!(!now.davit.is_empty(), "nothing has been counted");
    report::say(&counted);
    // The page may have no table yet.
    let before = parse(&kept);
    if let Ok(before) = &before {
        report::say(&show(&changes(before, &now)));
    }
    if keep {
        return report::write(page, MARKS, &counted);
    }
    judge(&before?, &now)
}

fn judge(kept: &Counts<'_>, now: &Counts<'_>) -> Result<()> {
    if kept.circumstances != now.circumstances {
        report::note(&format!(
            "NOT JUDGED: the recorded counts are of other circumstances ({}; now {}). Record those of the commit \
             before (KEEP=1), and compare with them.",
            kept.circumstances, now.circumstances
        ));
        return Ok(());
    }
    let bad: Vec<_> =
        changes(kept, now).into_iter().filter(Change::is_bad).map(|change| change.case).collect();
    ensure!(
        bad.is_empty(),
        "more than {ALLOWED} % more, or not counted: {}. If the change is worth that, record it (KEEP=1).",
        bad.join("; ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: &str = "Linux 7.2; rustc 1.95\n\n| thousand instructions | davit 0.1.0 | crun 1.28 | davit / crun |\n\
                        |---|---|---|---|\n| run def | 7800 | 13000 | 0.600 |\n| state | 900 | - | - |\n";

    fn with(run: &str, state: &str) -> String {
        KEPT.replace("7800", run).replace("900", state)
    }

    #[test]
    fn a_table_is_read() {
        let counts = parse(KEPT).unwrap();
        assert_eq!(counts.circumstances, "Linux 7.2; rustc 1.95");
        assert_eq!(counts.davit, [("run def", 7800.0), ("state", 900.0)]);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for wrong in ["", "| a | 1 |", &with("-", "900"), &with("0", "900"), &with("x", "900")] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_per_cent_pass_and_more_does_not() {
        let kept = parse(KEPT).unwrap();
        for (run, state, bad) in [
            ("7800", "900", None),
            ("7956", "918", None),
            ("7000", "500", None),
            ("7957", "900", Some("run def.")),
            ("7800", "919", Some("state.")),
            ("8000", "919", Some("run def; state.")),
        ] {
            let now = with(run, state);
            let said = judge(&kept, &parse(&now).unwrap()).err().map(|error| error.to_string());
            match bad {
                None => assert_eq!(said, None, "{run} {state}"),
                Some(bad) => assert!(said.unwrap().contains(bad), "{run} {state}"),
            }
        }
    }

    #[test]
    fn a_lost_case_is_bad_and_a_new_one_is_not() {
        let less = KEPT.replace("| state | 900 | - | - |\n", "");
        let (kept, less) = (parse(KEPT).unwrap(), parse(&less).unwrap());
        assert!(judge(&kept, &less).is_err());
        assert!(judge(&less, &kept).is_ok());
        assert_eq!(
            changes(&less, &kept)[1],
            Change { case: "state", kept: None, now: Some(900.0) }
        );
    }

    #[test]
    fn other_circumstances_are_not_judged() {
        let now = with("9999", "900").replace("7.2", "7.3");
        assert!(judge(&parse(KEPT).unwrap(), &parse(&now).unwrap()).is_ok());
    }

    #[test]
    fn changes_are_shown() {
        let now = with("8580", "891");
        let text = show(&changes(&parse(KEPT).unwrap(), &parse(&now).unwrap()));
        assert!(text.contains("| run def | 7800 | 8580 | +10.0 % **more** |"), "{text}");
        assert!(text.contains("| state | 900 | 891 | -1.0 % |"), "{text}");
    }

    #[test]
    fn the_page_keeps_what_was_counted() {
        let page = std::env::temp_dir().join(format!("davit-test-exact-{}.md", std::process::id()));
        let counted = page.with_extension("counted");
        fs::write(&page, "before\n<!-- bench-exact: begin -->\n<!-- bench-exact: end -->\nafter\n")
            .unwrap();
        fs::write(&counted, KEPT).unwrap();
        assert!(compare(&page, &counted, false).is_err());
        compare(&page, &counted, true).unwrap();
        compare(&page, &counted, false).unwrap();
        fs::write(&counted, with("9000", "900")).unwrap();
        assert!(compare(&page, &counted, false).is_err());
        let text = fs::read_to_string(&page).unwrap();
        for path in [&page, &counted] {
            fs::remove_file(path).unwrap();
        }
        assert!(
            text.starts_with("before\n") && text.ends_with("after\n") && text.contains("| 7800 |"),
            "{text}"
        );
    }
}
