//! Where systemd listens: its own socket, or a bus.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// systemd's own socket, which needs no bus daemon.
const PRIVATE: &str = "systemd/private";

/// A socket behind which systemd is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bus {
    /// The socket.
    pub socket: Socket,
    /// systemd itself answers there, not a bus that passes messages on.
    pub direct: bool,
    /// It belongs to a user's manager, not to the system's.
    pub user: bool,
}

/// The address of a socket (unix(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Socket {
    /// A file.
    Path(PathBuf),
    /// A name in the abstract namespace.
    Abstract(String),
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Socket::Path(path) => path.display().fmt(f),
            Socket::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// What decides where to look.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Root, of the first or of another user namespace.
    pub(super) root: bool,
    /// In a user namespace that is not the first.
    pub(super) in_user_namespace: bool,
    /// Our uid outside of it.
    pub(super) uid: u32,
    /// `DBUS_SYSTEM_BUS_ADDRESS`
    pub(super) system_address: Option<String>,
    /// `DBUS_SESSION_BUS_ADDRESS`
    pub(super) session_address: Option<String>,
    /// `XDG_RUNTIME_DIR`
    pub(super) runtime_directory: Option<PathBuf>,
}

/// The places to try, in order. An address in the environment is meant; then, for root, systemd's
/// own socket as `systemctl` uses it: one daemon less to depend on.
pub(super) fn candidates(around: &Surroundings) -> Vec<Bus> {
    let mut found = Vec::new();
    let named = |address: &Option<String>, user| {
        let socket = address.as_deref().and_then(parse)?;
        Some(Bus { socket, direct: false, user })
    };
    let at = |path: PathBuf, direct, user| Bus { socket: Socket::Path(path), direct, user };
    // Root of a user namespace is mostly an ordinary user's; of a whole system in a container, rarely.
    if !around.root || around.in_user_namespace {
        found.extend(named(&around.session_address, true));
        let usual = || PathBuf::from(format!("/run/user/{}", around.uid));
        let directory = around.runtime_directory.clone().unwrap_or_else(usual);
        found.push(at(directory.join("bus"), false, true));
        found.push(at(directory.join(PRIVATE), true, true));
    }
    if around.root {
        found.extend(named(&around.system_address, false));
        found.push(at(Path::new("/run").join(PRIVATE), true, false));
        found.push(at("/run/dbus/system_bus_socket".into(), false, false));
    }
    found
}

/// The first unix socket of a D-Bus address list (`unix:path=/run/bus,guid=12;...`).
fn parse(list: &str) -> Option<Socket> {
    list.split(';').find_map(|address| {
        let mut keys =
            address.strip_prefix("unix:")?.split(',').filter_map(|key| key.split_once('='));
        keys.find_map(|(key, value)| match key {
            "path" => Some(Socket::Path(unescape(value)?.into())),
            "abstract" => unescape(value).map(Socket::Abstract),
            _ => None,
        })
    })
}

/// `%20` and the like.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(around: &Surroundings) -> Vec<String> {
        let show = |bus: Bus| format!("{bus}{}", if bus.user { " user" } else { "" });
        candidates(around).into_iter().map(show).collect()
    }

    #[test]
    fn root_asks_systemd_itself_first() {
        let root = Surroundings { root: true, ..Surroundings::default() };
        assert_eq!(tried(&root), ["/run/systemd/private", "/run/dbus/system_bus_socket"]);
        let address = Some("unix:path=/tmp/bus%20a,guid=12".to_owned());
        let named = Surroundings { system_address: address, ..root };
        assert_eq!(tried(&named)[0], "/tmp/bus a");
    }

    #[test]
    fn a_user_has_a_manager_of_his_own() {
        let user = Surroundings { uid: 1000, ..Surroundings::default() };
        let expected = ["/run/user/1000/bus user", "/run/user/1000/systemd/private user"];
        assert_eq!(tried(&user), expected);
        let named = Surroundings {
            session_address: Some("tcp:host=a;unix:abstract=/tmp/x".to_owned()),
            runtime_directory: Some("/x".into()),
            ..user
        };
        let expected = ["@/tmp/x user", "/x/bus user", "/x/systemd/private user"];
        assert_eq!(tried(&named), expected);
        let inside = Surroundings { root: true, in_user_namespace: true, ..named };
        assert_eq!(tried(&inside).len(), 5);
        assert_eq!(tried(&inside)[..3], expected);
    }

    #[test]
    fn broken_addresses_are_no_addresses() {
        for address in ["", "unix:", "unix:path", "tcp:path=/x", "unix:path=%zz", "unix:path=%4"] {
            assert_eq!(parse(address), None, "{address}");
        }
    }
}
