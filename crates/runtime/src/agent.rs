//! The seccomp agent: the program on the host that answers the system calls of which a filter
//! notifies (config-linux.md, "Seccomp" and "The Container Process State").

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use serde::Serialize;

use davit_sys::trace::operation;

use crate::error::{Error, Result};
use crate::peer_socket;
use crate::state::Record;
use crate::state::{OCI_VERSION, State};

/// The operation that connects to the agent, as `explain` and `--debug` show it.
pub(crate) const CONNECT_TO_AGENT: &str = "connect to the agent of linux.seccomp";

/// A connection to the agent. It is made before the process starts: without the agent, nothing
/// runs.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: OwnedFd,
    path: PathBuf,
    metadata: Option<String>,
    state: State,
}

/// The state that the agent receives with the listener.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: &'a State,
}

fn within(path: &Path, error: davit_sys::Error) -> Error {
    let step = format!("linux.seccomp.listenerPath {path:?}");
    match error.errno {
        Errno::ENOENT | Errno::ECONNREFUSED => {
            Error::from(error).within(step).hint("no seccomp agent listens there")
        }
        _ => peer_socket::explain(error).within(step),
    }
}

impl Agent {
    /// Connects to the agent of this container, if its filter notifies one.
    ///
    /// # Errors
    /// No program listens on the socket.
    pub(crate) fn connect(record: &Record) -> Result<Option<Self>> {
        let Some(listener) = &record.listener else { return Ok(None) };
        let connect = || peer_socket::connect_stream(&listener.path);
        let socket = operation("seccomp", &CONNECT_TO_AGENT, connect)
            .map_err(|error| within(&listener.path, error))?;
        Ok(Some(Self {
            socket,
            path: listener.path.clone(),
            metadata: listener.metadata.clone(),
            state: State::of(record)?,
        }))
    }

    /// Sends it the listener of the process `pid`.
    ///
    /// # Errors
    /// The agent does not accept it.
    pub(crate) fn hand_over(mut self, listener: &OwnedFd, pid: Pid) -> Result<()> {
        if self.state.pid == 0 {
            // The record of a new container does not have its pid yet.
            self.state.pid = pid.as_raw();
        }
        let text = serde_json::to_vec(&ProcessState {
            oci_version: OCI_VERSION,
            fds: ["seccompFd"],
            pid: pid.as_raw(),
            metadata: self.metadata.as_deref(),
            state: &self.state,
        })
        .map_err(|error| Error::new(error.to_string()))?;
        self.send(&text, listener).map_err(|error| within(&self.path, error))
    }

    /// The descriptor is sent with the first bytes only.
    fn send(&self, text: &[u8], listener: &OwnedFd) -> std::result::Result<(), davit_sys::Error> {
        let fds = [listener.as_raw_fd()];
        let mut rights = vec![ControlMessage::ScmRights(&fds)];
        let mut rest = text;
        while !rest.is_empty() {
            let (socket, data) = (self.socket.as_raw_fd(), [IoSlice::new(rest)]);
            match sendmsg::<()>(socket, &data, &rights, MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                sent => {
                    rest = rest.get(sent.syscall("sendmsg")?..).unwrap_or_default();
                    rights.clear();
                }
            }
        }
        Ok(())
    }
}
