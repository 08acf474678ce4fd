//! The mounts of a mount namespace (proc_pid_mountinfo(5)).

use std::path::PathBuf;

use davit_sys::mountinfo::path;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: u64,
    /// The device of its file system, `major:minor`.
    pub device: String,
    /// The directory or file of the file system that is mounted.
    pub root: PathBuf,
    /// Where.
    pub mountpoint: PathBuf,
    /// The type of the file system.
    pub fstype: String,
    /// The options of the file system.
    pub options: String,
}

/// The mounts in the text of a mountinfo, in its order. Lines of another form are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let id = word(fields.next()?).parse().ok()?;
    let device = word(fields.nth(1)?);
    let root = path(fields.next()?);
    let mountpoint = path(fields.next()?);
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = word(rest.next()?);
    let options = word(rest.nth(1)?);
    Some(Mount { id, device, root, mountpoint, fstype, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let text = b"73 72 0:29 /a\\040b /sys/fs/cgroup/cpu ro,nosuid master:3 - cgroup cgroup rw,cpu\nx\n";
        let expected = Mount {
            id: 73,
            device: "0:29".to_owned(),
            root: "/a b".into(),
            mountpoint: "/sys/fs/cgroup/cpu".into(),
            fstype: "cgroup".to_owned(),
            options: "rw,cpu".to_owned(),
        };
        assert_eq!(parse(text), [expected]);
    }
}
