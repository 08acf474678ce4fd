//! System call numbers by name: one table for all architectures, searched once per name.

use crate::Arch;

#[path = "table_data.rs"]
mod data;

/// The number of a call that an architecture lacks.
const ABSENT: u16 = u16::MAX;
/// Private calls of Arm, 0xf0001 and above, are stored as 0xf001 and above.
const ARM_FOLDED: u16 = 0xf000;
/// Private numbers of Arm are above this (arch/arm/include/uapi/asm/unistd.h, `__ARM_NR_BASE`).
pub(crate) const ARM_PRIVATE: u32 = 0x000f_0000;

/// One system call.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    numbers: [u16; Arch::ALL.len()],
}

impl Row {
    /// The call's number on `arch`, on x32 without its bit 30.
    pub(crate) fn number(&self, arch: Arch) -> Option<u32> {
        let folded = self.numbers.get(arch as usize).copied().filter(|&n| n != ABSENT)?;
        Some(match arch {
            Arch::Arm if folded >= ARM_FOLDED => ARM_PRIVATE + u32::from(folded - ARM_FOLDED),
            _ => u32::from(folded),
        })
    }
}

/// The system call `name`, if any architecture has it, and its index in [`rows`].
pub(crate) fn find(name: &str) -> Option<(usize, &'static Row)> {
    let index = data::ROWS.binary_search_by(|row| row.name.cmp(name)).ok()?;
    Some((index, data::ROWS.get(index)?))
}

/// Every system call, sorted by name.
pub(crate) fn rows() -> &'static [Row] {
    &data::ROWS
}

/// How a call is made by `socketcall` or `ipc` (linux/net.h, `SYS_*`; linux/ipc.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiplexed {
    /// `socketcall` or `ipc`.
    pub(crate) through: &'static str,
    /// Value of the first argument.
    pub(crate) operation: u64,
    /// The bits of the first argument that select the operation: `ipc` has a version in the upper
    /// 16 (ipc/syscall.c).
    pub(crate) mask: u64,
}

/// How the call `name` is made by `socketcall` or `ipc`.
pub(crate) fn multiplexed(name: &str) -> Option<Multiplexed> {
    let socket = |operation| Multiplexed { through: "socketcall", operation, mask: u64::MAX };
    let ipc = |operation| Multiplexed { through: "ipc", operation, mask: 0xffff };
    Some(match name {
        "socket" => socket(1),
        "bind" => socket(2),
        "connect" => socket(3),
        "listen" => socket(4),
        "accept" => socket(5),
        "getsockname" => socket(6),
        "getpeername" => socket(7),
        "socketpair" => socket(8),
        "send" => socket(9),
        "recv" => socket(10),
        "sendto" => socket(11),
        "recvfrom" => socket(12),
        "shutdown" => socket(13),
        "setsockopt" => socket(14),
        "getsockopt" => socket(15),
        "sendmsg" => socket(16),
        "recvmsg" => socket(17),
        "accept4" => socket(18),
        "recvmmsg" => socket(19),
        "sendmmsg" => socket(20),
        "semop" => ipc(1),
        "semget" => ipc(2),
        "semctl" => ipc(3),
        "semtimedop" => ipc(4),
        "msgsnd" => ipc(11),
        "msgrcv" => ipc(12),
        "msgget" => ipc(13),
        "msgctl" => ipc(14),
        "shmat" => ipc(21),
        "shmdt" => ipc(22),
        "shmget" => ipc(23),
        "shmctl" => ipc(24),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_name_is_found() {
        for pair in rows().windows(2) {
            assert!(pair[0].name < pair[1].name, "{} {}", pair[0].name, pair[1].name);
        }
        assert!(rows().iter().all(|row| find(row.name).unwrap().1.name == row.name));
        assert!(find("no_such_call").is_none());
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let number = |name, arch| find(name).unwrap().1.number(arch);
        assert_eq!(number("read", Arch::X86_64), Some(libc::SYS_read as u32));
        assert_eq!(number("open_tree", Arch::native().unwrap()), Some(libc::SYS_open_tree as u32));
        assert_eq!(number("rt_sigaction", Arch::X32), Some(512));
        assert_eq!(number("set_tls", Arch::Arm), Some(0xf0005));
        assert_eq!(number("socketcall", Arch::X86), Some(102));
        assert_eq!(number("socketcall", Arch::X86_64), None);
    }

    #[test]
    fn architectures_multiplex_exactly_where_they_have_the_calls() {
        for arch in Arch::ALL {
            for name in ["socketcall", "ipc"] {
                assert_eq!(
                    find(name).unwrap().1.number(arch).is_some(),
                    arch.multiplexes(),
                    "{arch}"
                );
            }
        }
    }
}
