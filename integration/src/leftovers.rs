//! What a container left behind on the host.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::cgroup_roots;

/// All that is left of a container that is known by its unique name and its directory; each is a
/// sentence.
pub fn find(name: &str, dir: &Path) -> Vec<String> {
    let mut found: Vec<String> =
        cgroups(name).iter().map(|path| format!("cgroup {}", path.display())).collect();
    found.extend(processes(name).iter().map(|pid| format!("process {pid}: {}", description(*pid))));
    found.extend(mounts(dir).into_iter().map(|line| format!("mount {line}")));
    found
}

/// The cgroups whose name holds `name`, in every hierarchy, children before parents.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for root in cgroup_roots() {
        walk(&root, name, &mut found);
    }
    found
}

fn walk(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), name, found);
            if entry.path().to_string_lossy().contains(name) {
                found.push(entry.path());
            }
        }
    }
}

/// The live processes that are in a cgroup of this name, or have it on their command line, but for
/// this test itself.
pub fn processes(name: &str) -> Vec<i32> {
    let own = std::process::id().to_string();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str().map(str::to_owned))
        .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != own)
        .filter(|pid| {
            let holds = |file: &str| {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                bytes.windows(name.len()).any(|window| window == name.as_bytes())
            };
            (holds("cgroup") || holds("cmdline")) && !is_dead(pid)
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Is the process gone, or a zombie that was not reaped yet?
pub fn is_dead(pid: impl std::fmt::Display) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

fn description(pid: i32) -> String {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    format!(
        "{:?} wchan {:?} {:?}",
        file("comm").trim(),
        file("wchan"),
        file("cmdline").replace('\0', " ")
    )
}

/// The mounts of this mount namespace on or from this directory.
pub fn mounts(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let dir = dir.to_string_lossy();
    table.lines().filter(|line| line.contains(&*dir)).map(str::to_owned).collect()
}

/// Takes away by force whatever is left, so that one failed test does not spoil the others.
pub fn sweep(name: &str, dir: &Path) {
    for cgroup in cgroups(name) {
        // A frozen process does not die.
        for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = cgroup.join(file);
            if file.exists() {
                let _ = fs::write(file, thawed);
            }
        }
    }
    for pid in processes(name) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    crate::call::within(std::time::Duration::from_secs(2), || {
        for cgroup in cgroups(name) {
            let _ = fs::remove_dir(cgroup);
        }
        cgroups(name).is_empty().then_some(())
    });
    for line in mounts(dir).iter().rev() {
        let at = line.split(' ').nth(4).unwrap_or_default();
        let _ = nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH);
    }
}
