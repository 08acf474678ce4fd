//! What /proc/PID/stat says of a process (proc_pid_stat(5)).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcStat {
    /// Field 3, such as `S`.
    pub(crate) state: char,
    /// Fields 14 and 15: clock ticks in user mode and in the kernel.
    pub(crate) cpu_time: u64,
    /// Field 22: clock ticks from the boot to its beginning.
    pub(crate) start_time: u64,
}

impl ProcStat {
    /// Of the process that has `pid` now; `None` where there is none, or it cannot be seen.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(&davit_sys::file::read_record(format!("/proc/{pid}/stat").as_str()).ok()?)
    }

    /// The name, field 2, stands in brackets and may hold anything, brackets too: it ends at the
    /// last one.
    fn parse(stat: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(stat);
        let (_, tail) = text.rsplit_once(')')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let start_time = fields.nth(6)?.parse().ok()?;
        Some(Self { state, cpu_time: user.saturating_add(system), start_time })
    }
}

/// The text of /proc/PID/stat.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = ProcStat::parse(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_brackets_and_spaces() {
        let stat = b"7 (a) R (b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(ProcStat::parse(stat).map(|stat| stat.start_time), Some(4242));
        assert_eq!(ProcStat::parse(b""), None);
        assert_eq!(ProcStat::parse(b"7 (x"), None);
    }

    #[test]
    fn the_name_of_a_process_does_not_matter() {
        let stat = b"7 (a) R 1 (b)) T 1 2 3 4 5 6 7 8 9 10 30 12 99 100 20 0 1 0 4242 0 0";
        let expected = ProcStat { state: 'T', cpu_time: 42, start_time: 4242 };
        assert_eq!(ProcStat::parse(stat), Some(expected));
    }
}
