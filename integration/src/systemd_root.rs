//! A root file system in which systemd is init: the host's own /usr, and an /etc with one service.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What to run as the first process.
pub const COMMAND: [&str; 2] = ["/usr/lib/systemd/systemd", "--unit=tested.target"];

/// The signal that ends it (systemd(1)).
pub const STOP: &str = "SIGRTMIN+3";

const TARGET: &str = "[Unit]\nDefaultDependencies=no\nWants=tested.service\n";

/// Lives, and has said where it is.
const SERVICE: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=/bin/sh -c 'cat /proc/self/cgroup >/run/tested'\n";

/// Makes the root, in which /usr is an empty directory for a mount.
pub fn make(root: &Path) {
    let units = "etc/systemd/system";
    for dir in ["dev", "proc", "root", "run", "sys", "tmp", "usr", "var", units] {
        fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), root.join(link)).expect("symlink");
    }
    for (file, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        (&format!("{units}/tested.target"), TARGET),
        (&format!("{units}/tested.service"), SERVICE),
    ] {
        fs::write(root.join(file), text).expect("write");
    }
}

/// Why there is no systemd to run in a container here, if so.
pub fn missing() -> Option<&'static str> {
    (!Path::new(COMMAND[0]).is_file()).then_some("systemd is not installed")
}
