//! The sockets on which a systemd manager may answer: its own, or that of a bus.

use std::fmt;
use std::path::{Path, PathBuf};

use davit_dbus::Address;
use serde::{Deserialize, Serialize};

/// systemd's own socket, which needs no bus daemon.
const PRIVATE: &str = "systemd/private";

/// A socket on which a systemd manager answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bus {
    /// The socket.
    pub socket: Address,
    /// Whether it is systemd's own socket, without a bus daemon in between.
    pub direct: bool,
    /// Whether the manager is a user's, not the system's.
    pub user: bool,
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

/// The properties of this process that decide which sockets are tried.
#[derive(Clone, Debug, Default)]
pub(super) struct BusEnvironment {
    /// Whether it is root, of the initial or of another user namespace.
    pub(super) is_root: bool,
    /// Whether its user namespace is not the initial one.
    pub(super) in_user_namespace: bool,
    /// Its uid in the parent user namespace.
    pub(super) uid: u32,
    /// `DBUS_SYSTEM_BUS_ADDRESS`
    pub(super) system_address: Option<String>,
    /// `DBUS_SESSION_BUS_ADDRESS`
    pub(super) session_address: Option<String>,
    /// `XDG_RUNTIME_DIR`
    pub(super) runtime_directory: Option<PathBuf>,
}

/// The sockets to try, in order. An address in the environment comes first; then, for root,
/// systemd's own socket, which `systemctl` uses too: one daemon less to depend on.
pub(super) fn candidates(environment: &BusEnvironment) -> Vec<Bus> {
    let mut found = Vec::new();
    let named = |address: &Option<String>, user| {
        let socket = address.as_deref().and_then(Address::parse)?;
        Some(Bus { socket, direct: false, user })
    };
    let at = |path: PathBuf, direct, user| Bus { socket: Address::Path(path), direct, user };
    // Root of a user namespace is usually an unprivileged user, and rarely a whole system in a
    // container.
    if !environment.is_root || environment.in_user_namespace {
        found.extend(named(&environment.session_address, true));
        let default = || PathBuf::from(format!("/run/user/{}", environment.uid));
        let directory = environment.runtime_directory.clone().unwrap_or_else(default);
        found.push(at(directory.join("bus"), false, true));
        found.push(at(directory.join(PRIVATE), true, true));
    }
    if environment.is_root {
        found.extend(named(&environment.system_address, false));
        found.push(at(Path::new("/run").join(PRIVATE), true, false));
        found.push(at("/run/dbus/system_bus_socket".into(), false, false));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(environment: &BusEnvironment) -> Vec<String> {
        let show = |bus: Bus| format!("{bus}{}", if bus.user { " user" } else { "" });
        candidates(environment).into_iter().map(show).collect()
    }

    #[test]
    fn root_tries_the_socket_of_systemd_first() {
        let root = BusEnvironment { is_root: true, ..BusEnvironment::default() };
        assert_eq!(tried(&root), ["/run/systemd/private", "/run/dbus/system_bus_socket"]);
        let address = Some("unix:path=/tmp/bus%20a,guid=12".to_owned());
        let named = BusEnvironment { system_address: address, ..root };
        assert_eq!(tried(&named)[0], "/tmp/bus a");
    }

    #[test]
    fn a_user_has_a_manager_of_its_own() {
        let user = BusEnvironment { uid: 1000, ..BusEnvironment::default() };
        let expected = ["/run/user/1000/bus user", "/run/user/1000/systemd/private user"];
        assert_eq!(tried(&user), expected);
        let named = BusEnvironment {
            session_address: Some("tcp:host=a;unix:abstract=/tmp/x".to_owned()),
            runtime_directory: Some("/x".into()),
            ..user
        };
        let expected = ["@/tmp/x user", "/x/bus user", "/x/systemd/private user"];
        assert_eq!(tried(&named), expected);
        let inside = BusEnvironment { is_root: true, in_user_namespace: true, ..named };
        assert_eq!(tried(&inside).len(), 5);
        assert_eq!(tried(&inside)[..3], expected);
    }
}
