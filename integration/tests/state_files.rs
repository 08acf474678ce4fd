//! Whose files davit believes and what it writes: the state root and what is in it, the files of
//! `--pid-file`, `--log` and `spec`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::*;

/// A user who is not the caller.
const STRANGER: u32 = 65534;

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).expect("stat").permissions().mode() & 0o7777
}

fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn with_umask(umask: &str) -> [String; 4] {
    ["sh".into(), "-c".into(), format!("umask {umask}; exec \"$@\""), "sh".into()]
}

/// Edits `init` of the record.
fn edit_init(c: &Container, edit: impl FnOnce(&mut Value)) {
    let file = c.state_root().join(&c.id).join("record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("json");
    edit(&mut record["init"]);
    fs::write(file, record.to_string()).expect("write");
}

/// Everything in a container's directory.
fn files(c: &Container) -> Vec<PathBuf> {
    let directory = fs::read_dir(c.state_root().join(&c.id)).expect("read");
    directory.map(|entry| entry.expect("entry").path()).collect()
}

/// A6
#[test]
fn the_state_is_its_owners_whatever_the_umask() {
    davit_only!("runc makes the container's directory 0711");
    for umask in ["0", "0777", "0022", "0177"] {
        let prefix = with_umask(umask);
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        let c = Container::sleeper();
        let missing = c.path("missing/parent");
        let bundle = c.path("bundle");
        c.write();
        for root in [c.path("state"), format!("{missing}/state")] {
            let words = ["--root", &root, "create", "--bundle", &bundle, &c.id];
            let made = c.call_through(&prefix, &words).done();
            made.ok();
            assert_eq!(mode(&root), 0o700, "{umask}: {root}");
            for entry in fs::read_dir(format!("{root}/{}", c.id)).expect("read").flatten() {
                let kind = entry.file_type().expect("type");
                assert!(
                    kind.is_symlink() || mode(entry.path()) & 0o077 == 0,
                    "{umask}: {entry:?} {:o}",
                    mode(entry.path())
                );
            }
            assert_eq!(mode(format!("{root}/{}", c.id)), 0o700, "{umask}");
            c.call(&["--root", &root, "start", &c.id]).done().ok();
            c.call(&["--root", &root, "delete", "--force", &c.id]).done().ok();
        }
        for parent in ["missing", "missing/parent"] {
            assert_eq!(mode(c.path(parent)), 0o700, "{umask}: {parent}");
        }
    }
}

/// Asserts that every command that reads the state fails, with these texts and a hint.
#[track_caller]
fn every_command_is_refused(c: &Container, texts: &[&str]) {
    for command in [
        &["state", &c.id][..],
        &["kill", &c.id, "KILL"],
        &["exec", &c.id, "true"],
        &["pause", &c.id],
        &["ps", &c.id],
        &["delete", &c.id],
    ] {
        let call = c.call(command).done();
        assert_ne!(call.code, 0, "{command:?}");
        for text in texts {
            assert!(call.err.contains(text), "{command:?}: no {text:?} in {}", call.err);
        }
        assert!(call.err.contains("hint: "), "{command:?}: {}", call.err);
    }
}

/// A6: a record of another user would give that user root's rights, by a poststop hook.
#[test]
fn anothers_state_is_refused_by_name() {
    davit_only!("other runtimes do not look");
    let c = Container::sleeper();
    let marker = c.path("marker");
    let c = c.with(|config| {
        config["hooks"] =
            json!({ "poststop": [{ "path": "/bin/touch", "args": ["touch", marker] }] });
    });
    c.create().start();
    let directory = c.state_root().join(&c.id);
    let before = files(&c);
    let refused = |says: &[&str]| {
        every_command_is_refused(&c, says);
        assert_eq!(files(&c), before);
        assert!(!Path::new(&c.path("marker")).exists());
    };
    let state_root = c.path("state");
    for (what, name) in [
        (c.state_root(), "state root"),
        (directory.clone(), "state directory"),
        (directory.join("record.json"), "file"),
    ] {
        let path = what.to_str().expect("utf-8").to_owned();
        let usual = mode(&what);
        chown(&what, Some(STRANGER), None).expect("chown");
        refused(&[name, &path, "belongs to user 65534, not to user 0"]);
        chown(&what, Some(0), None).expect("chown");
        for shared in [0o770, 0o702, 0o1777] {
            chmod(&what, shared);
            refused(&[name, &path, &format!("others may write it (mode {shared:04o})")]);
        }
        chmod(&what, usual);
    }
    // Readers do no harm.
    chmod(c.state_root(), 0o711);
    chmod(&directory, 0o755);
    assert_eq!(c.status(), "running");
    // By force, what was refused is not believed either, but its owner's directory goes.
    chmod(c.state_root(), 0o777);
    let forced = c.call(&["delete", "--force", &c.id]).done();
    assert_ne!(forced.code, 0);
    assert!(forced.err.contains(&state_root), "{}", forced.err);
    chmod(c.state_root(), 0o700);
    chmod(directory.join("record.json"), 0o666);
    c.delete().warns(&["record was damaged"]);
    assert!(!Path::new(&c.path("marker")).exists());
    c.assert_nothing_left();
}

/// A6: each other file that is read from the directory.
#[test]
fn anothers_files_in_the_directory_are_refused() {
    davit_only!("other runtimes do not look");
    let c = Container::sleeper();
    c.create().start();
    let pid = c.pid();
    let directory = c.state_root().join(&c.id);
    let update = || c.call(&["update", "--device-allow", "c 1:3 r", &c.id]).done();
    update().ok();
    for name in ["plan", "devices.json"] {
        chown(directory.join(name), Some(STRANGER), None).expect("chown");
        let call = if name == "plan" { c.exec(&["true"]) } else { update() };
        assert_ne!(call.code, 0, "{name}");
        assert!(call.err.contains(&format!("{name}: belongs to user 65534")), "{}", call.err);
        chown(directory.join(name), Some(0), None).expect("chown");
    }
    // The note of init counts where the record does not have it.
    edit_init(&c, |init| *init = Value::Null);
    std::os::unix::fs::lchown(directory.join("init"), Some(STRANGER), None).expect("chown");
    let kill = c.kill("KILL");
    assert!(kill.code != 0 && kill.err.contains("belongs to user 65534"), "{}", kill.err);
    // Without a record, the note would lead to the processes that are ended.
    std::os::unix::fs::lchown(directory.join("cgroup"), Some(STRANGER), None).expect("chown");
    fs::write(directory.join("record.json"), "{").expect("write");
    c.delete().warns(&["record was damaged"]);
    assert!(!leftovers::is_dead(pid));
    leftovers::sweep(&c.id, c.dir());
}

/// A6: a link planted for `--root` would make any directory of root's the state of containers.
#[test]
fn a_state_root_that_is_a_link_is_refused() {
    davit_only!("other runtimes follow it");
    let c = Container::new(&["true"]);
    fs::create_dir(c.path("elsewhere")).expect("mkdir");
    symlink(c.path("elsewhere"), c.path("link")).expect("symlink");
    fs::create_dir(c.path("elsewhere/x")).expect("mkdir");
    for root in [c.path("link"), c.path("link") + "/"] {
        for command in [&["list"][..], &["state", "x"], &["delete", "--force", "x"]] {
            let call = c.call(&[&["--root", &root], command].concat()).done();
            assert_ne!(call.code, 0, "{command:?}");
            assert!(call.err.contains("is a symbolic link"), "{}", call.err);
        }
    }
    assert!(Path::new(&c.path("elsewhere/x")).exists());
}

/// A6: `list` names what it does not believe, and tells the others.
#[test]
fn list_believes_its_own_alone() {
    davit_only!("other runtimes do not look");
    let c = Container::sleeper();
    c.create();
    let strange = c.state_root().join("strange");
    fs::create_dir(&strange).expect("mkdir");
    fs::copy(c.state_root().join(&c.id).join("record.json"), strange.join("record.json"))
        .expect("cp");
    chown(&strange, Some(STRANGER), None).expect("chown");
    chown(strange.join("record.json"), Some(STRANGER), None).expect("chown");
    fs::write(c.state_root().join("no-directory"), "").expect("write");
    let list = c.call(&["list"]).done().ok().out;
    assert!(list.contains("belongs to user 65534"), "{list}");
    assert!(list.contains("created") && !list.contains("no-directory"), "{list}");
    fs::remove_dir_all(&strange).expect("rm");
}

/// A6: an engine of an unprivileged user calls us as root of his user namespace.
#[test]
fn root_of_a_user_namespace_owns_what_its_user_owns() {
    davit_only!("a check of davit");
    let c = Container::new(&["true"]);
    let unshare = ["unshare", "--user", "--map-root-user"];
    if !Command::new(unshare[0]).args(&unshare[1..]).arg("true").status().is_ok_and(|s| s.success())
    {
        return skip::say(&test_name!(), "no user namespaces");
    }
    fs::create_dir(c.state_root()).expect("mkdir");
    assert_eq!(c.call_through(&unshare, &["list", "-q"]).done().ok().out, "");
    // One who is not mapped is another.
    chown(c.state_root(), Some(1000), None).expect("chown");
    let refused = c.call_through(&unshare, &["list"]).done();
    assert!(refused.err.contains("belongs to user"), "{}", refused.err);
}

/// A7: the name of the file that becomes the pid file was PATH.PID, which others could know before.
#[test]
fn a_pid_file_is_not_written_through_a_planted_link() {
    davit_only!("crun 1.8 looks for the path in the bundle");
    for command in ["create", "exec"] {
        let c = Container::sleeper();
        let (victim, at) = (c.path("victim"), c.path("theirs"));
        fs::write(&victim, "precious").expect("write");
        fs::create_dir(&at).expect("mkdir");
        chown(&at, Some(STRANGER), None).expect("chown");
        let pid_file = format!("{at}/x.pid");
        // The pid of the shell is that of the runtime.
        let plant = format!("ln -s {victim} {pid_file}.$$; exec \"$@\"");
        let through = ["sh", "-c", &plant, "sh"];
        if command == "create" {
            c.through_with_bundle(&through, "create", &["--pid-file", &pid_file]).done().ok();
        } else {
            c.create().start();
            let words = ["exec", "--detach", "--pid-file", &pid_file, &c.id, "sleep", "100"];
            c.call_through(&through, &words).done().ok();
        }
        assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
        assert!(fs::symlink_metadata(&pid_file).expect("stat").is_file());
        let left: Vec<_> = fs::read_dir(&at).expect("read").flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

/// A7: as runc does, a link instead of the pid file goes; the file is of one mode, and its path may
/// be relative.
#[test]
fn a_pid_file_takes_the_place_of_what_was_there() {
    davit_only!("crun 1.8 looks for the path in the bundle");
    for (umask, before) in
        [("0", "nothing"), ("077", "link"), ("0777", "file"), ("022", "dangling")]
    {
        let c = Container::sleeper();
        let (victim, pid_file) = (c.path("victim"), c.path("x.pid"));
        fs::write(&victim, "precious").expect("write");
        match before {
            "link" => symlink(&victim, &pid_file).expect("symlink"),
            "dangling" => symlink(c.path("none"), &pid_file).expect("symlink"),
            "file" => fs::write(&pid_file, "a longer text than a pid is").expect("write"),
            _ => {}
        }
        let prefix = with_umask(umask);
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        c.through_with_bundle(&prefix, "create", &["--pid-file", "x.pid"]).dir(c.dir()).done().ok();
        assert_eq!(fs::read_to_string(&pid_file).expect("read"), c.pid().to_string(), "{before}");
        assert_eq!(mode(&pid_file), 0o644, "{before}");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
        assert!(!Path::new(&c.path("none")).exists());
    }
}

/// A7: rename(2) would put a file instead of /dev/null.
#[test]
fn a_pid_file_takes_the_place_of_no_device() {
    davit_only!("runc replaces it");
    let c = Container::sleeper();
    for (node, says) in [("c", "file exists"), ("p", "file exists"), ("d", "is a directory")] {
        let path = c.path(node);
        let made = match node {
            "c" => Command::new("mknod").args([&path, "c", "1", "3"]).status(),
            "p" => Command::new("mkfifo").arg(&path).status(),
            _ => Command::new("mkdir").arg(&path).status(),
        };
        assert!(made.expect("mknod").success());
        let kind = fs::symlink_metadata(&path).expect("stat").file_type();
        let refused = c.create_call(&["--pid-file", &path]).done();
        refused.refuses(&["--pid-file", &path, says]);
        assert_eq!(fs::symlink_metadata(&path).expect("stat").file_type(), kind);
        c.assert_nothing_left();
    }
}

/// A7
#[test]
fn spec_makes_a_file_that_its_owner_alone_may_write() {
    davit_only!("crun 1.8 makes it 0666");
    for (umask, expected) in [("0", 0o644), ("022", 0o644), ("077", 0o600)] {
        let c = Container::new(&["true"]);
        let bundle = c.path("spec");
        fs::create_dir(&bundle).expect("mkdir");
        let prefix = with_umask(umask);
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        let spec = || c.call_through(&prefix, &["spec", "--bundle", &bundle]).done();
        spec().ok();
        let file = format!("{bundle}/config.json");
        assert_eq!(mode(&file), expected, "{umask}");
        spec().refuses(&["config.json", "exists already"]);
        // A link that leads nowhere is something too.
        fs::remove_file(&file).expect("rm");
        symlink(c.path("none"), &file).expect("symlink");
        spec().refuses(&["config.json", "exists already"]);
        assert!(!Path::new(&c.path("none")).exists());
    }
}

/// B15: as runc and crun, whatever the command; nothing is done.
#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    spec!();
    let c = Container::sleeper();
    let log = c.path("none/log");
    let bundle = c.path("bundle");
    c.write();
    let create = c.call(&["--log", &log, "create", "--bundle", &bundle, &c.id]).done();
    assert_ne!(create.code, 0);
    assert!(
        create.err.contains("no such file or directory") || create.err.contains("No such file")
    );
    c.assert_nothing_left();
    c.create();
    for command in [
        &["start", &c.id][..],
        &["state", &c.id],
        &["kill", &c.id, "KILL"],
        &["delete", "--force", &c.id],
        &["list"],
    ] {
        let call = c.call(&[&["--log", &log], command].concat()).done();
        assert_eq!(call.code, 1, "{command:?}");
        assert!(call.err.contains(&log), "{command:?}: {}", call.err);
    }
    assert_eq!(c.status(), "created");
}

/// B15: engines ask for these with whatever global options they have.
#[test]
fn the_log_is_made_and_appended_to() {
    davit_only!("runc's is 0644 too, but its text is another");
    let c = Container::new(&["true"]);
    let log = c.path("log");
    let prefix = with_umask("0");
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    c.call_through(&prefix, &["--log", &log, "list"]).done().ok();
    assert_eq!((mode(&log), fs::read_to_string(&log).expect("read").as_str()), (0o644, ""));
    for _ in 0..2 {
        let call = c.call(&["--log", &log, "--log-format", "json", "state", "none"]).done();
        assert_eq!(call.code, 1);
    }
    let text = fs::read_to_string(&log).expect("read");
    assert_eq!(text.lines().count(), 2, "{text}");
    // The option that is wrong comes after the log.
    c.call(&["--log", &log, "--log-format", "xml", "list"]).done();
    assert!(fs::read_to_string(&log).expect("read").contains("xml"));
    c.call(&["--log", "/nonexistent/log", "--version"]).done().ok();
}

/// B8: a FIFO without a reader is an error at once, and one whose reader is stuck does not hold the
/// command up.
#[test]
fn a_log_that_is_a_fifo_does_not_hang() {
    davit_only!("runc waits for ever");
    let c = Container::new(&["true"]);
    let fifo = c.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let state = || {
        let call = c.call(&["--log", &fifo, "state", "none"]);
        call.within(std::time::Duration::from_secs(5)).done()
    };
    let nobody = state();
    assert_eq!(nobody.code, 1);
    assert!(
        nobody.err.contains("--log") && nobody.err.contains("no such device"),
        "{}",
        nobody.err
    );
    // Open for both, so that neither open waits; full.
    let mut stuck = fs::File::options().read(true).write(true).open(&fifo).expect("open");
    std::io::Write::write_all(&mut stuck, &[b'x'; 65536]).expect("write");
    let stuck_reader = state();
    assert_eq!(stuck_reader.code, 1);
    assert!(stuck_reader.err.contains("does not exist"), "{}", stuck_reader.err);
    assert!(stuck_reader.err.contains("--log"), "{}", stuck_reader.err);
}

/// B15: the log is davit's, not the container's.
#[test]
fn the_log_does_not_reach_the_container() {
    davit_only!("descriptors of davit");
    let c = Container::sh("ls -l /proc/self/fd 2>&1; exec sleep 100");
    let log = c.path("log");
    c.write();
    let bundle = c.path("bundle");
    c.call(&["--log", &log, "run", "--detach", "--bundle", &bundle, &c.id]).done().ok();
    let seen = c.until_output("2 ->");
    assert!(!seen.contains("log"), "{seen}");
    let script = "ls -l /proc/self/fd 2>&1";
    let seen = c.call(&["--log", &log, "exec", &c.id, "sh", "-c", script]).done().ok().out;
    assert!(!seen.contains("log"), "{seen}");
}
