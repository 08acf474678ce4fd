//! Manual pages, in the macros of man(7).

use std::fmt::Write as _;

use super::{Page, Row, Spelling};

/// A section of davit's own page that `--help` has no room for: its heading, and what stands there.
pub(crate) struct Section {
    /// In capitals.
    pub(crate) heading: &'static str,
    /// Paragraphs before the list.
    pub(crate) text: &'static str,
    /// Terms, and what each is.
    pub(crate) terms: &'static [Row],
}

/// The page as a manual page of section 8. `commands` are listed on davit's own page; the others
/// refer to it.
pub(crate) fn page(page: &Page, commands: &[&Page], sections: &[Section]) -> String {
    let name = title(page);
    let mut text = format!(
        ".TH {} 8 \"\" \"davit {}\" \"System administration\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        escaped(&name),
        escaped(page.summary)
    );
    for form in page.forms() {
        let _ = writeln!(text, "{}\n.br", bold(&escaped(&form)));
    }
    text.push_str(".SH DESCRIPTION\n");
    paragraphs(&mut text, page.about);
    text.push_str(".SH OPTIONS\n");
    for row in page.rows() {
        let spelling = Spelling::of(row);
        let names: Vec<_> = spelling.names().map(|name| bold(&escaped(name))).collect();
        let value = match spelling.value {
            "" => String::new(),
            value => format!(" \\fI{}\\fR", escaped(value)),
        };
        term(&mut text, &format!("{}{value}", names.join(", ")), row.1);
    }
    if !commands.is_empty() {
        text.push_str(".SH COMMANDS\n");
        for command in commands {
            let name = format!("{}(8)", bold(&escaped(&title(command))));
            term(&mut text, &name, command.summary);
        }
    }
    sections.iter().for_each(|section| write_section(&mut text, section));
    text.push_str(".SH SEE ALSO\n");
    text.push_str(if page.name.is_empty() {
        "runc(8), crun(1), podman(1)\n"
    } else {
        "davit(8)\n"
    });
    text
}

/// The name of the page: `davit-create`.
fn title(page: &Page) -> String {
    if page.name.is_empty() { "davit".to_owned() } else { format!("davit-{}", page.name) }
}

fn write_section(text: &mut String, section: &Section) {
    let _ = writeln!(text, ".SH {}", section.heading);
    paragraphs(text, section.text);
    for (name, what) in section.terms {
        term(text, &bold(&escaped(name)), what);
    }
}

fn term(text: &mut String, name: &str, what: &str) {
    let _ = writeln!(text, ".TP\n{name}\n{}", prose(what));
}

fn paragraphs(text: &mut String, about: &str) {
    for (index, paragraph) in about.split("\n\n").filter(|text| !text.is_empty()).enumerate() {
        if index > 0 {
            text.push_str(".PP\n");
        }
        let _ = writeln!(text, "{}", prose(paragraph));
    }
}

/// Text in which `what is typed` is bold.
fn prose(text: &str) -> String {
    let mut parts = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escaped(part);
        parts.push_str(&if index % 2 == 1 { bold(&part) } else { part });
    }
    parts.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bold(text: &str) -> String {
    format!("\\fB{text}\\fR")
}

/// Text that roff(7) takes for nothing but itself.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    // A dot at the start of a line is a macro.
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_a_macro() {
        assert_eq!(escaped(".TH"), "\\&.TH");
        assert_eq!(escaped("it's -1 \\"), "it\\(aqs \\-1 \\e");
        assert_eq!(prose("see `davit list` now"), "see \\fBdavit list\\fR now");
    }
}
