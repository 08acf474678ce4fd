//! Starts a planned process and follows it until it is created or has become the user's program.

pub(crate) mod channel;
pub(crate) mod cpu_pin;
pub(crate) mod idle_deadline;
pub(crate) mod self_exe;
pub(crate) mod send_fd;

mod started;

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use davit_namespaces::net_devices::Move;
use davit_namespaces::{IdMaps, Kind, Launch, Program};
use davit_protocol::Channel;
use davit_sys::Slots;
use davit_sys::clone::Child;
use davit_sys::process::CArray;
use davit_sys::trace::operation;
use nix::errno::Errno;

use self::channel::{InitChannel, Performed};
use self::cpu_pin::CpuPin;
use crate::error::{Error, Result, Within};
use crate::plan::{InitInput, InitPlan, Section, Supervision};
use crate::state::{INIT_NAME, LAUNCH_NAME};
use crate::trace::{self, CLONE};

pub(crate) use started::{Events, NoEvents, WriteIdMaps};
pub use started::{Progress, Started, reap};

/// The inputs for a new process.
pub(crate) struct Start<'a> {
    /// Its plan.
    pub plan: Rc<InitPlan>,
    /// How the runtime accompanies it.
    pub supervision: Supervision,
    /// Whether it is a process of a running container, and not its init.
    pub is_further: bool,
    /// Namespaces that it is created in.
    pub clone_namespaces: &'a [Kind],
    /// Id maps of its new user namespace.
    pub id_maps: Option<IdMaps>,
    /// Network devices that it will ask for.
    pub moves: Vec<Move>,
    /// The cgroup v2 directory that it is created in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The cgroup that it is moved into when it asks for it.
    pub late_cgroup: Option<davit_cgroups::JoinFds>,
    /// Descriptors that the plan names.
    pub slots: Slots,
    /// Writes the input of init to a file, and returns it open at its beginning.
    pub file: &'a dyn Fn(Vec<u8>) -> Result<OwnedFd>,
}

/// Creates the process, which executes init.
///
/// # Errors
/// The system call that failed.
pub(crate) fn start(mut start: Start<'_>) -> Result<Started> {
    let (ours, theirs) = Channel::pair()?;
    let plan = Rc::clone(&start.plan);
    let trace = trace::for_init(&mut start.slots, || plan.lines());
    let trace = trace.within(|| "--debug, --timings")?;
    let slots: Vec<_> = start.slots.iter().map(|(slot, fd)| (slot, fd.as_raw_fd())).collect();
    let input =
        InitInput { plan: plan.as_ref(), channel: theirs.as_fd().as_raw_fd(), slots, trace };
    let encoded = input.encode()?;
    let length = encoded.len();
    let bytes = (start.file)(encoded)?;
    let mut keep: Vec<_> = input.slots.iter().map(|(_, fd)| *fd).collect();
    keep.extend([input.channel, bytes.as_raw_fd()]);
    keep.extend(&plan.preserved);
    let program = self_exe::protected().within(|| "protect davit's own program")?;
    let performed = Performed { plan: Rc::clone(&plan), ids: ids(start.id_maps.as_ref()) };
    let channel = InitChannel::new(ours, performed, start.supervision.hooks);
    let cpu_pin = start.supervision.pins_cpu.then(CpuPin::stay).flatten();
    if !start.is_further {
        davit_sys::process::set_name(LAUNCH_NAME)?;
    }
    let child = launch(&start, &theirs, channel.end(), &program, (&bytes, length), keep)?;
    // Closed at once: the end of init shows as the end of the channel.
    drop((theirs, bytes));
    let Supervision { acts_on_messages, stops_at_created, .. } = start.supervision;
    Ok(Started {
        pid: child.pid,
        pidfd: child.pidfd,
        master: None,
        console: None,
        agent: None,
        id_maps: start.id_maps,
        late_cgroup: start.late_cgroup,
        moves: start.moves,
        channel,
        receives_messages: acts_on_messages || stops_at_created,
        is_further: start.is_further,
        executed: false,
        sleeper: None,
        cpu_pin,
        _program: program,
    })
}

/// Creates the process, which executes init with the file of its input and the number of its bytes.
fn launch(
    start: &Start<'_>,
    channel: &Channel,
    runtime_end: RawFd,
    program: &OwnedFd,
    (input, length): (&OwnedFd, usize),
    keep: Vec<RawFd>,
) -> Result<Child> {
    let ops = match start.plan.sections.first() {
        Some(Section::Namespaces(ops)) => ops.as_slice(),
        _ => &[],
    };
    let argument = |text: String| CString::new(text).map_err(|_| Error::new("arguments of init"));
    let argv = [
        argument(INIT_NAME.to_owned())?,
        argument(input.as_raw_fd().to_string())?,
        argument(length.to_string())?,
    ];
    let launch = Launch {
        clone_namespaces: start.clone_namespaces,
        cgroup: start.cgroup,
        ops,
        slots: &start.slots,
        channel,
        runtime_end,
        program: Program {
            file: program.as_fd(),
            argv: CArray::new(&argv),
            envp: CArray::new::<CString>(&[]),
            keep,
        },
    };
    let step = FirstProcess(start.clone_namespaces);
    operation(CLONE, &step, || davit_namespaces::launch(&launch))
        .map_err(|error| explain_clone(error, start.clone_namespaces))
}

/// The ids of a new user namespace, for hints about failures in it.
pub(crate) fn ids(maps: Option<&IdMaps>) -> davit_rootfs::Ids {
    maps.map_or_else(davit_rootfs::Ids::default, |maps| davit_rootfs::Ids {
        uids: maps.uids.clone(),
        gids: maps.gids.clone(),
    })
}

/// The operation that makes the first process.
pub(crate) struct FirstProcess<'a>(pub(crate) &'a [Kind]);

impl fmt::Display for FirstProcess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|kind| kind.name()).collect();
        f.write_str("make the first process")?;
        if names.is_empty() {
            Ok(())
        } else {
            write!(f, ", in new namespaces: {}", names.join(", "))
        }
    }
}

fn explain_clone(error: davit_sys::Error, clone_namespaces: &[Kind]) -> Error {
    let names: Vec<_> = clone_namespaces.iter().map(|kind| kind.name()).collect();
    let step = format!("linux.namespaces ({})", names.join(", "));
    let hint = match error.errno {
        Errno::ENOSPC => Some("a limit in /proc/sys/user/max_*_namespaces is reached"),
        Errno::EPERM => Some("this user may not make these namespaces without a user namespace"),
        Errno::EAGAIN => Some("a limit on processes is reached (RLIMIT_NPROC, pids.max)"),
        _ => None,
    };
    Error::from(error).within(step).hinted(hint)
}
