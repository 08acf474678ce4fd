//! `--debug` and `run --timings`: every operation as it is performed, by whichever process performs
//! it (D2); and the end of a program that a signal has ended.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use integration::*;

/// The entries of a JSON log.
fn entries(log: &str) -> Vec<Value> {
    let text = fs::read_to_string(log).expect("log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_operation_begins_and_ends() {
    davit_only!("a debug log of the runtime's own");
    let c = Container::sh("true").with(|c| {
        c["linux"]["resources"]["pids"] = json!({ "limit": 100 });
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        c["hooks"]["createRuntime"] = json!([{ "path": "/bin/true" }]);
        c["hooks"]["poststop"] = json!([{ "path": "/bin/true" }]);
    });
    c.write();
    let log = c.path("log");
    let c = c.global(&["--debug", "--log", &log, "--log-format", "json"]);
    c.create().start();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    let (mut begins, ends): (Vec<Value>, Vec<Value>) =
        entries(&log).into_iter().partition(|entry| entry["event"] == "begin");
    for end in &ends {
        let same = |begin: &Value| {
            ["process", "operation"].iter().all(|member| begin[member] == end[member])
        };
        let at = begins.iter().position(same);
        begins.remove(at.unwrap_or_else(|| panic!("{end} has not begun: {begins:#?}")));
    }
    // What executes the user's program does not come back.
    assert_eq!(begins.len(), 1, "{begins:?}");
    assert!(begins[0]["msg"].as_str().is_some_and(|msg| msg.starts_with("init: exec \"/bin/sh\"")));
}

/// An operator who watches a hang sees the operation that hangs, and in which process.
#[test]
fn what_hangs_is_the_last_word() {
    davit_only!("a debug log of the runtime's own");
    for (kind, process) in
        [("createRuntime", "runtime"), ("createContainer", "init"), ("startContainer", "init")]
    {
        let c = Container::sh("true");
        // A hook of the host outlives the runtime, and is found by its name.
        let name = if kind == "startContainer" { "sleep" } else { c.id.as_str() };
        let hook = json!({ "path": "/bin/sleep", "args": [name, "1000"] });
        let c = c.with(|c| c["hooks"][kind] = json!([hook]));
        let log = c.path("log");
        let c = c.global(&["--debug", "--log", &log]);
        let running = c.run_call(&[]).spawn();
        let hook = format!("{process}: hooks.{kind}[0]");
        let read = || fs::read_to_string(&log).unwrap_or_default();
        let seen = call::within(Duration::from_secs(10), || read().contains(&hook).then_some(()));
        assert!(seen.is_some(), "{kind}: {}", read());
        assert!(!read().contains(&format!("{hook} \\\"/bin/sleep\\\": done")), "{}", read());
        c.delete().ok();
        drop(running);
        leftovers::sweep(&c.id, c.dir());
    }
}

#[test]
fn other_commands_tell_theirs() {
    davit_only!("a debug log of the runtime's own");
    let c = Container::sleeper();
    let global = |words: &[&str]| {
        let all = [&["--debug"], words].concat();
        c.call(&all).done()
    };
    c.write();
    global(&["create", "--bundle", &c.path("bundle"), &c.id]).exits(0);
    for (words, told) in [
        (&["start", &c.id][..], "runtime: tell init to go on: done in "),
        (&["exec", &c.id, "true"], "init: join the namespaces of the container"),
        (&["update", "--pids-limit", "50", &c.id], "pids.max = \"50\": done in "),
        (&["pause", &c.id], "runtime: freeze every process: done in "),
        (&["resume", &c.id], "runtime: thaw every process: done in "),
        (&["delete", "--force", &c.id], "runtime: kill every process: done in "),
    ] {
        let said = global(words).exits(0);
        assert!(said.err.contains(told), "{words:?}: {said:#?}");
    }
    // A failure is logged by the process in which it happens.
    let c = Container::sh("true");
    let c = c.with(|c| config::add_mount(c, "/x", "nosuchfs", "x", &[]));
    let failed = c.global(&["--debug"]).run_call(&[]).done().fails();
    assert!(
        failed.err.contains("debug: init: mounts[7]") && failed.err.contains(": failed after "),
        "{failed:#?}"
    );
}

#[test]
fn as_json_they_are_objects_that_containerd_skips() {
    davit_only!("a debug log of the runtime's own");
    let c = Container::new(&["/nosuch"]);
    let log = c.path("log");
    let c = c.global(&["--debug", "--log", &log, "--log-format", "json"]);
    c.create_call(&[]).done().says(&["nosuch"]);
    let entries = entries(&log);
    let mut by_process: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry["level"] == "debug") {
        *by_process.entry(entry["process"].as_str().expect("process")).or_default() += 1;
        assert!(entry["operation"].is_string() && entry["time"].is_string(), "{entry}");
        match entry["event"].as_str() {
            Some("begin") => assert!(entry.get("microseconds").is_none(), "{entry}"),
            Some("end") => assert!(entry["microseconds"].is_u64(), "{entry}"),
            _ => panic!("{entry}"),
        }
    }
    assert!(by_process["runtime"] > 10 && by_process["init"] > 10, "{by_process:?}");
    let last = entries.last().expect("entries");
    assert!(
        last["level"] == "error" && last["msg"].as_str().is_some_and(|msg| msg.contains("nosuch")),
        "{last}"
    );
}

/// The container has what it has without.
#[test]
fn nothing_of_it_reaches_the_program_or_a_hook() {
    davit_only!("a debug log of the runtime's own");
    let script = "ls -l /proc/self/fd | sed 's/.* -> //' >$LOG";
    let seen = |global: &[&str], options: &[&str]| {
        let c = Container::sh("ls /proc/self/fd; echo; umask; id").with_log();
        let hook_log = c.path("log/hook");
        let c = c.with(|c| {
            let hook = json!({
                "path": "/bin/sh", "args": ["sh", "-c", script], "env": [format!("LOG={hook_log}"), "PATH=/bin"]
            });
            for kind in ["createRuntime", "createContainer", "startContainer"] {
                c["hooks"][kind] = json!([hook]);
            }
        });
        let c = c.global(global);
        let run = c.run_call(options).done().exits(0);
        (run.out, fs::read_to_string(hook_log).expect("the hook's").lines().count())
    };
    let plain = seen(&[], &[]);
    assert_eq!(seen(&["--debug"], &[]), plain);
    let log = tempfile::NamedTempFile::new().expect("a file");
    let log = log.path().to_str().expect("utf-8");
    assert_eq!(seen(&["--debug", "--log", log, "--log-format", "json"], &[]), plain);
    let timings = tempfile::tempdir().expect("a directory");
    let file = timings.path().join("trace.json");
    assert_eq!(seen(&["--debug"], &["--timings", file.to_str().expect("utf-8")]), plain);
}

#[test]
fn timings_are_a_trace_and_a_summary() {
    davit_only!("timings of the runtime's own");
    let c = Container::sh("echo ran");
    let file = c.path("trace.json");
    fs::write(&file, "an old one").expect("write");
    let run = c.run_call(&["--timings", &file]).done().exits(0);
    assert_eq!(run.out, "ran\n");
    for words in ["davit: timings: ", "init     rootfs", "runtime  plan", "slowest:"] {
        assert!(run.err.contains(words), "{words}: {run:#?}");
    }
    let events: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(&file).expect("trace")).expect("JSON");
    let mut open: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for event in &events {
        let thread = event["tid"].as_u64().expect("tid");
        match event["ph"].as_str() {
            Some("B") => open.entry(thread).or_default().push(event),
            Some("E") => {
                let begin = open.get_mut(&thread).and_then(Vec::pop).expect("its begin");
                assert_eq!(begin["name"], event["name"]);
                assert!(begin["ts"].as_u64() <= event["ts"].as_u64(), "{begin} {event}");
            }
            _ => assert_eq!(event["ph"], "M", "{event}"),
        }
    }
    let left: Vec<&&Value> = open.values().flatten().collect();
    assert!(
        left.iter()
            .all(|event| event["name"].as_str().is_some_and(|name| name.starts_with("exec "))),
        "{left:?}"
    );
    // One that cannot be written is an error before anything is made.
    c.run_call(&["--timings", "/nosuch/trace"]).done().refuses(&["--timings /nosuch/trace"]);
    c.assert_nothing_left();
}

#[test]
fn a_start_that_fails_has_its_timings_too() {
    davit_only!("timings of the runtime's own");
    let c = Container::new(&["/nosuch"]);
    let file = c.path("trace.json");
    let run = c.run_call(&["--timings", &file]).done().says(&["nosuch", "slowest:"]);
    let trace = fs::read_to_string(&file).expect("trace");
    assert!(serde_json::from_str::<Vec<Value>>(&trace).is_ok(), "{run:#?}");
    c.assert_nothing_left();
}

#[test]
fn a_signal_that_ends_the_program_is_explained() {
    davit_only!("other runtimes say nothing");
    // SIGSYS, by the filter.
    let filtered = |c: &mut Value| {
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }
        ] });
    };
    let run = Container::new(&["mkdir", "/x"]).with(filtered).run().exits(128 + 31);
    assert!(run.err.contains("SIGSYS") && run.err.contains("linux.seccomp"), "{run:#?}");
    assert!(run.err.contains("hint: ") && run.err.contains("dmesg"), "{run:#?}");
    let c = Container::sleeper().with(filtered);
    c.create().start();
    let exec = c.exec(&["mkdir", "/x"]).exits(128 + 31);
    assert!(exec.err.contains("SIGSYS") && exec.err.contains("dmesg"), "{exec:#?}");
    let exec = c.exec(&["sh", "-c", "kill -SEGV $$"]).exits(128 + 11);
    assert_eq!(exec.err, "davit: the program was ended by SIGSEGV\n");
    // Killed by another process.
    let c = Container::sh("echo up; while :; do sleep 0.05; done");
    let mut run = c.run_call(&[]).spawn();
    run.until_out("up");
    c.kill("KILL").ok();
    let run = run.wait().exits(128 + 9);
    assert_eq!(run.err, "davit: the program was ended by SIGKILL\n");
    // A signal that was passed on is no surprise, and an exit code of the program's own is its own.
    let c = Container::sh("trap - INT; echo up; while :; do sleep 0.05; done").with(|c| {
        config::drop_namespace(c, "pid");
    });
    let mut run = c.run_call(&[]).spawn();
    run.until_out("up");
    run.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(run.wait().exits(128 + 2).err, "");
    assert_eq!(Container::sh("exit 139").run().exits(139).err, "");
}
