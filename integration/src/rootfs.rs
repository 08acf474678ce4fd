//! A root file system made of busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Makes a root at `root`: busybox (static) with all its applets in /bin, the usual directories,
/// and an /etc with the users root and bob (1000:1000, home /home/bob).
pub fn make(root: &Path) {
    for dir in ["bin", "dev", "etc", "home/bob", "mnt", "proc", "root", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    fs::copy(busybox(), root.join("bin/busybox")).expect("copy busybox");
    for applet in applets() {
        symlink("busybox", root.join("bin").join(applet)).expect("symlink");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("write");
    fs::write(root.join("etc/group"), "root:x:0:\nbob:x:1000:\n").expect("write");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
}

fn busybox() -> &'static Path {
    static BUSYBOX: OnceLock<PathBuf> = OnceLock::new();
    BUSYBOX.get_or_init(|| {
        let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
        let found = places.into_iter().find(|place| place.is_file());
        found.expect("busybox is not installed: apt-get install busybox-static")
    })
}

fn applets() -> &'static [String] {
    static APPLETS: OnceLock<Vec<String>> = OnceLock::new();
    APPLETS.get_or_init(|| {
        let list = Command::new(busybox()).arg("--list").output().expect("busybox --list");
        let list = String::from_utf8(list.stdout).expect("names");
        list.lines().filter(|name| *name != "busybox").map(str::to_owned).collect()
    })
}
