//! Hints for the failed operations of init, in one table. The leaf crates have their own tables.

use nix::errno::Errno;

use super::Op;

/// For a program without any of the three bits.
pub(crate) const NOT_EXECUTABLE: &str = "the file has no execute permission: chmod +x";

/// The hint for an operation other than a hook.
pub(crate) fn of(op: &Op, errno: Errno) -> Option<&'static str> {
    match (op, errno) {
        (Op::WorkingDirectory { .. } | Op::MakeWorkingDirectory { .. }, Errno::ENOTDIR) => {
            Some("the path, or a part of it, is a file in the container")
        }
        (Op::WorkingDirectory { .. }, Errno::EACCES) => {
            Some("neither root of the container nor process.user may enter it")
        }
        (Op::WorkingDirectory { .. }, Errno::ENOENT) => {
            Some("exec makes no directory: it must be there in the container")
        }
        (Op::MakeWorkingDirectory { .. }, Errno::EROFS) => {
            Some("it is missing in the container, and cannot be made on a read-only file system")
        }
        (Op::MakeWorkingDirectory { .. }, Errno::EACCES) => {
            Some("it is missing in the container, and root of the container may not make it")
        }
        (Op::FindProgram { .. }, Errno::EACCES) => Some(NOT_EXECUTABLE),
        (Op::Execute { .. }, Errno::ENOEXEC) => {
            Some("it is no program for this architecture, and no script that begins with #!")
        }
        (Op::Execute { .. }, Errno::E2BIG) => {
            Some("process.args and process.env take at most a quarter of RLIMIT_STACK (execve(2))")
        }
        _ => None,
    }
}
