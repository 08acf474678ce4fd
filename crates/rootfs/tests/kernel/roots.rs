//! The root: entered, read-only, propagated.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::sandbox::{ROOT, SHARED, USER, config, inside, mountinfo, proc_mount};

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
