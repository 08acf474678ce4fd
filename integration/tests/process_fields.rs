//! How the container's processes are scheduled, and where they may run and allocate.

use integration::*;

/// What `field` of `process` makes of one script, in the container's first process and in `exec`.
fn in_both(field: &str, value: &Value, script: &str) -> [String; 2] {
    let run = Container::sh(script).with(|c| c["process"][field] = value.clone()).run().ok().out;
    let c = Container::sleeper().with(|c| c["process"][field] = value.clone());
    c.create().start();
    [run, c.ask(script)]
}

/// Fields 18, 19, 40 and 41 of proc_pid_stat(5): priority, nice, static priority and policy, of a
/// child of the shell.
const SCHEDULING: &str = "cut -d' ' -f18,19,40,41 /proc/self/stat; true";

#[test]
fn scheduler() {
    davit_only!("the runtimes of distributions are too old");
    for (scheduler, seen) in [
        (json!({ "policy": "SCHED_OTHER", "nice": -3 }), "17 -3 0 0"),
        (json!({ "policy": "SCHED_BATCH", "nice": 5 }), "25 5 0 3"),
        // Its niceness is the caller's: it counts for nothing.
        (json!({ "policy": "SCHED_IDLE" }), " 0 5"),
        (
            json!({ "policy": "SCHED_BATCH", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }),
            // What the shell forks is an ordinary process again.
            "20 0 0 3",
        ),
    ] {
        for out in in_both("scheduler", &scheduler, SCHEDULING) {
            let out = out.trim();
            let exact = !seen.starts_with(' ');
            assert!(if exact { out == seen } else { out.ends_with(seen) }, "{scheduler}: {out}");
        }
    }
}

#[test]
fn scheduler_of_an_ordinary_user() {
    davit_only!("the runtimes of distributions are too old");
    let c = Container::sh(SCHEDULING).with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        c["process"]["scheduler"] = json!({ "policy": "SCHED_OTHER", "nice": -3 });
    });
    assert_eq!(c.run().ok().out.trim(), "17 -3 0 0");
}

#[test]
fn scheduler_faults_are_named() {
    davit_only!("its own messages");
    for (scheduler, field) in [
        (json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler.nice"),
        (json!({ "policy": "SCHED_FIFO" }), "process.scheduler.priority"),
        (json!({ "policy": "SCHED_ISO" }), "process.scheduler.policy"),
        (json!({ "policy": "SCHED_DEADLINE" }), "process.scheduler.runtime"),
        (json!({ "policy": "x" }), "process.scheduler.policy"),
    ] {
        let c = Container::new(&["true"]).with(|c| c["process"]["scheduler"] = scheduler);
        c.run().refuses(&[field]);
    }
}

#[test]
fn io_priority() {
    davit_only!("the runtimes of distributions are too old");
    // The words of ionice(1); busybox's knows them too.
    for (class, priority, seen) in [
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2"),
        ("IOPRIO_CLASS_BE", 7, "best-effort: prio 7"),
        ("IOPRIO_CLASS_IDLE", 4, "idle"),
    ] {
        let value = json!({ "class": class, "priority": priority });
        for out in in_both("ioPriority", &value, "ionice -p $$") {
            assert!(out.trim().starts_with(seen), "{value}: {out}");
        }
    }
    let c = Container::sh("ionice -p $$").with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        c["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_RT", "priority": 0 });
    });
    assert!(c.run().ok().out.starts_with("realtime: prio 0"));
}

#[test]
fn io_priority_faults_are_named() {
    davit_only!("its own messages");
    for (value, field) in [
        (json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }), "process.ioPriority.priority"),
        (json!({ "class": "IOPRIO_CLASS_NONE", "priority": 0 }), "process.ioPriority.class"),
    ] {
        let c = Container::new(&["true"]).with(|c| c["process"]["ioPriority"] = value);
        c.run().refuses(&[field]);
    }
}

#[test]
fn memory_policy() {
    davit_only!("the runtimes of distributions are too old");
    skip_if!((!std::path::Path::new("/proc/self/numa_maps").exists()).then_some("needs NUMA"));
    // Second word of a line of numa_maps (numa(7)).
    let script = "tail -n1 /proc/self/numa_maps | cut -d' ' -f2";
    for (policy, seen) in [
        (json!({ "mode": "MPOL_DEFAULT" }), "default"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), "bind:0"),
        (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": [] }), "interleave:0"),
        (
            json!({ "mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }),
            "prefer=static:0",
        ),
        (json!({ "mode": "MPOL_LOCAL", "nodes": "" }), "local"),
    ] {
        let with = |c: &mut Value| c["linux"]["memoryPolicy"] = policy.clone();
        assert_eq!(Container::sh(script).with(with).run().ok().out.trim(), seen, "{policy}");
        let c = Container::sleeper().with(with);
        c.create().start();
        assert_eq!(c.ask(script).trim(), seen, "exec: {policy}");
    }
}

#[test]
fn memory_policy_faults_are_named() {
    davit_only!("its own messages");
    for (policy, field) in [
        (json!({ "mode": "MPOL_BIND" }), "linux.memoryPolicy.nodes"),
        (json!({ "mode": "MPOL_BIND", "nodes": "2-1" }), "linux.memoryPolicy.nodes"),
        (json!({ "mode": "MPOL_X", "nodes": "0" }), "linux.memoryPolicy.mode"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["x"] }), "linux.memoryPolicy.flags"),
        // A node that this host does not have: the kernel's answer, with the field.
        (json!({ "mode": "MPOL_BIND", "nodes": "1023" }), "linux.memoryPolicy"),
    ] {
        let c = Container::new(&["true"]).with(|c| c["linux"]["memoryPolicy"] = policy);
        c.run().refuses(&[field]);
    }
}

/// Prints the processors that a process in a container may run on.
const PROCESSORS: &str = "grep Cpus_allowed_list /proc/self/status | cut -f2";

/// The processors that a process may run on, as the kernel lists them.
fn processors(pid: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("Cpus_allowed_list").trim().to_owned()
}

#[test]
fn exec_cpu_affinity() {
    davit_only!("the runtimes of distributions are too old");
    let all = processors("self");
    skip_if!((all != "0" && !all.starts_with("0-")).then_some("needs the processors from 0"));
    let running = |affinity: Value| {
        let c = Container::sleeper().with(|c| c["process"]["execCPUAffinity"] = affinity);
        c.create().start();
        // It is not for init.
        assert_eq!(processors(&c.pid().to_string()), all);
        c
    };
    assert_eq!(running(json!({ "final": "0" })).ask(PROCESSORS).trim(), "0");
    assert_eq!(running(json!({ "initial": "0", "final": all })).ask(PROCESSORS).trim(), all);
    assert_eq!(running(json!({ "initial": "", "final": "" })).ask(PROCESSORS).trim(), all);
    // Without a final list the kernel decides (config.md): before Linux 6.2 a cpuset gave all that
    // it has.
    let kept = if host::kernel() < (6, 2) { all.as_str() } else { "0" };
    assert_eq!(running(json!({ "initial": "0" })).ask(PROCESSORS).trim(), kept);
}

/// The containers of a service that a manager confines to some processors run on all that their
/// cpuset has.
#[test]
fn the_affinity_of_the_caller_is_not_the_containers() {
    davit_only!("runc does it from 1.3.1 on, crun from 1.9.2");
    let all = processors("self");
    skip_if!((!all.starts_with("0-")).then_some("needs several processors"));
    let confined = |c: Container| c.by(&["taskset", "-c", "0"]);
    assert_eq!(confined(Container::sh(PROCESSORS)).run().ok().out.trim(), all);

    let c = confined(Container::sh("echo ready; exec sleep 1000"));
    let seen = c.path("seen");
    let hook =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("{PROCESSORS} >{seen}")] }]);
    let c = c.with(|c| c["hooks"] = json!({ "createRuntime": hook }));
    c.write();
    let mut foreground = c.run_call(&[]).spawn();
    foreground.until_out("ready");
    assert_eq!(processors(&c.pid().to_string()), all);
    assert_eq!(c.ask(PROCESSORS).trim(), all);
    // What is the caller's own stays as it wanted it.
    assert_eq!(processors(&foreground.pid().to_string()), "0");
    assert_eq!(std::fs::read_to_string(seen).expect("the hook").trim(), "0");
    c.kill("KILL").ok();
    foreground.wait().exits(137);
}

/// Nothing that a process was set to on its way holds it back.
#[test]
fn a_cpuset_that_grows_is_felt() {
    spec!();
    skip_if!(host::missing_controllers());
    let all = processors("self");
    skip_if!((!all.starts_with("0-")).then_some("needs several processors"));
    let cpu = json!({ "cpus": "0", "mems": "0" });
    let c = Container::sleeper().with(|c| c["linux"]["resources"]["cpu"] = cpu);
    c.create().start();
    assert_eq!(processors(&c.pid().to_string()), "0");
    c.call(&["update", "--cpuset-cpus", &all, &c.id]).done().ok();
    assert_eq!(processors(&c.pid().to_string()), all);
}

#[test]
fn exec_cpu_affinity_faults_are_named() {
    davit_only!("its own messages");
    for (affinity, field) in [
        (json!({ "initial": "1-0" }), "process.execCPUAffinity.initial"),
        (json!({ "final": "x" }), "process.execCPUAffinity.final"),
        (json!({ "final": "1024" }), "process.execCPUAffinity.final"),
    ] {
        let c = Container::new(&["true"]).with(|c| c["process"]["execCPUAffinity"] = affinity);
        c.run().refuses(&[field]);
    }
    // A CPU that this host does not have is reported by `exec`.
    for list in ["initial", "final"] {
        let c = Container::sleeper()
            .with(|c| c["process"]["execCPUAffinity"] = json!({ list: "1023" }));
        c.create().start();
        c.exec(&["true"]).refuses(&[&format!("process.execCPUAffinity.{list}")]);
    }
}
