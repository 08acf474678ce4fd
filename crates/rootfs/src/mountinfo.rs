//! What is read from mountinfo, and only where there is no pivot_root(2).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The places where the text of `/proc/self/mountinfo` has a procfs or a sysfs, last one first.
#[must_use]
pub fn proc_and_sys(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let mut places: Vec<PathBuf> = lines.filter_map(place).collect();
    places.reverse();
    places
}

/// Id and place of each mount in the text of `/proc/self/mountinfo`, in its order.
pub(crate) fn mounts(mountinfo: &[u8]) -> impl Iterator<Item = (u64, PathBuf)> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        Some((id, PathBuf::from(OsString::from_vec(unescape(fields.nth(3)?)))))
    })
}

/// The mount point in one line, if its file system is procfs or sysfs (proc_pid_mountinfo(5)).
fn place(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = fields.nth(4)?;
    let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
    let wanted = matches!(fstype, b"proc" | b"sysfs");
    wanted.then(|| PathBuf::from(OsString::from_vec(unescape(place))))
}

/// Blank, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (first, tail.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_procfs_and_sysfs_wherever_they_are() {
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
