//! Parsing mountinfo: for `--no-pivot`, and for running containers.

use std::path::PathBuf;

use davit_sys::mountinfo::path;

/// The mount points of procfs and sysfs in the text of `/proc/self/mountinfo`, last one first.
#[must_use]
pub fn proc_and_sys(mountinfo: &[u8]) -> Vec<PathBuf> {
    let wanted = |fstype: &[u8]| matches!(fstype, b"proc" | b"sysfs");
    let mut paths: Vec<PathBuf> = filesystems(mountinfo)
        .filter_map(|(path, fstype)| wanted(fstype).then_some(path))
        .collect();
    paths.reverse();
    paths
}

/// AttachPoint and type of each mount in the text of a mountinfo, in its order
/// (proc_pid_mountinfo(5)).
pub(crate) fn filesystems(mountinfo: &[u8]) -> impl Iterator<Item = (PathBuf, &[u8])> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let mountpoint = fields.nth(4)?;
        let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some((path(mountpoint), fstype))
    })
}

/// Id and mount point of each mount in the text of `/proc/self/mountinfo`, in order.
pub(crate) fn mounts(mountinfo: &[u8]) -> impl Iterator<Item = (u64, PathBuf)> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        Some((id, path(fields.nth(3)?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_procfs_and_sysfs_are_returned() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            23 27 0:22 / /sys rw shared:7 master:3 - sysfs sysfs rw\n\
            24 27 0:6 / /proc-like rw - tmpfs proc rw\n\
            25 27 0:21 / /a\\040b\\134c rw - proc none rw\n";
        let expected = ["/a b\\c", "/sys", "/proc"].map(PathBuf::from);
        assert_eq!(proc_and_sys(text), expected);
        let last = mounts(text).last();
        assert_eq!((mounts(text).count(), last), (4, Some((25, PathBuf::from("/a b\\c")))));
    }
}
