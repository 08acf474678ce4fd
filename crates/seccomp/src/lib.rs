//! `linux.seccomp` of config.json as a classic BPF program, and its installation.
//!
//! Two doors: [`plan`] compiles the profile (pure), [`apply`] installs the program in the calling thread.
//!
//! # What a profile means
//! The answers are those of runc, which hands the profile to libseccomp:
//! 1. An architecture that is neither the host's own nor listed: the thread is killed. x32 is an architecture
//!    of its own, told by bit 30 of the number. Listed architectures that the host cannot run are skipped.
//! 2. Where the default action refuses (kill, trap, errno), a number greater than every number the profile
//!    names on that architecture is newer than the profile and gets ENOSYS, so that a libc falls back. Arm's
//!    private calls (0xf0000 and up) stand apart; runc counts them, so that nothing is ever newer there.
//! 3. Entries whose action is the default action are skipped.
//! 4. Of the rules that are left for a call, the first that matches decides, tried not in the order of the
//!    file but in libseccomp's (`Rule::precedence`): an entry without `args` wins
//!    over all with `args`, wherever it stands, and the first of several; more specific comparisons come
//!    before less specific ones. An entry that tests one argument twice is as many rules as it has
//!    conditions. Two entries with equal `args` and different actions are refused.
//! 5. Otherwise the default action.
//!
//! Architectures with `socketcall` and `ipc` (x86, ppc64le, s390x) reach the socket and System V calls on two
//! ways: a rule for `bind` also becomes one for `socketcall` with first argument 2. There the other arguments
//! are in memory where no filter can see them; the conditions on arguments 1 to 5 are kept as they stand, as
//! libseccomp does, and hold by chance: a profile that tests arguments of `socket` should not allow
//! `socketcall`.
//!
//! Arguments are 64 bits wide. On 32-bit architectures only the low words are compared, profile and call
//! alike, as in libseccomp. On x32 the registers have 64 bits, so davit compares both words there, where
//! libseccomp looks at the low one only.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::print_stdout
    )
)]

mod arch;
mod assemble;
mod calls;
mod error;
mod filter;
mod listener;
mod op;
mod plan;
mod profile;
mod ranges;
pub mod supported;
mod table;

#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use error::Error;
pub use listener::{Carrier, Listener, listener};
pub use op::{Handover, Op, Program, Story, apply};
pub use plan::{Host, plan};
pub use sys::seccomp::Instruction;
