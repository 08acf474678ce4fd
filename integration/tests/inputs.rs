//! What is read through pipes: config.json, the process of `exec`, the limits of `update`.

use std::time::Duration;

use integration::call::within;
use integration::*;
use nix::sys::signal::Signal;

/// A FIFO with a writer that begins after a while.
fn late_fifo(c: &Container, text: &str) -> (String, std::thread::JoinHandle<()>) {
    let path = c.path(&format!("fifo-{}", text.len()));
    nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let (target, text) = (path.clone(), text.to_owned());
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        std::fs::write(target, text).expect("write");
    });
    (path, writer)
}

/// bash's process substitution, which gives /dev/fd/N: `<(cat FILE)` in the words.
fn substituted(c: &Container, words: &str) -> Outcome {
    let runtime = runtime::runtime().path.display();
    let root = c.state_root();
    let line = format!("exec {runtime} --root {} {words}", root.display());
    c.host(&["bash", "-c", &line]).dir(c.bundle()).done()
}

#[test]
fn the_process_of_exec() {
    spec!();
    let c = Container::sleeper();
    c.create().start();
    let process = |word: &str| {
        let mut process = c.config["process"].clone();
        process["args"] = json!(["echo", word]);
        process.to_string()
    };
    let exec = |path: &str| c.call(&["exec", "--process", path, &c.id]);
    assert_eq!(exec("/dev/stdin").input(&process("stdin")).done().exits(0).out, "stdin\n");
    assert_eq!(exec("/dev/fd/0").input(&process("fd")).done().exits(0).out, "fd\n");
    let (fifo, writer) = late_fifo(&c, &process("fifo"));
    assert_eq!(exec(&fifo).done().exits(0).out, "fifo\n");
    writer.join().expect("writer");
    let file = c.path("process.json");
    std::fs::write(&file, process("substituted")).expect("file");
    let run = substituted(&c, &format!("exec --process <(cat {file}) {}", c.id));
    assert_eq!(run.exits(0).out, "substituted\n");
    c.kill("KILL").ok();
}

#[test]
fn the_limits_of_update() {
    spec!();
    let c = Container::sleeper();
    c.create().start();
    let update = |path: &str| c.call(&["update", "--resources", path, &c.id]);
    let limits = |pids: u32| json!({ "pids": { "limit": pids } }).to_string();
    update("/dev/stdin").input(&limits(100)).done().exits(0);
    update("-").input(&limits(101)).done().exits(0);
    let (fifo, writer) = late_fifo(&c, &limits(1020));
    update(&fifo).done().exits(0);
    writer.join().expect("writer");
    c.kill("KILL").ok();
}

#[test]
fn the_configuration() {
    davit_only!("runc has no --config");
    let c = Container::sh("echo fine");
    let text = c.config.to_string();
    // The bundle's own is not looked at.
    let run = |path: &str| {
        let bundle = c.path("bundle");
        c.call(&["run", "--bundle", &bundle, "--config", path, &c.id])
    };
    assert_eq!(run("/dev/stdin").input(&text).done().exits(0).out, "fine\n");
    let (fifo, writer) = late_fifo(&c, &text);
    assert_eq!(run(&fifo).done().exits(0).out, "fine\n");
    writer.join().expect("writer");
    let file = c.path("elsewhere.json");
    std::fs::write(&file, &text).expect("file");
    let substituted = substituted(&c, &format!("run --config <(cat {file}) {}", c.id));
    assert_eq!(substituted.exits(0).out, "fine\n");
    // It is read once, also where its unknown fields are looked for.
    let unknown = text.replacen('{', "{\"nonsense\":1,", 1);
    let bundle = c.path("bundle");
    let explain = c.call(&["explain", "--config", "/dev/stdin", &bundle]).input(&unknown).done();
    assert!(explain.exits(0).out.contains("nonsense"));
    c.assert_nothing_left();
    let (fifo, writer) = late_fifo(&c, "");
    assert!(run(&fifo).done().fails().err.contains(&fifo), "an empty one");
    writer.join().expect("writer");
    let broken = run("/dev/stdin").input("{").done().fails();
    assert!(broken.err.contains("/dev/stdin: "), "{broken:?}");
    let long = run("/dev/stdin").stdin(std::fs::File::open("/dev/zero").expect("zero")).done();
    assert!(long.fails().err.contains("neither a regular file nor a pipe"));
}

/// A pipe without a writer does not block a command beyond its deadline, or a signal.
#[test]
fn a_silent_pipe_can_be_left() {
    davit_only!("promised by davit only");
    let c = Container::sleeper();
    c.create().start();
    let fifo = c.path("fifo");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let other = Container::new(&["true"]);
    let bundle = other.path("bundle");
    for (c, words) in [
        (&c, &["exec", "--process", &fifo, &c.id][..]),
        (&c, &["update", "--resources", &fifo, &c.id]),
        (&other, &["run", "--bundle", &bundle, "--config", &fifo, &other.id]),
        (&other, &["create", "--bundle", &bundle, "--config", &fifo, &other.id]),
    ] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            // A caller in the background of a shell ignores SIGINT, and so would davit.
            let through = ["env", "--default-signal=INT,TERM"];
            let mut waiting = c.call_through(&through, words).spawn();
            std::thread::sleep(Duration::from_millis(300));
            assert!(!waiting.ended(), "{words:?}");
            waiting.signal(signal);
            let ended = within(Duration::from_secs(5), || waiting.ended().then_some(()));
            assert!(ended.is_some(), "{words:?} {signal}");
            waiting.wait();
        }
    }
    other.assert_nothing_left();
    c.kill("KILL").ok();
}
