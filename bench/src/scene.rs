//! The place where everything is measured: a cgroup, a mount namespace and a tmpfs of our own, all
//! of which end with the bench.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Runs this program again in a cgroup made for it, and removes that afterwards.
pub(crate) fn with_own_cgroup() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the bench makes namespaces and cgroups: run it as root"
    );
    let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let Some(tree) = trees.iter().map(Path::new).find(|tree| is_v2(tree)) else {
        bail!("there is no cgroup v2 here")
    };
    let cgroup = tree.join(format!("davit-test-bench-{}", std::process::id()));
    fs::create_dir(&cgroup).context("mkdir of a cgroup")?;
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .env("BENCH_CGROUP", &cgroup)
        .status();
    remove_tree(&cgroup);
    ensure!(!cgroup.exists(), "{} is not empty", cgroup.display());
    ensure!(status?.success(), "the bench failed");
    Ok(())
}

/// Whatever is still used stays, and so does what is above it.
fn remove_tree(cgroup: &Path) {
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    let _ = fs::remove_dir(cgroup);
}

fn is_v2(tree: &Path) -> bool {
    statfs(tree).is_ok_and(|tree| tree.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Newer runtimes find newer libraries: in /mnt, and (for runc, which clears its environment for
/// what it executes) in the places of the host's.
fn give_libraries(libraries: &Path) -> Result<()> {
    let none: Option<&str> = None;
    mount(Some(libraries), "/mnt", none, MsFlags::MS_BIND, none).context("/mnt")?;
    for library in fs::read_dir(libraries)? {
        let library = library?;
        let host = Path::new(HOST_LIBRARIES).join(library.file_name());
        if host.exists() {
            mount(Some(&library.path()), &host, none, MsFlags::MS_BIND, none)
                .with_context(|| host.display().to_string())?;
        }
    }
    Ok(())
}

/// Debian's.
const HOST_LIBRARIES: &str = "/lib/x86_64-linux-gnu";

/// Where things are.
pub(crate) struct Scene {
    /// Bundles, state directories: a tmpfs, as /run is.
    pub(crate) directory: PathBuf,
    /// What setup.sh made.
    pub(crate) cache: PathBuf,
    /// The cgroup in which all that is measured happens.
    pub(crate) cgroup: PathBuf,
    /// Whether the host itself has a pure tree of cgroup v2.
    unified: bool,
    /// How long nothing is done before each measured call: what the kernel has still to do for the
    /// last one (namespaces end in the background) is not this one's cost.
    pub(crate) rest: Duration,
}

impl Scene {
    pub(crate) fn enter(rest: Duration) -> Result<Self> {
        let cache = std::env::var_os("BENCH_CACHE").context("BENCH_CACHE is not set")?;
        let cache = fs::canonicalize(cache).context("BENCH_CACHE: run setup.sh")?;
        let outside = PathBuf::from(std::env::var_os("BENCH_CGROUP").context("BENCH_CGROUP")?);
        fs::write(outside.join("cgroup.procs"), "0").context("enter the cgroup")?;
        // With a cgroup namespace our cgroup is the top of the tree: no other is ever touched.
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).context("unshare")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("mount /")?;
        let top = Path::new("/sys/fs/cgroup");
        // The kernel mounts no file system over itself.
        let unified = is_v2(top);
        if unified {
            umount2(top, MntFlags::MNT_DETACH).context("cgroup2")?;
        }
        mount(Some("none"), top, Some("cgroup2"), MsFlags::empty(), none).context("cgroup2")?;
        for below in ["bench", "containers", "containers/caller"] {
            fs::create_dir(top.join(below)).context("mkdir of a cgroup")?;
        }
        fs::write(top.join("bench/cgroup.procs"), "0").context("enter the cgroup")?;
        let directory = cache.join("scene");
        fs::create_dir_all(&directory)?;
        mount(Some("scene"), &directory, Some("tmpfs"), MsFlags::empty(), none).context("tmpfs")?;
        // As systemd does; with a fresh one nobody gains from what was there before.
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=700"))
            .context("bpffs")?;
        let libraries = cache.join("runtimes/lib");
        if libraries.exists() {
            give_libraries(&libraries)?;
        }
        nix::sys::prctl::set_child_subreaper(true).context("subreaper")?;
        Ok(Self { directory, cache, cgroup: top.join("containers"), unified, rest })
    }

    /// Where memory belongs to cgroup v1, our tree has no controller for it: the host's own trees
    /// come to light, but for the one of cgroup v2, which crun does not want beside them.
    pub(crate) fn show_memory_controller(&self) -> Result<()> {
        if !self.unified {
            umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).context("cgroup2")?;
            umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH).context("unified")?;
        }
        Ok(())
    }

    /// A cgroup below that controller.
    pub(crate) const fn limited_cgroup(&self) -> &'static str {
        if self.unified { "/containers/limited" } else { "/davit-test-bench-limited" }
    }
}
