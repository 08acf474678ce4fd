//! `mounts add` and `mounts remove`: mounts of a running container.

use std::fs;
use std::path::Path;

use integration::*;

fn change(c: &Container, word: &str, mounts: &Value) -> Outcome {
    let file = c.path("mounts.json");
    fs::write(&file, mounts.to_string()).expect("write");
    c.call(&["mounts", word, &c.id, &file]).done()
}

/// A directory of the host with a file in it.
fn source(c: &Container, name: &str) -> String {
    let path = c.path(name);
    fs::create_dir(&path).expect("mkdir");
    fs::write(Path::new(&path).join("file"), name).expect("write");
    path
}

const MOUNTED: &str = "cut -d' ' -f5,6 /proc/self/mountinfo | grep ^/mnt";

fn mounted(c: &Container) -> String {
    c.exec(&["sh", "-c", MOUNTED]).out
}

#[test]
fn what_is_added_is_there_until_it_is_removed() {
    davit_only!("runc has no such command, and crun refuses hybrid hosts");
    let c = Container::sleeper();
    c.create().start();
    let data = source(&c, "data");
    let mounts = json!([
        config::mount("/mnt/data", "bind", &data, &["bind", "ro", "nosuid"]),
        config::mount("/mnt/tmp", "tmpfs", "tmpfs", &["size=64k", "mode=700", "noexec"]),
    ]);
    change(&c, "add", &mounts).ok();
    assert_eq!(mounted(&c), "/mnt/data ro,nosuid,relatime\n/mnt/tmp rw,noexec,relatime\n");
    assert_eq!(c.ask("cat /mnt/data/file; stat -c %a /mnt/tmp; echo x >/mnt/tmp/f"), "data700\n");
    assert!(c.exec(&["sh", "-c", "echo x >/mnt/data/file"]).fails().err.contains("Read-only"));
    // Init's own view is the same.
    assert_eq!(c.ask("cat /proc/1/root/mnt/data/file"), "data");
    change(&c, "remove", &json!([{ "destination": "/mnt/data" }])).ok();
    assert_eq!(mounted(&c), "/mnt/tmp rw,noexec,relatime\n");
    // The whole of a config.json will do, and nothing but the destination counts.
    change(&c, "remove", &json!({ "ociVersion": "1.3.0", "mounts": [mounts[1]] })).ok();
    assert_eq!(mounted(&c), "");
    c.delete().ok();
    assert_eq!(fs::read_to_string(Path::new(&data).join("file")).expect("read"), "data");
    c.assert_nothing_left();
}

#[test]
fn a_file_from_standard_input_over_a_file() {
    davit_only!("runc has no such command, and crun refuses hybrid hosts");
    let c = Container::sleeper();
    c.create().start();
    let file = format!("{}/file", source(&c, "data"));
    let mounts = json!([config::mount("/etc/motd", "bind", &file, &["bind"])]).to_string();
    let before = c.ask("cat /etc/motd 2>/dev/null; :");
    c.call(&["mounts", "add", &c.id, "-"]).input(&mounts).done().ok();
    assert_eq!(c.ask("cat /etc/motd"), "data");
    c.call(&["mounts", "remove", &c.id, "-"]).input(&mounts).done().ok();
    assert_eq!(c.ask("cat /etc/motd"), before);
}

#[test]
fn into_a_user_namespace_and_before_the_start() {
    davit_only!("runc has no such command, and crun refuses hybrid hosts");
    let c = Container::sleeper()
        .with_files(|root| fs::create_dir_all(root.join("mnt/data")).expect("mkdir"))
        .with_files(|root| fs::create_dir_all(root.join("mnt/tmp")).expect("mkdir"))
        .with(|c| config::set_userns(c, 100_000, 65536));
    c.create();
    let data = source(&c, "data");
    // Nobody of the user namespace could look up the source: it is opened outside.
    fs::set_permissions(c.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .expect("chmod");
    let mounts = json!([
        config::mount("/mnt/data", "bind", &data, &["rbind"]),
        config::mount("/mnt/tmp", "tmpfs", "tmpfs", &[]),
    ]);
    change(&c, "add", &mounts).ok();
    c.start();
    assert_eq!(c.ask("cat /mnt/data/file; stat -c %u /mnt/tmp"), "data0\n");
    change(&c, "remove", &mounts).ok();
    assert_eq!(mounted(&c), "");
}

#[test]
fn a_link_of_the_image_leads_nowhere_outside() {
    davit_only!("promised by davit only");
    let c = Container::sleeper();
    let outside = source(&c, "outside");
    let c = c.with_files(|root| {
        std::os::unix::fs::symlink(&outside, root.join("link")).expect("symlink");
    });
    c.create().start();
    change(&c, "add", &json!([config::mount("/link/x", "tmpfs", "tmpfs", &[])])).ok();
    assert!(!Path::new(&outside).join("x").exists(), "made on the host");
    assert!(c.rootfs().join(outside.trim_start_matches('/')).join("x").is_dir());
    // Removing follows no link at all.
    let link = json!([{ "destination": "/link/x" }]);
    change(&c, "remove", &link).refuses(&["mounts[0]", "/link/x", "symbolic links"]);
    let there = json!([{ "destination": format!("{outside}/x") }]);
    change(&c, "remove", &there).ok();
}

#[test]
fn faults_are_named_by_their_field() {
    davit_only!("its own messages");
    let c = Container::sleeper();
    c.create().start();
    for (mounts, texts) in [
        (json!([{ "type": "tmpfs" }]), &["mounts[0]", "destination"][..]),
        (json!([{ "destination": "" }]), &["mounts[0].destination"]),
        (json!([{ "destination": "/", "type": "tmpfs" }]), &["mounts[0].destination"]),
        (json!([{ "destination": "/mnt" }]), &["mounts[0].type"]),
        (json!([{ "destination": "/mnt", "type": "bind" }]), &["mounts[0].source"]),
        (json!([{ "destination": "/proc/x", "type": "tmpfs" }]), &["mounts[0]", "inside /proc"]),
        (json!({ "mount": [] }), &["mounts"]),
        (json!("text"), &["mounts.json"]),
        (
            json!([config::mount("/mnt", "overlay", "x", &["lowerdir=/a:/b"])]),
            &["mounts[0].type", "overlay"],
        ),
        (json!([config::mount("/mnt", "ext4", "/dev/sda", &[])]), &["mounts[0].type", "ext4"]),
        (json!([config::mount("/mnt", "cgroup", "cgroup", &[])]), &["mounts[0].type", "cgroup"]),
        (json!([config::mount("/mnt", "tmpfs", "tmpfs", &["nosuch=1"])]), &["mounts[0]", "nosuch"]),
        (
            json!([
                config::mount("/mnt/first", "tmpfs", "tmpfs", &[]),
                config::mount("/mnt/x", "bind", "/no/such/source", &["bind"])
            ]),
            &["mounts[1]", "/no/such/source", "no such file"],
        ),
    ] {
        change(&c, "add", &mounts).refuses(texts);
    }
    assert_eq!(mounted(&c), "", "something was mounted");
    for (destination, texts) in
        [("/nosuch", ["mounts[0]", "no such file"]), ("/etc", ["mounts[0]", "umount2"])]
    {
        change(&c, "remove", &json!([{ "destination": destination }])).refuses(&texts);
    }
    let bad = c.path("bad.json");
    fs::write(&bad, "[{").expect("write");
    c.call(&["mounts", "add", &c.id, &bad]).done().refuses(&[&bad]);
    c.call(&["mounts", "add", &c.id, "/no/such"]).done().refuses(&["/no/such", "no such file"]);
}

#[test]
fn only_a_container_that_lives_can_be_changed() {
    davit_only!("its own messages");
    let c = Container::new(&["true"]);
    let mounts = json!([config::mount("/mnt", "tmpfs", "tmpfs", &[])]);
    change(&c, "add", &mounts).refuses(&["does not exist"]);
    c.create().start();
    c.until_status("stopped");
    change(&c, "add", &mounts).refuses(&["container not running"]);
    for words in [&["mounts"][..], &["mounts", "add"], &["mounts", "change", &c.id, "x"]] {
        c.call(words).done().refuses(&["mounts:"]);
    }
    let c = Container::sleeper().with(|c| {
        config::drop_namespace(c, "mount");
        c["mounts"] = json!([]);
        c["linux"].as_object_mut().expect("linux").remove("maskedPaths");
        c["linux"].as_object_mut().expect("linux").remove("readonlyPaths");
    });
    c.create().start();
    change(&c, "add", &mounts).refuses(&["no mount namespace"]);
}

/// A11: there is one devtmpfs, the host's: what a destination lacks there is not made.
#[test]
fn nothing_is_made_in_a_devtmpfs() {
    davit_only!("runc has no such command, and crun refuses hybrid hosts");
    let name = format!("davit-test-{}", std::process::id());
    let c = Container::sleeper().with(|c| {
        for at in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            config::drop_mount(c, at);
        }
        let mounts = c["mounts"].as_array_mut().expect("mounts");
        mounts.push(config::mount("/dev", "devtmpfs", "devtmpfs", &["nosuid"]));
        mounts.push(config::mount("/dev/shm", "tmpfs", "shm", &[]));
    });
    c.create().start();
    let there = |path: &str| c.ask(&format!("test -e {path} && echo there || echo none"));
    for mount in [
        config::mount(&format!("/dev/{name}"), "tmpfs", "tmpfs", &[]),
        config::mount(&format!("/dev/{name}"), "bind", source(&c, "data"), &["bind"]),
    ] {
        let add = change(&c, "add", &json!([mount]));
        let made = there(&format!("/dev/{name}"));
        // In the host's, where it would stay.
        let _ = fs::remove_dir(format!("/dev/{name}"));
        assert_eq!(made, "none\n");
        add.refuses(&["mounts[0]", &name, "the host's devtmpfs has no such file"]);
    }
    // A file system of the container's own below it is as good as any.
    change(&c, "add", &json!([config::mount("/dev/shm/new", "tmpfs", "tmpfs", &[])])).ok();
    assert_eq!(there("/dev/shm/new"), "there\n");
    c.delete().ok();
}
