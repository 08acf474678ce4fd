//! `process.capabilities`: five sets, read back as bit masks from /proc/self/status.

use integration::*;

const SCRIPT: &str = "grep ^Cap /proc/self/status";
const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;

/// The sets inheritable, permitted, effective, bounding, ambient of a container's first process.
///
/// It is busybox's grep itself, without a shell before: an exec changes the sets.
fn sets(edit: impl FnOnce(&mut Value)) -> [u64; 5] {
    let c = Container::new(&["grep", "^Cap", "/proc/self/status"]).with(edit);
    parse(&c.run().ok())
}

fn parse(run: &Outcome) -> [u64; 5] {
    let mask = |name| u64::from_str_radix(run.field(name), 16).expect("hex");
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(mask)
}

#[test]
fn as_root() {
    spec!();
    let all = sets(|c| config::set_capabilities(c, &["CAP_CHOWN", "CAP_KILL"]));
    assert_eq!(all, [CHOWN | KILL; 5]);
    let none = sets(|c| config::set_capabilities(c, &[]));
    assert_eq!(none, [0; 5]);
}

#[test]
fn sets_are_apart() {
    spec!();
    // At exec, root gains its whole bounding set, unless no_new_privs keeps it at what it had
    // (capabilities(7)).
    for (no_new_privileges, after) in [(true, CHOWN | KILL), (false, CHOWN | KILL | NET_RAW)] {
        let seen = sets(|c| {
            c["process"]["noNewPrivileges"] = no_new_privileges.into();
            c["process"]["capabilities"] = json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
                "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_KILL"],
            });
        });
        assert_eq!(seen, [KILL, after, after, CHOWN | KILL | NET_RAW, 0]);
    }
}

#[test]
fn as_a_user_only_ambient_survives() {
    spec!();
    let seen = sets(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        c["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        });
    });
    assert_eq!(seen, [KILL, KILL, KILL, CHOWN | KILL | NET_RAW, KILL]);
}

#[test]
fn inheritable_is_empty_unless_asked() {
    spec!();
    // CVE-2022-24769.
    assert_eq!(sets(|_| ())[0], 0);
}

#[test]
fn without_the_object_there_are_none() {
    spec!();
    fails_with!("runc", "keeps all capabilities when the object is absent");
    let seen = sets(|c| {
        c["process"].as_object_mut().expect("process").remove("capabilities");
    });
    assert_eq!(seen, [0; 5]);
}

#[test]
fn an_unknown_capability_does_not_refuse_the_file() {
    spec!();
    let c = Container::new(&["grep", "^Cap", "/proc/self/status"])
        .with(|c| config::set_capabilities(c, &["CAP_KILL", "CAP_FROM_THE_FUTURE"]));
    let run = c.run().exits(0);
    assert_eq!(parse(&run), [KILL; 5]);
}

#[test]
fn an_ambient_one_that_is_not_inheritable() {
    spec!();
    // `runc spec` writes this: the kernel cannot raise it, so it is left out.
    let seen = sets(|_| ());
    assert_eq!(seen[4], 0);
}

#[test]
fn exec_has_the_same_sets() {
    spec!();
    let c = Container::sleeper().with(|c| config::set_capabilities(c, &["CAP_CHOWN", "CAP_KILL"]));
    c.create().start();
    assert_eq!(parse(&c.exec(&["sh", "-c", SCRIPT]).ok()), [CHOWN | KILL; 5]);
}

#[test]
fn exec_may_add_some() {
    spec!();
    fails_with!("crun", "1.8 takes --cap for the whole sets");
    let c = Container::sleeper().with(|c| {
        c["process"]["capabilities"] = json!({
            "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
        });
    });
    c.create().start();
    let seen =
        parse(&c.exec_with(&["--cap", "CAP_NET_RAW"], &["grep", "^Cap", "/proc/self/status"]).ok());
    assert_eq!(seen[3], KILL | NET_RAW);
    assert_eq!(seen[1], KILL | NET_RAW);
}

/// What the process may pass on, it passes on: as runc.
#[test]
fn exec_raises_in_the_ambient_set_what_is_inheritable() {
    spec!();
    fails_with!("crun", "1.8 takes --cap for the whole sets");
    let c = Container::sleeper().with(|c| {
        let all = ["CAP_KILL", "CAP_NET_RAW", "CAP_CHOWN"];
        c["process"]["noNewPrivileges"] = true.into();
        c["process"]["capabilities"] = json!({
            "bounding": all, "effective": all, "permitted": all,
            "inheritable": ["CAP_KILL", "CAP_NET_RAW"], "ambient": ["CAP_KILL"],
        });
    });
    c.create().start();
    let seen = |options: &[&str]| {
        parse(&c.exec_with(options, &["grep", "^Cap", "/proc/self/status"]).ok())
    };
    assert_eq!(seen(&["--user", "1000"])[4], KILL);
    assert_eq!(seen(&["--cap", "CAP_NET_RAW"])[4], KILL | NET_RAW);
    // So it is there for a user who is not root, too.
    let user = seen(&["--user", "1000", "--cap", "CAP_NET_RAW"]);
    assert_eq!((user[2], user[4]), (KILL | NET_RAW, KILL | NET_RAW));
    assert_eq!(seen(&["--cap", "CAP_CHOWN"])[4], KILL, "not inheritable");
}

#[test]
fn exec_refuses_a_capability_that_does_not_exist() {
    davit_only!("other runtimes ignore it, some with a warning");
    let c = Container::sleeper();
    c.create().start();
    c.exec_with(&["--cap", "CAP_BOGUS"], &["true"]).refuses(&["CAP_BOGUS"]);
}

#[test]
fn sys_admin_works_when_given() {
    spec!();
    let c = Container::sh("mount -t tmpfs none /mnt && echo mounted")
        .with(|c| config::set_capabilities(c, &["CAP_SYS_ADMIN"]));
    assert_eq!(c.run().ok().out, "mounted\n");
    let seen = sets(|c| config::set_capabilities(c, &["CAP_SYS_ADMIN"]));
    assert_eq!(seen, [SYS_ADMIN; 5]);
    let without = Container::sh("mount -t tmpfs none /mnt 2>/dev/null || echo refused");
    assert_eq!(without.run().ok().out, "refused\n");
}

/// Not by our own table and parser: every capability that the crate caps knows, set by its name, is
/// read back by capget(2), from the container's process and from one that `exec` adds.
#[test]
fn sets_are_those_that_another_library_reads() {
    spec!();
    let ours = caps::read(None, caps::CapSet::Permitted).expect("capget");
    let bounding = caps::read(None, caps::CapSet::Bounding).expect("prctl");
    let mut all: Vec<_> = ours.intersection(&bounding).copied().collect();
    all.sort_by_key(caps::Capability::index);
    let some = |step: usize| all.iter().copied().step_by(step).collect::<Vec<_>>();
    let names =
        |set: &[caps::Capability]| json!(set.iter().map(ToString::to_string).collect::<Vec<_>>());
    for (bounding, permitted) in [(some(1), some(2)), (some(1), some(1)), (some(2), Vec::new())] {
        let effective: Vec<_> = permitted.iter().copied().step_by(2).collect();
        let c = Container::sleeper().with(|c| {
            c["process"]["noNewPrivileges"] = true.into();
            // A user: what root gains by an exec would hide what was set. Ambient ones survive it.
            c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            c["process"]["capabilities"] = json!({
                "bounding": names(&bounding), "permitted": names(&permitted),
                "effective": names(&effective), "inheritable": names(&permitted),
                "ambient": names(&permitted),
            });
        });
        c.create().start();
        c.until_status("running");
        c.exec_with(&["-d", "--pid-file", &c.path("pid")], &["sleep", "100"]).ok();
        let second = std::fs::read_to_string(c.path("pid")).expect("a pid").trim().parse();
        for pid in [c.pid(), second.expect("a number")] {
            for set in [caps::CapSet::Permitted, caps::CapSet::Effective, caps::CapSet::Inheritable]
            {
                let mut seen: Vec<_> =
                    caps::read(Some(pid), set).expect("capget").into_iter().collect();
                seen.sort_by_key(caps::Capability::index);
                assert_eq!(seen, permitted, "{set:?} of {pid}");
            }
        }
    }
}
