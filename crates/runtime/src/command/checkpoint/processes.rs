//! What the open files of a container's processes mean for a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use davit_checkpoint::Options;
use davit_checkpoint::checkpoint::Container;

use super::facts::{self, OpenFile};
use crate::error::{Error, Result};
use crate::state::{Process, Record};

/// Objects without a name that CRIU does not know.
const UNKNOWN_TO_CRIU: [&str; 4] = [
    "anon_inode:[io_uring]",
    "anon_inode:[perf_event]",
    "anon_inode:bpf-prog",
    "anon_inode:kvm-vm",
];

/// The major number of the devices of which CRIU knows one alone, /dev/net/tun.
const MISCELLANEOUS: u64 = 10;

/// The minor number of /dev/net/tun.
const TUN: u64 = 200;

/// The state of an established connection in /proc/net/tcp.
const ESTABLISHED: &str = "01";

/// What stands in the way, with process and descriptor.
pub(super) fn obstacles(
    container: &Container<'_>,
    record: &Record,
    init: Process,
    options: &Options,
) -> Result<Vec<Error>> {
    let pids = match &record.cgroup {
        Some(cgroup) => cgroup.procs()?,
        None => vec![init.pid],
    };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut found = Vec::new();
    for pid in pids {
        let connections = connections(pid);
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim_end();
        let who = format!("process {pid} ({name})");
        for file in facts::open_files(pid) {
            let about = of_file(container, &file, options, &connections);
            let step = format!("{who}, descriptor {}, {}", file.number, file.link);
            found.extend(about.map(|error| error.within(step)));
        }
        if !options.file_locks && holds_lock(&locks, pid) {
            let error = Error::new("holds a lock of a file").hint("give --file-locks");
            found.push(error.within(who));
        }
    }
    Ok(found)
}

fn of_file(
    container: &Container<'_>,
    file: &OpenFile,
    options: &Options,
    connections: &BTreeMap<u64, String>,
) -> Option<Error> {
    let link = file.link.as_str();
    let is_unknown_device =
        file.device.is_some_and(|(major, minor)| major == MISCELLANEOUS && minor != TUN);
    if UNKNOWN_TO_CRIU.contains(&link) || is_unknown_device {
        return Some(Error::new("CRIU cannot dump it"));
    }
    if let Some(connection) = socket(link).and_then(|inode| connections.get(&inode)) {
        let error = Error::new(format!("is an open TCP connection {connection}"));
        return (!options.tcp_established).then(|| error.hint("give --tcp-established"));
    }
    // A stream is replaced, or refused, with all of its copies.
    let is_stream = container.streams.iter().any(|stream| stream.file == file.place);
    // Memory without a file has a path, and no mount of the container.
    let is_memory = ["/memfd:", "/dev/zero", "/SYSV"].iter().any(|name| link.starts_with(name));
    let is_inside = container.mounts.iter().any(|mount| mount.id == file.place.0);
    (Path::new(link).is_absolute() && !is_memory && !is_inside && !is_stream)
        .then(|| Error::new("is a file of the host, which a restore cannot open again"))
}

fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The established connections of the process's network namespace, by inode.
fn connections(pid: i32) -> BTreeMap<u64, String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}"));
    let text = ["tcp", "tcp6"].map(|name| read(name).unwrap_or_default()).concat();
    text.lines().filter_map(connection).collect()
}

/// A line of /proc/net/tcp: number, local and remote address, state, ... inode.
fn connection(line: &str) -> Option<(u64, String)> {
    let mut fields = line.split_whitespace();
    let (local, remote) = (fields.nth(1)?, fields.next()?);
    let state = fields.next()?;
    let inode = fields.nth(5)?.parse().ok()?;
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let text = format!("of port {} with port {}", port(local)?, port(remote)?);
    (state == ESTABLISHED).then_some((inode, text))
}

/// Whether a process holds a lock (proc(5), /proc/locks): the field after the type of access.
fn holds_lock(locks: &str, pid: i32) -> bool {
    let pid = pid.to_string();
    locks.lines().any(|line| line.split_whitespace().nth(4) == Some(&pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_are_found() {
        let line = "   1: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  \
                    1000        0 424242 1 0000000000000000 20 4 30 10 -1";
        assert_eq!(connection(line), Some((424_242, "of port 8080 with port 50000".to_owned())));
        assert_eq!(connection(&line.replace(" 01 ", " 0A ")), None);
        assert_eq!(connection("  sl  local_address rem_address   st"), None);
        assert_eq!(socket("socket:[424242]"), Some(424_242));
    }

    #[test]
    fn locks_are_found() {
        let locks = "1: FLOCK  ADVISORY  WRITE 708 00:1d:812 0 EOF\n";
        assert!(holds_lock(locks, 708) && !holds_lock(locks, 70));
    }
}
