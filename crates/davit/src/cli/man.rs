//! Manual pages, in the macros of man(7).

use std::fmt::Write as _;

use super::{CommandSpec, Definition};

/// A section of davit(8) that `--help` does not have.
pub(crate) struct Section {
    /// The heading, in capitals.
    pub(crate) heading: &'static str,
    /// Paragraphs before the list.
    pub(crate) text: &'static str,
    /// Terms with their descriptions.
    pub(crate) terms: &'static [Definition],
}

/// The manual page of a command, in section 8. `commands` are listed in davit(8); the other pages
/// refer to it.
pub(crate) fn page(spec: &CommandSpec, commands: &[&CommandSpec], sections: &[Section]) -> String {
    let name = title(spec);
    let mut text = format!(
        ".TH {} 8 \"\" \"davit {}\" \"System administration\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        escaped(&name),
        escaped(spec.summary)
    );
    for form in spec.usage_lines() {
        let _ = writeln!(text, "{}\n.br", bold(&escaped(&form)));
    }
    text.push_str(".SH DESCRIPTION\n");
    paragraphs(&mut text, spec.about);
    text.push_str(".SH OPTIONS\n");
    for option in spec.all_options() {
        let names: Vec<_> = option.names().map(|name| bold(&escaped(name))).collect();
        let value = match option.placeholder().as_str() {
            "" => String::new(),
            value => format!(" \\fI{}\\fR", escaped(value)),
        };
        term(&mut text, &format!("{}{value}", names.join(", ")), option.what);
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
    text.push_str(if spec.name.is_empty() {
        "runc(8), crun(1), podman(1)\n"
    } else {
        "davit(8)\n"
    });
    text
}

/// The name of the page: `davit-create`.
fn title(spec: &CommandSpec) -> String {
    if spec.name.is_empty() { "davit".to_owned() } else { format!("davit-{}", spec.name) }
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

/// Text in which words in backquotes are bold.
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

/// Text without a special meaning for roff(7).
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
