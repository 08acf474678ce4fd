//! Binds: attributes, propagation, destinations.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::sandbox::{ROOT, SHARED, config, inside, mountinfo, proc_mount};

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

#[test]
fn attributes_are_set_on_one_mount_or_on_all() {
    inside("binds::attributes_are_set_on_one_mount_or_on_all", ROOT, |sandbox| {
        let outer = sandbox.directory("outer");
        let options = |mount: &str| mountinfo(mount).split(' ').next().unwrap().to_owned();
        mount("tmpfs", &outer);
        fs::create_dir(outer.join("inner")).unwrap();
        mount("tmpfs", &outer.join("inner"));
        let mounts = json!([
            proc_mount(),
            bind(&outer, "/plain", &["rbind"]),
            bind(&outer, "/one", &["rbind", "ro", "nosuid", "noexec"]),
            bind(&outer, "/all", &["rbind", "rro", "rnosuid", "rnoatime", "rnosymfollow"]),
            bind(&outer, "/alone", &["bind", "nodev", "strictatime"]),
            bind(&outer, "/mixed", &["rbind", "rro", "nosuid", "rw", "rnodiratime"]),
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert_eq!(options("/plain"), "rw,relatime");
        assert_eq!(options("/one"), "ro,nosuid,noexec,relatime");
        assert_eq!(options("/one/inner"), "rw,relatime");
        assert_eq!(options("/all"), "ro,nosuid,noatime,nosymfollow");
        assert_eq!(options("/all/inner"), "ro,nosuid,noatime,nosymfollow");
        assert_eq!(options("/alone"), "rw,nodev");
        assert!(!Path::new("/alone/inner/x").exists());
        assert_eq!(options("/mixed"), "ro,nosuid,nodiratime,relatime");
        assert_eq!(options("/mixed/inner"), "ro,nodiratime,relatime");
    });
}

#[test]
fn attributes_of_the_source_stay_unless_told() {
    inside("binds::attributes_of_the_source_stay_unless_told", ROOT, |sandbox| {
        let source = sandbox.directory("source");
        mount_with(&["-t", "tmpfs", "-o", "ro,nosuid,nodev,noatime", "tmpfs"], &source);
        let mounts = json!([
            proc_mount(),
            bind(&source, "/kept", &["rbind", "noexec"]),
            bind(&source, "/told", &["bind", "rw", "suid", "dev", "relatime"]),
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert!(mountinfo("/kept").starts_with("ro,nosuid,nodev,noexec,noatime "));
        assert!(mountinfo("/told").starts_with("rw,relatime "));
    });
}

#[test]
fn destinations_are_made_and_links_stay_inside() {
    inside("binds::destinations_are_made_and_links_stay_inside", ROOT, |sandbox| {
        let file = sandbox.file("file", "content");
        let directory = sandbox.file("directory/name", "content").parent().unwrap().to_owned();
        sandbox.directory("rootfs/inside");
        sandbox.directory("rootfs/deep");
        symlink("../inside/../other", sandbox.rootfs.join("deep/link")).unwrap();
        symlink("/inside", sandbox.rootfs.join("absolute")).unwrap();
        symlink("../../../../../../../../made-inside", sandbox.rootfs.join("up")).unwrap();
        symlink("/nowhere/yet", sandbox.rootfs.join("dangling")).unwrap();
        let mounts = json!([
            bind(&directory, "/absolute", &["bind"]),
            bind(&directory, "/up/a", &["bind"]),
            bind(&file, "/dangling", &["bind"]),
            bind(&directory, "/x/../z/./y/", &["bind"]),
            bind(&file, "/new/directories/file", &["bind"]),
            bind(Path::new("file"), "relative/file", &["bind"]),
            bind(&directory, "/deep/link/new", &["bind"]),
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        let read = |path: &str| fs::read_to_string(path).unwrap();
        for path in [
            "/inside/name",
            "/made-inside/a/name",
            "/nowhere/yet",
            "/z/y/name",
            "/new/directories/file",
            "/relative/file",
            "/other/new/name",
        ] {
            assert_eq!(read(path), "content", "{path}");
        }
    });
}

#[test]
fn endless_links_are_an_error() {
    inside("binds::endless_links_are_an_error", ROOT, |sandbox| {
        symlink("b", sandbox.rootfs.join("a")).unwrap();
        symlink("a", sandbox.rootfs.join("b")).unwrap();
        let config = config(json!([bind(&sandbox.rootfs, "/a/x", &["bind"])]));
        sandbox.enter(&config, &sandbox.host()).refused("too many");
    });
}

#[test]
fn a_directory_does_not_go_on_a_file() {
    inside("binds::a_directory_does_not_go_on_a_file", ROOT, |sandbox| {
        sandbox.file("rootfs/file", "");
        let directory = sandbox.directory("directory");
        let config = config(json!([bind(&directory, "/file", &["bind"])]));
        sandbox.enter(&config, &sandbox.host()).refused("\"/file\": move_mount: not a directory");
    });
}

#[test]
fn a_missing_source_is_an_error_that_names_the_mount() {
    inside("binds::a_missing_source_is_an_error_that_names_the_mount", ROOT, |sandbox| {
        let config = config(json!([proc_mount(), bind(Path::new("/no/such"), "/x", &["bind"])]));
        let expected = r#"mounts[1] "/no/such" -> "/x": open_tree: no such file or directory"#;
        sandbox.enter(&config, &sandbox.host()).refused(expected);
    });
}

#[test]
fn links_into_procfs_are_refused() {
    inside("binds::links_into_procfs_are_refused", ROOT, |sandbox| {
        let file = sandbox.file("file", "");
        symlink("/proc/self/attr/exec", sandbox.rootfs.join("label")).unwrap();
        let config = config(json!([proc_mount(), bind(&file, "/label", &["bind"])]));
        sandbox.enter(&config, &sandbox.host()).refused("a link leads into procfs");
    });
}

#[test]
fn the_files_of_lxcfs_may_be_inside_proc() {
    inside("binds::the_files_of_lxcfs_may_be_inside_proc", ROOT, |sandbox| {
        let file = sandbox.file("file", "fake");
        let mounts = json!([proc_mount(), bind(&file, "/proc/uptime", &["bind"]),]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert_eq!(fs::read_to_string("/proc/uptime").unwrap(), "fake");
    });
}

#[test]
fn only_a_procfs_goes_over_proc() {
    inside("binds::only_a_procfs_goes_over_proc", ROOT, |sandbox| {
        let config = config(json!([bind(&sandbox.rootfs, "/proc", &["rbind"])]));
        sandbox.build(&config, &sandbox.host()).refused("the source is not a procfs");
    });
}

#[test]
fn the_host_proc_goes_over_proc() {
    inside("binds::the_host_proc_goes_over_proc", ROOT, |sandbox| {
        let config = config(json!([bind(Path::new("/proc"), "/proc", &["rbind"])]));
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(mountinfo("/proc").contains(" - proc "));
    });
}

#[test]
fn propagation_is_what_is_asked_for() {
    inside("binds::propagation_is_what_is_asked_for", SHARED, |sandbox| {
        let source = sandbox.directory("source");
        mount("tmpfs", &source);
        let mounts = json!([
            proc_mount(),
            bind(&source, "/default", &["rbind"]),
            bind(&source, "/shared", &["rbind", "rshared"]),
            bind(&source, "/slave", &["rbind", "rslave"]),
            bind(&source, "/private", &["rbind", "rprivate"]),
            bind(&source, "/unbindable", &["bind", "unbindable"]),
        ]);
        let host = mountinfo(&source);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        let group = |text: &str| {
            let fields = text.split(' ').skip(1).take_while(|field| *field != "-");
            fields.collect::<Vec<_>>().join(" ")
        };
        let host = group(&host);
        assert!(host.starts_with("shared:"));
        assert_eq!(group(&mountinfo("/shared")), host);
        let slave = host.replace("shared", "master");
        assert_eq!(group(&mountinfo("/slave")), slave);
        assert_eq!(group(&mountinfo("/default")), slave);
        assert_eq!(group(&mountinfo("/private")), "");
        assert_eq!(group(&mountinfo("/unbindable")), "unbindable");
    });
}

#[test]
fn slave_binds_stay_so_below_a_private_root() {
    inside("binds::slave_binds_stay_so_below_a_private_root", SHARED, |sandbox| {
        let source = sandbox.directory("source");
        mount("tmpfs", &source);
        let mut config = config(json!([
            proc_mount(),
            bind(&source, "/default", &["rbind"]),
            bind(&source, "/slave", &["rbind", "rslave"]),
        ]));
        config["linux"]["rootfsPropagation"] = json!("rprivate");
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(mountinfo("/slave").contains(" master:"));
        assert!(!mountinfo("/default").contains(" master:"));
    });
}

#[test]
fn sources_may_lie_in_what_was_mounted_before() {
    inside("binds::sources_may_lie_in_what_was_mounted_before", ROOT, |sandbox| {
        let file = sandbox.file("file", "content");
        let mounts = json!([
            { "destination": "/tmp", "type": "tmpfs" },
            bind(&file, "/tmp/file", &["bind"]),
            bind(&sandbox.rootfs.join("tmp"), "/again", &["rbind"]),
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert_eq!(fs::read_to_string("/again/file").unwrap(), "content");
    });
}

#[test]
fn a_thousand_mounts_need_no_thousand_descriptors() {
    inside("binds::a_thousand_mounts_need_no_thousand_descriptors", ROOT, |sandbox| {
        use nix::sys::resource::{Resource, setrlimit};
        let file = sandbox.file("file", "content");
        let mounts = (0..1000).map(|index| bind(&file, &format!("/many/{index}"), &["bind", "ro"]));
        let config = config(mounts.collect());
        setrlimit(Resource::RLIMIT_NOFILE, 32, 32).unwrap();
        sandbox.enter(&config, &sandbox.host()).ok();
        assert_eq!(fs::read_to_string("/many/999").unwrap(), "content");
    });
}

fn mount(fstype: &str, at: &Path) {
    mount_with(&["-t", fstype, fstype], at);
}

fn mount_with(arguments: &[&str], at: &Path) {
    let status = std::process::Command::new("mount").args(arguments).arg(at).status().unwrap();
    assert!(status.success());
}
