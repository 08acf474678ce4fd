//! The root: entered, read-only, propagated.

use std::fs;
use std::path::Path;

use davit_rootfs::proc_and_sys;
use serde_json::json;

use crate::sandbox::{ROOT, SHARED, Sandbox, config, inside, mountinfo, proc_mount};

#[test]
fn the_root_is_entered_and_the_old_one_is_gone() {
    inside("roots::the_root_is_entered_and_the_old_one_is_gone", ROOT, |sandbox| {
        sandbox.file("rootfs/hello", "from the image");
        sandbox.enter(&config(json!([proc_mount()])), &sandbox.host()).ok();
        assert_eq!(fs::read_to_string("/hello").unwrap(), "from the image");
        assert!(!Path::new("/usr").exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts.lines().count(), 2, "{mounts}");
        assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
    });
}

#[test]
fn before_it_is_entered_the_root_is_where_hooks_expect_it() {
    inside("roots::before_it_is_entered_the_root_is_where_hooks_expect_it", ROOT, |sandbox| {
        sandbox.build(&config(json!([proc_mount()])), &sandbox.host()).ok();
        assert!(mountinfo(sandbox.rootfs.join("proc")).contains("- proc"));
        assert!(sandbox.rootfs.join("dev/null").exists());
    });
}

#[test]
fn a_root_that_is_a_link_is_the_directory_it_points_to() {
    inside("roots::a_root_that_is_a_link_is_the_directory_it_points_to", ROOT, |sandbox| {
        sandbox.file("real/hello", "");
        fs::remove_dir(&sandbox.rootfs).unwrap();
        std::os::unix::fs::symlink("real", &sandbox.rootfs).unwrap();
        sandbox.enter(&config(json!([])), &sandbox.host()).ok();
        assert!(Path::new("/hello").exists());
    });
}

#[test]
fn a_missing_root_is_an_error() {
    inside("roots::a_missing_root_is_an_error", ROOT, |sandbox| {
        fs::remove_dir(&sandbox.rootfs).unwrap();
        let outcome = sandbox.enter(&config(json!([])), &sandbox.host());
        outcome.refused("rootfs\": open_tree: no such file or directory");
    });
}

#[test]
fn a_read_only_root_has_writable_mounts() {
    inside("roots::a_read_only_root_has_writable_mounts", ROOT, |sandbox| {
        let mut config = config(json!([proc_mount(), { "destination": "/tmp", "type": "tmpfs" }]));
        config["root"]["readonly"] = json!(true);
        sandbox.enter(&config, &sandbox.host()).ok();
        let error = fs::write("/file", "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EROFS as i32));
        fs::write("/tmp/file", "").unwrap();
        assert!(mountinfo("/").starts_with("ro,"), "{}", mountinfo("/"));
    });
}

fn propagation_of_root(sandbox: &Sandbox, name: &str) -> String {
    let mut config = config(json!([proc_mount()]));
    config["linux"]["rootfsPropagation"] = json!(name);
    sandbox.enter(&config, &sandbox.host()).ok();
    let info = mountinfo("/");
    let (_, rest) = info.split_once(' ').unwrap();
    rest.split([':', ' ']).next().unwrap().to_owned()
}

/// One test for each form: the process is in the container afterwards.
macro_rules! propagation {
    ($($test:ident $name:literal $seen:literal)*) => {$(
        #[test]
        fn $test() {
            inside(concat!("roots::", stringify!($test)), SHARED, |sandbox| {
                assert_eq!(propagation_of_root(sandbox, $name), $seen);
            });
        }
    )*};
}

propagation! {
    root_shared "shared" "shared"
    root_rshared "rshared" "shared"
    root_slave "slave" "master"
    root_rslave "rslave" "master"
    root_private "private" "-"
    root_rprivate "rprivate" "-"
    root_unbindable "unbindable" "unbindable"
    root_runbindable "runbindable" "unbindable"
}

#[test]
fn nothing_that_is_mounted_is_seen_outside() {
    inside("roots::nothing_that_is_mounted_is_seen_outside", SHARED, |sandbox| {
        let table = format!("/proc/{}/mountinfo", std::os::unix::process::parent_id());
        let before = fs::read_to_string(&table).unwrap();
        let config = config(json!([
            proc_mount(),
            { "destination": "/t", "type": "tmpfs" },
            { "destination": "/b", "type": "bind", "source": "/usr", "options": ["rbind"] },
        ]));
        sandbox.build(&config, &sandbox.host()).ok();
        let after = fs::read_to_string(&table).unwrap();
        assert!(before.contains(" shared:"), "{before}");
        assert_eq!(before, after);
    });
}

#[test]
fn no_pivot_changes_the_root_too() {
    inside("roots::no_pivot_changes_the_root_too", ROOT, |sandbox| {
        sandbox.file("rootfs/hello", "");
        let mut host = sandbox.host();
        host.no_pivot = true;
        host.proc_and_sys = proc_and_sys(&fs::read("/proc/self/mountinfo").unwrap());
        assert!(host.proc_and_sys.iter().any(|place| place == Path::new("/proc")));
        sandbox.enter(&config(json!([proc_mount()])), &host).ok();
        assert!(Path::new("/hello").exists());
        assert!(!Path::new("/usr").exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts.matches(" - proc ").count(), 1, "{mounts}");
        assert_eq!(mounts.matches(" - sysfs ").count(), 0, "{mounts}");
    });
}

#[test]
fn without_a_mount_namespace_there_is_a_chroot() {
    inside("roots::without_a_mount_namespace_there_is_a_chroot", ROOT, |sandbox| {
        sandbox.file("rootfs/hello", "");
        let mut config = config(json!([]));
        config["linux"] = json!({ "namespaces": [{ "type": "pid" }] });
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(Path::new("/hello").exists());
        assert!(!Path::new("/usr").exists());
    });
}

#[test]
fn the_default_configuration_can_be_entered() {
    inside("roots::the_default_configuration_can_be_entered", ROOT, |sandbox| {
        let text = include_str!("../plan/default.json");
        let mut host = sandbox.host();
        // Any directory does for a cgroup: what it is bound from makes no difference here.
        let mountpoint = sandbox.bundle.clone();
        host.cgroups = Some(davit_rootfs::Cgroups::Unified { mountpoint });
        host.console = Some(davit_rootfs::Console { master: 1, terminal: 2 });
        sandbox.enter(&serde_json::from_str(text).unwrap(), &host).ok();
        assert!(mountinfo("/sys/fs/cgroup").starts_with("ro,nosuid,nodev,noexec,relatime "));
        assert!(mountinfo("/dev/console").contains(" - devpts "));
        assert!(fs::read("/proc/timer_list").unwrap().is_empty());
    });
}
