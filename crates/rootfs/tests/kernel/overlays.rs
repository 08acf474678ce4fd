//! Overlays, as a root and among the mounts.

use std::fs;
use std::path::Path;

use nix::fcntl::AtFlags;
use serde_json::{Value, json};

use crate::sandbox::{ROOT, Sandbox, USER, config, inside, mountinfo, proc_mount};

fn layered(sandbox: &Sandbox, layers: &str, ephemeral: bool) -> Value {
    sandbox.directory("rootfs");
    let mut config = config(json!([proc_mount()]));
    config["annotations"] = json!({ "run.davit.root.layers": layers });
    if ephemeral {
        config["annotations"]["run.davit.root.ephemeral"] = json!("true");
    }
    config
}

/// Layers that already have what the default mounts and devices go on.
fn make_layer(sandbox: &Sandbox, name: &str, file: &str) {
    sandbox.file(&format!("{name}/{file}"), name);
}

#[test]
fn many_layers_make_more_than_a_page_of_options() {
    inside("overlays::many_layers_make_more_than_a_page_of_options", ROOT, |sandbox| {
        let long = "x".repeat(60);
        let names: Vec<String> = (0..200).map(|index| format!("layers/{long}-{index}")).collect();
        for (index, name) in names.iter().enumerate() {
            make_layer(sandbox, name, &format!("file-{index}"));
            make_layer(sandbox, name, "common");
        }
        let layers = names.join(":");
        assert!(layers.len() > 4096);
        let config = layered(sandbox, &layers, true);
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!((0..200).all(|index| Path::new(&format!("/file-{index}")).exists()));
        assert_eq!(fs::read_to_string("/common").unwrap(), names[0]);
    });
}

#[test]
fn layers_without_ephemeral_are_read_only() {
    inside("overlays::layers_without_ephemeral_are_read_only", ROOT, |sandbox| {
        make_layer(sandbox, "one", "a");
        make_layer(sandbox, "two:2", "b");
        sandbox.directory("two:2/proc");
        sandbox.directory("dev");
        let mut config = layered(sandbox, r"one:two\:2", false);
        // Nothing can be made in such a root: /dev must be there, and bound as it is.
        sandbox.directory("one/dev");
        let dev = json!({ "destination": "/dev", "source": "dev", "options": ["bind"] });
        config["mounts"].as_array_mut().unwrap().push(dev);
        config["root"] = json!({ "path": "" });
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(Path::new("/a").exists() && Path::new("/b").exists());
        assert!(fs::write("/c", "").is_err());
    });
}

#[test]
fn one_layer_alone_is_read_only_too() {
    inside("overlays::one_layer_alone_is_read_only_too", ROOT, |sandbox| {
        make_layer(sandbox, "one", "a");
        sandbox.directory("one/proc");
        sandbox.directory("one/dev");
        sandbox.directory("dev");
        let mut config = layered(sandbox, "one", false);
        let dev = json!({ "destination": "/dev", "source": "dev", "options": ["bind"] });
        config["mounts"].as_array_mut().unwrap().push(dev);
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(Path::new("/a").exists());
        assert!(fs::write("/c", "").is_err());
        assert!(mountinfo("/").starts_with("ro,"));
    });
}

#[test]
fn an_ephemeral_root_leaves_the_bundle_as_it_was() {
    inside("overlays::an_ephemeral_root_leaves_the_bundle_as_it_was", ROOT, |sandbox| {
        sandbox.file("rootfs/file", "before");
        let mut host = sandbox.host();
        host.ephemeral = true;
        // A way to look at the bundle from inside.
        let root = sandbox.directory("rootfs").to_string_lossy().into_owned();
        let config = config(json!([
            proc_mount(),
            { "destination": "/below", "type": "bind", "source": root, "options": ["bind"] },
        ]));
        sandbox.enter(&config, &host).ok();
        fs::write("/file", "after").unwrap();
        fs::write("/new", "").unwrap();
        assert!(mountinfo("/").contains(" - overlay overlay "));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts.lines().count(), 3, "nothing else is left mounted: {mounts}");
    });
}

#[test]
fn an_ephemeral_root_is_seen_from_outside_unchanged() {
    inside("overlays::an_ephemeral_root_is_seen_from_outside_unchanged", ROOT, |sandbox| {
        sandbox.file("rootfs/file", "before");
        let root = fs::File::open(&sandbox.rootfs).unwrap();
        let mut host = sandbox.host();
        host.ephemeral = true;
        sandbox.enter(&config(json!([])), &host).ok();
        fs::write("/file", "after").unwrap();
        let mut below = nix::dir::Dir::from_fd(root.into()).unwrap();
        let names: Vec<String> =
            below.iter().map(|entry| entry.unwrap().file_name().to_string_lossy().into()).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, [".", "..", "file"]);
    });
}

#[test]
fn the_machines_own_root_can_be_the_lower_layer() {
    inside("overlays::the_machines_own_root_can_be_the_lower_layer", ROOT, |sandbox| {
        let real = fs::File::open("/").unwrap();
        let mut config = layered(sandbox, "/", true);
        config["root"] = json!({ "path": "" });
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(Path::new("/usr").exists());
        let mode = |path| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap());
        assert_eq!(mode("/") & 0o777, 0o755);
        // A descriptor of the real one is a way to look at it from inside.
        fs::write("/etc/davit-was-here", "").unwrap();
        let etc = nix::sys::stat::fstatat(&real, "etc/davit-was-here", AtFlags::empty());
        assert_eq!(etc.unwrap_err(), nix::errno::Errno::ENOENT);
    });
}

#[test]
fn layers_work_in_a_user_namespace() {
    inside("overlays::layers_work_in_a_user_namespace", USER, |sandbox| {
        make_layer(sandbox, "one", "a");
        make_layer(sandbox, "two", "b");
        let mut host = sandbox.host();
        (host.user_namespace, host.privileged_parent) = (true, false);
        let mut config = layered(sandbox, "one:two", true);
        config["mounts"] = json!([]);
        sandbox.enter(&config, &host).ok();
        assert!(Path::new("/a").exists() && Path::new("/b").exists());
        fs::write("/a", "changed").unwrap();
        fs::remove_file("/b").unwrap();
        assert!(!Path::new("/b").exists());
    });
}

#[test]
fn a_path_that_fsconfig_does_not_take_is_mounted_the_old_way() {
    let test = "overlays::a_path_that_fsconfig_does_not_take_is_mounted_the_old_way";
    inside(test, ROOT, |sandbox| {
        let long = format!("{}/{}", "d".repeat(200), "e,:\\".repeat(30));
        make_layer(sandbox, &long, "a");
        make_layer(sandbox, "two", "b");
        let escaped = long.replace('\\', r"\\").replace(':', r"\:");
        let config = layered(sandbox, &format!("{escaped}:two"), true);
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(Path::new("/a").exists() && Path::new("/b").exists());
        fs::write("/new", "").unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts.lines().count(), 2, "nothing else is left mounted: {mounts}");
    });
}

#[test]
fn an_overlay_among_the_mounts() {
    inside("overlays::an_overlay_among_the_mounts", ROOT, |sandbox| {
        let lower: Vec<String> = (0..100)
            .map(|index| {
                let name = format!("l/{}-{index}", "n".repeat(50));
                make_layer(sandbox, &name, &format!("file-{index}"));
                sandbox.bundle.join(name).to_string_lossy().into_owned()
            })
            .collect();
        make_layer(sandbox, "od:d", "odd");
        let odd = sandbox.bundle.join(r"od\:d").to_string_lossy().into_owned();
        let option =
            |key: &str, name: &str| format!("{key}={}", sandbox.directory(name).to_string_lossy());
        let options = json!([
            format!("lowerdir={odd}:{}", lower.join(":")),
            option("upperdir", "upper"),
            option("workdir", "work"),
            "nosuid",
        ]);
        let mounts = json!([
            proc_mount(),
            { "destination": "/o", "type": "overlay", "source": "overlay", "options": options },
            { "destination": "/ro", "type": "overlay",
              "options": [format!("lowerdir={odd}:{}", lower[0])] },
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert!((0..100).all(|index| Path::new(&format!("/o/file-{index}")).exists()));
        assert!(Path::new("/o/odd").exists());
        fs::write("/o/new", "").unwrap();
        assert!(mountinfo("/o").starts_with("rw,nosuid,relatime - overlay overlay "));
        assert!(fs::write("/ro/new", "").is_err());
        assert!(Path::new("/ro/odd").exists());
    });
}
