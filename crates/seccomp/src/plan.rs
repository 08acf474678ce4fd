//! Planning: from the seccomp profile to the operation.

use davit_sys::seccomp;
use oci_spec::runtime::{Arch as OciArch, LinuxSeccomp, LinuxSeccompFilterFlag};

use crate::arch::Arch;
use crate::arch_rules::resolve;
use crate::error::Error;
use crate::filter::compile;
use crate::listener::listener;
use crate::op::{FilterSummary, Op, Program};
use crate::profile::Profile;

/// bpf_check_classic() of the kernel, `BPF_MAXINSNS` of linux/bpf_common.h.
const MAX_INSTRUCTIONS: usize = 4096;

/// The facts of the host that planning needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The architecture of the host.
    pub arch: Arch,
}

impl Host {
    /// The host that this program was built for.
    ///
    /// # Errors
    /// There is no table of system calls for its architecture.
    pub fn current() -> Result<Self, Error> {
        Arch::native().map(|arch| Self { arch }).ok_or(Error::NoTable)
    }
}

/// Compiles `profile` for `host`.
///
/// # Errors
/// The invalid field of config.json, and why.
pub fn plan(profile: &LinuxSeccomp, host: &Host) -> Result<Vec<Op>, Error> {
    let mut checked = Profile::new(profile)?;
    let send_via = listener(profile)?.map(|listener| listener.send_via);
    let flags = flags(profile, send_via.is_some())?;
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let (architectures, skipped) = architectures(listed, host.arch);
    let (mut calls, names) = resolve(&mut checked, &architectures);
    let instructions = compile(&checked, &mut calls)?;
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong {
            instructions: instructions.len(),
            architectures: architectures.len(),
            max: MAX_INSTRUCTIONS,
        });
    }
    let summary = FilterSummary {
        default: checked.default,
        syscalls: names.known,
        architectures,
        skipped_architectures: skipped,
        unknown_syscalls: names.unknown,
    };
    Ok(vec![Op::Install { flags, program: Program(instructions), send_via, summary }])
}

/// The architectures to filter, the host's first even if it is not listed; and those to skip.
fn architectures(listed: &[OciArch], host: Arch) -> (Vec<Arch>, Vec<OciArch>) {
    let mut filtered = vec![host];
    let mut skipped = Vec::new();
    for &name in listed {
        match Arch::from_oci(name, host).filter(|arch| arch.runs_on(host)) {
            Some(arch) if filtered.contains(&arch) => {}
            Some(arch) => filtered.push(arch),
            None => skipped.push(name),
        }
    }
    (filtered, skipped)
}

fn flags(profile: &LinuxSeccomp, notifies: bool) -> Result<u32, Error> {
    let own = if notifies { seccomp::NEW_LISTENER } else { 0 };
    let Some(flags) = profile.flags() else {
        // As in runc: the mitigation is only enabled by an empty list.
        return Ok(own | seccomp::SPEC_ALLOW);
    };
    flags.iter().try_fold(own, |sum, flag| {
        let bits = match flag {
            // With a listener as the result, a thread that cannot be synchronised is an error.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync if notifies => {
                seccomp::TSYNC | seccomp::TSYNC_ESRCH
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => seccomp::TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => seccomp::LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => seccomp::SPEC_ALLOW,
            // EINVAL without a listener, and there is none without NOTIFY.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if !notifies => {
                return Err(Error::WaitWithoutNotify);
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                seccomp::WAIT_KILLABLE_RECV
            }
        };
        Ok(sum | bits)
    })
}
