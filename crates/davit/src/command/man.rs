//! `davit man`

use anyhow::Result;
use lexopt::Parser;

use super::{command_spec, command_specs};
use crate::args;
use crate::cli::man::{self, Section};
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::globals::{self, Globals};
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "man",
    summary: "print a manual page",
    usage: &["[OPTIONS] [COMMAND]"],
    about: "\
        Prints the manual page of davit, or of a command, in the macros of man(7): \
        `davit man run | man -l -`. `make install` installs all of them.",
    arguments: &[Argument::Command],
    options: &OPTIONS,
};

static OPTIONS: Table<bool> = &[&[(
    "--list",
    Setter::Switch(|list, on| *list = on),
    "print only the names of the commands, one per line",
)]];

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    let mut list = false;
    let command = args::at_most_one(parser, OPTIONS, &mut list)?;
    let text = match command {
        _ if list => command_specs().iter().map(|spec| format!("{}\n", spec.name)).collect(),
        None => man::page(&globals::SPEC, &command_specs(), SECTIONS),
        Some(name) => man::page(command_spec(&name.to_string_lossy())?, &[], &[]),
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

const SECTIONS: &[Section] = &[
    Section {
        heading: "EXIT STATUS",
        text: "`davit run` and `davit exec` exit as the program in the container does. Otherwise:",
        terms: &[
            ("0", "success"),
            ("1", "failure; one line on stderr names the step and the reason"),
            ("128 + N", "run and exec: signal N ended the program"),
            ("255", "exec: the program could not be executed"),
        ],
    },
    Section {
        heading: "ENVIRONMENT",
        text: "",
        terms: &[
            (
                "XDG_RUNTIME_DIR",
                "the state of an unprivileged user's containers is in its subdirectory `davit`",
            ),
            (
                "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES",
                "sockets that are passed to the container (sd_listen_fds(3)); ignored unless \
                 LISTEN_PID is davit's pid",
            ),
            (
                "NOTIFY_SOCKET",
                "socket of the service manager to which the container's readiness is reported \
                 (sd_notify(3)); see davit-start(8)",
            ),
            (
                "DBUS_SYSTEM_BUS_ADDRESS, DBUS_SESSION_BUS_ADDRESS",
                "address of the bus on which the systemd cgroup driver asks for units, for root and \
                 for an unprivileged user",
            ),
            ("PATH", "directories in which newuidmap, newgidmap and ps are looked up"),
        ],
    },
    Section {
        heading: "FILES",
        text: "",
        terms: &[
            (
                "/run/davit/ID/",
                "state of a container: `record.json`, its plan, the FIFOs on which its init waits \
                 for start and answers, and links to its init and its cgroup",
            ),
            (
                "config.json",
                "configuration of a bundle: config.md of the OCI runtime specification",
            ),
        ],
    },
    Section {
        heading: "EXAMPLES",
        text: "A shell in an unpacked root file system:\n\n\
               `davit spec --bundle DIR && davit run --bundle DIR web`\n\n\
               Show what would be done, without doing it:\n\n`davit explain DIR`",
        terms: &[],
    },
];
