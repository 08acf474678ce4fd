//! The table and the plot.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::numbers::{Results, Summary, Unit};
use crate::runtime::{FLOOR, Runtime};

/// Prints a note on standard error.
pub(crate) fn note(text: &str) {
    // A closed standard error is no reason to stop.
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}

/// Prints the result.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Cpu | Unit::OwnCpu => "CPU ms",
        Unit::Wall => "wall ms",
        Unit::Rss => "peak RSS KiB",
        Unit::Faults => "page faults",
        Unit::Count => "system calls",
        Unit::Size => "KiB",
    }
}

fn cell(summary: Option<Summary>, unit: Unit) -> String {
    let Some(Summary { least, median, spread, .. }) = summary else { return "-".to_owned() };
    match unit {
        Unit::Cpu | Unit::OwnCpu | Unit::Wall => {
            format!("{:.2} / {:.2} ± {:.2}", least / 1000.0, median / 1000.0, spread / 1000.0)
        }
        _ => format!("{median:.0}"),
    }
}

/// One row for each case, one column for each runtime.
pub(crate) fn table(results: &Results, runtimes: &[Runtime]) -> String {
    let titles: Vec<_> =
        runtimes.iter().map(|runtime| format!("{} {}", runtime.name, runtime.version)).collect();
    let other = runtimes.get(1).map_or("-", |runtime| runtime.name.as_str());
    let mut text = format!("| case | unit | {} | rounds | davit / {other} |\n", titles.join(" | "));
    text.push_str(&"|---".repeat(titles.len() + 4));
    text.push_str("|\n");
    for row in &results.rows {
        let summaries: Vec<_> =
            runtimes.iter().map(|runtime| results.summary(row, &runtime.name)).collect();
        let cells: Vec<_> = summaries.iter().map(|summary| cell(*summary, row.1)).collect();
        let rounds = summaries.first().copied().flatten().map_or(0, |summary| summary.count);
        let ratio = results.ratio(row).map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {rounds} | {ratio} |",
            row.0,
            unit(row.1),
            cells.join(" | ")
        );
    }
    text
}

/// The marks of the table of `make bench` in its page.
pub(crate) const MARKS: &str = "bench";

/// The three parts of a page: up to the first mark of this name, between the two, and from the
/// second one on.
fn parts<'a>(text: &'a str, marks: &str) -> Result<(&'a str, &'a str, &'a str)> {
    let (begin, end) = (format!("<!-- {marks}: begin -->\n"), format!("<!-- {marks}: end -->"));
    let place = text.find(&begin).context("the page has no mark for the table")? + begin.len();
    let (before, rest) = text.split_at(place);
    let place = rest.find(&end).context("the page has no mark for the table's end")?;
    let (table, after) = rest.split_at(place);
    Ok((before, table, after))
}

/// The text between the two marks of a page.
pub(crate) fn read(page: &Path, marks: &str) -> Result<String> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    Ok(parts(&text, marks)?.1.to_owned())
}

/// Writes the table between the two marks of a page.
pub(crate) fn write(page: &Path, marks: &str, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let (before, _, after) = parts(&text, marks)?;
    std::fs::write(page, format!("{before}{table}{after}"))?;
    Ok(())
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const BAR: f64 = 13.0;

/// Bars of the median CPU time; each row has its own scale.
pub(crate) fn plot(results: &Results, runtimes: &[Runtime]) -> String {
    let colours = ["#0b6e4f", "#c8553d", "#588bae", "#9a9a9a"];
    let rows = results.rows.iter().filter(|row| matches!(row.1, Unit::Cpu | Unit::OwnCpu));
    let (mut body, mut y) = (String::new(), 34.0);
    for row in rows {
        let medians: Vec<_> = runtimes
            .iter()
            .zip(colours)
            .filter_map(|(runtime, colour)| {
                Some((results.summary(row, &runtime.name)?.median, runtime, colour))
            })
            .collect();
        let most = medians.iter().map(|bar| bar.0).fold(1.0, f64::max);
        let _ = writeln!(
            body,
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            y + BAR,
            row.0
        );
        for (median, runtime, colour) in medians {
            let length = (WIDTH - LEFT - 110.0) * median / most;
            let name = if runtime.name == FLOOR { " (floor)" } else { "" };
            let _ = writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y}" width="{length:.1}" height="{}" fill="{colour}"/><text x="{:.1}" y="{}">{:.2} ms{name}</text>"#,
                BAR - 2.0,
                LEFT + length + 5.0,
                y + BAR - 3.0,
                median / 1000.0,
            );
            y += BAR;
        }
        y += 8.0;
    }
    let mut legend = String::new();
    for (index, (runtime, colour)) in runtimes.iter().zip(colours).enumerate() {
        let x = LEFT + 140.0 * index as f64;
        let _ = writeln!(
            legend,
            r#"<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/><text x="{}" y="20">{} {}</text>"#,
            x + 17.0,
            runtime.name,
            runtime.version
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{legend}{body}</svg>\n"
    )
}
