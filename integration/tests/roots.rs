//! Roots without an engine: layers by annotation, and writes that go away.

use std::fs;

use integration::*;

const LAYERS: &str = "run.davit.root.layers";
const EPHEMERAL: &str = "run.davit.root.ephemeral";

/// A container whose rootfs is busybox, and two layers with files that differ.
fn layered(script: &str) -> Container {
    let c = Container::sh(script);
    for (name, shared) in [("upper", "from upper\n"), ("lower", "from lower\n")] {
        fs::create_dir_all(c.path(name)).expect("mkdir");
        fs::write(c.path(&format!("{name}/shared")), shared).expect("write");
        fs::write(c.path(&format!("{name}/{name}")), "").expect("write");
    }
    c
}

/// Every path below the directory with its content's length, to see whether anything changed.
fn inventory(dir: &std::path::Path) -> Vec<String> {
    let find = std::process::Command::new("find")
        .arg(dir)
        .args(["-printf", "%p %s %m %T@\\n"])
        .output()
        .expect("find");
    let mut lines: Vec<_> =
        String::from_utf8_lossy(&find.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn layers_make_the_root_topmost_first() {
    davit_only!("an annotation of davit");
    let c = layered("cat /shared; ls -d /upper /lower /bin/sh");
    let layers = format!("{}:{}:{}", c.path("upper"), c.path("lower"), c.path("bundle/rootfs"));
    let c = c.with(|c| c["annotations"] = json!({ LAYERS: layers, EPHEMERAL: "true" }));
    assert_eq!(c.run().ok().out, "from upper\n/bin/sh\n/lower\n/upper\n");
}

#[test]
fn layers_alone_are_read_only_or_keep_writes_out_of_the_layers() {
    davit_only!("an annotation of davit");
    let c = layered("touch /new 2>/dev/null; echo ran");
    let layers = format!("{}:{}", c.path("upper"), c.path("bundle/rootfs"));
    let c = c.with(|c| c["annotations"] = json!({ LAYERS: layers }));
    let before = inventory(&c.dir().join("upper"));
    assert_eq!(c.run().ok().out, "ran\n");
    assert_eq!(inventory(&c.dir().join("upper")), before);
}

#[test]
fn ephemeral_leaves_the_bundle_as_it_was() {
    davit_only!("an annotation and an option of davit");
    let script = "echo new >/new && rm /etc/passwd && echo x >>/etc/group && cat /new && mkdir /etc/dir && ls /etc";
    let annotated = Container::sh(script).with(|c| c["annotations"] = json!({ EPHEMERAL: "true" }));
    annotated.write();
    let before = inventory(&annotated.rootfs());
    assert_eq!(annotated.run().ok().out, "new\ndir\ngroup\n");
    assert_eq!(inventory(&annotated.rootfs()), before);

    let flagged = Container::sh(script);
    let before = inventory(&flagged.rootfs());
    assert_eq!(flagged.run_call(&["--ephemeral"]).done().ok().out, "new\ndir\ngroup\n");
    assert_eq!(inventory(&flagged.rootfs()), before);
    flagged.assert_nothing_left();
}

#[test]
fn ephemeral_with_create_and_exec() {
    davit_only!("an option of davit");
    let c = Container::sleeper();
    c.create_call(&["--ephemeral"]).done().ok();
    c.start();
    assert_eq!(c.ask("echo x >/new; cat /new"), "x\n");
    assert!(!c.rootfs().join("new").exists());
    c.delete().ok();
    c.assert_nothing_left();
    assert!(!c.rootfs().join("new").exists());
}

#[test]
fn ephemeral_makes_mount_points_without_touching_the_bundle() {
    davit_only!("an option of davit");
    let c = Container::sh("ls /made/here; stat -c %F /made/file").with(|c| {
        config::add_mount(c, "/made/here", "tmpfs", "tmpfs", &[]);
        config::add_mount(c, "/made/file", "bind", "/etc/passwd", &["bind", "ro"]);
    });
    assert_eq!(c.run_call(&["--ephemeral"]).done().ok().out, "regular file\n");
    assert!(!c.rootfs().join("made").exists());
}

#[test]
fn ephemeral_and_read_only() {
    davit_only!("an option of davit");
    let c = Container::sh("touch /new 2>&1 | grep -c Read-only")
        .with(|c| c["root"]["readonly"] = true.into());
    assert_eq!(c.run_call(&["--ephemeral"]).done().ok().out, "1\n");
}

#[test]
fn ephemeral_as_root_of_a_user_namespace() {
    davit_only!("an option of davit");
    let c = Container::sh("echo x >/tmp/new && cat /tmp/new")
        .with(|c| config::set_userns(c, 100_000, 65536));
    // The kernel copies nothing up whose owner has no id in the user namespace.
    let own =
        std::process::Command::new("chown").args(["-R", "100000:100000"]).arg(c.rootfs()).status();
    assert!(own.is_ok_and(|status| status.success()));
    assert_eq!(c.run_call(&["--ephemeral"]).done().ok().out, "x\n");
    assert!(!c.rootfs().join("tmp/new").exists());
}

#[test]
fn the_flag_can_be_false() {
    davit_only!("an annotation of davit");
    let c =
        Container::sh("echo x >/new").with(|c| c["annotations"] = json!({ EPHEMERAL: "false" }));
    c.run().ok();
    assert!(c.rootfs().join("new").exists());
    let bogus = Container::sh("true").with(|c| c["annotations"] = json!({ EPHEMERAL: "perhaps" }));
    bogus.run().refuses(&[EPHEMERAL]);
}

#[test]
fn wrong_layers_are_refused() {
    davit_only!("an annotation of davit");
    for (layers, says) in [
        ("", "empty"),
        ("/no/such/layer", "no such file or directory"),
        ("/etc/passwd", "not a directory"),
        ("/etc::/etc", ""),
    ] {
        let c = Container::sh("true").with(|c| c["annotations"] = json!({ LAYERS: layers }));
        c.run().refuses(&[LAYERS, if says == "empty" { "" } else { says }]);
    }
}

#[test]
fn a_hundred_layers() {
    davit_only!("an annotation of davit");
    let c = Container::sh("ls /n | wc -l; cat /n/top");
    let mut layers = Vec::new();
    for n in 0..100 {
        let dir = c.path(&format!("layers-with-a-long-name-as-engines-have-them/{n}"));
        fs::create_dir_all(format!("{dir}/n")).expect("mkdir");
        fs::write(format!("{dir}/n/{n}"), "").expect("write");
        fs::write(format!("{dir}/n/top"), format!("{n}\n")).expect("write");
        layers.push(dir);
    }
    layers.push(c.path("bundle/rootfs"));
    let c = c.with(|c| c["annotations"] = json!({ LAYERS: layers.join(":") }));
    assert_eq!(c.run().ok().out, "101\n0\n");
}

#[test]
fn root_path_forms() {
    spec!();
    let absolute = Container::sh("echo in");
    let root = absolute.rootfs().to_str().expect("utf-8").to_owned();
    let absolute = absolute.with(|c| c["root"]["path"] = root.into());
    assert_eq!(absolute.run().ok().out, "in\n");
    let missing = Container::new(&["true"]).with(|c| c["root"]["path"] = "nosuch".into());
    missing.run().refuses(&["root.path", "nosuch", "no such file or directory"]);
    let file = Container::new(&["true"]).with(|c| c["root"]["path"] = "rootfs/etc/passwd".into());
    file.run().refuses(&["root.path", "not a directory"]);
}
