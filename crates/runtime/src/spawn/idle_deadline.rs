//! Timeout for a silent process: a process that works may be slow, a process that is stuck may not.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::state::ProcStat;

/// How long a process may be silent without using any CPU time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval between checks of a silent process.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The deadline of a silent process; CPU time that it uses extends it.
#[derive(Debug)]
pub(crate) struct IdleDeadline {
    timeout: Duration,
    deadline: Instant,
    cpu_time: Option<u64>,
}

impl IdleDeadline {
    /// `extra` is for work that other processes do for it, such as hooks with timeouts of their
    /// own.
    pub(crate) fn new(extra: Duration) -> Self {
        let timeout = IDLE_TIMEOUT.saturating_add(extra);
        Self { timeout, deadline: Instant::now() + timeout, cpu_time: None }
    }

    /// Checks the silent process `pid`.
    ///
    /// # Errors
    /// It has made no progress until the deadline; the message says in which state it is.
    pub(crate) fn check(&mut self, pid: i32) -> Result<()> {
        let stat = ProcStat::of(pid);
        let cpu_time = stat.as_ref().map(|stat| stat.cpu_time);
        if cpu_time > self.cpu_time {
            self.cpu_time = cpu_time;
            self.deadline = Instant::now() + self.timeout;
        }
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let state = stat.map_or("it cannot be seen", |stat| describe(stat.state));
        let seconds = self.timeout.as_secs();
        let error =
            Error::new(format!("process {pid} has made no progress for {seconds} s: {state}"));
        Err(match waits_in(pid) {
            Some(function) => error.hint(format!("it waits in the kernel, in {function}")),
            None => error,
        })
    }
}

/// The kernel function in which a process waits (proc(5), wchan), where the kernel names one.
pub(crate) fn waits_in(pid: i32) -> Option<String> {
    let function = std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    let function = function.trim();
    (!matches!(function, "" | "0")).then(|| function.to_owned())
}

fn describe(state: char) -> &'static str {
    match state {
        'T' | 't' => "it is stopped",
        'D' => "it is in uninterruptible sleep, as on a device or a network file system",
        'Z' | 'X' => "it has ended",
        _ => "it sleeps",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_said_to_be_stopped() {
        assert_eq!(describe('T'), "it is stopped");
    }

    #[test]
    fn cpu_time_moves_the_deadline_and_silence_does_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut idle =
            IdleDeadline { timeout: Duration::ZERO, ..IdleDeadline::new(Duration::ZERO) };
        idle.deadline = Instant::now();
        idle.cpu_time = Some(u64::MAX);
        let error = idle.check(own).unwrap_err().to_string();
        assert!(error.contains("no progress"), "{error}");
        let mut busy = IdleDeadline::new(Duration::ZERO);
        busy.deadline = Instant::now();
        assert!(busy.check(own).is_ok());
        assert!(busy.deadline > Instant::now());
    }
}
