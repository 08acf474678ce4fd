//! The commands of bpf(2) for the device filter of a cgroup.
//!
//! The kernel accepts a `bpf_attr` of any length and takes missing members as zero, so each command
//! has a structure of its own here, as long as the oldest kernel with that command expects.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::Error;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// Maximum length of the name of a program, with the final NUL (BPF_OBJ_NAME_LEN).
pub const NAME_LENGTH: usize = 16;

/// One eBPF instruction, with the layout of `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation and class, `BPF_JMP | BPF_JNE | BPF_K` for instance.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Immediate value.
    pub immediate: i32,
}

#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LENGTH],
}

#[repr(C)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
}

#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of the kernel's `struct bpf_prog_info`, up to the instructions.
#[repr(C)]
#[derive(Default)]
struct ProgramCode {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    compiled_length: u32,
    length: u32,
    compiled: u64,
    instructions: u64,
}

/// The same, up to the name.
#[repr(C)]
struct ProgramInfo {
    before_name: [u64; 8],
    name: [u8; NAME_LENGTH],
}

/// The system call. `attr` must be one of the structures above, whose layout is the kernel's.
fn bpf<T>(command: libc::c_int, attr: &mut T, call: &'static str) -> Result<libc::c_long, Error> {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: `attr` is an exclusively borrowed structure of `size` bytes; each address in it
    // points to memory that the caller of this function borrows during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut::<T>(attr), size) };
    Errno::result(result).map_err(|errno| Error::new(call, errno))
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().cast_unsigned()
}

/// BPF_PROG_LOAD. The verifier fails with `EAGAIN` if a signal is pending, which is delivered on
/// return, so another attempt succeeds. The time for attempts is limited in case signals keep
/// arriving.
fn load(attr: &mut Load, call: &'static str) -> Result<libc::c_long, Error> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut deadline = None;
    loop {
        match bpf(BPF_PROG_LOAD, attr, call) {
            Err(error) if error.errno == Errno::EAGAIN => {
                if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + TIMEOUT) {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

/// Loads a filter of type `BPF_PROG_TYPE_CGROUP_DEVICE` (Linux 4.15). See bpf(2). Its name may have
/// letters, digits, `_` and `.`, and ends with a NUL.
///
/// # Errors
/// `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN` in the initial user namespace, `EINVAL` or
/// `EACCES` if the verifier refuses the program.
pub fn load_device_filter(
    program: &[Instruction],
    name: &[u8; NAME_LENGTH],
) -> Result<OwnedFd, Error> {
    let call = "bpf(BPF_PROG_LOAD)";
    let license = c"Apache-2.0";
    let mut attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Error::new(call, Errno::E2BIG))?,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *name,
    };
    let fd = load(&mut attr, call)?;
    // SAFETY: the descriptor is new (close-on-exec) and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Attaches a device filter to a cgroup in addition to those it has, or atomically in place of
/// `replace` (Linux 5.6). See bpf(2), `BPF_F_ALLOW_MULTI`, `BPF_F_REPLACE`.
///
/// # Errors
/// `EINVAL` if the kernel cannot replace, `EPERM` if a program of an ancestor forbids others.
pub fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let mut attr = Attach {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | replace.map_or(0, |_| BPF_F_REPLACE),
        replace_bpf_fd: replace.map_or(0, raw),
    };
    bpf(BPF_PROG_ATTACH, &mut attr, "bpf(BPF_PROG_ATTACH)").map(drop)
}

/// Detaches a device filter from a cgroup. See bpf(2).
///
/// # Errors
/// `ENOENT` if it is not attached.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Error> {
    let mut attr = Attach {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    bpf(BPF_PROG_DETACH, &mut attr, "bpf(BPF_PROG_DETACH)").map(drop)
}

/// The number of device filters that are attached to this cgroup itself; their ids are stored in
/// `ids`. See bpf(2).
///
/// # Errors
/// `ENOSPC` if `ids` is too short.
pub fn query_device_filters(cgroup: BorrowedFd<'_>, ids: &mut [u32]) -> Result<usize, Error> {
    let mut attr = Query {
        target_fd: raw(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: u32::try_from(ids.len()).unwrap_or(u32::MAX),
    };
    bpf(BPF_PROG_QUERY, &mut attr, "bpf(BPF_PROG_QUERY)")?;
    Ok(attr.prog_cnt as usize)
}

/// A descriptor of the loaded program with this id. See bpf(2).
///
/// # Errors
/// `ENOENT` if it does not exist any more, `EPERM` without `CAP_SYS_ADMIN`.
pub fn program_by_id(id: u32) -> Result<OwnedFd, Error> {
    let mut attr = ById { prog_id: id, next_id: 0, open_flags: 0 };
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut attr, "bpf(BPF_PROG_GET_FD_BY_ID)")?;
    // SAFETY: the descriptor is new (close-on-exec) and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Pins a program to a path in a bpffs. See bpf(2).
///
/// # Errors
/// `EEXIST`, `EPERM` on another file system.
pub fn pin(program: BorrowedFd<'_>, path: &str) -> Result<(), Error> {
    let call = "bpf(BPF_OBJ_PIN)";
    let path = CString::new(path).map_err(|_| Error::new(call, Errno::EINVAL))?;
    let mut attr = Object { pathname: path.as_ptr() as u64, bpf_fd: raw(program), file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr, call).map(drop)
}

/// Opens the object that is pinned to a path in a bpffs. See bpf(2).
///
/// # Errors
/// `ENOENT`, `EACCES` if the file is not a program, map or link.
pub fn pinned(path: &str) -> Result<OwnedFd, Error> {
    let call = "bpf(BPF_OBJ_GET)";
    let path = CString::new(path).map_err(|_| Error::new(call, Errno::EINVAL))?;
    let mut attr = Object { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let fd = bpf(BPF_OBJ_GET, &mut attr, call)?;
    // SAFETY: the descriptor is new (close-on-exec) and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// The name of a program (Linux 4.15), padded with zeroes. See bpf(2).
///
/// # Errors
/// bpf(2) failed.
pub fn program_name(program: BorrowedFd<'_>) -> Result<[u8; NAME_LENGTH], Error> {
    let mut info = ProgramInfo { before_name: [0; 8], name: [0; NAME_LENGTH] };
    let mut attr = InfoByFd {
        bpf_fd: raw(program),
        info_len: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr, "bpf(BPF_OBJ_GET_INFO_BY_FD)")?;
    Ok(info.name)
}

/// Whether a program is a device filter of these instructions. The verifier changes none of a
/// device filter without dead code. Without `CAP_BPF`, and for a program with blinded constants
/// (net.core.bpf_jit_harden), the kernel does not tell them: then it is not.
///
/// # Errors
/// `EBADF` where the descriptor is that of another object.
pub fn is_device_filter(program: BorrowedFd<'_>, expected: &[Instruction]) -> Result<bool, Error> {
    let call = "bpf(BPF_OBJ_GET_INFO_BY_FD)";
    let nothing = Instruction { code: 0, registers: 0, offset: 0, immediate: 0 };
    let mut instructions = vec![nothing; expected.len()];
    let length =
        u32::try_from(size_of_val(expected)).map_err(|_| Error::new(call, Errno::E2BIG))?;
    let mut code = ProgramCode {
        length,
        instructions: instructions.as_mut_ptr() as u64,
        ..ProgramCode::default()
    };
    let mut attr = InfoByFd {
        bpf_fd: raw(program),
        info_len: size_of::<ProgramCode>() as u32,
        info: (&raw mut code) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr, call)?;
    let same = code.kind == BPF_PROG_TYPE_CGROUP_DEVICE && code.length == length;
    Ok(same && instructions == expected)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    extern "C" fn nothing(_: libc::c_int) {}

    /// As long as the kernel takes, so that signals meet it: 1000 of `r1 = n`, then `exit`.
    fn long_program() -> Vec<Instruction> {
        let set = |register, immediate| Instruction {
            code: 0xb7,
            registers: register,
            offset: 0,
            immediate,
        };
        let mut program: Vec<_> = (0..1000).map(|n| set(1, n)).collect();
        program.push(set(0, 1));
        program.push(Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 });
        program
    }

    #[test]
    fn a_program_is_known_by_its_instructions() {
        use std::os::fd::AsFd;
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let program = long_program();
        let filter = load_device_filter(&program, b"davit_test\0\0\0\0\0\0").unwrap();
        assert!(is_device_filter(filter.as_fd(), &program).unwrap());
        let mut other = program.clone();
        other[500].immediate += 1;
        assert!(!is_device_filter(filter.as_fd(), &other).unwrap());
        other = program.clone();
        other.pop();
        assert!(!is_device_filter(filter.as_fd(), &other).unwrap());
        other = program.clone();
        other.push(program[0]);
        assert!(!is_device_filter(filter.as_fd(), &other).unwrap());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(is_device_filter(file.as_fd(), &program).is_err());
    }

    #[test]
    fn signals_do_not_stop_the_verifier() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // SAFETY: the handler does nothing, so it may interrupt anything.
        unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
        // SAFETY: always succeeds.
        let us = unsafe { libc::pthread_self() };
        let over = AtomicBool::new(false);
        let program = long_program();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // SAFETY: the thread outlives the scope that waits for this one.
                    unsafe { libc::pthread_kill(us, libc::SIGUSR1) };
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
            let failed = (0..200)
                .find_map(|_| load_device_filter(&program, b"davit_test\0\0\0\0\0\0").err());
            over.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }
}
