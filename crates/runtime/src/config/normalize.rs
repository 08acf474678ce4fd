//! The changes to a configuration before it is planned, which depend on the caller and the host.
//! Changes without which oci-spec could not hold it are made before, in `amend`.

use std::path::PathBuf;

use davit_namespaces::Kind;
use oci_spec::runtime::{BoxBuilder, Mount, Process, Spec};

use super::rootless;
use crate::host::Host;
use crate::notify;
use crate::plan::{ProcessOptions, kinds};
use crate::state::NOTIFY_SOCKET;

/// What the changes depend on.
pub(crate) struct Context<'a> {
    pub(crate) host: &'a Host,
    pub(crate) options: &'a ProcessOptions,
    /// The directory of the container's notify socket, if a service manager listens for readiness.
    pub(crate) notify_directory: Option<PathBuf>,
}

/// The result of [`normalize`].
#[derive(Debug, Default)]
pub(crate) struct Normalized {
    /// Whether the container has a notify socket.
    pub(crate) notifies: bool,
    pub(crate) warnings: Vec<String>,
}

/// Sets the size of the terminal, and adds the mount and the variable of the notify socket, and the
/// user namespace of an unprivileged user.
pub(crate) fn normalize(spec: &mut Spec, context: Context<'_>) -> Normalized {
    if let Some(process) = spec.process_mut() {
        normalize_process(process, context.options);
    }
    let directory = context.notify_directory;
    let notifies = directory.is_some_and(|directory| add_notify_socket(spec, directory));
    let warning = rootless::add_user_namespace(spec, context.host);
    Normalized { notifies, warnings: warning.into_iter().collect() }
}

/// Gives a terminal without a size that of the caller's terminal. A height or width of 0 is none.
pub(crate) fn normalize_process(process: &mut Process, options: &ProcessOptions) {
    if process.console_size().is_some_and(|size| size.height() == 0 || size.width() == 0) {
        process.set_console_size(None);
    }
    if let (Some(true), None, Some(size)) =
        (process.terminal(), process.console_size(), options.terminal_size)
        && let Some((rows, columns)) = size()
    {
        // The builder refuses nothing of a struct whose fields have defaults.
        let size = BoxBuilder::default().height(rows).width(columns).build().ok();
        process.set_console_size(size);
    }
}

/// Adds the mount of the notify socket's directory, and `NOTIFY_SOCKET`; says whether it did.
///
/// A process that has the variable already was given a socket by its engine, and a container
/// without a mount namespace of its own cannot have the mount.
pub(crate) fn add_notify_socket(spec: &mut Spec, directory: PathBuf) -> bool {
    let own_mounts = kinds(spec).contains(&Kind::Mount);
    let Some(process) = spec.process_mut() else { return false };
    let mut env = process.env().clone().unwrap_or_default();
    let variable = format!("{}=", notify::VARIABLE);
    if !own_mounts || env.iter().any(|entry| entry.starts_with(&variable)) {
        return false;
    }
    env.push(format!("{variable}{}/{NOTIFY_SOCKET}", notify::INSIDE));
    process.set_env(Some(env));
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(notify::INSIDE));
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(directory));
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    mount.set_options(Some(options.to_vec()));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    true
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn process(changes: Value) -> Process {
        let mut process = json!({ "cwd": "/", "args": ["x"], "user": { "uid": 0, "gid": 0 } });
        process.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(process).unwrap()
    }

    #[test]
    fn a_process_that_has_a_socket_keeps_it() {
        let spec = |env: &[&str], namespaces: Value| -> Spec {
            let linux = json!({ "namespaces": namespaces });
            serde_json::from_value(json!({ "ociVersion": "1.3.0", "linux": linux,
                "process": process(json!({ "env": env })) }))
            .unwrap()
        };
        let directory = || PathBuf::from("/r/x/notify");
        let mut fresh = spec(&["A=1"], json!([{ "type": "mount" }]));
        assert!(add_notify_socket(&mut fresh, directory()));
        let env = fresh.process().as_ref().unwrap().env().clone().unwrap();
        assert_eq!(env, ["A=1", "NOTIFY_SOCKET=/run/notify/notify.sock"]);
        let source = fresh.mounts().as_ref().unwrap().last().unwrap().source().clone();
        assert_eq!(source, Some("/r/x/notify".into()));
        let mut engine = spec(&["NOTIFY_SOCKET=/x"], json!([{ "type": "mount" }]));
        assert!(!add_notify_socket(&mut engine, directory()));
        assert!(!add_notify_socket(&mut spec(&[], json!([])), directory()));
    }

    #[test]
    fn a_terminal_without_a_size_gets_that_of_the_caller() {
        let options =
            ProcessOptions { terminal_size: Some(|| Some((24, 80))), ..Default::default() };
        let size = |changes: Value| {
            let mut process = process(changes);
            normalize_process(&mut process, &options);
            process.console_size().map(|size| (size.height(), size.width()))
        };
        let own = json!({ "height": 1, "width": 2 });
        let empty = json!({ "height": 0, "width": 2 });
        assert_eq!(size(json!({})), None);
        assert_eq!(size(json!({ "terminal": true })), Some((24, 80)));
        assert_eq!(size(json!({ "terminal": true, "consoleSize": own })), Some((1, 2)));
        assert_eq!(size(json!({ "terminal": true, "consoleSize": empty })), Some((24, 80)));
        assert_eq!(size(json!({ "consoleSize": empty })), None);
    }
}
