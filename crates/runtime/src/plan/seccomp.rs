//! `linux.seccomp`, and who listens where the profile does not say.

use oci_spec::runtime::Spec;
use seccomp::{Host, Listener, Op};

use crate::error::Result;

/// The annotation that names a seccomp agent, where `linux.seccomp.listenerPath` names none: crun's.
pub const RECEIVER: &str = "run.oci.seccomp.receiver";

/// The filter, and the agent of one that notifies.
pub(super) fn plan(spec: &Spec) -> Result<(Vec<Op>, Option<Listener>)> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some(profile) = profile else { return Ok((Vec::new(), None)) };
    let receiver = spec.annotations().as_ref().and_then(|all| all.get(RECEIVER));
    let mut profile = profile.clone();
    if let (None, Some(path)) = (profile.listener_path(), receiver) {
        profile.set_listener_path(Some(path.into()));
    }
    Ok((seccomp::plan(&profile, &Host::current()?)?, seccomp::listener(&profile)?))
}
