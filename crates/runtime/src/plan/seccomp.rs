//! `linux.seccomp`, and the agent of an annotation if the profile names none.

use davit_seccomp::{Answer, Host, Listener, Op, answer};
use oci_spec::runtime::Spec;

use crate::config::annotations::SECCOMP_RECEIVER;
use crate::error::{Error, Result};

/// The system calls of init while it waits for `start` under a filter.
const WAITING_CALLS: [&str; 2] = ["read", "write"];

/// The system call filter of a container.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// The operations that install it; empty if there is none.
    pub(super) ops: Vec<Op>,
    /// The agent that it notifies.
    pub(super) listener: Option<Listener>,
    /// A system call without which init cannot wait under it.
    refused: Option<&'static str>,
}

impl Filter {
    /// The filter of a running container, for a process of `exec`, which does not wait.
    pub(super) fn of_running(ops: &[Op]) -> Self {
        Self { ops: ops.to_vec(), ..Self::default() }
    }

    /// Refuses a filter under which init could not wait for `start`.
    ///
    /// # Errors
    /// The filter refuses a system call that the wait needs.
    pub(super) fn require_waiting(&self) -> Result<()> {
        match self.refused {
            None => Ok(()),
            Some(call) => Err(Error::new(format!(
                "linux.seccomp: the filter does not allow {call}, and davit waits for start under it"
            ))
            .hint("with process.noNewPrivileges the filter is installed after start")),
        }
    }
}

/// The filter, and the agent of one that notifies.
///
/// # Errors
/// A profile that cannot be applied, or under which no program can be executed.
pub(super) fn plan(spec: &Spec) -> Result<Filter> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some(profile) = profile else { return Ok(Filter::default()) };
    let receiver = spec.annotations().as_ref().and_then(|all| all.get(SECCOMP_RECEIVER));
    let mut profile = profile.clone();
    if let (None, Some(path)) = (profile.listener_path(), receiver) {
        profile.set_listener_path(Some(path.into()));
    }
    let ops = davit_seccomp::plan(&profile, &Host::current()?)?;
    if answer(&profile, "execve") == Answer::Refuses {
        let reason = "the filter refuses execve: the container's program could not be executed";
        return Err(Error::new(format!("linux.seccomp: {reason}")));
    }
    let refused = WAITING_CALLS.into_iter().find(|call| answer(&profile, call) != Answer::Allows);
    Ok(Filter { ops, listener: davit_seccomp::listener(&profile)?, refused })
}
