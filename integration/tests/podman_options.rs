//! The options of `podman run`, each by what the container then sees.

use std::fs;
use std::os::unix::fs::symlink;

use integration::podman::Podman;
use integration::*;

/// Runs each script with its options and compares the words that it prints.
#[track_caller]
fn table(p: &Podman, rows: &[(&[&str], &str, &str)]) {
    let mut wrong = Vec::new();
    for (options, script, expected) in rows {
        let run = p.run(options, &["sh", "-c", script]);
        let out: Vec<&str> = run.out.split_whitespace().collect();
        if run.code != 0 || !run.err.is_empty() || out.join(" ") != *expected {
            wrong.push(format!("{options:?}: not {expected:?}: {run:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    p.assert_nothing_left();
}

#[test]
fn process() {
    let p = podman!();
    table(
        &p,
        &[
            (&[], "id -u; id -g; pwd; echo $HOME", "0 0 / /root"),
            (&["--user", "bob"], "id -u; id -g; echo $HOME; whoami", "1000 1000 /home/bob bob"),
            (&["--user", "12:34"], "id -u; id -g", "12 34"),
            (&["--user", "bob", "--group-add", "55"], "id -G", "1000 55"),
            (&["--workdir", "/tmp"], "pwd", "/tmp"),
            (&["--env", "A=b", "--env", "C="], "echo \"$A<$C>\"", "b<>"),
            (&["--umask", "0077"], "umask", "0077"),
            (&["--oom-score-adj", "100"], "cat /proc/self/oom_score_adj", "100"),
            (&["--security-opt", "no-new-privileges"], NO_NEW_PRIVS, "1"),
            (&[], NO_NEW_PRIVS, "0"),
            (&["--init"], "cat /proc/1/comm", "podman-init"),
        ],
    );
    // One limit on the command line, and podman takes none from its configuration.
    let limits =
        ["--ulimit", "nproc=1000:1000", "--ulimit", "nofile=99:100", "--ulimit", "core=5:7"];
    table(&p, &[(&limits, "ulimit -Sn; ulimit -Hn", "99 100"), (&limits, CORE, "5 7")]);
    let entry = p.run(&["--entrypoint", "/bin/echo"], &["a", "b c"]).ok();
    assert_eq!(entry.out, "a b c\n");
}

const NO_NEW_PRIVS: &str = "grep NoNewPrivs: /proc/self/status | cut -f2";
const CORE: &str = "grep 'core file' /proc/self/limits | tr -s ' ' | cut -d' ' -f5,6";

#[test]
fn capabilities() {
    let p = podman!();
    let eff = "grep CapEff: /proc/self/status | cut -f2";
    let all = "grep -E 'Cap(Prm|Eff|Bnd|Amb|Inh):' /proc/self/status | cut -f2";
    let (none, chown) = ("0000000000000000", "0000000000000001");
    table(
        &p,
        &[
            (&["--cap-drop", "all"], eff, none),
            (&["--cap-drop", "all", "--cap-add", "chown"], eff, chown),
            (&["--cap-drop", "all", "--cap-add", "net_admin,chown"], eff, "0000000000001001"),
            (&["--user", "bob"], eff, none),
            // What a user without root's rights is given stays with it through exec.
            (
                &["--user", "bob", "--cap-drop", "all", "--cap-add", "chown"],
                all,
                &[chown; 5].join(" "),
            ),
            (
                &["--cap-drop", "chown"],
                "chown bob /tmp 2>&1 | grep -o not.permitted",
                "not permitted",
            ),
            (&[], "chown bob /tmp; stat -c %U /tmp", "bob"),
        ],
    );
}

#[test]
fn seccomp() {
    let p = podman!();
    let mode = "grep Seccomp: /proc/self/status | cut -f2";
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
        ],
    });
    fs::write(p.path("profile.json"), profile.to_string()).expect("write");
    let file = format!("seccomp={}", p.path("profile.json"));
    table(
        &p,
        &[
            (&[], mode, "2"),
            // podman's own profile: no new namespaces without CAP_SYS_ADMIN.
            (&[], "unshare -u true 2>&1 | grep -o 'not permitted'", "not permitted"),
            (&["--cap-add", "sys_admin"], "unshare -u true && echo yes", "yes"),
            (&["--security-opt", "seccomp=unconfined"], mode, "0"),
            (&["--security-opt", &file], "mkdir /tmp/x 2>&1 | grep -o 'No space.*'", NO_SPACE),
            (&["--security-opt", &file, "--user", "bob"], mode, "2"),
        ],
    );
}

const NO_SPACE: &str = "No space left on device";

#[test]
fn limits() {
    let p = podman!();
    let affinity = "grep Cpus_allowed_list: /proc/self/status | cut -f2";
    let top = "cut -d: -f3 /proc/self/cgroup | sort -u";
    table(
        &p,
        &[
            (&["--memory", "64m"], &value("memory/memory.limit_in_bytes memory.max"), "67108864"),
            (&["--pids-limit", "33"], &value("pids/pids.max pids.max"), "33"),
            (&["--cpus", "0.5"], &value("cpu/cpu.cfs_quota_us cpu.max"), "50000"),
            (&["--cpuset-cpus", "0"], affinity, "0"),
            (&["--cgroupns", "private"], top, "/"),
        ],
    );
    let shares = p.sh(&["--cpu-shares", "512"], &value("cpu/cpu.shares cpu.weight"));
    assert!(["512", "59"].contains(&shares.trim()), "shares, or their weight: {shares}");
    let greedy = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait";
    let many = p.run(&["--pids-limit", "4"], &["sh", "-c", greedy]);
    assert!(many.code != 0 && many.err.contains("can't fork"), "{many:?}");
    let options = ["--memory", "16m", "--memory-swap", "16m"];
    let large = p.run(&options, &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    assert_eq!(large.code, 137, "{large:?}");
}

/// A script that prints the first word of each of these files below /sys/fs/cgroup, of v1 and of
/// v2, that is there.
fn value(files: &str) -> String {
    format!("cd /sys/fs/cgroup; cat {files} 2>/dev/null | cut -d' ' -f1")
}

#[test]
fn without_a_cgroup() {
    davit_only!("podman knows of crun and of us that we can do without");
    let p = podman!();
    let image = integration::podman::IMAGE;
    let run = p.podman(&["run", "--rm", "--cgroups=disabled", image, "cat", "/proc/self/cgroup"]);
    let run = run.ok();
    assert!(!run.out.contains("libpod"), "{run:?}");
    p.assert_nothing_left();
}

#[test]
fn devices() {
    let p = podman!();
    let usual = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    // /dev/kmsg is no container's: only the device rules of its cgroup keep a process from writing
    // to it.
    let open = "(exec 3>/dev/mine && echo writable) 2>&1 | grep -o 'writable\\|not permitted'; \
                (exec 3</dev/mine && echo readable) 2>&1 | grep -o 'readable\\|not permitted'";
    let make = format!("mknod /dev/mine c 1 11; {open}");
    table(
        &p,
        &[
            (&[], "ls /dev | grep -v core", usual),
            (&[], "for d in null zero full random tty; do stat -c %t:%T /dev/$d; done", NUMBERS),
            (&[], "echo x >/dev/null && head -c 3 /dev/zero | wc -c", "3"),
            (&["--device", "/dev/kmsg:/dev/mine:w"], open, "writable not permitted"),
            (
                // The newest podman gives no right to make nodes.
                &["--cap-add", "mknod", "--device-cgroup-rule", "c 1:11 wm"],
                &make,
                "writable not permitted",
            ),
            (&["--cap-add", "mknod"], &make, "not permitted not permitted"),
        ],
    );
}

const NUMBERS: &str = "1:3 1:5 1:7 1:8 5:0";

#[test]
fn files() {
    let p = podman!();
    let data = p.path("data");
    fs::create_dir_all(p.dir().join("data/sub")).expect("mkdir");
    fs::write(p.dir().join("data/f"), "hello\n").expect("write");
    symlink("f", p.dir().join("data/link")).expect("symlink");
    let mount = |options: &str| format!("{data}:/x{options}");
    let (rw, ro, z) = (mount(""), mount(":ro"), mount(":Z"));
    let shared = mount(":rshared");
    let noexec = mount(":noexec,nosuid,nodev");
    let bind = format!("type=bind,src={data},dst=/x,ro");
    let file = format!("{data}/link:/etc/passwd:ro");
    let options = "grep ' /x ' /proc/self/mountinfo | cut -d' ' -f6";
    let propagation = "grep ' /x ' /proc/self/mountinfo | cut -d' ' -f7 | cut -d: -f1";
    let write = "cat /x/f; { echo > /x/new; } 2>&1 | grep -o 'Read-only.*'";
    table(
        &p,
        &[
            (&["-v", &rw], "cat /x/f; echo >/x/new && rm /x/new && echo written", "hello written"),
            (&["-v", &ro], write, "hello Read-only file system"),
            (&["-v", &z], "cat /x/f", "hello"),
            (&["-v", &noexec], options, "rw,nosuid,nodev,noexec,relatime"),
            (&["-v", &shared], propagation, "shared"),
            (&["-v", &rw], propagation, "-"),
            (&["--mount", &bind], write, "hello Read-only file system"),
            (&["-v", &file], "cat /etc/passwd", "hello"),
            (&["-v", "named:/x"], "echo kept >/x/f", ""),
            (&["-v", "named:/x:ro"], "cat /x/f", "kept"),
            (&["-v", &mount(":O")], "echo over >/x/f; cat /x/f", "over"),
            (&["-v", &rw], "cat /x/f", "hello"),
            (&["--mount", "type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=700"], TMPFS, "700 1024"),
            (&["--tmpfs", "/x:size=64k,noexec"], options, "rw,nosuid,nodev,noexec,relatime"),
            // A tmpfs over a directory of the image has its files.
            (&["--tmpfs", "/etc"], "test -s /etc/group && stat -f -c %T /etc", "tmpfs"),
            (&["--shm-size", "1m"], "df /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "1024"),
        ],
    );
}

const TMPFS: &str = "stat -c %a /x; df /x | tail -1 | tr -s ' ' | cut -d' ' -f2";

#[test]
fn a_read_only_root() {
    let p = podman!();
    let try_root = "{ echo >/f; } 2>&1 | grep -o 'Read-only.*'; echo x >/tmp/f && cat /tmp/f; \
                    echo x >/dev/shm/f && echo shm";
    table(
        &p,
        &[
            (&["--read-only"], try_root, "Read-only file system x shm"),
            (&["--read-only", "--read-only-tmpfs=false"], "{ echo >/tmp/f; } 2>&1 | wc -l", "1"),
            (&["--read-only", "--tmpfs", "/mnt"], "echo x >/mnt/f && cat /mnt/f", "x"),
        ],
    );
}

#[test]
fn what_is_hidden() {
    let p = podman!();
    let read = "head -c 10 /proc/timer_list | wc -c";
    let write = "{ echo x >/proc/sys/kernel/domainname; } 2>&1 | grep -o 'Read-only.*' || echo yes";
    let unmask = ["--security-opt", "unmask=/proc/timer_list"];
    table(
        &p,
        &[
            (&[], read, "0"),
            (&unmask, read, "10"),
            (&["--privileged"], read, "10"),
            (&[], write, "Read-only file system"),
            (&["--privileged"], write, "yes"),
            (&[], "ls /sys/firmware; wc -c </proc/keys", "0"),
            (&["--security-opt", "mask=/etc/group"], "wc -c </etc/group", "0"),
        ],
    );
}

#[test]
fn privileged() {
    let p = podman!();
    table(
        &p,
        &[
            (&["--privileged"], "grep Seccomp: /proc/self/status | cut -f2", "0"),
            (&["--privileged"], "mount -t tmpfs none /mnt && stat -f -c %T /mnt", "tmpfs"),
            (&["--privileged"], "mknod /dev/x c 1 3 && echo x >/dev/x && echo yes", "yes"),
            (&["--privileged"], "grep -c ' /proc/[a-z]' /proc/self/mountinfo || :", "0"),
        ],
    );
    let seen = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        text.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("CapBnd").to_owned()
    };
    let inside = p.sh(&["--privileged"], "grep CapEff: /proc/self/status | cut -f2");
    assert_eq!(inside.trim(), seen("self"), "all that the host itself has");
}

#[test]
fn kernel_parameters() {
    let p = podman!();
    table(
        &p,
        &[
            (&["--sysctl", "kernel.msgmax=9000"], "cat /proc/sys/kernel/msgmax", "9000"),
            (&["--sysctl", "net.ipv4.ip_default_ttl=33"], TTL, "33"),
        ],
    );
    let refused = p.run(&["--net=host", "--sysctl", "net.ipv4.ip_forward=1"], &["true"]);
    assert_ne!(refused.code, 0, "{refused:?}");
}

const TTL: &str = "cat /proc/sys/net/ipv4/ip_default_ttl";

/// C8: podman hands the maps to the runtime in the option.
#[test]
fn ids_of_a_mount_are_mapped() {
    let p = podman!();
    fails_with!("runc", "1.1 ignores it in silence");
    let source = p.dir().join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("file"), "").expect("write");
    let maps = "idmap=uids=0-3000-10;gids=0-4000-10";
    let mount = format!("type=bind,src={},dst=/mnt,{maps}", source.display());
    assert_eq!(p.sh(&["--mount", &mount], "stat -c '%u %g' /mnt/file"), "3000 4000\n");
}

/// C6: the host has no device of this path.
#[test]
fn a_device_of_another_name_in_a_user_namespace() {
    let p = podman!();
    fails_with!("runc", "1.1 binds the host's");
    let maps = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
    let options = [&maps[..], &["--device", "/dev/zero:/dev/modem"]].concat();
    assert_eq!(p.sh(&options, "head -c 3 /dev/modem | wc -c"), "3\n");
}
