//! The request of `create` and `run`.

use std::path::PathBuf;

use crate::notify::Manager;
use crate::plan::CreateOptions;

/// The command line of `create` or `run`.
#[derive(Debug, Default)]
pub struct CreateRequest {
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// The path of its configuration, if that is not config.json in the bundle.
    pub config: Option<PathBuf>,
    /// The socket that receives the pty master.
    pub console_socket: Option<PathBuf>,
    /// The socket that receives the pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// The file that gets the pid of init.
    pub pid_file: Option<PathBuf>,
    /// The service manager that waits until the container is ready.
    pub notify: Option<Manager>,
    /// The command ends before the container does, and cannot copy a terminal.
    pub detached: bool,
    /// The rest.
    pub options: CreateOptions,
}

impl CreateRequest {
    /// Whether the caller is given something of the created container before its program runs.
    pub(super) const fn hands_out(&self) -> bool {
        self.console_socket.is_some()
            || self.pidfd_socket.is_some()
            || self.pid_file.is_some()
            || self.notify.is_some()
    }
}
