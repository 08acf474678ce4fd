//! The last part of every process's way: confinement and the user's program. Init and `exec` share
//! it, so that the one is never weaker than the other.

use std::collections::BTreeMap;
use std::ffi::CString;

use oci_spec::runtime::{LinuxMemoryPolicy, LinuxPersonality, Process};

use super::{ListenFds, ProcessOptions};
use crate::error::{Error, Result};
use crate::slot;
use crate::step::{Op, Section};

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What confines the user's program.
pub(super) struct Confinement<'a> {
    pub(super) process: &'a Process,
    pub(super) personality: Option<&'a LinuxPersonality>,
    pub(super) memory_policy: Option<&'a LinuxMemoryPolicy>,
    pub(super) seccomp: Vec<seccomp::Op>,
    pub(super) privileges: privileges::Host,
    pub(super) options: &'a ProcessOptions,
}

/// The new session, with its terminal where there is one. An engine waits for the end of file of the
/// streams that it gave to `create` with a terminal: nobody may keep them until `start`.
pub(super) fn session(process: &Process) -> Vec<Op> {
    let terminal = process.terminal() == Some(true);
    let terminal = terminal.then_some(Op::Terminal { slot: slot::TERMINAL });
    std::iter::once(Op::NewSession).chain(terminal).collect()
}

/// The sections from the working directory to the exec, and what could not be granted.
pub(super) fn sections(confinement: Confinement<'_>) -> Result<(Vec<Section>, Vec<String>)> {
    let process = confinement.process;
    let mut before = Vec::new();
    let env = environment(process, confinement.options)?;
    if !env.iter().any(|entry| entry.as_bytes().starts_with(b"HOME=")) {
        before.push(Op::Home { uid: process.user().uid() });
    }
    let path = working_directory(process)?;
    before.push(Op::WorkingDirectory { path: path.clone(), as_user: false });
    let Confinement { personality, memory_policy, .. } = confinement;
    let plan = privileges::plan(process, personality, memory_policy, &confinement.privileges)?;
    let (first, last) = plan.ops.split_at(plan.seccomp_before.min(plan.ops.len()));
    // As little as possible is left to do under the filter, which may refuse any of it.
    let ready = vec![Op::WorkingDirectory { path, as_user: true }, Op::Outlive, Op::Announce];
    let sections = vec![
        Section::Process(before),
        Section::Privileges(first.to_vec()),
        Section::Process(ready),
        Section::Seccomp(confinement.seccomp),
        Section::Privileges(last.to_vec()),
        Section::Process(vec![program(process, env)?]),
    ];
    Ok((sections, plan.warnings))
}

/// The search that `create` makes already: an engine may learn only from it, and not from `start`,
/// that there is no such program (podman's exit codes 126 and 127).
pub(super) fn find(process: &Process) -> Result<Op> {
    let name = process.args().iter().flatten().next().cloned().unwrap_or_default();
    let absolute = |place: String| {
        let place = process.cwd().join(place);
        c_string("process.args[0]", place.as_os_str().as_encoded_bytes())
    };
    let candidates = candidates(&name, process);
    let candidates = candidates.into_iter().map(absolute).collect::<Result<_>>()?;
    Ok(Op::FindProgram { name, candidates })
}

/// For a new container alone: a misspelt `--workdir` of `exec` is an error, and leaves nothing in
/// the container.
pub(super) fn make_working_directory(process: &Process) -> Result<Option<Op>> {
    let path = working_directory(process)?;
    let is_root = path.as_bytes() == b"/";
    Ok((!is_root).then_some(Op::MakeWorkingDirectory { path }))
}

fn working_directory(process: &Process) -> Result<CString> {
    c_string("process.cwd", process.cwd().as_os_str().as_encoded_bytes())
}

fn program(process: &Process, env: Vec<CString>) -> Result<Op> {
    let args = process.args().as_deref().unwrap_or_default();
    let name = args.first().cloned().unwrap_or_default();
    let candidates = candidates(&name, process);
    let strings = |(index, text): (usize, &String)| {
        c_string(&format!("process.args[{index}]"), text.as_bytes())
    };
    let mut paths = Vec::new();
    for candidate in candidates {
        paths.push(c_string("process.args[0]", candidate.as_bytes())?);
    }
    let args = args.iter().enumerate().map(strings).collect::<Result<_>>()?;
    Ok(Op::Execute { name, candidates: paths, args, env })
}

/// A name with a slash is a path; any other is looked for in `PATH` (execvp(3)).
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

/// The environment with each name once, the later one winning, and an empty `HOME` left out.
fn environment(process: &Process, options: &ProcessOptions) -> Result<Vec<CString>> {
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

/// What sd_listen_fds(3) looks for.
fn listening(listen: &ListenFds) -> Vec<String> {
    let names = listen.names.iter().map(|names| format!("LISTEN_FDNAMES={names}"));
    // The user's program is the first of its pid namespace, as all who activate it expect.
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
        let Op::FindProgram { candidates, .. } = find(&relative).unwrap() else {
            panic!("another operation");
        };
        assert_eq!(candidates, [c"/a/x".to_owned(), c"/srv/b/x".to_owned()]);
    }
}
