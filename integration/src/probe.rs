//! Test programs in C, for what a shell cannot ask the kernel.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// `say MESSAGE...` sends each to `$NOTIFY_SOCKET` (sd_notify(3)).
pub const SAY: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* say MESSAGE...: sends each to $NOTIFY_SOCKET. */
int main(int argc, char **argv) {
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (!path) { puts("no NOTIFY_SOCKET"); return 1; }
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    for (int i = 1; i < argc; i++)
        if (sendto(fd, argv[i], strlen(argv[i]), 0, (void *)&to, sizeof to) < 0) { perror(path); return 1; }
    return 0;
}
"#;

/// Compiles `source` into a static program called `name`, unless that was done before, and returns
/// its path.
///
/// # Panics
/// Where there is no C compiler or libc6-dev.
pub fn compile(name: &str, source: &str) -> PathBuf {
    let mut hash = DefaultHasher::new();
    source.hash(&mut hash);
    let dir = env::temp_dir().join(format!("davit-probes-{}", nix::unistd::geteuid()));
    let program = dir.join(format!("{name}-{:x}", hash.finish()));
    if program.is_file() {
        return program;
    }
    fs::create_dir_all(&dir).expect("mkdir");
    // Several tests may build the same probe at once: each writes its own file, the last rename
    // wins.
    let own = tempfile::tempdir_in(&dir).expect("mkdir");
    let (text, built) = (own.path().join("probe.c"), own.path().join("probe"));
    fs::write(&text, source).expect("write");
    let cc =
        Command::new("cc").args(["-static", "-Wall", "-O1", "-o"]).arg(&built).arg(&text).output();
    let cc = cc.expect("a C compiler: apt-get install gcc libc6-dev");
    assert!(cc.status.success(), "{name}: {}", String::from_utf8_lossy(&cc.stderr));
    fs::rename(built, &program).expect("rename");
    program
}

/// Compiles a probe and puts it into a root file system as /bin/NAME.
pub fn install(rootfs: &Path, name: &str, source: &str) {
    fs::copy(compile(name, source), rootfs.join("bin").join(name)).expect("copy the probe");
}
