//! The first door: from the profile to the operation.

use oci_spec::runtime::{Arch as OciArch, LinuxSeccomp, LinuxSeccompFilterFlag};
use sys::seccomp;

use crate::arch::Arch;
use crate::calls::resolve;
use crate::error::Error;
use crate::filter::compile;
use crate::listener::listener;
use crate::op::{Op, Program, Story};
use crate::profile::Profile;

/// bpf_check_classic() of the kernel, `BPF_MAXINSNS` of linux/bpf_common.h.
const MAX_INSTRUCTIONS: usize = 4096;

/// What planning needs to know of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The architecture of the host's programs.
    pub arch: Arch,
}

impl Host {
    /// This machine.
    ///
    /// # Errors
    /// When davit was built for an architecture without a table of system calls.
    pub fn current() -> Result<Self, Error> {
        Arch::native().map(|arch| Self { arch }).ok_or(Error::NoTable)
    }
}

/// Compiles `profile` for `host`.
///
/// # Errors
/// The field of config.json that is wrong, and why.
pub fn plan(profile: &LinuxSeccomp, host: &Host) -> Result<Vec<Op>, Error> {
    let mut checked = Profile::new(profile)?;
    let carrier = listener(profile)?.map(|listener| listener.carrier);
    let flags = flags(profile, carrier.is_some())?;
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
    let story = Story {
        default: checked.default,
        syscalls: names.known,
        architectures,
        skipped_architectures: skipped,
        unknown_syscalls: names.unknown,
    };
    Ok(vec![Op::Install { flags, program: Program(instructions), carrier, story }])
}

/// The architectures to filter, the host's own first whether it is listed or not; and those to skip.
fn architectures(listed: &[OciArch], host: Arch) -> (Vec<Arch>, Vec<OciArch>) {
    let mut taken = vec![host];
    let mut skipped = Vec::new();
    for &name in listed {
        match Arch::from_oci(name, host).filter(|arch| arch.runs_on(host)) {
            Some(arch) if taken.contains(&arch) => {}
            Some(arch) => taken.push(arch),
            None => skipped.push(name),
        }
    }
    (taken, skipped)
}

fn flags(profile: &LinuxSeccomp, notifies: bool) -> Result<u32, Error> {
    let own = if notifies { seccomp::NEW_LISTENER } else { 0 };
    let Some(flags) = profile.flags() else {
        // As runc: containers do not pay for the mitigation unless they ask for it with an empty list.
        return Ok(own | seccomp::SPEC_ALLOW);
    };
    flags.iter().try_fold(own, |sum, flag| {
        let bits = match flag {
            // A thread that cannot follow is told as an error where the answer is a listener.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync if notifies => {
                seccomp::TSYNC | seccomp::TSYNC_ESRCH
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => seccomp::TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => seccomp::LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => seccomp::SPEC_ALLOW,
            // The kernel answers EINVAL without a listener, and there is none without NOTIFY.
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
