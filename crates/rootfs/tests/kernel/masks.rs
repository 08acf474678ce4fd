//! Paths that the container may not see or not write.

use std::fs;

use serde_json::json;

use crate::sandbox::{ROOT, config, inside, mountinfo, proc_mount};

#[test]
fn masked_paths_are_empty() {
    inside("masks::masked_paths_are_empty", ROOT, |sandbox| {
        sandbox.file("rootfs/secret/file", "secret");
        sandbox.file("rootfs/more/file", "secret");
        sandbox.file("rootfs/word", "secret");
        std::os::unix::fs::symlink("/word", sandbox.rootfs.join("link")).unwrap();
        let mut config = config(json!([proc_mount()]));
        config["linux"]["maskedPaths"] =
            json!(["/secret", "/more", "/word", "/no/such/thing", "/proc/timer_list", "/link"]);
        sandbox.enter(&config, &sandbox.host()).ok();
        assert_eq!(fs::read_dir("/secret").unwrap().count(), 0);
        assert_eq!(fs::read_dir("/more").unwrap().count(), 0);
        assert_eq!(fs::read("/word").unwrap(), b"");
        assert_eq!(fs::read("/proc/timer_list").unwrap(), b"");
        assert!(mountinfo("/secret").starts_with("ro,nosuid,nodev,noexec,relatime - tmpfs"));
        assert!(fs::write("/more/new", "").is_err());
        // One superblock for both.
        let device = |path| std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap());
        assert_eq!(device("/secret"), device("/more"));
    });
}

#[test]
fn a_false_null_device_masks_nothing() {
    inside("masks::a_false_null_device_masks_nothing", ROOT, |sandbox| {
        sandbox.file("rootfs/word", "secret");
        // A bind of a whole /dev keeps its own nodes.
        sandbox.file("dev/null", "not a device");
        let mut config = config(json!([
            { "destination": "/dev", "type": "bind", "source": "dev", "options": ["bind"] },
        ]));
        config["linux"]["maskedPaths"] = json!(["/word"]);
        sandbox
            .enter(&config, &sandbox.host())
            .refused(r#"linux.maskedPaths[0] "/word": /dev/null is not the null device"#);
    });
}

#[test]
fn read_only_paths_keep_their_other_flags() {
    inside("masks::read_only_paths_keep_their_other_flags", ROOT, |sandbox| {
        sandbox.file("rootfs/plain/file", "");
        let mut config = config(json!([
            proc_mount(),
            { "destination": "/t", "type": "tmpfs", "options": ["nosuid", "noexec", "noatime"] },
            { "destination": "/t/below", "type": "tmpfs", "options": ["nodev"] },
        ]));
        config["linux"]["readonlyPaths"] = json!(["/plain", "/t", "/proc/sys", "/no/such"]);
        sandbox.enter(&config, &sandbox.host()).ok();
        assert!(fs::write("/plain/file", "").is_err());
        assert!(mountinfo("/t").starts_with("ro,nosuid,noexec,noatime - "));
        assert!(mountinfo("/t/below").starts_with("ro,nodev,relatime - "));
        assert!(mountinfo("/proc/sys").starts_with("ro,relatime - proc"));
        fs::write("/elsewhere", "").unwrap();
    });
}
