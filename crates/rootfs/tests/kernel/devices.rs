//! Device nodes, links and the console.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use davit_rootfs::Console;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

use crate::sandbox::{ROOT, USER, config, inside, mountinfo, proc_mount};

fn dev() -> Value {
    json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] })
}

fn devpts() -> Value {
    json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] })
}

fn node(path: &str) -> (u64, u64, u32, u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    (major(stat.rdev()), minor(stat.rdev()), stat.mode() & 0o7777, stat.uid(), stat.gid())
}

#[test]
fn default_devices_and_links_are_there() {
    inside("devices::default_devices_and_links_are_there", ROOT, |sandbox| {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        let context = sandbox.enter(&config(json!([proc_mount(), dev()])), &sandbox.host()).ok();
        assert_eq!(node("/dev/null"), (1, 3, 0o666, 0, 0));
        assert_eq!(node("/dev/zero"), (1, 5, 0o666, 0, 0));
        assert_eq!(node("/dev/full"), (1, 7, 0o666, 0, 0));
        assert_eq!(node("/dev/random"), (1, 8, 0o666, 0, 0));
        assert_eq!(node("/dev/urandom"), (1, 9, 0o666, 0, 0));
        assert_eq!(node("/dev/tty"), (5, 0, 0o666, 0, 0));
        assert_eq!(fs::read_link("/dev/ptmx").unwrap(), Path::new("pts/ptmx"));
        assert_eq!(fs::read_link("/dev/fd").unwrap(), Path::new("/proc/self/fd"));
        assert_eq!(fs::read_link("/dev/stdin").unwrap(), Path::new("/proc/self/fd/0"));
        fs::write("/dev/null", "gone").unwrap();
        assert!(mountinfo("/dev").starts_with("rw,nosuid - tmpfs tmpfs"), "{}", mountinfo("/dev"));
        // The caller's mask is as it was.
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        assert_eq!(mask.bits(), 0o077);
        drop(context);
    });
}

#[test]
fn listed_devices_have_their_kind_mode_and_owner() {
    inside("devices::listed_devices_have_their_kind_mode_and_owner", ROOT, |sandbox| {
        let mut config = config(json!([dev()]));
        config["linux"]["devices"] = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640,
              "uid": 7, "gid": 8 },
            { "path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200 },
            { "path": "/disks/one", "type": "b", "major": 7, "minor": 1, "fileMode": 0o060600 },
            { "path": "/dev/pipe", "type": "p", "fileMode": 0o600 },
            { "path": "/dev/odd", "type": "u", "major": 200, "minor": 300 },
            { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 },
            { "path": "/dev/null", "type": "c", "major": 1, "minor": 3 },
        ]);
        sandbox.enter(&config, &sandbox.host()).ok();
        assert_eq!(node("/dev/fuse"), (10, 229, 0o640, 7, 8));
        assert_eq!(node("/dev/net/tun"), (10, 200, 0o666, 0, 0));
        assert_eq!(node("/disks/one"), (7, 1, 0o600, 0, 0));
        assert!(fs::metadata("/disks/one").unwrap().file_type().is_block_device());
        assert!(fs::metadata("/dev/pipe").unwrap().file_type().is_fifo());
        assert_eq!(node("/dev/odd"), (200, 300, 0o666, 0, 0));
        assert_eq!(node("/dev/null"), (1, 3, 0o600, 0, 0));
    });
}

#[test]
fn what_is_at_a_device_path_must_be_that_device() {
    inside("devices::what_is_at_a_device_path_must_be_that_device", ROOT, |sandbox| {
        sandbox.file("rootfs/dev/null", "a trap");
        sandbox
            .enter(&config(json!([])), &sandbox.host())
            .refused(r#"default device "/dev/null": another file exists: mknodat: file exists"#);
    });
}

#[test]
fn a_dev_that_is_a_link_gets_no_nodes() {
    inside("devices::a_dev_that_is_a_link_gets_no_nodes", ROOT, |sandbox| {
        let outside = sandbox.directory("outside");
        symlink(&outside, sandbox.rootfs.join("dev")).unwrap();
        sandbox.enter(&config(json!([])), &sandbox.host()).refused("openat2: too many");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    });
}

#[test]
fn a_bound_dev_is_left_alone() {
    inside("devices::a_bound_dev_is_left_alone", ROOT, |sandbox| {
        sandbox.file("dev/mine", "");
        let mounts = json!([{ "destination": "/dev", "source": "dev", "options": ["rbind"] }]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert_eq!(fs::read_dir("/dev").unwrap().count(), 1);
    });
}

#[test]
fn a_read_only_dev_still_has_its_nodes() {
    inside("devices::a_read_only_dev_still_has_its_nodes", ROOT, |sandbox| {
        let mounts = json!([
            proc_mount(),
            { "destination": "/dev", "type": "tmpfs", "options": ["ro", "nosuid"] },
            { "destination": "/dev/shm", "type": "tmpfs" },
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert!(mountinfo("/dev").starts_with("ro,nosuid,"));
        assert_eq!(node("/dev/null"), (1, 3, 0o666, 0, 0));
        assert!(fs::write("/dev/new", "").is_err());
        fs::write("/dev/shm/new", "").unwrap();
    });
}

#[test]
fn in_a_user_namespace_nodes_are_the_host_ones() {
    inside("devices::in_a_user_namespace_nodes_are_the_host_ones", USER, |sandbox| {
        let mut host = sandbox.host();
        (host.user_namespace, host.privileged_parent) = (true, false);
        sandbox.enter(&config(json!([dev()])), &host).ok();
        let null = fs::metadata("/dev/null").unwrap();
        assert!(null.file_type().is_char_device());
        fs::write("/dev/null", "gone").unwrap();
        let mut zero = [1; 4];
        fs::File::open("/dev/zero").unwrap().read_exact(&mut zero).unwrap();
        assert_eq!(zero, [0; 4]);
    });
}

#[test]
fn a_host_node_must_be_the_device_that_is_asked_for() {
    inside("devices::a_host_node_must_be_the_device_that_is_asked_for", USER, |sandbox| {
        let mut host = sandbox.host();
        (host.user_namespace, host.privileged_parent) = (true, false);
        let mut config = config(json!([dev()]));
        config["linux"]["devices"] =
            json!([{ "path": "/dev/zero", "type": "c", "major": 1, "minor": 3 }]);
        sandbox.enter(&config, &host).refused("the host's node is another device");
    });
}

#[test]
fn the_console_is_of_the_containers_own_devpts() {
    inside("devices::the_console_is_of_the_containers_own_devpts", ROOT, |sandbox| {
        let mut host = sandbox.host();
        host.console = Some(Console { master: 3, terminal: 5 });
        let mut config = config(json!([proc_mount(), dev(), devpts()]));
        config["process"] = json!({ "cwd": "/", "user": { "uid": 0, "gid": 0 }, "terminal": true,
            "consoleSize": { "height": 33, "width": 101 } });
        let mut context = sandbox.enter(&config, &host).ok();
        let master = context.slots.take(3).unwrap();
        let terminal = context.slots.take(5).unwrap();
        assert_eq!(nix::unistd::ttyname(terminal.as_fd()).unwrap(), Path::new("/dev/pts/0"));
        let console = fs::metadata("/dev/console").unwrap();
        assert_eq!(console.rdev(), fs::metadata("/dev/pts/0").unwrap().rdev());
        // What devpts gives is left: a newline goes out with a carriage return, as from runc.
        fs::File::from(terminal).write_all(b"hello\n").unwrap();
        let mut text = [0; 7];
        fs::File::from(master).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello\r\n");
    });
}

#[test]
fn a_false_ptmx_makes_no_console() {
    inside("devices::a_false_ptmx_makes_no_console", ROOT, |sandbox| {
        sandbox.file("rootfs/dev/pts/ptmx", "");
        let mut host = sandbox.host();
        host.console = Some(Console { master: 3, terminal: 5 });
        sandbox.enter(&config(json!([])), &host).refused("/dev/pts is not a devpts");
    });
}

#[test]
fn a_further_process_gets_a_terminal_of_the_root_it_is_in() {
    let test = "devices::a_further_process_gets_a_terminal_of_the_root_it_is_in";
    inside(test, ROOT, |sandbox| {
        let config = config(json!([proc_mount(), dev(), devpts()]));
        sandbox.enter(&config, &sandbox.host()).ok();
        let process = json!({ "cwd": "/", "user": { "uid": 0, "gid": 0 },
            "consoleSize": { "height": 33, "width": 101 } });
        let process = serde_json::from_value(process).unwrap();
        let op = davit_rootfs::exec_terminal(&process, Console { master: 0, terminal: 1 }).unwrap();
        // As in a process that joined the container: nothing is known of how it was made.
        let mut context = davit_rootfs::Context::default();
        davit_rootfs::apply(&[op], &mut context).unwrap();
        let terminal = context.slots.take(1).unwrap();
        assert_eq!(nix::unistd::ttyname(terminal.as_fd()).unwrap(), Path::new("/dev/pts/0"));
        assert!(!Path::new("/dev/console").exists());
    });
}
