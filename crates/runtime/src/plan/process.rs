//! Confinement and the user's program: the last operations of every process. Init and `exec` share
//! them, so that neither is confined less than the other.

use std::collections::BTreeMap;
use std::ffi::CString;

use oci_spec::runtime::{LinuxMemoryPolicy, LinuxPersonality, Process};

use super::seccomp::Filter;
use super::{ListenFds, ProcessOptions};
use crate::error::{Error, Result};
use crate::plan::{Op, Section};
use crate::slot;

/// Default PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The inputs for the confinement of the user's program.
pub(super) struct Confinement<'a> {
    pub(super) process: &'a Process,
    pub(super) personality: Option<&'a LinuxPersonality>,
    pub(super) memory_policy: Option<&'a LinuxMemoryPolicy>,
    pub(super) filter: Filter,
    /// The operations with which the init of a new container waits; empty for `exec`.
    pub(super) wait: Vec<Op>,
    /// The hooks between `start` and the user's program.
    pub(super) hooks: Vec<Op>,
    pub(super) privileges: davit_privileges::Host,
    pub(super) options: &'a ProcessOptions,
}

/// The new session, with its terminal if there is one. With a terminal, an engine waits for the end
/// of file of the streams that it gave to `create`: they must be closed before `start`.
pub(super) fn session(process: &Process) -> Vec<Op> {
    let terminal = process.terminal() == Some(true);
    let terminal = terminal.then_some(Op::Terminal { slot: slot::TERMINAL });
    std::iter::once(Op::NewSession).chain(terminal).collect()
}

/// The operations from the working directory to the exec.
pub(super) struct Confined {
    pub(super) sections: Vec<Section>,
    /// The filter for [`Section::Filter`].
    pub(super) filter: Vec<davit_seccomp::Op>,
    /// What could not be granted, where the specification wants a warning.
    pub(super) warnings: Vec<String>,
}

/// Plans the operations from the working directory to the exec.
///
/// All confinement is in force before the container counts as created, so that a failure is an
/// error of `create`, and hooks in the container run without privileges that the user's program
/// will not have. Only the filter may be later: as late as no_new_privs allows, but before the
/// hooks.
pub(super) fn confine(confinement: Confinement<'_>) -> Result<Confined> {
    let process = confinement.process;
    let mut before = Vec::new();
    let env = environment(process, confinement.options)?;
    if !env.iter().any(|entry| entry.as_bytes().starts_with(b"HOME=")) {
        before.push(Op::LookUpHome { uid: process.user().uid() });
    }
    let path = working_directory(process)?;
    before.push(Op::WorkingDirectory { path: path.clone(), as_user: false });
    let Confinement { personality, memory_policy, .. } = confinement;
    let plan =
        davit_privileges::plan(process, personality, memory_policy, &confinement.privileges)?;
    let filter = confinement.filter;
    let first = match filter.ops.is_empty() {
        true => plan.ops.len(),
        false => plan.seccomp_before,
    };
    let (first, last) = plan.ops.split_at_checked(first).ok_or_else(|| Error::new("privileges"))?;
    // As few operations as possible are left under the filter, which may refuse them.
    let ready = vec![
        Op::WorkingDirectory { path, as_user: true },
        Op::ClearParentDeathSignal,
        Op::CloseAtExec,
    ];
    let sections = vec![
        Section::Process(before),
        Section::Privileges(first.to_vec()),
        Section::Process(ready),
    ];
    let program = program(process, env)?;
    // Without no_new_privs the last privileges are dropped under the filter. A listener is sent to
    // the runtime of `create`.
    let filtered_first = !last.is_empty() || filter.listener.is_some();
    if filtered_first && !confinement.wait.is_empty() {
        filter.require_waiting()?;
    }
    let (wait, hooks) = (confinement.wait, confinement.hooks);
    let announce = vec![Op::ReportExecuting];
    let under_filter = [Section::Filter, Section::Privileges(last.to_vec())];
    let [before, after] = match (filtered_first, wait.is_empty() && hooks.is_empty()) {
        (_, true) => [announce, vec![]],
        (true, false) => [vec![], [wait, hooks, announce].concat()],
        (false, false) if hooks.is_empty() => [[wait, announce].concat(), vec![]],
        (false, false) => [wait, [hooks, announce].concat()],
    };
    let after = Section::Process([after, vec![program]].concat());
    let end = std::iter::once(Section::Process(before)).chain(under_filter).chain([after]);
    let sections = sections.into_iter().chain(end).collect();
    Ok(Confined { sections, filter: filter.ops, warnings: plan.warnings })
}

/// The search for the program in `create`: an engine must learn from it, and not from `start`, that
/// the program does not exist (podman's exit codes 126 and 127).
pub(super) fn find(process: &Process) -> Result<Option<Op>> {
    let Some(name) = process.args().iter().flatten().next().cloned() else { return Ok(None) };
    let absolute = |place: String| {
        let place = process.cwd().join(place);
        c_string("process.args[0]", place.as_os_str().as_encoded_bytes())
    };
    let candidates = candidates(&name, process);
    let candidates = candidates.into_iter().map(absolute).collect::<Result<_>>()?;
    Ok(Some(Op::FindProgram { name, candidates }))
}

/// Only for a new container: a misspelt `--workdir` of `exec` is an error, and leaves no directory
/// in the container.
pub(super) fn make_working_directory(process: &Process) -> Result<Option<Op>> {
    let path = working_directory(process)?;
    let is_root = path.as_bytes() == b"/";
    Ok((!is_root).then_some(Op::MakeWorkingDirectory { path }))
}

fn working_directory(process: &Process) -> Result<CString> {
    c_string("process.cwd", process.cwd().as_os_str().as_encoded_bytes())
}

/// Without a program there is no candidate, and `start` fails.
fn program(process: &Process, env: Vec<CString>) -> Result<Op> {
    let args = process.args().as_deref().unwrap_or_default();
    let name = args.first().cloned().unwrap_or_default();
    let candidates = args.first().map(|name| candidates(name, process)).unwrap_or_default();
    let strings = |(index, text): (usize, &String)| {
        c_string(&format!("process.args[{index}]"), text.as_bytes())
    };
    let mut paths = Vec::new();
    for candidate in candidates {
        paths.push(c_string("process.args[0]", candidate.as_bytes())?);
    }
    let args = args.iter().enumerate().map(strings).collect::<Result<Vec<_>>>()?;
    require_executable(&args, &env)?;
    Ok(Op::Execute { name, candidates: paths, args, env })
}

/// Refuses what execve(2) never accepts, before anything is made: a string above `MAX_ARG_STRLEN`,
/// and a total above `_STK_LIM / 4 * 3` (the kernel's fs/exec.c, bprm_stack_limits). A small
/// RLIMIT_STACK allows less.
fn require_executable(args: &[CString], env: &[CString]) -> Result<()> {
    const LONGEST: usize = 128 << 10;
    const MOST: usize = 6 << 20;
    for (field, list) in [("process.args", args), ("process.env", env)] {
        let long = list.iter().position(|text| text.count_bytes() >= LONGEST);
        if let Some(index) = long {
            let reason = format!("is longer than the {LONGEST} bytes that execve takes");
            return Err(Error::new(format!("{field}[{index}]: {reason}")));
        }
    }
    let size = |text: &CString| text.count_bytes() + 1 + size_of::<*const u8>();
    let total: usize = args.iter().chain(env).map(size).sum();
    match total {
        0..=MOST => Ok(()),
        _ => Err(Error::new(format!(
            "process.env and process.args: {total} bytes in all, and execve takes {MOST}"
        ))),
    }
}

/// A name with a slash is a path; any other is searched in `PATH` (execvp(3)).
fn candidates(name: &str, process: &Process) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let env = process.env().as_deref().unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let path = path.unwrap_or(DEFAULT_PATH);
    let place = |directory: &str| match directory {
        "" => format!("./{name}"),
        directory => format!("{directory}/{name}"),
    };
    path.split(':').map(place).collect()
}

/// The environment with each name once: the last value wins, and an empty `HOME` is left out.
pub(super) fn environment(process: &Process, options: &ProcessOptions) -> Result<Vec<CString>> {
    let listening = options.listen_fds.as_ref().map(listening).unwrap_or_default();
    let mut entries: Vec<&str> = Vec::new();
    let mut places = BTreeMap::new();
    for entry in process.env().iter().flatten().chain(&listening) {
        let name = entry.split('=').next().unwrap_or_default();
        let place = *places.entry(name).or_insert(entries.len());
        match entries.get_mut(place) {
            Some(earlier) => *earlier = entry,
            None => entries.push(entry),
        }
    }
    entries.retain(|entry| *entry != "HOME=");
    entries.into_iter().map(|entry| c_string("process.env", entry.as_bytes())).collect()
}

/// The variables of sd_listen_fds(3).
fn listening(listen: &ListenFds) -> Vec<String> {
    let names = listen.names.iter().map(|names| format!("LISTEN_FDNAMES={names}"));
    // The user's program is the first process of its pid namespace, as socket activation expects.
    [format!("LISTEN_FDS={}", listen.count), "LISTEN_PID=1".to_owned()]
        .into_iter()
        .chain(names)
        .collect()
}

fn c_string(field: &str, bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::new(format!("{field}: contains a NUL byte")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(env: &[&str]) -> Process {
        let user = json!({ "uid": 0, "gid": 0 });
        serde_json::from_value(json!({ "cwd": "/", "user": user, "args": ["x"], "env": env }))
            .unwrap()
    }

    fn env(entries: &[&str], options: &ProcessOptions) -> Vec<String> {
        let env = environment(&process(entries), options).unwrap();
        env.into_iter().map(|entry| entry.into_string().unwrap()).collect()
    }

    #[test]
    fn the_later_entry_wins_and_an_empty_home_is_none() {
        let none = ProcessOptions::default();
        assert_eq!(env(&["A=1", "B=2", "A=3", "HOME="], &none), ["A=3", "B=2"]);
    }

    #[test]
    fn socket_activation_overrides_what_config_json_says() {
        let listen = ListenFds { count: 2, names: Some("a:b".to_owned()) };
        let options = ProcessOptions { listen_fds: Some(listen), ..ProcessOptions::default() };
        let expected = ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"];
        assert_eq!(env(&["LISTEN_FDS=9"], &options), expected);
    }

    #[test]
    fn programs_are_looked_for_as_a_shell_does() {
        let path = process(&["PATH=/c", "PATH=/a::/b"]);
        assert_eq!(candidates("x", &path), ["/a/x", "./x", "/b/x"]);
        assert_eq!(candidates("./x", &path), ["./x"]);
        assert_eq!(candidates("x", &process(&[])).len(), 6);
    }

    #[test]
    fn the_early_search_is_from_the_working_directory() {
        let mut relative = process(&["PATH=/a:b"]);
        relative.set_cwd("/srv".into());
        let Some(Op::FindProgram { candidates, .. }) = find(&relative).unwrap() else {
            panic!("another operation");
        };
        assert_eq!(candidates, [c"/a/x".to_owned(), c"/srv/b/x".to_owned()]);
    }
}
