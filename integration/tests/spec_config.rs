//! config.md and config-linux.md: clauses that no feature's own tests prove.

use std::fs;
use std::os::unix::fs::MetadataExt;

use integration::config::{add_mount, set_userns};
use integration::*;

#[test]
fn annotations_are_a_map_of_strings_with_names() {
    davit_only!("other runtimes take some of these");
    let with =
        |annotations: Value| Container::sh("echo fine").with(|c| c["annotations"] = annotations);
    assert_eq!(with(json!({ "org.example.unknown": "" })).run().ok().out, "fine\n");
    for wrong in [json!([]), json!("x"), json!({ "org.example.key": 1 }), json!({ "": "x" })] {
        with(wrong).run().refuses(&["annotations"]);
    }
}

#[test]
fn a_console_size_without_a_terminal_is_ignored() {
    spec!();
    let c = Container::sh("echo fine")
        .with(|c| c["process"]["consoleSize"] = json!({ "height": 33, "width": 70_000 }));
    assert_eq!(c.run().ok().out, "fine\n");
}

#[test]
fn a_relative_destination_begins_at_the_root() {
    spec!();
    fails_with!("runc", "1.1 warns on stderr");
    let c = Container::sh("grep -c ' /some/where ' /proc/self/mountinfo")
        .with(|c| add_mount(c, "some/where", "tmpfs", "tmpfs", &[]))
        .with(|c| c["process"]["cwd"] = "/tmp".into());
    assert_eq!(c.run().ok().out, "1\n");
}

#[test]
fn the_table_of_mounts_has_the_order_of_the_configuration() {
    davit_only!("other runtimes make their mounts in another order of ids");
    skip_if!(copies_no_detached_mounts());
    let c = Container::sh("grep -o ' /mnt/[a-d] ' /proc/self/mountinfo");
    let source = c.path("source");
    fs::create_dir(&source).expect("mkdir");
    let c = c.with(|c| {
        add_mount(c, "/mnt/a", "tmpfs", "tmpfs", &[]);
        // Copied before the others, as only then it can stay a peer of the host's mount.
        add_mount(c, "/mnt/b", "bind", &source, &["bind", "shared"]);
        add_mount(c, "/mnt/c", "bind", &source, &["rbind", "rslave"]);
        add_mount(c, "/mnt/d", "tmpfs", "tmpfs", &[]);
    });
    assert_eq!(c.run().ok().out, " /mnt/a \n /mnt/b \n /mnt/c \n /mnt/d \n");
}

fn copies_no_detached_mounts() -> Option<&'static str> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (version < (6, 15)).then_some("needs Linux 6.15, which copies mounts that are not attached")
}

#[test]
fn one_list_of_mappings_alone_is_refused() {
    davit_only!("crun takes it");
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 10 }]);
    for list in ["uidMappings", "gidMappings"] {
        let c = Container::new(&["true"]).with(|c| {
            add_mount(c, "/mnt", "bind", "/etc", &["bind", "idmap"]);
            c["mounts"][7][list] = map.clone();
        });
        c.run().refuses(&["mounts[7]", "Mappings"]);
    }
}

#[test]
fn a_user_namespace_changes_no_owners() {
    spec!();
    let c = Container::sh("touch /tmp/new; stat -c %u /etc/passwd /tmp/new")
        .with(|c| set_userns(c, 100_000, 65536))
        .with_files(|root| {
            // The container's root must be able to write there, and to be seen.
            std::os::unix::fs::chown(root.join("tmp"), Some(100_000), None).expect("chown");
        });
    let before = fs::metadata(c.rootfs().join("etc/passwd")).expect("stat");
    // Files of the host's root belong to an unmapped user (user_namespaces(7)).
    assert_eq!(c.run().ok().out, "65534\n0\n");
    let after = fs::metadata(c.rootfs().join("etc/passwd")).expect("stat");
    assert_eq!(
        (after.uid(), after.gid(), after.ctime()),
        (before.uid(), before.gid(), before.ctime())
    );
    assert_eq!(fs::metadata(c.rootfs().join("tmp/new")).expect("stat").uid(), 100_000);
}
