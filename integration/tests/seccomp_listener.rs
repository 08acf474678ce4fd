//! SCMP_ACT_NOTIFY: an agent outside answers for system calls of the container.

use std::path::Path;
use std::time::Duration;

use integration::*;

/// A seccomp agent: `agent PATH [close]` prints the messages of each connection, and answers for
/// each listener: mkdir fails with ENOMSG, rmdir succeeds without a deed, all else goes on.
const AGENT: &str = r#"
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <signal.h>
#include <unistd.h>
static void answer(int listener)
{
    struct seccomp_notif call;
    struct seccomp_notif_resp reply;
    struct pollfd waits = { .fd = listener, .events = POLLIN };
    for (;;) {
        poll(&waits, 1, -1);
        if (!(waits.revents & POLLIN)) return;
        memset(&call, 0, sizeof call);
        memset(&reply, 0, sizeof reply);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) continue;
        reply.id = call.id;
        if (call.data.nr == SYS_mkdirat) reply.error = -ENOMSG;
#ifdef SYS_mkdir
        else if (call.data.nr == SYS_mkdir) reply.error = -ENOMSG;
        else if (call.data.nr == SYS_rmdir) reply.val = 0;
#endif
        else if (call.data.nr == SYS_unlinkat) reply.val = 0;
        else reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
    }
}
int main(int argc, char **argv)
{
    static char text[65536];
    char rights[CMSG_SPACE(8 * sizeof(int))];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    signal(SIGCHLD, SIG_IGN);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (bind(server, (void *)&address, sizeof address) || listen(server, 8)) return 1;
    puts("listening");
    fflush(stdout);
    for (;;) {
        int connection = accept(server, 0, 0), listener = -1;
        if (argc > 2) { close(connection); continue; }
        struct iovec part = { text, sizeof text - 1 };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = rights, .msg_controllen = sizeof rights };
        ssize_t length = recvmsg(connection, &message, 0), more;
        struct cmsghdr *control = length > 0 ? CMSG_FIRSTHDR(&message) : 0;
        if (!control) { puts("nothing came"); fflush(stdout); close(connection); continue; }
        memcpy(&listener, CMSG_DATA(control), sizeof listener);
        int count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        while ((more = read(connection, text + length, sizeof text - 1 - length)) > 0) length += more;
        text[length] = 0;
        printf("%d %s\n", count, text);
        fflush(stdout);
        close(connection);
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            answer(listener);
            _exit(0);
        }
        close(listener);
    }
}
"#;

/// An agent for `c`, at the path that its profile names.
fn agent(c: &Container, mode: &[&str]) -> Running {
    let program = probe::compile("seccomp-agent", AGENT);
    // A process with the container's id on its command line would count as left behind.
    let mut words = vec![program.to_str().expect("utf-8"), "agent.sock"];
    words.extend(mode);
    let mut agent = c.host(&words).dir(c.dir()).spawn();
    agent.until_out("listening\n");
    agent
}

/// The messages that the agent has received so far.
fn told(agent: &mut Running, connections: usize) -> Vec<Value> {
    let out = call::within(Duration::from_secs(5), || {
        Some(agent.out()).filter(|out| out.lines().count() > connections)
    });
    let out = out.unwrap_or_else(|| panic!("not told {connections} times: {:?}", agent.out()));
    let one = |line: &str| {
        let state = line.strip_prefix("1 ").unwrap_or_else(|| panic!("one descriptor: {line}"));
        serde_json::from_str(state).unwrap_or_else(|error| panic!("{error}: {state:?}"))
    };
    out.lines().skip(1).map(one).collect()
}

fn notifying(script: &str, names: &[&str]) -> Container {
    let c = Container::sh(script);
    let path = c.path("agent.sock");
    c.with(|c| {
        c["annotations"] = json!({ "org.example": "yes" });
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "some \"words\"",
            "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }]
        });
    })
}

const DIRECTORIES: [&str; 4] = ["mkdir", "mkdirat", "rmdir", "unlinkat"];
const SCRIPT: &str = "mkdir /tmp/x 2>&1; rmdir /nowhere && echo gone; ls /tmp";
const ANSWERS: &str = "mkdir: can't create directory '/tmp/x': No message of desired type\ngone\n";

#[test]
fn an_agent_answers() {
    spec!();
    fails_with!("runc", "1.1 does not see the end of such a process here");
    fails_with!("crun", "1.8 does not see the end of such a process here");
    let c = notifying(SCRIPT, &DIRECTORIES);
    let mut agent = agent(&c, &[]);
    assert_eq!(c.run().ok().out, ANSWERS);
    let state = told(&mut agent, 1).remove(0);
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "some \"words\"");
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")));
    assert_eq!(state["state"]["id"], *c.id);
    assert_eq!(state["state"]["bundle"], c.path("bundle"));
    assert_eq!(state["state"]["annotations"]["org.example"], "yes");
    assert!(state["state"]["status"].is_string(), "{state}");
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1), "{state}");
}

#[test]
fn each_process_has_a_connection_of_its_own() {
    spec!();
    fails_with!("runc", "1.1 does not see the end of such a process here");
    fails_with!("crun", "1.8 does not see the end of such a process here");
    let c = notifying("while :; do sleep 0.05; done", &DIRECTORIES);
    let mut agent = agent(&c, &[]);
    c.create().start();
    let init = c.pid();
    assert_eq!(told(&mut agent, 1)[0]["pid"], init);
    assert_eq!(c.exec(&["/bin/sh", "-c", SCRIPT]).ok().out, ANSWERS);
    let state = told(&mut agent, 2).remove(1);
    assert_ne!(state["pid"], init, "{state}");
    assert_eq!(state["state"]["pid"], init, "{state}");
    assert_eq!(state["state"]["status"], "running", "{state}");
}

#[test]
fn the_agent_of_a_new_container_has_its_listener_before_start() {
    davit_only!("the other runtimes' states differ");
    let c = notifying("true", &DIRECTORIES);
    let mut agent = agent(&c, &[]);
    c.create();
    let init = c.pid();
    let state = told(&mut agent, 1).remove(0);
    assert_eq!(state["state"]["status"], "creating", "{state}");
    assert_eq!((&state["pid"], &state["state"]["pid"]), (&json!(init), &json!(init)));
    c.start();
}

#[test]
fn calls_of_the_runtimes_last_steps_may_be_notified() {
    davit_only!("other runtimes wait for ever, or fail");
    // What redirects connections notifies of most of these.
    let names = [
        "sendmsg",
        "sendto",
        "connect",
        "close",
        "bind",
        "recvmsg",
        "fcntl",
        "exit_group",
        "execve",
        "capset",
        "prctl",
        "brk",
        "mmap",
        "munmap",
    ];
    for no_new_privileges in [true, false] {
        let c = notifying("echo fine", &names)
            .with(|c| c["process"]["noNewPrivileges"] = no_new_privileges.into());
        let _agent = agent(&c, &[]);
        assert_eq!(c.run().ok().out, "fine\n");
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_still_told() {
    davit_only!("other runtimes look for it before the filter");
    let c = notifying("true", &["execve"])
        .with_files(|root| std::fs::write(root.join("bin/none"), "").expect("write"))
        .with(|c| c["process"]["args"] = json!(["/bin/none"]));
    std::fs::set_permissions(
        c.rootfs().join("bin/none"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("chmod");
    let _agent = agent(&c, &[]);
    c.run().refuses(&["exec: \"/bin/none\": exec format error"]);
}

#[test]
fn nothing_runs_without_the_agent() {
    spec!();
    let c = notifying("echo ran > /ran", &DIRECTORIES);
    c.run().refuses(&["linux.seccomp.listenerPath", "agent.sock", "connect"]);
    assert!(!c.rootfs().join("ran").exists());
}

#[test]
fn create_and_exec_need_the_agent() {
    davit_only!("about davit's messages");
    let c = notifying("echo fine; while :; do sleep 0.05; done", &DIRECTORIES);
    c.create_call(&[]).done().refuses(&["linux.seccomp.listenerPath", "connect"]);
    c.assert_nothing_left();
    let running = agent(&c, &[]);
    c.create().start();
    assert_eq!(c.status(), "running");
    drop(running);
    std::fs::remove_file(c.dir().join("agent.sock")).expect("rm");
    c.exec(&["true"]).refuses(&["linux.seccomp.listenerPath"]);
}

#[test]
fn an_agent_that_hangs_up() {
    davit_only!("the other runtimes' messages differ");
    let c = notifying("while :; do sleep 0.05; done", &DIRECTORIES);
    let _agent = agent(&c, &["close"]);
    c.run().refuses(&["linux.seccomp.listenerPath", "sendmsg"]);
    c.create_call(&[]).done().refuses(&["linux.seccomp.listenerPath", "sendmsg"]);
    c.assert_nothing_left();
}

#[test]
fn an_agent_that_does_not_take_calls() {
    davit_only!("other runtimes have no deadline");
    use nix::sys::socket::*;
    let c = notifying("true", &DIRECTORIES);
    let busy = |path: &Path| {
        let kind = (AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC);
        let server = socket(kind.0, kind.1, kind.2, None).expect("socket");
        let address = UnixAddr::new(path).expect("address");
        bind(std::os::fd::AsRawFd::as_raw_fd(&server), &address).expect("bind");
        listen(&server, Backlog::new(0).expect("backlog")).expect("listen");
        server
    };
    let path = c.dir().join("agent.sock");
    let _server = busy(&path);
    let _first = std::os::unix::net::UnixStream::connect(&path).expect("connect");
    c.run().refuses(&["linux.seccomp.listenerPath", "connect: no answer within 10 s"]);
}

#[test]
fn the_annotation_of_crun() {
    davit_only!("crun's, and runc has none");
    let mut c = notifying(SCRIPT, &DIRECTORIES);
    let seccomp = c.config["linux"]["seccomp"].as_object_mut().expect("an object");
    let path = seccomp.remove("listenerPath").expect("a path");
    c.config["annotations"]["run.oci.seccomp.receiver"] = path;
    let _agent = agent(&c, &[]);
    assert_eq!(c.run().ok().out, ANSWERS);
}

#[test]
fn flags() {
    davit_only!("the other runtimes' libseccomp is too old for the last one");
    for flags in [
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
    ] {
        let c = notifying(SCRIPT, &DIRECTORIES)
            .with(|c| c["linux"]["seccomp"]["flags"] = flags.clone());
        let _agent = agent(&c, &[]);
        assert_eq!(c.run().ok().out, ANSWERS, "{flags}");
    }
}

#[test]
fn a_path_means_nothing_where_nobody_is_notified() {
    spec!();
    fails_with!("crun", "calls the agent all the same");
    let c = notifying("echo fine", &["mkdir"])
        .with(|c| c["linux"]["seccomp"]["syscalls"][0]["action"] = "SCMP_ACT_ERRNO".into());
    assert_eq!(c.run().ok().out, "fine\n");
}

#[test]
fn what_could_not_work_is_refused() {
    davit_only!("each other runtime accepts some of these, and some then hang");
    type Edit = fn(&mut Value);
    let rows: &[(&str, Edit)] = &[
        ("linux.seccomp.syscalls[0].action", |s| {
            s.as_object_mut().expect("an object").retain(|key, _| !key.starts_with("listener"));
        }),
        ("linux.seccomp.listenerPath", |s| s["listenerPath"] = "agent.sock".into()),
        ("linux.seccomp.defaultAction", |s| s["defaultAction"] = "SCMP_ACT_NOTIFY".into()),
        ("linux.seccomp.syscalls[0].action", |s| s["syscalls"][0]["names"] = json!(["write"])),
        ("linux.seccomp.syscalls[0].action", |s| {
            s["syscalls"][0]["names"] = json!(["sendmsg", "sendmmsg"])
        }),
    ];
    for (field, edit) in rows {
        let c = notifying("true", &["mkdir"]).with(|c| edit(&mut c["linux"]["seccomp"]));
        c.run().refuses(&[field]);
    }
    let c = notifying("true", &["mkdir"]).with(|c| {
        c["linux"]["seccomp"]["listenerPath"] = Value::Null;
        c["linux"]["seccomp"]["syscalls"] = json!([]);
    });
    c.run().refuses(&["linux.seccomp.listenerMetadata"]);
}

/// The agent's end cannot be carried over.
#[test]
fn a_checkpoint_is_refused_by_field() {
    criu!();
    davit_only!("runc quotes CRIU's log");
    let c = notifying("while :; do sleep 0.05; done", &DIRECTORIES);
    let _agent = agent(&c, &[]);
    c.up();
    c.checkpoint_call(&[]).done().refuses(&["linux.seccomp"]);
    assert_eq!(c.status(), "running");
}
