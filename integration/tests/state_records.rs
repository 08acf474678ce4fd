//! Records that name something else by now: another boot, another cgroup, a process that was
//! replaced; and what `delete` removes then.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use integration::*;

fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
}

/// B11: whatever stands in the directory goes with it, and links are not followed.
#[test]
fn a_directory_in_the_state_does_not_keep_delete_from_its_work() {
    davit_only!("files of davit");
    for name in [
        "other",
        "record.json",
        "record.new",
        "plan",
        "cgroup",
        "init",
        "start.fifo",
        "answer.fifo",
        "devices.json",
        "notify",
    ] {
        let c = Container::sleeper();
        c.create().start();
        let at = c.state_root().join(&c.id).join(name);
        let _ = fs::remove_file(&at);
        fs::create_dir_all(at.join("a/b/c")).expect("mkdir");
        fs::write(at.join("a/b/file"), "").expect("write");
        fs::create_dir_all(c.path("outside/kept")).expect("mkdir");
        symlink(c.path("outside"), at.join("a/link")).expect("symlink");
        c.delete().warns(&[]);
        assert!(Path::new(&c.path("outside/kept")).exists(), "{name}");
        c.assert_nothing_left();
    }
}

/// B11: what is mounted there is another's.
#[test]
fn delete_does_not_reach_into_a_mount() {
    davit_only!("files of davit");
    let c = Container::new(&["true"]);
    fs::create_dir_all(c.path("outside/kept")).expect("mkdir");
    let at = c.state_root().join("x/inner/deep");
    fs::create_dir_all(&at).expect("mkdir");
    chmod(c.state_root(), 0o700);
    let mount = format!("mount --bind {} {} && exec \"$@\"", c.path("outside"), at.display());
    let through = ["unshare", "-m", "--propagation", "private", "sh", "-c", &mount, "sh"];
    let refused = c.call_through(&through, &["delete", "--force", "x"]).done();
    assert_ne!(refused.code, 0);
    assert!(
        refused.err.contains("device or resource busy") || refused.err.contains("cross-device"),
        "{}",
        refused.err
    );
    assert!(Path::new(&c.path("outside/kept")).exists());
    c.call(&["delete", "--force", "x"]).done().ok();
    assert!(!c.state_root().join("x").exists());
}

/// The record is written before the plan and removed after it: where both are missing no hook can
/// be due, and `create` may have been killed there or another command be about to delete the rest.
#[test]
fn hooks_may_be_lost_only_where_a_record_was() {
    davit_only!("files of davit");
    for (missing, warns) in [(&["record.json"][..], true), (&["record.json", "plan"], false)] {
        let c = Container::sleeper();
        c.create();
        for name in missing {
            fs::remove_file(c.state_root().join(&c.id).join(name)).expect("rm");
        }
        let deleted = c.delete();
        if warns {
            deleted.warns(&["record was damaged"])
        } else {
            deleted.ok()
        };
        c.assert_nothing_left();
    }
}

/// Runs a script in pid and mount namespaces of its own, in which a new cgroup is all that there is
/// below /sys/fs/cgroup: its processes are those of the script.
fn in_a_cgroup_tree_of_its_own(c: &Container, script: &str) -> Outcome {
    let pure_v2 = host::has_pure_cgroup_v2();
    let (from, to) = match pure_v2 {
        true => ("/sys/fs/cgroup", "/sys/fs/cgroup"),
        false => ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids"),
    };
    let prepare = format!(
        "set -e; mkdir -p {from}/{id}/other {held}; echo 0 >{from}/{id}/cgroup.procs
         mount --bind {from}/{id} {held}; umount -R -l /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup
         mkdir -p {to}; mount --bind {held} {to}; TREE={to}; set +e\n",
        id = c.id,
        held = c.path("held"),
    );
    let done = c
        .host(&[
            "unshare",
            "-mpf",
            "--propagation",
            "private",
            "--mount-proc",
            "sh",
            "-c",
            &(prepare + script),
        ])
        .done();
    leftovers::sweep(&c.id, c.dir());
    done
}

/// A9: such a note led to every process of the root cgroup.
#[test]
fn a_note_of_the_root_cgroup_ends_nobody() {
    davit_only!("files of davit");
    let c = Container::new(&["true"]);
    // A record as davit writes it, but for its cgroup.
    c.create();
    let record = fs::read_to_string(c.state_root().join(&c.id).join("record.json")).expect("read");
    let mut record: Value = serde_json::from_str(&record).expect("json");
    c.delete().ok();
    record["init"] = Value::Null;
    let davit = runtime::runtime().path.to_string_lossy().into_owned();
    for (note, path, below) in [
        (".", ".", ""),
        ("/", "", ""),
        ("..", "..", "/.."),
        ("other/..", "other/..", "/other/.."),
        ("/sys/fs/cgroup", "/", ""),
    ] {
        for with_record in [false, true] {
            let state = c.state_root().join("x");
            fs::create_dir_all(&state).expect("mkdir");
            chmod(c.state_root(), 0o700);
            let tree = match host::has_pure_cgroup_v2() {
                true => "/sys/fs/cgroup",
                false => "/sys/fs/cgroup/pids",
            };
            let controllers = if host::has_pure_cgroup_v2() { json!([]) } else { json!(["pids"]) };
            let member = json!({ "directory": format!("{tree}{below}"), "path": path, "controllers": controllers });
            record["cgroup"] = json!({ "members": [member], "parents": [] });
            record["id"] = json!("x");
            if with_record {
                fs::write(state.join("record.json"), record.to_string()).expect("write");
            }
            symlink(note, state.join("cgroup")).expect("symlink");
            let script = format!(
                "sleep 100 & victim=$!
                 setsid {davit} --root {} delete --force x; echo rc=$?
                 kill -0 $victim && echo victim lives; [ -d $TREE/other ] && echo cgroup is there
                 kill $victim",
                c.path("state")
            );
            let done = in_a_cgroup_tree_of_its_own(&c, &script);
            for says in ["rc=0", "victim lives", "cgroup is there"] {
                assert!(done.out.contains(says), "{note} {with_record}: no {says} in {done:#?}");
            }
            assert!(!state.exists(), "{note}");
        }
    }
}

/// Edits `init` of the record.
fn edit_init(c: &Container, edit: impl FnOnce(&mut Value)) {
    let file = c.state_root().join(&c.id).join("record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("json");
    edit(&mut record["init"]);
    fs::write(file, record.to_string()).expect("write");
}

/// A10: pids, inodes of pidfds and names of cgroups begin anew with each boot.
#[test]
fn a_record_of_another_boot_names_nobody() {
    davit_only!("the record of davit");
    let c = Container::sleeper();
    let marker = c.path("marker");
    let c = c.with(|config| {
        config["hooks"] =
            json!({ "poststop": [{ "path": "/bin/touch", "args": ["touch", &marker] }] });
    });
    c.create().start();
    let pid = c.pid();
    edit_init(&c, |init| {
        assert!(init["boot"].is_string(), "{init}");
        init["boot"] = "0f2c1c9e6a1e4f0b9d0c0123456789ab".into();
    });
    assert_eq!(c.state()["status"], "stopped");
    assert!(c.call(&["list"]).done().ok().out.contains("stopped"));
    for command in [&["kill", &c.id, "KILL"][..], &["exec", &c.id, "true"], &["pause", &c.id]] {
        c.call(command).done().refuses(&["container not running"]);
    }
    assert_eq!(c.call(&["ps", "--format", "json", &c.id]).done().ok().out.trim(), "[]");
    let all = c.call(&["kill", "--all", &c.id, "KILL"]).done();
    assert_eq!((all.code, leftovers::is_dead(pid)), (0, false));
    c.call(&["delete", &c.id]).done().ok();
    assert!(!c.state_root().join(&c.id).exists() && Path::new(&marker).exists());
    assert!(!leftovers::is_dead(pid), "a process of this boot was ended");
    assert!(!leftovers::cgroups(&c.id).is_empty(), "a cgroup of this boot was removed");
    leftovers::sweep(&c.id, c.dir());
}

/// A10: a virtual machine that was reset to a snapshot keeps its boot id.
#[test]
fn the_start_time_is_a_second_witness() {
    davit_only!("the record of davit");
    let c = Container::sleeper();
    c.create().start();
    let pid = c.pid();
    let mut right = Value::Null;
    edit_init(&c, |init| {
        right = init["started"].clone();
        if right.is_u64() {
            init["started"] = 1.into();
        }
    });
    if !right.is_u64() {
        c.delete().ok();
        return skip::say(
            &test_name!(),
            "the state is in a tmpfs, or this kernel's pidfds have one inode",
        );
    }
    for command in [&["kill", &c.id, "KILL"][..], &["exec", &c.id, "true"]] {
        c.call(command).done().refuses(&["container not running"]);
    }
    assert!(!leftovers::is_dead(pid));
    edit_init(&c, |init| init["started"] = right);
    c.exec(&["true"]).ok();
    // As davit wrote them before there was a boot in them.
    edit_init(&c, |init| {
        let init = init.as_object_mut().expect("an object");
        assert!(init.remove("boot").is_some() && init.remove("started").is_some());
    });
    assert_eq!(c.status(), "running");
    c.exec(&["true"]).ok();
    c.kill("KILL").ok();
    c.until_status("stopped");
}

/// A10: the start time is counted from the beginning of a time namespace, and /proc may be another
/// pid namespace's.
#[test]
fn a_start_time_that_cannot_be_compared_is_no_witness() {
    davit_only!("the record of davit");
    for prefix in [&["unshare", "-T", "--boottime", "100000", "-f"][..], &["unshare", "-m"]] {
        if !Command::new(prefix[0])
            .args(&prefix[1..])
            .arg("true")
            .status()
            .is_ok_and(|s| s.success())
        {
            skip::say(&test_name!(), &format!("no {prefix:?}"));
            continue;
        }
        let c = Container::sleeper();
        c.create().start();
        c.call_through(prefix, &["exec", &c.id, "true"]).done().ok();
        c.call_through(prefix, &["kill", &c.id, "KILL"]).done().ok();
        c.until_status("stopped");
    }
}

/// A13: systemd 260 maps all ids of a service's user namespace onto themselves.
#[test]
fn a_user_namespace_with_the_identity_map_is_not_the_first() {
    davit_only!("the place of davit's state");
    let c = Container::new(&["true"]);
    fs::create_dir_all(c.path("run/davit/of-the-user")).expect("mkdir");
    let davit = runtime::runtime().path.to_string_lossy().into_owned();
    let script = format!(
        "unshare -U sh -c 'until grep -q 0 /proc/self/gid_map; do sleep 0.01; done; exec {davit} list -q' &
         pid=$!; ours=$(readlink /proc/self/ns/user)
         until [ \"$(readlink /proc/$pid/ns/user)\" != \"$ours\" ]; do sleep 0.01; done
         echo '0 0 4294967295' >/proc/$pid/uid_map; echo '0 0 4294967295' >/proc/$pid/gid_map; wait $pid"
    );
    let call = |words: &[&str]| c.host(words).env("XDG_RUNTIME_DIR", c.path("run")).done().ok().out;
    assert_eq!(call(&["sh", "-c", &script]), "of-the-user\n");
    assert!(!call(&[&davit, "list", "-q"]).contains("of-the-user"));
}

/// B10: of a read-only tree the kernel says so before it looks whether there is a directory.
#[test]
fn a_read_only_cgroup_tree_leaves_nothing() {
    davit_only!("its own messages");
    let script = "grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d ' ' -f 5 | while read m; do mount -o remount,bind,ro $m 2>/dev/null; done; exec \"$@\"";
    let read_only = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"];
    for prefix in host::cgroup_trees() {
        let through = [prefix, &read_only].concat();
        let c = Container::sleeper();
        for command in ["create", "run"] {
            let failed = c.through_with_bundle(&through, command, &[]).done();
            let failed = failed.refuses(&["read-only file system"]);
            assert!(!failed.err.contains("could not clean up"), "{}", failed.err);
            assert!(!c.state_root().join(&c.id).exists());
        }
        // What is left by a create that was killed before it made anything.
        c.create();
        let state = c.state_root().join(&c.id);
        let record = fs::read(state.join("record.json")).expect("read");
        let note = fs::read_link(state.join("cgroup")).expect("a link");
        c.delete().ok();
        for has_record in [true, false] {
            fs::create_dir(&state).expect("mkdir");
            if has_record {
                fs::write(state.join("record.json"), &record).expect("write");
            }
            symlink(&note, state.join("cgroup")).expect("symlink");
            c.call_through(&through, &["delete", "--force", &c.id]).done().warns(&[]);
            assert!(!state.exists(), "{has_record}");
        }
    }
}

/// A10: the note of init says of which boot the note of the cgroup is, where the record is damaged.
#[test]
fn a_note_of_another_boot_ends_nobody() {
    davit_only!("files of davit");
    let c = Container::sleeper();
    c.create().start();
    let pid = c.pid();
    let directory = c.state_root().join(&c.id);
    let init = fs::read_link(directory.join("init")).expect("a link");
    let mut init: Value = serde_json::from_str(init.to_str().expect("utf-8")).expect("json");
    init["boot"] = "0f2c1c9e6a1e4f0b9d0c0123456789ab".into();
    fs::remove_file(directory.join("init")).expect("rm");
    symlink(init.to_string(), directory.join("init")).expect("symlink");
    fs::write(directory.join("record.json"), "{").expect("write");
    c.delete().warns(&["record was damaged"]);
    assert!(!directory.exists() && !leftovers::is_dead(pid));
    leftovers::sweep(&c.id, c.dir());
}

/// Runs `create` and then `delete --force` in a mount namespace in which the state directory is
/// prepared by `script` (with $STATE); returns the outcome of create and the content of the
/// directory after it.
fn with_state(c: &Container, script: &str) -> (Outcome, String) {
    let (state, runtime) =
        (c.path("state"), runtime::runtime().path.to_string_lossy().into_owned());
    fs::create_dir_all(&state).expect("mkdir");
    let report = c.path("report");
    let script = format!(
        "STATE={state}; {script}\n\"$@\"; code=$?\n\
         if [ $code != 0 ]; then find $STATE -mindepth 1 -name '{id}*' >{report}; else echo created >{report}; fi\n\
         {runtime} --root {state} delete --force {id} >/dev/null 2>&1 || echo delete failed >>{report}\nexit $code",
        id = c.id
    );
    let run = c
        .through_with_bundle(
            &["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"],
            "create",
            &[],
        )
        .done();
    (run, fs::read_to_string(report).unwrap_or_default())
}

#[test]
fn a_full_state_directory() {
    davit_only!("other runtimes leave parts of their state");
    let mut refused = 0;
    let mut accepted = 0;
    let scripts = (1..=8).map(|inodes| format!("mount -t tmpfs -o mode=700,size=1m,nr_inodes={inodes} none $STATE")).chain((0..=12).map(|pages| {
        format!("mount -t tmpfs -o mode=700,size=128k none $STATE; dd if=/dev/zero of=$STATE/fill bs=4k count={} 2>/dev/null", 32 - pages)
    }));
    for script in scripts {
        let c = Container::sleeper();
        let (run, report) = with_state(&c, &script);
        if run.code == 0 {
            accepted += 1;
            assert_eq!(report, "created\n", "{script}");
        } else {
            refused += 1;
            run.refuses(&["no space left on device"]);
            assert_eq!(report, "", "{script}: left in the state directory, or delete fails");
        }
        c.assert_nothing_left();
    }
    assert!(refused > 3 && accepted > 0, "the steps are too coarse: {refused} {accepted}");
}

#[test]
fn a_read_only_state_directory() {
    davit_only!("its own messages");
    let c = Container::sleeper();
    let (run, report) =
        with_state(&c, "mount --bind $STATE $STATE; mount -o remount,bind,ro $STATE");
    run.refuses(&["read-only file system", &c.path("state")]);
    assert_eq!(report.replace("delete failed\n", ""), "");
    c.assert_nothing_left();
}

#[test]
fn a_state_directory_that_is_a_file() {
    davit_only!("its own messages");
    let c = Container::sleeper();
    fs::write(c.path("state"), "").expect("write");
    c.create_call(&[]).done().refuses(&["/state"]);
    fs::remove_file(c.path("state")).expect("rm");
}
