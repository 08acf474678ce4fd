//! Every system call of every command may fail, and every one may be the last: nothing hangs, a
//! failure is one line, a success means what it says, no container is weaker than an undisturbed
//! one, and `delete --force` leaves nothing.
//!
//! strace makes the n-th call of a name fail, or kills at it, in whatever process of the runtime it
//! is the n-th. The first call of each name and each 16th of the others are tried; all of them
//! where `DAVIT_FAULTS=all` asks for it (`make faults`).

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use integration::call::within;
use integration::*;

/// What the C library calls before main and at the end, where it gives up in its own words, as
/// Rust's does when it gets no random bytes; execve, whose failures other tests are about; and what
/// cannot fail: umask(2), close(2), the unlocking of flock(2) and clock_gettime(2) of the usual
/// clocks.
const NOT_OURS: &[&str] = &[
    "arch_prctl",
    "brk",
    "clock_gettime",
    "close",
    "execve",
    "exit",
    "exit_group",
    "flock",
    "getrandom",
    "mmap",
    "mprotect",
    "munmap",
    "poll",
    "rseq",
    "rt_sigaction",
    "rt_sigreturn",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "umask",
];

/// Longer than any command waits for another one.
const HANGS: Duration = Duration::from_secs(45);

/// A command, and how its promise is checked.
struct Case {
    /// What is done to the container before.
    before: fn(&Container),
    /// Its arguments.
    arguments: fn(&Container) -> Vec<String>,
    /// Whether it is given the bundle, and makes the container.
    makes: bool,
    /// Its exit code when it fails.
    code: i32,
    /// Asked after a success: what is not as it was said.
    said: fn(&Container, &Undisturbed) -> Option<String>,
}

/// The confinement of a container's program and of one that `exec` added, where nothing was
/// injected.
struct Undisturbed {
    program: Vec<String>,
    exec: Vec<String>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn nothing(_: &Container) {}

fn created(c: &Container) {
    c.create();
}

fn running(c: &Container) {
    c.create().start();
}

fn paused(c: &Container) {
    running(c);
    c.call(&["pause", &c.id]).done().ok();
}

fn stopped(c: &Container) {
    running(c);
    c.kill("KILL").ok();
    c.until_status("stopped");
}

/// Stopped, and without a cgroup, as after the end of a systemd scope.
fn abandoned(c: &Container) {
    stopped(c);
    for cgroup in leftovers::cgroups(&c.id) {
        let _ = fs::remove_dir(cgroup);
    }
}

/// A container with something of everything that confines.
fn container() -> Container {
    Container::new(&["sleep", "100"]).with(|c| {
        let process = &mut c["process"];
        process["user"] =
            json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 1234], "umask": 0o027 });
        process["oomScoreAdj"] = 321.into();
        process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 }]);
        c["root"]["readonly"] = true.into();
        c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }]
        });
    })
}

/// The confinement of process `pid`, seen from the host; none where it does not run the user's
/// program.
fn confinement(pid: i32) -> Option<Vec<String>> {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    if file("cmdline")? != "sleep\x00100\x00" || leftovers::is_dead(pid) {
        return None;
    }
    const KEYS: &[&str] = &[
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "SigBlk",
        "SigIgn",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Cpus_allowed:",
    ];
    let status = file("status")?;
    let status = status.lines().filter(|line| KEYS.iter().any(|key| line.starts_with(key)));
    let mut lines: Vec<String> = status.map(str::to_owned).collect();
    lines.extend(file("limits")?.lines().map(str::to_owned));
    lines.push(format!("oom_score_adj {}", file("oom_score_adj")?.trim()));
    lines.push(format!("label {}", file("attr/current").unwrap_or_default().trim()));
    lines.extend(file("cgroup")?.lines().map(str::to_owned));
    // Ids and peer groups of mounts are new each time.
    for mount in file("mountinfo")?.lines() {
        let (place, kind) = mount.split_once(" - ")?;
        let place: Vec<_> = place.split(' ').skip(3).take(3).collect();
        lines.push(format!("mount {} {kind}", place.join(" ")));
    }
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let own = host::namespace_of(pid, kind) != host::namespace(kind);
        lines.push(format!("{kind} namespace of its own: {own}"));
    }
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().collect();
    open.sort_by_key(fs::DirEntry::file_name);
    lines.extend(open.iter().map(|fd| format!("descriptor {:?}", fd.file_name())));
    Some(lines)
}

/// The pid in the answer of `state`, and the status; none where there is no answer.
fn state(c: &Container) -> Option<(String, i32)> {
    let state = c.call(&["state", &c.id]).within(HANGS).done();
    let state: Value = serde_json::from_str(&state.out).ok()?;
    let pid = i32::try_from(state["pid"].as_i64().unwrap_or(0)).ok()?;
    Some((state["status"].as_str()?.to_owned(), pid))
}

fn is_status(c: &Container, expected: &str) -> Option<String> {
    let seen = within(Duration::from_secs(5), || {
        state(c).is_some_and(|(status, _)| status == expected).then_some(())
    });
    seen.is_none().then(|| format!("is not {expected}: {:?}", state(c)))
}

fn difference(seen: &[String], expected: &[String]) -> Option<String> {
    let less: Vec<_> = expected.iter().filter(|line| !seen.contains(line)).collect();
    let more: Vec<_> = seen.iter().filter(|line| !expected.contains(line)).collect();
    (seen != expected).then(|| format!("confinement: {more:?} instead of {less:?}"))
}

/// The program of a container that runs by what `state` says is confined as ever.
fn program(c: &Container, undisturbed: &Undisturbed) -> Option<String> {
    let (status, pid) = state(c)?;
    if status != "running" {
        return None;
    }
    let mut seen = within(Duration::from_secs(2), || confinement(pid))?;
    // The mount that `mounts add` makes is there as it was asked for, or not at all.
    seen.retain(|line| line != ADDED);
    difference(&seen, &undisturbed.program)
}

/// The same, once it is started: that may fail by what was injected into init.
fn started(c: &Container, undisturbed: &Undisturbed) -> Option<String> {
    c.call(&["start", &c.id]).within(HANGS).done();
    program(c, undisturbed)
}

fn second(c: &Container, undisturbed: &Undisturbed) -> Option<String> {
    let pid = fs::read_to_string(c.path("pid")).ok()?.trim().parse().ok()?;
    let seen = within(Duration::from_secs(2), || confinement(pid))?;
    difference(&seen, &undisturbed.exec)
}

/// What mountinfo has of the mount that is added.
const ADDED: &str = "mount / /mnt ro,nosuid,noexec,relatime tmpfs faults rw,mode=755";

/// The limit of memory in the files of its cgroup.
fn memory_limit(c: &Container) -> Option<String> {
    let files = ["memory.max", "memory.limit_in_bytes"];
    let cgroups = leftovers::cgroups(&c.id).into_iter();
    cgroups
        .flat_map(|cgroup| files.map(|file| cgroup.join(file)))
        .find_map(|file| fs::read_to_string(file).ok())
        .map(|text| text.trim().to_owned())
}

fn at_each_system_call(case: &Case) {
    let c = container();
    let undisturbed = undisturbed(&c);
    let mut wrong = Vec::new();
    for (kind, rest) in [("error=EIO", NOT_OURS), ("signal=KILL", &["exit_group"][..])] {
        for (name, at) in points(&c, case, rest) {
            let inject = format!("inject={name}:{kind}:when={at}");
            for what in round(&c, case, &name, &inject, &undisturbed) {
                wrong.push(format!("{inject}: {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {:?}: {wrong:#?}", wrong.len(), (case.arguments)(&c));
}

fn undisturbed(c: &Container) -> Undisturbed {
    running(c);
    let program = within(Duration::from_secs(5), || confinement(c.pid())).expect("its program");
    c.call(&strs(&exec(c))).done().ok();
    let second = fs::read_to_string(c.path("pid")).expect("a pid").trim().parse().expect("a pid");
    let exec = within(Duration::from_secs(5), || confinement(second)).expect("its program");
    assert!(program.contains(&"Seccomp:\t2".to_owned()), "{program:#?}");
    c.delete().ok();
    Undisturbed { program, exec }
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The command under strace, which is no parent of it: its exit code is its own.
fn traced(c: &Container, case: &Case, options: &[&str]) -> Call {
    let before = [&["strace", "-D", "-f", "-qq"], options].concat();
    let arguments = (case.arguments)(c);
    let call = match (case.makes, strs(&arguments).as_slice()) {
        (true, [command, options @ ..]) => c.through_with_bundle(&before, command, options),
        (_, arguments) => c.call_through(&before, arguments),
    };
    // What stays open in the container must not be a pipe of this test.
    call.stdio(&fs::File::options().append(true).create(true).open(c.path("out")).expect("a file"))
        .within(HANGS)
}

/// The points of injection: a name, and which call of that name.
fn points(c: &Container, case: &Case, not: &[&str]) -> Vec<(String, usize)> {
    let trace = c.path("trace");
    (case.before)(c);
    traced(c, case, &["-o", &trace]).done().exits(0);
    c.delete();
    ended(c);
    let mut calls: BTreeMap<(u32, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(&trace).expect("a trace").lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim().split_once('(').map(|(name, _)| name).filter(|name| {
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        });
        if let (Some(name), Ok(pid)) = (name.filter(|name| !not.contains(name)), pid.parse()) {
            *calls.entry((pid, named(name))).or_default() += 1;
        }
    }
    // strace counts in each process.
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((_, name), count) in calls {
        let known = most.entry(name).or_default();
        *known = count.max(*known);
    }
    let all = std::env::var("DAVIT_FAULTS").is_ok_and(|all| all == "all");
    let every =
        most.into_iter().flat_map(|(name, count)| (1..=count).map(move |at| (name.clone(), at)));
    every
        .enumerate()
        .filter(|(n, (_, at))| all || *at == 1 || n % 16 == 0)
        .map(|(_, p)| p)
        .collect()
}

/// Newer than strace: it takes the number.
fn named(name: &str) -> String {
    let number = name.strip_prefix("syscall_0x").map(|hex| u32::from_str_radix(hex, 16));
    number.map_or(name.to_owned(), |number| number.expect("a number").to_string())
}

/// strace ends with all that it has traced.
fn ended(c: &Container) {
    within(Duration::from_secs(5), || leftovers::processes(&c.id).is_empty().then_some(()));
}

/// One injection: what was wrong.
fn round(
    c: &Container,
    case: &Case,
    name: &str,
    inject: &str,
    undisturbed: &Undisturbed,
) -> Vec<String> {
    let mut wrong = Vec::new();
    (case.before)(c);
    let (out, pid) = (c.path("out"), c.path("pid"));
    let _ = (fs::remove_file(&out), fs::remove_file(&pid));
    let trace = format!("trace={name}");
    let options = ["-o", "/dev/null", "-e", &trace, "-e", inject];
    let run = traced(c, case, &options).spawn().wait_or_kill();
    let said = fs::read_to_string(&out).unwrap_or_default();
    let lines = said.lines().filter(|line| !line.starts_with("hint: ")).count();
    match run.map(|run| run.code) {
        None => wrong.push("hangs".to_owned()),
        Some(0) => wrong.extend((case.said)(c, undisturbed)),
        Some(1009) if inject.contains("KILL") => {}
        // In each process the n-th call fails: here also the one that tells of it.
        Some(code) if code == case.code && name.starts_with("write") && said.is_empty() => {}
        // The command line was not read yet.
        Some(1) if lines == 1 => {}
        Some(code) if code == case.code && lines == 1 => {}
        // Of a davit that is not static.
        Some(127) if said.contains("error while loading shared libraries") => {}
        Some(code) => wrong.push(format!("exit code {code}, {said:?}")),
    }
    // What failed must not have left a program with fewer bonds either.
    wrong.extend(program(c, undisturbed));
    let deleted = c.call(&["delete", "--force", &c.id]).within(HANGS).spawn().wait_or_kill();
    match deleted {
        None => wrong.push("delete --force hangs".to_owned()),
        Some(deleted) if deleted.code != 0 => {
            wrong.push(format!("delete --force: {}", deleted.err))
        }
        Some(_) => {}
    }
    ended(c);
    let left = c.leftovers();
    if !left.is_empty() {
        wrong.push(format!("left: {left:?}"));
        leftovers::sweep(&c.id, c.dir());
        let _ = fs::remove_dir_all(c.state_root());
    }
    wrong
}

fn exec(c: &Container) -> Vec<String> {
    words(&["exec", "-d", "--pid-file", &c.path("pid"), &c.id, "sleep", "100"])
}

macro_rules! cases {
    ($(fn $name:ident() => $case:expr;)*) => {$(
        #[test]
        fn $name() {
            davit_only!("leftovers of davit's failures");
            skip_if!(fixture::missing(&["strace"]));
            at_each_system_call(&$case);
        }
    )*};
}

cases! {
    fn create() => Case {
        before: nothing,
        arguments: |_| words(&["create"]),
        makes: true,
        code: 1,
        said: started,
    };
    fn run() => Case {
        before: nothing,
        arguments: |_| words(&["run", "--detach"]),
        makes: true,
        code: 1,
        said: program,
    };
    fn start() => Case {
        before: created,
        arguments: |c| words(&["start", &c.id]),
        makes: false,
        code: 1,
        said: |c, undisturbed| is_status(c, "running").or_else(|| program(c, undisturbed)),
    };
    fn exec_a_process() => Case {
        before: running,
        arguments: exec,
        makes: false,
        code: 255,
        said: second,
    };
    fn kill() => Case {
        before: running,
        arguments: |c| words(&["kill", &c.id, "KILL"]),
        makes: false,
        code: 1,
        said: |c, _| is_status(c, "stopped"),
    };
    fn delete() => Case {
        before: stopped,
        arguments: |c| words(&["delete", &c.id]),
        makes: false,
        code: 1,
        said: |c, _| Some(c.leftovers()).filter(|left| !left.is_empty()).map(|l| format!("{l:?}")),
    };
    fn delete_force() => Case {
        before: running,
        arguments: |c| words(&["delete", "--force", &c.id]),
        makes: false,
        code: 1,
        said: |c, _| {
            let left = c.leftovers().into_iter();
            // strace may not have ended yet.
            let left: Vec<_> = left.filter(|left| !left.contains("strace")).collect();
            (!left.is_empty()).then(|| format!("{left:?}"))
        },
    };
    fn gc() => Case {
        before: abandoned,
        arguments: |_| words(&["gc", "--yes"]),
        makes: false,
        code: 1,
        said: |c, _| {
            let out = fs::read_to_string(c.path("out")).unwrap_or_default();
            let left = c.leftovers();
            (out.contains(": deleted") && !left.is_empty()).then(|| format!("{out}: {left:?}"))
        },
    };
    fn pause() => Case {
        before: running,
        arguments: |c| words(&["pause", &c.id]),
        makes: false,
        code: 1,
        said: |c, _| is_status(c, "paused"),
    };
    fn resume() => Case {
        before: paused,
        arguments: |c| words(&["resume", &c.id]),
        makes: false,
        code: 1,
        said: |c, _| is_status(c, "running"),
    };
    fn update() => Case {
        before: running,
        arguments: |c| words(&["update", "--memory", "50331648", &c.id]),
        makes: false,
        code: 1,
        said: |c, _| {
            let limit = memory_limit(c);
            (limit.as_deref() != Some("50331648")).then(|| format!("the limit is {limit:?}"))
        },
    };
    fn mounts_add() => Case {
        before: running,
        arguments: |c| {
            let mount = config::mount("/mnt", "tmpfs", "faults", &["ro", "nosuid", "noexec"]);
            let file = c.path("mounts.json");
            fs::write(&file, json!([mount]).to_string()).expect("write");
            words(&["mounts", "add", &c.id, &file])
        },
        makes: false,
        code: 1,
        said: |c, _| {
            let (_, pid) = state(c)?;
            let seen = confinement(pid)?;
            (!seen.contains(&ADDED.to_owned())).then(|| format!("no {ADDED}: {seen:#?}"))
        },
    };
}
