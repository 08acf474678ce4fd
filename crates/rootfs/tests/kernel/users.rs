//! A user namespace whose root cannot reach what the runtime can.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use davit_rootfs::{AttachPoint, Context, Op, apply, parent_opens_sources, phases, plan};
use davit_sys::Slots;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use serde_json::json;

use crate::sandbox::{ROOT, SHARED, Sandbox, config, inside, mountinfo, proc_mount};

/// A file system with flags that a user namespace made later may not take away.
const LOCKED: &[&str] = &[
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs -o ro,nosuid,nodev,noatime tmpfs /mnt && \
        exec unshare --user --map-root-user --mount \"$@\"",
    "sh",
];

/// What the second process of a test is told: numbers of slots and descriptors, and operations.
const CROSSING: &str = "ROOTFS_TEST_CROSSING";

/// The same test again, as root of a user namespace in which no other id is mapped.
fn cross(test: &str, context: &Context, ops: &[Op]) {
    let mut numbers = Vec::new();
    for (slot, fd) in context.slots.iter() {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        numbers.push((slot, fd.as_raw_fd()));
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--propagation", "unchanged"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CROSSING, serde_json::to_string(&(numbers, ops)).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
}

/// In the second process: what crossed.
fn crossed() -> Option<(Context, Vec<Op>)> {
    let text = std::env::var(CROSSING).ok()?;
    let (numbers, ops): (Vec<(u16, i32)>, Vec<Op>) = serde_json::from_str(&text).unwrap();
    let mut slots = Slots::default();
    for (slot, number) in numbers {
        let path = format!("/proc/self/fd/{number}");
        let fd: OwnedFd = open(path.as_str(), OFlag::O_PATH, Mode::empty()).unwrap();
        slots.put(slot, fd);
    }
    Some((Context::new(slots), ops))
}

#[test]
fn the_parent_opens_what_the_container_cannot_reach() {
    let test = "users::the_parent_opens_what_the_container_cannot_reach";
    if let Some((mut context, ops)) = crossed() {
        let bundle = std::env::var_os("ROOTFS_TEST_INSIDE").unwrap();
        assert!(fs::read_dir(&bundle).is_err(), "the test must be about something");
        let volume = mountinfo(Path::new(&bundle).join("volume"));
        apply(&ops, &mut context).unwrap();
        assert_eq!(context.slots.iter().count(), 0);
        assert!(Path::new("/hello").exists());
        assert_eq!(fs::read_to_string("/data/file").unwrap(), "content");
        let group = |info: &str| info.split(' ').nth(1).unwrap().to_owned();
        // Only the mount with that option is shared with the host; the others are slaves.
        assert!(group(&mountinfo("/")).starts_with("master:"), "{}", mountinfo("/"));
        assert!(group(&mountinfo("/data")).starts_with("master:"), "{}", mountinfo("/data"));
        let shared = group(&mountinfo("/shared")).replace("shared", "master");
        assert_eq!(shared, group(&volume));
        return;
    }
    inside(test, SHARED, |sandbox| {
        fill(sandbox);
        let mut host = sandbox.host();
        host.user_namespace = true;
        let spec = config(json!([
            { "destination": "/data", "type": "bind", "source": "secret", "options": ["rbind"] },
            { "destination": "/shared", "type": "bind", "source": "volume",
              "options": ["rbind", "rshared"] },
            { "destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"] },
            { "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] },
        ]));
        let spec = serde_json::from_value(spec).unwrap();
        assert!(parent_opens_sources(&spec, &host));
        let ops = plan(&spec, &host).unwrap();
        let [outside, build, enter] = phases(&ops);
        let mut context = Context::default();
        apply(outside, &mut context).unwrap();
        let slots: Vec<u16> = context.slots.iter().map(|(slot, _)| slot).collect();
        assert_eq!(slots, [8, 9, 10, 11, 12]);
        cross(test, &context, &[build, enter].concat());
    });
}

/// A bundle in the home directory of someone else, as with `--userns=auto`.
fn fill(sandbox: &Sandbox) {
    sandbox.file("rootfs/hello", "");
    for directory in ["dev", "proc", "data", "shared"] {
        sandbox.directory(&format!("rootfs/{directory}"));
    }
    sandbox.file("secret/file", "content");
    let volume = sandbox.directory("volume");
    let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&volume).status();
    assert!(mount.unwrap().success());
    chown(&sandbox.bundle, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(&sandbox.bundle, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn locked_flags_of_a_source_are_kept() {
    inside("users::locked_flags_of_a_source_are_kept", LOCKED, |sandbox| {
        let mut host = sandbox.host();
        (host.user_namespace, host.privileged_parent) = (true, false);
        let config = config(json!([
            { "destination": "/told", "type": "bind", "source": "/mnt",
              "options": ["rbind", "rw", "relatime", "noexec"] },
            { "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] },
        ]));
        sandbox.enter(&config, &host).ok();
        let info = mountinfo("/told");
        assert!(info.starts_with("ro,nosuid,nodev,noexec,noatime "), "{info}");
    });
}

#[test]
fn protections_of_a_source_are_locked() {
    inside("users::protections_of_a_source_are_locked", LOCKED, |sandbox| {
        let mut host = sandbox.host();
        (host.user_namespace, host.privileged_parent) = (true, false);
        let config = config(json!([
            { "destination": "/told", "type": "bind", "source": "/mnt", "options": ["rbind", "dev", "suid"] },
        ]));
        let outcome = sandbox.enter(&config, &host);
        let reason = "nosuid,nodev are locked by the parent user namespace";
        assert_eq!(outcome.context.log(), reason);
        outcome.refused("mount_setattr");
    });
}

#[test]
fn with_hooks_the_root_is_attached_where_they_look_for_it() {
    inside("users::with_hooks_the_root_is_attached_where_they_look_for_it", ROOT, |sandbox| {
        let mut host = sandbox.host();
        host.user_namespace = true;
        let mut config = config(json!([proc_mount()]));
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true" }] });
        let spec = serde_json::from_value(config).unwrap();
        let ops = plan(&spec, &host).unwrap();
        let place = ops.iter().find_map(|op| match &op.action {
            davit_rootfs::Action::Root { at, .. } => Some(at.clone()),
            _ => None,
        });
        let path = std::ffi::CString::new(sandbox.rootfs.to_str().unwrap()).unwrap();
        assert_eq!(place, Some(AttachPoint::Directory(path)));
    });
}
