//! Namespaces, networks and pods under podman.

use std::fs;
use std::time::Duration;

use integration::host::namespace;
use integration::podman::{IMAGE, PAUSE, Podman, installed};
use integration::*;

#[test]
fn the_hosts_own() {
    let p = podman!();
    for (kind, option) in [("pid", "--pid=host"), ("ipc", "--ipc=host"), ("uts", "--uts=host")] {
        let script = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(p.sh(&[option], &script).trim(), namespace(kind), "{option}");
        assert_ne!(p.sh(&[], &script).trim(), namespace(kind), "without {option}");
    }
    let script = "readlink /proc/self/ns/net";
    assert_eq!(p.sh(&["--net=host"], script).trim(), p.host_network());
    assert_ne!(p.sh(&["--net=none"], script).trim(), p.host_network());
    let of = |options: &[&str]| p.sh(options, "readlink /proc/self/ns/cgroup").trim().to_owned();
    assert_eq!(of(&["--cgroupns=host"]), namespace("cgroup"));
    assert_ne!(of(&["--cgroupns=private"]), namespace("cgroup"));
    let with_ids = ["--cgroupns=host", "--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000"];
    assert_eq!(of(&with_ids), namespace("cgroup"));
}

#[test]
fn names() {
    let p = podman!();
    assert_eq!(p.sh(&["--hostname", "some.where"], "hostname"), "some.where\n");
    assert_eq!(p.sh(&["--uts=host"], "hostname"), fs::read_to_string(HOSTNAME).expect("hostname"));
    let hosts = p.sh(&["--add-host", "far:10.1.2.3", "--hostname", "me"], "cat /etc/hosts");
    assert!(hosts.contains("10.1.2.3\tfar\n") && hosts.contains("me"), "{hosts}");
}

const HOSTNAME: &str = "/proc/sys/kernel/hostname";

#[test]
fn no_network() {
    let p = podman!();
    let links = p.sh(&["--net=none"], "ls /sys/class/net; ip -o addr show lo | grep -c 127.0.0.1");
    assert_eq!(links, "lo\n1\n");
}

#[test]
fn another_containers() {
    let p = podman!();
    p.sleeper("first", &["--hostname", "first", "--ipc=shareable"]);
    let all = ["--net", "--pid", "--ipc", "--uts"].map(|kind| format!("{kind}=container:first"));
    let options: Vec<&str> = all.iter().map(String::as_str).collect();
    let script =
        "for ns in net pid ipc; do readlink /proc/self/ns/$ns; done; ps -o comm | grep -c sh";
    let second = p.sh(&options[..3], script);
    let pid = p.inspect("first", "{{.State.Pid}}");
    for (line, kind) in second.lines().zip(["net", "pid", "ipc"]) {
        assert_eq!(line, host::namespace_of(&pid, kind), "{second}");
    }
    assert_ne!(second.lines().nth(3), Some("0"), "the first one's processes are seen: {second}");
}

#[test]
fn user_namespaces() {
    let p = podman!();
    let map = "cat /proc/self/uid_map /proc/self/gid_map";
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let options = ["--uidmap", "0:200000:65536", "--gidmap", "0:300000:65536"];
    assert_eq!(words(p.sh(&options, map)), "0 200000 65536 0 300000 65536");
    // Root there owns the image's files and its own devices, and may not touch the host.
    let script = "stat -c %u /bin/busybox /dev/null; echo x >/dev/null && echo >/tmp/f && echo ok; \
                  touch /x/f 2>&1 | grep -o denied";
    let data = p.path("data");
    fs::create_dir(&data).expect("mkdir");
    let volume = format!("{data}:/x");
    let seen = p.sh(&[&options[..], &["-v", &volume]].concat(), script);
    // /dev/null is the host's, by bind mount: its owner has no number here.
    assert_eq!(words(seen), "0 65534 ok denied");
    let own = words(p.sh(&[&options[..], &["--user", "bob"]].concat(), "id -u; whoami"));
    assert_eq!(own, "1000 bob");
    p.assert_nothing_left();
}

#[test]
fn a_user_namespace_of_podmans_choice() {
    let p = podman!();
    let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
    skip_if!(ids.is_empty().then_some("no user has ids in /etc/subuid"));
    let first: u32 = ids.split(':').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    let map = p.sh(&["--userns=auto:size=2000"], "cat /proc/self/uid_map");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("0", "2000"), "{map}");
    assert!(words[1].parse::<u32>().expect("a number") >= first, "{map}");
}

#[test]
fn a_bridge() {
    let p = podman!();
    skip_if!(no_bridge());
    let seen = p.sh(&["--net=bridge"], "ip -o -4 addr show eth0; ip route | grep default");
    assert!(seen.contains("inet 10.88.") && seen.contains("default via 10.88.0.1"), "{seen}");
    // Two containers of one network reach each other.
    p.start("server", &["--net=bridge"], &["nc", "-ll", "-p", "7000", "-e", "echo", "hello"]);
    let address = p.inspect("server", "{{.NetworkSettings.Networks.podman.IPAddress}}");
    let ask =
        format!("for i in 1 2 3 4 5 6 7 8 9; do nc -w 5 {address} 7000 && break; sleep 0.2; done");
    assert_eq!(p.sh(&["--net=bridge"], &ask), "hello\n");
}

#[test]
fn a_published_port() {
    let p = podman!();
    skip_if!(no_bridge());
    let serve = ["nc", "-ll", "-p", "80", "-e", "echo", "from inside"];
    p.start("server", &["--net=bridge", "--publish", "127.0.0.1:8765:80"], &serve);
    assert!(p.podman(&["port", "server"]).ok().out.contains("127.0.0.1:8765"));
    let script =
        "for i in 1 2 3 4 5 6 7 8 9; do busybox nc -w 5 127.0.0.1 8765 && break; sleep 0.2; done";
    let said = p.on_the_host(&["sh", "-c", script]).done();
    assert_eq!(said.out, "from inside\n", "{said:?}");
}

/// Why there is no bridge here, if so.
fn no_bridge() -> Option<&'static str> {
    let missing = installed("netavark").is_none() || installed("iptables").is_none();
    missing.then_some("netavark or iptables is not installed")
}

fn pod(p: &Podman, name: &str, options: &[&str]) {
    let parent = p.cgroup_parent();
    let infra = format!("{PAUSE} -P");
    let all = ["pod", "create", "--name", name, &parent, "--infra-command", &infra];
    let all = [&all[..], options].concat();
    p.podman(&all).ok();
}

#[test]
fn a_pod_shares_its_namespaces() {
    let p = podman!();
    pod(&p, "team", &["--hostname", "team"]);
    let script = "for ns in net ipc uts pid mnt; do readlink /proc/self/ns/$ns; done; hostname";
    let run = |script: &str| {
        let words = ["run", "--rm", "--pod", "team", IMAGE, "sh", "-c", script];
        p.podman(&words).ok().out
    };
    let (one, two) = (run(script), run(script));
    let (one, two): (Vec<&str>, Vec<&str>) = (one.lines().collect(), two.lines().collect());
    assert_eq!(one[..3], two[..3], "net, ipc and uts are the pod's");
    assert_ne!(one[..3], ["net", "ipc", "uts"].map(namespace));
    assert_eq!(one[5], "team");
    let infra = p.podman(&["pod", "inspect", "--format", "{{.InfraContainerID}}", "team"]).ok().out;
    let comm = p.inspect(infra.trim(), "{{.State.Pid}}");
    let comm = fs::read_to_string(format!("/proc/{comm}/comm")).expect("the infra container runs");
    assert_eq!(comm, "catatonit\n");
}

#[test]
fn a_pod_may_share_its_processes() {
    let p = podman!();
    pod(&p, "open", &["--share", "pid,net"]);
    let words = ["run", "--rm", "--pod", "open", IMAGE, "cat", "/proc/1/comm"];
    assert_eq!(p.podman(&words).ok().out, "catatonit\n");
}

#[test]
fn a_pods_life() {
    let p = podman!();
    pod(&p, "life", &[]);
    let sleep = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    for name in ["one", "two"] {
        let words = ["run", "--detach", "--pod", "life", "--name", name, IMAGE, "sh", "-c", sleep];
        p.podman(&words).ok();
    }
    let state = || p.podman(&["pod", "inspect", "--format", "{{.State}}", "life"]).ok().out;
    assert_eq!(state(), "Running\n");
    p.podman(&["pod", "stop", "--time", "20", "life"]).ok();
    assert_eq!(state(), "Exited\n");
    p.podman(&["pod", "start", "life"]).ok();
    assert_eq!(state(), "Running\n");
    p.podman(&["pod", "kill", "life"]).ok();
    let exited = call::within(Duration::from_secs(10), || (state() == "Exited\n").then_some(()));
    assert!(exited.is_some(), "{}", state());
    p.podman(&["pod", "rm", "--force", "--time", "0", "life"]).ok();
    assert_eq!(p.podman(&["ps", "--all", "--quiet"]).ok().out, "");
    p.assert_nothing_left();
}

#[test]
fn containers_of_a_pod_speak_over_its_loopback() {
    let p = podman!();
    pod(&p, "net", &[]);
    let serve = ["nc", "-ll", "-p", "7000", "-e", "echo", "hello"];
    let words = ["run", "--detach", "--pod", "net", IMAGE];
    p.podman(&[&words[..], &serve].concat()).ok();
    let ask = "for i in 1 2 3 4 5 6 7 8 9; do nc -w 5 127.0.0.1 7000 && break; sleep 0.2; done";
    let words = ["run", "--rm", "--pod", "net", IMAGE, "sh", "-c", ask];
    let said = p.podman(&words);
    assert_eq!(said.out, "hello\n", "{said:?}");
}
