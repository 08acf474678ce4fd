//! `davit start`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::create::notify_socket;
use super::{About, root};
use crate::args;
use crate::globals::Globals;
use crate::output::Outcome;
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "start",
    summary: "start the program of a created container",
    usage: &["ID"],
    about: "\
        Starts the program of a created container; returns when it was executed, or says why it \
        was not. With NOTIFY_SOCKET in its environment, and in that of davit create, it returns \
        when the container has said READY=1 there (sd_notify(3)), or has ended.",
    options: &[],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser, &PAGE)?;
    let notify = notify_socket()?;
    runtime::command::start(&root(globals)?, &id, notify.as_ref()).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
