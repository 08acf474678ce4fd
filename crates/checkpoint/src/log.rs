//! What CRIU says about a failure, in its log.

use std::fmt;
use std::fs::File;
use std::io::Read;

/// The most lines that an error quotes. The first ones name the cause, the others its consequences.
const MOST_LINES: usize = 3;

/// The most bytes of a log that are read.
const MOST_BYTES: u64 = 64 << 20;

/// Messages of level "Error" that are no failures.
const HARMLESS: [&str; 4] = [
    "Can't setup RLIMIT_NOFILE for self",
    "Unexpected EOF on (empty-image)",
    "ipv4: Address already assigned",
    "ipv6: address already assigned",
];

/// A part of a message, and what to do about it.
const ADVICE: [(&str, &str); 16] = [
    (
        "Can't lookup mount=",
        "the process has a file of the host open: close it, or start the container without it",
    ),
    (
        "Connected TCP socket",
        "give --tcp-established to checkpoint and restore, or end the connection",
    ),
    ("connected TCP socket", "give --tcp-established to checkpoint and restore"),
    ("TCP repair", "give --tcp-established to checkpoint and restore"),
    (
        "External socket is used",
        "the process is connected to a unix socket of the host: give --ext-unix-sk",
    ),
    ("Some file locks are hold by dumping tasks", "give --file-locks to checkpoint and restore"),
    (
        "Mem tracking not available",
        "this kernel has no MEM_SOFT_DIRTY: checkpoint without --pre-dump and --parent-path",
    ),
    ("A session leader", "give --shell-job to checkpoint and restore"),
    ("is not a session leader", "give --shell-job to checkpoint and restore"),
    (
        "has unreachable sharing",
        "the mount shares its propagation with the host: mount it private or slave",
    ),
    ("iptables-restore", "CRIU needs iptables in PATH, or give --network-lock nftables or skip"),
    ("Can't get rlimit", "CRIU needs CAP_SYS_RESOURCE for the processes of other users"),
    ("Can't exec", "CRIU needs this program in PATH"),
    (
        "has bad size",
        "a file must be as it was; one that is a standard stream of the container may be another if \
         it was opened for appending (>>)",
    ),
    (
        "Unseizable non-zombie",
        "a process did not stop in time, as between vfork(2) and execve(2): try again",
    ),
    (
        "Can't fork for",
        "without a pid namespace of its own, a container is restored only while its pids are free",
    ),
];

/// A line of the log about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine(String);

impl LogLine {
    /// The message, without the time and the place in CRIU.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0
    }

    /// What to do about it. The text changes no behaviour.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        ADVICE.iter().find(|(part, _)| self.0.contains(part)).map(|(_, advice)| *advice)
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first errors in a log; none if it cannot be read.
pub(crate) fn errors(log: File) -> Vec<LogLine> {
    let mut bytes = Vec::new();
    // A log that cannot be read is not quoted.
    let _ = log.take(MOST_BYTES).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.lines().filter_map(error).take(MOST_LINES).collect()
}

/// `(00.183236) Error (criu/files-reg.c:1790): Can't ...`
fn error(line: &str) -> Option<LogLine> {
    let (_, rest) = line.split_once("Error (")?;
    let (_, message) = rest.split_once("): ")?;
    let message: String =
        message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let harmless = HARMLESS.iter().any(|part| message.contains(part));
    (!harmless && !message.is_empty()).then_some(LogLine(message))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn the_first_errors_are_quoted_without_their_place() {
        let mut log = tempfile::tempfile().unwrap();
        log.write_all(
            b"(00.06) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: x\n\
              (00.10) Dumping\n\
              (00.18) Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=0 path=/dev/null\n\
              (00.19) Error (criu/cr-dump.c:1545): Dump files (pid: 12853) failed with -1\n\
              (00.26) Error (criu/cr-dump.c:1975): Dumping FAILED.\n\
              (00.26) Error (criu/cr-dump.c:1): more\n",
        )
        .unwrap();
        log.rewind().unwrap();
        let lines = errors(log);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].message(), "Can't lookup mount=24 for fd=0 path=/dev/null");
        assert!(lines[0].advice().unwrap().contains("file of the host"));
        assert_eq!(lines[1].advice(), None);
    }
}
