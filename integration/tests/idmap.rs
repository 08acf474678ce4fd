//! Id-mapped mounts: what a bind's files look like inside, and whose what is written there is.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use integration::config::{add_mount, push, set_namespace, set_userns};
use integration::*;

/// A container, and a directory beside its bundle with a file of each of these owners.
fn with_files_of(owners: &[u32], script: &str) -> (Container, String) {
    let c = Container::sh(script);
    let source = c.path("source");
    fs::create_dir(&source).expect("mkdir");
    // The mapped root must be able to write here.
    chown(&source, Some(owners[0]), Some(owners[0])).expect("chown");
    for owner in owners {
        let file = format!("{source}/{owner}");
        fs::write(&file, "").expect("write");
        chown(&file, Some(*owner), Some(*owner)).expect("chown");
    }
    (c, source)
}

fn maps(container: u32, host: u32, size: u32) -> Value {
    json!([{ "containerID": container, "hostID": host, "size": size }])
}

fn add_mapped(config: &mut Value, source: &str, options: &[&str], maps: &Value) {
    let mount = json!({
        "destination": "/mnt", "type": "bind", "source": source, "options": options,
        "uidMappings": maps, "gidMappings": maps,
    });
    push(&mut config["mounts"], mount);
}

const OWNERS: &str = "cd /mnt && stat -c '%n %u %g' *";

#[test]
fn own_mappings_without_a_user_namespace() {
    davit_only!("Debian's runc and crun are older than this");
    for options in [["bind", "idmap"].as_slice(), &["bind"], &["rbind", "ridmap"]] {
        let (c, source) = with_files_of(&[1000, 1005], &format!("{OWNERS}; touch /mnt/new"));
        let c = c.with(|c| add_mapped(c, &source, options, &maps(1000, 0, 10)));
        assert_eq!(c.run().ok().out, "1000 0 0\n1005 5 5\n", "{options:?}");
        let new = fs::metadata(format!("{source}/new")).expect("new");
        assert_eq!((new.uid(), new.gid()), (1000, 1000), "{options:?}");
    }
}

#[test]
fn the_containers_mappings_by_the_option_alone() {
    davit_only!("Debian's runc and crun are older than this");
    let (c, source) = with_files_of(&[0, 7], &format!("{OWNERS}; touch /mnt/new"));
    let c = c.with(|c| {
        set_userns(c, 100_000, 65536);
        add_mount(c, "/mnt", "bind", &source, &["bind", "idmap"]);
    });
    assert_eq!(c.run().ok().out, "0 0 0\n7 7 7\n");
    assert_eq!(fs::metadata(format!("{source}/new")).expect("new").uid(), 0);
}

/// C8: what podman makes of `--mount ...,idmap=...`, in crun's words.
#[test]
fn mappings_in_the_option() {
    spec!();
    fails_with!("runc", "1.1 knows no id-mapped mounts");
    let (c, source) = with_files_of(&[0, 5], OWNERS);
    let c = c.with(|c| {
        add_mount(
            c,
            "/mnt",
            "bind",
            &source,
            &["rbind", "idmap=uids=0-3000-10;gids=0-4000-3#5-8-1"],
        );
    });
    assert_eq!(c.run().ok().out, "0 3000 4000\n5 3005 8\n");
    // Relative to the ids of the container: its 3 is 100003 outside.
    let (c, source) = with_files_of(&[0, 5], OWNERS);
    let c = c.with(|c| {
        set_userns(c, 100_000, 65536);
        add_mount(c, "/mnt", "bind", &source, &["bind", "idmap=uids=@0-3-10;gids=@0-20-10"]);
    });
    assert_eq!(c.run().ok().out, "0 3 20\n5 8 25\n");
}

/// C9: the mappings are those of the namespace, new or joined.
#[test]
fn the_mappings_of_a_user_namespace_that_is_joined() {
    spec!();
    fails_with!("runc", "1.1 knows no id-mapped mounts");
    let other = Container::sleeper().with(|c| set_userns(c, 200_000, 65536));
    other.create();
    let path = format!("/proc/{}/ns/user", other.pid());
    let (c, source) = with_files_of(&[0, 7], &format!("{OWNERS}; touch /mnt/new"));
    let c = c.with(|c| {
        set_namespace(c, "user", Some(&path));
        add_mount(c, "/mnt", "bind", &source, &["bind", "idmap"]);
    });
    assert_eq!(c.run().ok().out, "0 0 0\n7 7 7\n");
    assert_eq!(fs::metadata(format!("{source}/new")).expect("new").uid(), 0);
}

#[test]
fn sources_relative_to_the_bundle() {
    davit_only!("Debian's runc and crun are older than this");
    let c = Container::sh(OWNERS);
    let source = c.bundle().join("data");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("file"), "").expect("write");
    let c = c.with(|c| add_mapped(c, "data", &["bind", "idmap", "ro"], &maps(0, 1000, 1)));
    assert_eq!(c.run().ok().out, "file 1000 1000\n");
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    davit_only!("Debian's runc and crun are older than this");
    let plain = Container::new(&["true"])
        .with(|c| add_mount(c, "/mnt", "bind", "/etc", &["bind", "idmap"]));
    plain.run().refuses(&["mounts[7].uidMappings", "need mappings"]);
    let tmpfs =
        Container::new(&["true"]).with(|c| add_mount(c, "/mnt", "tmpfs", "tmpfs", &["idmap"]));
    tmpfs.run().refuses(&["mounts[7].uidMappings", "bind mounts only"]);
    let half = Container::new(&["true"]).with(|c| {
        let mount = json!({
            "destination": "/mnt", "type": "bind", "source": "/etc", "options": ["bind"],
            "uidMappings": maps(0, 1000, 1),
        });
        push(&mut c["mounts"], mount);
    });
    half.run().refuses(&["mounts[7].gidMappings"]);
    let kernel = Container::new(&["true"])
        .with(|c| add_mapped(c, "/proc", &["bind", "idmap"], &maps(0, 1000, 1)));
    kernel.run().refuses(&["mounts[7]", "/proc"]);
}
