//! `davit explain` shows the plan, and the plan is what is performed: on thirty bundles, the
//! operations that `--debug` traces are those that `explain` shows, one by one and in their order.

use std::fs;

use integration::config::{add_mount, drop_namespace, set_userns};
use integration::*;

/// The operations of commands that are not part of the plan: they are the same for every container.
const BESIDE_THE_PLAN: [&str; 13] = [
    "read config.json",
    "plan",
    "lock the container",
    "write the record",
    "write the plan",
    "wait for init",
    "tell init to go on",
    "wait for init to execute the program",
    "wait for the end of init",
    "kill every process",
    "remove the cgroup",
    "remove the state directory",
    "write the pid to --pid-file",
];

/// A change of the default configuration that makes a bundle of its own.
type Change = fn(&mut Value);

fn bundles() -> [(&'static str, Change); 30] {
    [
        ("as it is", |_| ()),
        ("root.readonly", |c| c["root"]["readonly"] = true.into()),
        ("process.cwd", |c| c["process"]["cwd"] = "/made/for/it".into()),
        ("process.user", |c| c["process"]["user"] = json!({ "uid": 7, "gid": 8, "umask": 23 })),
        ("additionalGids", |c| {
            c["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5, 6] });
        }),
        ("no capabilities", |c| {
            drop(c["process"].as_object_mut().map(|p| p.remove("capabilities")))
        }),
        ("privileges after the filter", |c| {
            c["process"]["noNewPrivileges"] = false.into();
            c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        }),
        ("filter", |c| {
            c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["chown"], "action": "SCMP_ACT_ERRNO" }] });
        }),
        ("rlimits", |c| {
            c["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }]);
        }),
        ("oomScoreAdj", |c| c["process"]["oomScoreAdj"] = 100.into()),
        ("scheduler", |c| c["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH" })),
        ("ioPriority", |c| {
            c["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 4 });
        }),
        ("personality", |c| c["linux"]["personality"] = json!({ "domain": "LINUX" })),
        ("hostname and domainname", |c| c["domainname"] = "example.org".into()),
        ("sysctl", |c| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" })),
        ("user namespace", |c| set_userns(c, 100_000, 65_536)),
        ("time namespace", |c| {
            config::push(&mut c["linux"]["namespaces"], json!({ "type": "time" }));
            c["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 60, "nanosecs": 0 } });
        }),
        ("cgroup namespace", |c| {
            config::push(&mut c["linux"]["namespaces"], json!({ "type": "cgroup" }));
        }),
        ("no network namespace", |c| drop_namespace(c, "network")),
        ("no pid namespace", |c| drop_namespace(c, "pid")),
        ("joined namespace", |c| {
            drop_namespace(c, "ipc");
            let ipc = json!({ "type": "ipc", "path": "/proc/self/ns/ipc" });
            config::push(&mut c["linux"]["namespaces"], ipc);
        }),
        ("devices", |c| {
            c["linux"]["devices"] = json!([
                { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438 }
            ]);
        }),
        ("tmpfs with a copy", |c| add_mount(c, "/etc", "tmpfs", "tmpfs", &["tmpcopyup"])),
        ("bind mounts", |c| {
            add_mount(c, "/bound", "bind", "/bin", &["rbind", "ro", "nosuid"]);
            add_mount(c, "/bound2", "none", "/bin", &["bind", "rprivate"]);
        }),
        ("propagation", |c| c["linux"]["rootfsPropagation"] = "rslave".into()),
        ("limits", |c| {
            c["linux"]["resources"]["pids"] = json!({ "limit": 64 });
            c["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864 });
            c["linux"]["resources"]["cpu"] = json!({ "shares": 512 });
        }),
        ("hooks of the runtime", |c| {
            let hooks = json!([{ "path": "/bin/true" }, { "path": "/bin/true", "timeout": 5 }]);
            for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
                c["hooks"][kind] = hooks.clone();
            }
        }),
        ("hooks in the container", |c| {
            for kind in ["createContainer", "startContainer"] {
                c["hooks"][kind] = json!([{ "path": "/bin/true" }]);
            }
        }),
        ("no masked paths", |c| {
            let linux = c["linux"].as_object_mut().expect("linux");
            linux.remove("maskedPaths");
            linux.remove("readonlyPaths");
        }),
        ("all of it", |c| {
            set_userns(c, 100_000, 65_536);
            c["root"]["readonly"] = true.into();
            c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
            c["linux"]["resources"]["pids"] = json!({ "limit": 64 });
            add_mount(c, "/tmp", "bind", "/bin", &["rbind", "ro"]);
            for kind in
                ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
            {
                c["hooks"][kind] = json!([{ "path": "/bin/true" }]);
            }
        }),
    ]
}

#[test]
fn debug_traces_what_explain_shows() {
    davit_only!("it compares two outputs of davit's own");
    skip_if!((!nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned()));
    for (name, change) in bundles() {
        let c = Container::sh("true").with(change);
        c.write();
        let shown = c.call(&["explain", "--format", "json", &c.path("bundle")]).done().ok().json();
        let log = c.path("log");
        let c = c.global(&["--debug", "--log", &log, "--log-format", "json"]);
        c.create().start();
        c.until_status("stopped");
        c.call(&["delete", &c.id]).done().ok();
        let text = fs::read_to_string(&log).expect("a log");
        let entries: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for process in ["runtime", "init"] {
            assert_eq!(
                traced(&entries, process, &c.id),
                steps(&shown, process, &c.id),
                "{name}: {process}"
            );
        }
    }
}

/// The lines of `explain` for a process.
fn steps(shown: &Value, process: &str, id: &str) -> Vec<String> {
    let sections = shown["sections"].as_array().expect("sections").iter();
    let own = sections.filter(|section| section["process"] == process);
    let steps = own.flat_map(|section| section["steps"].as_array().expect("steps"));
    steps.map(|step| step.as_str().expect("a line").replace(id, "ID")).collect()
}

/// The operations of a process as they began, but for those beside the plan. `explain` calls the
/// container `ID`.
fn traced(entries: &[Value], process: &str, id: &str) -> Vec<String> {
    let begun = entries.iter().filter(|entry| entry["event"] == "begin");
    let own = begun.filter(|entry| entry["process"] == process);
    let lines = own.map(|entry| entry["operation"].as_str().expect("a line"));
    let planned = lines.filter(|line| !BESIDE_THE_PLAN.contains(line));
    planned.map(|line| line.replace(id, "ID")).collect()
}
