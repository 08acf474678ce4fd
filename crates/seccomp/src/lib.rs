//! `linux.seccomp` of config.json as a classic BPF program, and its installation.
//!
//! [`plan`] compiles the profile, without system calls; [`apply`] installs the program in the
//! calling thread.
//!
//! `examples/compile.rs` prints the program of a profile.
//!
//! # Semantics of a profile
//! The semantics are those of runc, which passes the profile to libseccomp:
//! 1. On an architecture that is neither the host's nor listed the thread is killed. x32 is an
//!    architecture of its own, with bit 30 of the number set. Listed architectures that the host
//!    cannot run are skipped.
//! 2. If the default action refuses (kill, trap, errno), a number above all numbers that the
//!    profile names on that architecture is newer than the profile: it returns ENOSYS, so that a
//!    libc falls back. Private calls of Arm (0xf0000 and above) do not count; in runc they do, so
//!    that no call is newer there.
//! 3. Entries whose action is the default action are skipped.
//! 4. Of the remaining rules for a call the first one that matches decides, not in the order of the
//!    profile but in that of libseccomp (`Rule::precedence`): an entry without `args` takes
//!    precedence over all with `args`, and the first one of several does; more specific comparisons
//!    come before less specific ones. An entry that tests one argument twice becomes one rule for
//!    each condition. Two entries with equal `args` and different actions are refused.
//! 5. Otherwise the default action.
//!
//! On architectures with `socketcall` and `ipc` (x86, ppc64le, s390x) socket and System V calls can
//! be made in two ways: a rule for `bind` also becomes one for `socketcall` with first argument 2.
//! The other arguments are in memory then, where a filter cannot read them; conditions on arguments
//! 1 to 5 are applied unchanged, as in libseccomp, to unrelated values: a profile that tests
//! arguments of `socket` should not allow `socketcall`.
//!
//! Arguments have 64 bits. On 32-bit architectures only the low words are compared, as in
//! libseccomp. On x32 the registers have 64 bits, so both words are compared, where libseccomp
//! compares only the low one.
//!
//! # The program
//! The program of a profile with the default action errno EPERM that allows `read` (0), `write`
//! (1), and `personality` (135) with 8 as its first argument, on x86_64:
//!
//! ```text
//!   0: load arch
//!   1: x86_64?          no --> 14
//!   2: load number                       A binary search over ranges of numbers:
//!   3: >= 136?          yes --> 11           0..1            allow
//!   4: >= 2?            no --> 10            2..134          errno EPERM
//!   5: >= 135?          no --> 15            135             chain 0
//!   6: load high word of argument 0          136..           errno ENOSYS: newer than the profile
//!   7: == 0?            no --> 15            0x40000000..    kill the thread: x32
//!   8: load low word of argument 0           0xffffffff      errno EPERM: skipped by a tracer
//!   9: == 8?            no --> 15
//!  10: return allow                      Chain 0:
//!  11: >= 0x40000000?   yes --> 13           argument 0 == 8 allow
//!  12: return errno ENOSYS                   otherwise       errno EPERM
//!  13: >= 0xffffffff?   yes --> 15
//!  14: return kill thread
//!  15: return errno EPERM
//! ```
//!
//! `arch_rules.rs` finds the rules for each number of an architecture: an action, or a *chain* of
//! conditional rules. `ranges.rs` turns them into ranges of all numbers. `filter.rs` writes a
//! binary search, whose *leaves* are ranges with a few exceptions. `assemble.rs` encodes the
//! instructions; a jump that is too long for 8 bits goes through a *trampoline*. x32 has a tree of
//! its own with only its differences from that of x86_64, to which it continues.

#![cfg_attr(
    any(test, feature = "fuzzing"),
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::print_stdout
    )
)]

mod answer;
mod arch;
mod arch_rules;
mod assemble;
mod error;
mod filter;
mod listener;
mod op;
mod plan;
mod profile;
mod ranges;
mod stored;
pub mod supported;
mod table;

#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "most of it is for the tests"))]
mod tests;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use answer::{Answer, answer};
pub use arch::Arch;
pub use davit_sys::seccomp::Instruction;
pub use error::Error;
pub use listener::{Listener, SendVia, listener};
pub use op::{FilterSummary, ListenerHandoff, Op, Program, apply};
pub use plan::{Host, plan};
pub use stored::StoredFilter;
