//! The seccomp agent: who answers, outside, for system calls that a filter notifies of
//! (config-linux.md, "Seccomp" and "The Container Process State").

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde::Serialize;
use sys::During;

use crate::error::{Error, Result};
use crate::record::Record;
use crate::state::{OCI_VERSION, State};

/// How many seconds an agent may take to let us in, and to take what we bring.
const PATIENCE: i64 = 10;

/// A connection to the agent, made before the process begins that it is for: where there is no
/// agent, nothing runs.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: OwnedFd,
    path: PathBuf,
    metadata: Option<String>,
    state: State,
}

/// What the agent is told.
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

/// Calls the agent of this container; there is none where its filter notifies nobody.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn call(record: &Record) -> Result<Option<Agent>> {
    let Some(listener) = &record.listener else { return Ok(None) };
    let socket = dial(&listener.path).map_err(|error| within(&listener.path, error))?;
    Ok(Some(Agent {
        socket,
        path: listener.path.clone(),
        metadata: listener.metadata.clone(),
        state: State::of(record)?,
    }))
}

fn dial(path: &Path) -> std::result::Result<OwnedFd, sys::Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let ours = socket(AddressFamily::Unix, SockType::Stream, flags, None).during("socket")?;
    // For connect(2) too, which waits where the agent does not accept (unix(7), socket(7)).
    setsockopt(&ours, sockopt::SendTimeout, &TimeVal::new(PATIENCE, 0)).during("setsockopt")?;
    let address = UnixAddr::new(path).during("connect")?;
    connect(ours.as_raw_fd(), &address).during("connect")?;
    Ok(ours)
}

fn within(path: &Path, error: sys::Error) -> Error {
    let step = format!("linux.seccomp.listenerPath {path:?}");
    match error.errno {
        Errno::EAGAIN => {
            Error::new(format!("{}: no answer within {PATIENCE} s", error.call)).within(step)
        }
        Errno::ENOENT | Errno::ECONNREFUSED => {
            Error::from(error).within(step).hint("no seccomp agent listens there")
        }
        _ => Error::from(error).within(step),
    }
}

impl Agent {
    /// Gives it the listener of the process `pid`.
    ///
    /// # Errors
    /// It does not take it.
    pub(crate) fn hand_over(self, listener: &OwnedFd, pid: Pid) -> Result<()> {
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

    /// The descriptor goes with the first bytes only.
    fn send(&self, text: &[u8], listener: &OwnedFd) -> std::result::Result<(), sys::Error> {
        let fds = [listener.as_raw_fd()];
        let mut rights = vec![ControlMessage::ScmRights(&fds)];
        let mut rest = text;
        while !rest.is_empty() {
            let (socket, data) = (self.socket.as_raw_fd(), [IoSlice::new(rest)]);
            match sendmsg::<()>(socket, &data, &rights, MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                sent => {
                    rest = rest.get(sent.during("sendmsg")?..).unwrap_or_default();
                    rights.clear();
                }
            }
        }
        Ok(())
    }
}
