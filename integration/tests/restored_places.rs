//! Namespaces and cgroups of a restored container.

use std::fs;
use std::path::Path;

use integration::config::{add_mount, drop_namespace, set_namespace, set_userns};
use integration::limits::{file, limited};
use integration::*;

/// Answers each connection to a port with the next number; on its own connection of long standing
/// it does so each time /again is there.
const SERVER: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static struct sockaddr_in at(int port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}
int main(int argc, char **argv)
{
    struct sockaddr_in here = at(atoi(argv[1]));
    int one = 1, n = 0, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (void *)&here, sizeof here) || listen(server, 8)) { perror("listen"); return 1; }
    if (argc > 2) {
        int client = socket(AF_INET, SOCK_STREAM, 0), peer;
        if (connect(client, (void *)&here, sizeof here)) { perror("connect"); return 1; }
        peer = accept(server, 0, 0);
        for (;; usleep(20000)) {
            char c = 0;
            if (write(client, "x", 1) != 1 || read(peer, &c, 1) != 1 || c != 'x') { perror("echo"); return 1; }
            FILE *file = fopen("/dev/shm/n", "a");
            fprintf(file, "%d\n", ++n);
            fclose(file);
        }
    }
    for (;;) {
        int peer = accept(server, 0, 0);
        dprintf(peer, "answer %d\n", ++n);
        close(peer);
    }
}
"#;

fn server(words: &[&str]) -> Container {
    let all = [&["/bin/server"], words].concat();
    Container::new(&all).with_files(|root| probe::install(root, "server", SERVER))
}

#[track_caller]
fn answer(c: &Container, port: u16) -> String {
    let ask = format!("nc 127.0.0.1 {port} </dev/null");
    let said = call::within(call::DEADLINE, || {
        let said = c.exec(&["sh", "-c", &ask]);
        (said.code == 0 && !said.out.is_empty()).then_some(said.out)
    });
    said.unwrap_or_else(|| panic!("no answer: {}", c.state()))
}

#[test]
fn a_server_in_a_network_namespace_of_its_own() {
    criu!();
    fails_with!("runc", "the namespace is empty after its restore, without even an address on lo");
    let c = server(&["8080"]);
    c.up();
    assert_eq!(answer(&c, 8080), "answer 1\n");
    c.moves_on();
    assert_eq!(answer(&c, 8080), "answer 2\n");
    assert_eq!(c.ask("ip addr show lo | grep -c 127.0.0.1/8"), "1\n");
}

#[test]
fn an_established_connection_needs_a_flag() {
    criu!();
    fails_with!("runc", "its restore of one fails");
    let c = server(&["8080", "connected"]);
    c.up();
    let before = c.counts_beyond(3);
    c.checkpoint_call(&[]).done().refuses(&["connect", "--tcp-established"]);
    let before = c.counts_beyond(before);
    c.checkpoint(&["--tcp-established"]);
    c.restore(&["--tcp-established"]);
    c.counts_beyond(before + 3);
}

/// What engines do: the network namespace is theirs, and is a new one at the restore.
#[test]
fn a_server_in_a_network_namespace_by_path() {
    criu!();
    let pod = Container::sleeper();
    pod.create().start();
    let path = |pod: &Container| format!("/proc/{}/ns/net", pod.pid());
    let mut c = server(&["8080"]).with(|c| set_namespace(c, "network", Some(&path(&pod))));
    c.up();
    assert_eq!(answer(&c, 8080), "answer 1\n");
    c.checkpoint(&[]);
    let other = Container::sleeper();
    other.create().start();
    set_namespace(&mut c.config, "network", Some(&path(&other)));
    c.restore(&[]);
    assert_eq!(host::namespace_of(c.pid(), "net"), host::namespace_of(other.pid(), "net"));
    assert_eq!(answer(&c, 8080), "answer 2\n");
    assert_eq!(answer(&other, 8080), "answer 3\n");
}

/// What podman does with a network namespace that is not its own.
#[test]
fn an_empty_network_namespace() {
    criu!();
    let c = Container::counter();
    c.up();
    let counted = c.counts_beyond(3);
    c.checkpoint(&["--empty-ns", "network"]);
    c.restore(&["--empty-ns", "network"]).counts_beyond(counted);
    assert_ne!(host::namespace_of(c.pid(), "net"), host::namespace("net"));
}

#[test]
fn namespaces_of_its_own_are_new_ones() {
    criu!();
    let c = Container::counter().with(|c| c["hostname"] = "kept".into());
    c.up();
    let kinds = ["pid", "net", "ipc", "uts", "mnt"];
    let all = |c: &Container| kinds.map(|kind| host::namespace_of(c.pid(), kind));
    let before = all(&c);
    let counted = c.counts_beyond(3);
    // So none of the former numbers is used again.
    c.checkpoint(&["--leave-running"]);
    let other = Container::counter().with(|c| c["hostname"] = "kept".into());
    other.restore_from(&c.image(), &[]);
    other.counts_beyond(counted);
    for (after, before) in all(&other).iter().zip(&before) {
        assert_ne!(after, before);
    }
    for (after, kind) in all(&other).iter().zip(kinds) {
        assert_ne!(*after, host::namespace(kind));
    }
    assert_eq!(other.ask("hostname"), "kept\n");
}

#[test]
fn the_namespaces_of_a_pod() {
    criu!();
    let pod = || {
        let pod = Container::sleeper().with(|c| c["hostname"] = "pod".into());
        pod.create().start();
        pod
    };
    let kinds = [("network", "net"), ("uts", "uts"), ("ipc", "ipc")];
    let join = |c: &mut Value, pod: &Container| {
        for (name, file) in kinds {
            set_namespace(c, name, Some(&format!("/proc/{}/ns/{file}", pod.pid())));
        }
        c.as_object_mut().expect("config").remove("hostname");
    };
    let first = pod();
    let mut c = Container::counter().with(|c| join(c, &first));
    c.up();
    let counted = c.counts_beyond(3);
    c.checkpoint(&[]);
    let second = pod();
    join(&mut c.config, &second);
    c.restore(&[]);
    c.counts_beyond(counted);
    for (_, file) in kinds {
        assert_eq!(host::namespace_of(c.pid(), file), host::namespace_of(second.pid(), file));
    }
}

/// The processes get the numbers that they had: these must be free, which they are when the host's
/// init has reaped the first process.
#[test]
fn a_pid_namespace_by_path() {
    criu!();
    let pod = Container::sleeper();
    pod.create().start();
    let path = format!("/proc/{}/ns/pid", pod.pid());
    let c = Container::counter().with(|c| set_namespace(c, "pid", Some(&path)));
    c.up();
    let (pid, counted) = (c.pid(), c.counts_beyond(3));
    c.checkpoint(&[]);
    let is_reaped = || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(());
    assert!(call::within(call::DEADLINE, is_reaped).is_some());
    c.restore(&[]);
    c.counts_beyond(counted);
    assert_eq!(host::namespace_of(c.pid(), "pid"), host::namespace_of(pod.pid(), "pid"));
}

#[test]
fn the_hosts_network_and_host_name() {
    criu!();
    let c = Container::counter().with(|c| {
        for kind in ["network", "uts", "ipc"] {
            drop_namespace(c, kind);
        }
        c.as_object_mut().expect("config").remove("hostname");
    });
    c.up();
    let counted = c.counts_beyond(3);
    c.moves_on();
    c.counts_beyond(counted);
    for kind in ["net", "uts", "ipc"] {
        assert_eq!(host::namespace_of(c.pid(), kind), host::namespace(kind));
    }
}

/// In the user namespace CRIU reads the image as that namespace's root. runc makes a directory that
/// it cannot search; where the caller has made it, it does.
fn make_image_for_runc(c: &Container) {
    if runtime::runtime().name == "runc" {
        fs::create_dir(c.image()).expect("mkdir");
    }
}

#[test]
fn a_user_namespace() {
    criu!();
    let c = Container::counter().with(|c| set_userns(c, 100_000, 65536));
    c.give_to(100_000);
    make_image_for_runc(&c);
    c.up();
    let counted = c.counts_beyond(3);
    c.moves_on();
    c.counts_beyond(counted);
    assert_ne!(host::namespace_of(c.pid(), "user"), host::namespace("user"));
    let map = fs::read_to_string(format!("/proc/{}/uid_map", c.pid())).expect("uid_map");
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(c.ask("id -u; touch /new; stat -c %u /new; echo >/dev/null"), "0\n0\n");
}

#[test]
fn a_user_namespace_with_a_bind_of_another_owner() {
    criu!();
    let c = Container::counter();
    let data = c.path("data");
    fs::create_dir(&data).expect("mkdir");
    c.give_to(100_000);
    let c = c.with(|c| {
        set_userns(c, 100_000, 65536);
        add_mount(c, "/mnt", "bind", &data, &["rbind"]);
        add_mount(c, "/tmp", "tmpfs", "tmpfs", &["mode=1777"]);
    });
    make_image_for_runc(&c);
    c.up();
    c.ask("echo kept >/tmp/kept");
    c.moves_on();
    assert_eq!(c.ask("cat /tmp/kept; echo new >/mnt/new; stat -c %u /mnt/new"), "kept\n0\n");
}

#[test]
fn a_cgroup_namespace() {
    criu!();
    let c = Container::counter().with(|c| set_namespace(c, "cgroup", None));
    c.up();
    let counted = c.counts_beyond(3);
    assert_eq!(c.ask("cut -d: -f3 /proc/self/cgroup | sort -u"), "/\n");
    c.moves_on();
    c.counts_beyond(counted);
    assert_eq!(c.ask("cut -d: -f3 /proc/1/cgroup | sort -u"), "/\n");
}

#[test]
fn a_time_namespace() {
    criu!();
    davit_only!("the other runtimes here know no time namespaces");
    let c = Container::counter().with(|c| {
        set_namespace(c, "time", None);
        c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
    });
    c.up();
    c.counts_beyond(3);
    c.moves_on();
    let uptime = c.ask("cut -d. -f1 /proc/uptime");
    assert!(uptime.trim().parse::<u64>().expect("seconds") > 1_000_000, "{uptime}");
}

#[test]
fn limits_of_the_cgroup() {
    criu!();
    controllers!();
    let resources = json!({
        "memory": { "limit": 67_108_864 },
        "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
        "pids": { "limit": 77 },
    });
    let c = limited(checkpoint::COUNTER, resources);
    let files = [
        ("memory", "memory.limit_in_bytes"),
        ("cpu", "cpu.cfs_quota_us"),
        ("cpu", "cpu.shares"),
        ("pids", "pids.max"),
    ];
    let all = |c: &Container| files.map(|(controller, name)| file(c, controller, name));
    c.up();
    let counted = c.counts_beyond(3);
    let before = all(&c);
    assert_eq!(before[3], "77");
    c.moves_on();
    c.counts_beyond(counted);
    assert_eq!(all(&c), before);
    let members = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).expect("cgroup");
    assert!(
        members.lines().all(|line| line.ends_with(&c.id) || line.starts_with("0::")),
        "{members}"
    );
}

/// The limits are those of config.json at the restore: a bundle may be moved to a machine that has
/// more room.
#[test]
fn limits_that_config_json_has_at_the_restore() {
    criu!();
    controllers!();
    let mut c = limited(checkpoint::COUNTER, json!({ "pids": { "limit": 77 } }));
    c.up();
    let counted = c.counts_beyond(3);
    c.checkpoint(&[]);
    c.config["linux"]["resources"]["pids"]["limit"] = 88.into();
    c.restore(&[]);
    c.counts_beyond(counted);
    assert_eq!(file(&c, "pids", "pids.max"), "88");
}

#[test]
fn no_cgroup_at_all() {
    criu!();
    davit_only!("runc has no such option, and crun's checkpoint of such a container fails");
    let c = Container::counter().global(&["--cgroup-manager", "disabled"]);
    let c = c.with(|c| drop(c["linux"].as_object_mut().expect("linux").remove("cgroupsPath")));
    c.up();
    let counted = c.counts_beyond(3);
    c.moves_on();
    c.counts_beyond(counted);
    let own = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
    let its = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).expect("cgroup");
    assert_eq!(its, own);
}

/// CRIU writes down, and makes again, all that is below the cgroups of a container. If it is in the
/// root of a hierarchy, that is the whole of it; runc restores it all where one is hidden from it.
#[test]
fn cgroups_of_others_are_not_made_again() {
    criu!();
    let is_davit = runtime::runtime().is_davit();
    let trees = if is_davit { host::cgroup_trees() } else { vec![&[][..]] };
    for tree in trees {
        others_are_not_made_again(Container::counter().by(tree));
    }
    if is_davit {
        others_are_not_made_again(Container::counter().global(&["--cgroup-manager", "disabled"]));
    }
}

fn others_are_not_made_again(c: Container) {
    let name = format!("{}-other", c.id);
    let others: Vec<_> = host::cgroup_roots().iter().map(|root| root.join(&name)).collect();
    others.iter().for_each(|other| fs::create_dir(other).expect("mkdir"));
    c.up();
    let counted = c.counts_beyond(3);
    c.checkpoint(&[]);
    others.iter().for_each(|other| fs::remove_dir(other).expect("rmdir"));
    c.restore(&[]).counts_beyond(counted);
    assert_eq!(leftovers::cgroups(&name), Vec::<std::path::PathBuf>::new());
    c.delete().ok();
    c.assert_nothing_left();
}
