//! The table of options, one by one, on a bind and on a tmpfs.

use proptest::prelude::*;
use serde_json::json;

use davit_rootfs::Action;

use super::{config, host, one_mount, try_plan};

/// Option; what a recursive bind with it says; what a tmpfs with it says.
const TABLE: &[(&str, &str, &str)] = &[
    ("async", "", ""),
    ("atime", " relatime", ""),
    ("bind", "", "="),
    ("defaults", "", ""),
    ("dev", " dev", ""),
    ("diratime", " diratime", ""),
    ("dirsync", "!", " dirsync"),
    ("exec", " exec", ""),
    ("iversion", "!", "flags 0x800000 "),
    ("lazytime", "!", " lazytime"),
    ("loud", "", ""),
    ("mand", "!", " mand"),
    ("noatime", " noatime", " noatime"),
    ("nodev", " nodev", " nodev"),
    ("nodiratime", " nodiratime", " nodiratime"),
    ("noexec", " noexec", " noexec"),
    ("noiversion", "", ""),
    ("nolazytime", "", ""),
    ("nomand", "", ""),
    ("norelatime", " relatime", ""),
    ("nostrictatime", " relatime", ""),
    ("nosuid", " nosuid", " nosuid"),
    ("nosymfollow", " nosymfollow", " nosymfollow"),
    ("private", " private", " private"),
    ("ratime", " rrelatime", ""),
    ("rbind", "", "="),
    ("rdev", " rdev", ""),
    ("rdiratime", " rdiratime", ""),
    ("relatime", " relatime", ""),
    ("rexec", " rexec", ""),
    ("rnoatime", " rnoatime", " noatime"),
    ("rnodev", " rnodev", " nodev"),
    ("rnodiratime", " rnodiratime", " nodiratime"),
    ("rnoexec", " rnoexec", " noexec"),
    ("rnorelatime", " rrelatime", ""),
    ("rnostrictatime", " rrelatime", ""),
    ("rnosuid", " rnosuid", " nosuid"),
    ("rnosymfollow", " rnosymfollow", " nosymfollow"),
    ("ro", " ro", "later"),
    ("rprivate", " rprivate", " private"),
    ("rrelatime", " rrelatime", ""),
    ("rro", " rro", "later"),
    ("rrw", " rrw", ""),
    ("rshared", " rshared", " shared"),
    ("rslave", " rslave", " slave"),
    ("rstrictatime", " rstrictatime", " strictatime"),
    ("rsuid", " rsuid", ""),
    ("rsymfollow", " rsymfollow", ""),
    ("runbindable", " runbindable", " unbindable"),
    ("rw", " rw", ""),
    ("shared", " shared", " shared"),
    ("silent", "", "flags 0x8000 "),
    ("slave", " slave", " slave"),
    ("strictatime", " strictatime", " strictatime"),
    ("suid", " suid", ""),
    ("symfollow", " symfollow", ""),
    ("sync", "!", " sync"),
    ("tmpcopyup", "!", "copy"),
    ("unbindable", " unbindable", " unbindable"),
];

fn on_bind(options: &[&str]) -> Result<String, String> {
    let mut options = options.to_vec();
    options.push("rbind");
    let mount = json!({ "destination": "/d", "source": "/s", "type": "none", "options": options });
    let lines = one_mount(mount, &host()).map_err(|error| error.to_string())?;
    // A source that is shared is copied first, into a slot.
    let line = lines.last().unwrap().replace("slot 8", "\"/s\"");
    Ok(line.strip_prefix(r#"rbind "/s" -> "/d""#).unwrap().to_owned())
}

fn on_tmpfs(options: &[&str]) -> Vec<String> {
    let mount = json!({ "destination": "/d", "source": "t", "type": "tmpfs", "options": options });
    one_mount(mount, &host()).unwrap()
}

#[test]
fn every_option_on_a_bind() {
    for (option, expected, _) in TABLE {
        match *expected {
            "!" => assert!(on_bind(&[option]).is_err(), "{option}"),
            expected => assert_eq!(on_bind(&[option]).as_deref(), Ok(expected), "{option}"),
        }
    }
}

#[test]
fn every_option_on_a_tmpfs() {
    for (option, _, expected) in TABLE {
        let lines = on_tmpfs(&[option]);
        match *expected {
            "=" => assert_eq!(lines[0], format!("{} \"/bundle/t\" -> \"/d\"", option)),
            "later" => {
                assert_eq!(
                    lines,
                    ["tmpfs -> \"/d\"", "mount \"/d\" becomes read-only"],
                    "{option}"
                );
            }
            "copy" => assert_eq!(lines, ["tmpfs with a copy of the covered directory -> \"/d\""]),
            flags if flags.starts_with("flags") => {
                assert_eq!(lines, [format!("tmpfs \"t\" -> \"/d\" {flags}\"\"")], "{option}");
            }
            words => assert_eq!(lines, [format!("tmpfs -> \"/d\"{words}")], "{option}"),
        }
    }
}

#[test]
fn what_comes_later_wins() {
    assert_eq!(on_bind(&["ro", "rw"]).unwrap(), " rw");
    assert_eq!(on_bind(&["rw", "ro"]).unwrap(), " ro");
    assert_eq!(on_bind(&["noatime", "strictatime"]).unwrap(), " strictatime");
    assert_eq!(on_bind(&["rprivate", "slave"]).unwrap(), " slave");
    // Recursive ones are set after those of the mount itself, in whatever order they stand.
    assert_eq!(on_bind(&["rro", "rw", "nosuid", "rprivate"]).unwrap(), " rw,nosuid rro,rprivate");
    assert_eq!(on_tmpfs(&["sync", "async", "mand", "nomand"]), [r#"tmpfs -> "/d""#]);
}

#[test]
fn options_of_the_file_system() {
    assert_eq!(
        on_tmpfs(&["size=64k,mode=755", "", "huge=never", "noswap"]),
        [r#"tmpfs -> "/d" size=64k,mode=755,huge=never,noswap"#]
    );
    assert_eq!(
        on_tmpfs(&[r#"context="system_u:object_r:container_file_t:s0:c1,c2""#, "nodev"]),
        [r#"tmpfs -> "/d" nodev,context=system_u:object_r:container_file_t:s0:c1,c2"#]
    );
    // fsconfig(2) takes 255 bytes of a value.
    let long = format!("mpol=bind:{}", "1,".repeat(150));
    assert!(on_tmpfs(&[&long])[0].contains("flags 0x0"));
}

#[test]
fn mount_is_told_at_once_what_it_can_be_told() {
    let told = |kind: &str, options: &[&str]| {
        let mount = json!({ "destination": "/d", "source": "t", "type": kind, "options": options });
        let ops = try_plan(&config(&json!([mount])), &host()).unwrap();
        ops.into_iter().find_map(|op| match op.action {
            Action::Mount { filesystem, .. } => filesystem.mount2,
            _ => None,
        })
    };
    let mount2 = told("tmpfs", &["nosuid", "mode=755", "size=64k"]).unwrap();
    assert_eq!((mount2.flags, mount2.data.to_str()), (2, Ok("mode=755,size=64k")));
    for by_parts in [
        &["mode=755", "size=64k", "tmpcopyup"][..],
        // The mode is that of what it covers.
        &["size=64k"],
        &["mode=755", "private"],
        &["mode=755", "sync"],
        &["mode=755", "mpol=bind:0,2"],
        &["mode=755", r#"context="a:b,c""#],
    ] {
        assert_eq!(told("tmpfs", by_parts), None, "{by_parts:?}");
    }
    assert_eq!(told("ext4", &[]), None);
    assert!(told("sysfs", &["nosuid"]).is_some());
    assert_eq!(told("sysfs", &["ro"]), None);
}

#[test]
fn a_file_system_of_its_own_is_read_only_itself() {
    let mount = json!({ "destination": "/d", "source": "/dev/vdb", "type": "ext4",
        "options": ["ro", "data=ordered"] });
    assert_eq!(one_mount(mount, &host()).unwrap(), [r#"ext4 -> "/d" ro,ro,data=ordered"#]);
    let mount = json!({ "destination": "/d", "type": "sysfs", "options": ["ro"] });
    assert_eq!(one_mount(mount, &host()).unwrap(), [r#"sysfs -> "/d" ro"#]);
}

proptest! {
    /// Whatever the options are: a plan or an error with the field, and always the same.
    #[test]
    fn no_options_upset_the_planner(options in prop::collection::vec("[ -~\u{0}é]{0,12}", 0..6),
                                    known in prop::collection::vec(0..TABLE.len(), 0..6),
                                    fstype in "(tmpfs|bind|none|overlay|cgroup|proc|)") {
        let known = known.iter().map(|index| TABLE[*index].0.to_owned());
        let options: Vec<String> = options.into_iter().chain(known).collect();
        let mount = json!({ "destination": "/d", "source": "/s", "type": fstype, "options": options });
        let result = one_mount(mount.clone(), &host());
        if let Err(error) = &result {
            prop_assert!(error.to_string().starts_with("mounts[0]"), "{error}");
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        prop_assert_eq!(result, one_mount(mount, &host()));
    }

    /// Attributes say the same in any order as the last of each kind alone.
    #[test]
    fn the_last_of_two_opposites_counts(before in 0..6usize, after in 0..6usize) {
        const PAIRS: &[(&str, &str)] = &[("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"),
            ("noexec", "exec"), ("nodiratime", "diratime"), ("nosymfollow", "symfollow")];
        let (on, off) = (PAIRS[before].0, PAIRS[after].1);
        let both = on_bind(&[on, off]).unwrap();
        prop_assert_eq!(both.contains(&format!(" {on}")) || both.contains(&format!(",{on}")), before != after);
    }

    /// A destination never leaves the root, and is never inside /proc.
    #[test]
    fn destinations_are_clean(path in "(/|\\.|\\.\\.|a|proc|b c){0,9}") {
        let mount = json!({ "destination": path, "type": "tmpfs" });
        if let Ok(lines) = one_mount(mount, &host()) {
            let shown = lines[0].strip_prefix("tmpfs -> \"").unwrap();
            let shown = shown.split('"').next().unwrap();
            prop_assert!(shown.starts_with('/') && shown != "/" && !shown.contains("//"));
            prop_assert!(shown.split('/').all(|part| part != "." && part != ".."));
            prop_assert!(shown != "/proc" && !shown.starts_with("/proc/"));
        }
    }
}
