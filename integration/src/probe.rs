//! Test programs in C, for what a shell cannot ask the kernel.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Compiles `source` into a static program called `name`, unless that was done before, and returns its path.
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
    // Several tests may build the same probe at once: each writes its own file, the last rename wins.
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
