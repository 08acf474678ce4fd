//! `davit man`

use anyhow::{Result, anyhow};
use lexopt::Parser;

use super::pages;
use crate::args::{self, Word};
use crate::globals::{self, Globals};
use crate::output::{self, Outcome};
use crate::page::Page;
use crate::page::man::{self, Section};

pub(super) const PAGE: Page = Page {
    name: "man",
    summary: "print a manual page",
    usage: &["[OPTIONS] [COMMAND]"],
    about: "\
        Prints the manual page of davit, or of a command, in the macros of man(7): \
        `davit man run | man -l -`. `make install` puts all of them where man(1) finds them.",
    options: &[&[("--list", "print the commands' names instead, one on a line")]],
};

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    let (mut command, mut list) = (None, false);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) if command.is_none() => command = Some(value),
            Word::Value(value) => return Err(args::unexpected(&value)),
            Word::Option(option) => match option.as_str() {
                "--list" => list = args::switch(parser, &option)?,
                other => return Err(args::other(other)),
            },
        }
    }
    let text = match command {
        _ if list => pages().iter().map(|page| format!("{}\n", page.name)).collect(),
        None => man::page(&globals::PAGE, &pages(), SECTIONS),
        Some(name) => {
            let found = pages().into_iter().find(|page| *name == *page.name);
            let page =
                found.ok_or_else(|| anyhow!("unknown command {:?}", name.to_string_lossy()))?;
            man::page(page, &[], &[])
        }
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

const SECTIONS: &[Section] = &[
    Section {
        heading: "EXIT STATUS",
        text: "`davit run` and `davit exec` exit as the program in the container does. Otherwise:",
        terms: &[
            ("0", "what was asked for is done, and nothing is printed that was not asked for"),
            ("1", "it is not; one line on stderr says which step failed, and why"),
            ("128 + N", "of run and exec: signal N ended the program"),
            ("255", "of exec: the program could not be executed"),
        ],
    },
    Section {
        heading: "ENVIRONMENT",
        text: "",
        terms: &[
            ("XDG_RUNTIME_DIR", "an ordinary user's containers are kept in `davit` below it"),
            (
                "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES",
                "sockets that are passed on to the container (sd_listen_fds(3)); ignored where \
                 LISTEN_PID is not davit's own",
            ),
        ],
    },
    Section {
        heading: "FILES",
        text: "",
        terms: &[
            (
                "/run/davit/ID/",
                "what is known of a container: `record.json`, its plan, the socket on which its \
                 init waits for start, and a link to its cgroup",
            ),
            ("config.json", "what a bundle asks for: config.md of the OCI runtime specification"),
        ],
    },
    Section {
        heading: "EXAMPLES",
        text: "A shell in an unpacked root file system:\n\n\
               `davit spec --bundle DIR && davit run --bundle DIR web`\n\n\
               What would be done, without doing it:\n\n`davit explain DIR`",
        terms: &[],
    },
];
