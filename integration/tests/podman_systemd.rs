//! podman with the systemd cgroup manager, as it is on most machines: as root, or as an
//! unprivileged user in his session.

use std::fs;

use integration::podman::{self, IMAGE, PAUSE, Podman};
use integration::systemd::{cgroup, is_root, property};
use integration::*;

const WAITS: &str = "trap 'exit 4' TERM; while :; do sleep 0.05; done";

fn scope(p: &Podman, name: &str) -> String {
    format!("libpod-{}.scope", p.inspect(name, "{{.Id}}"))
}

#[test]
fn a_life() {
    let p = podman_with_systemd!();
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let run = [&["run", "-d", "--name", "x"], &limits[..], &[IMAGE, "sh", "-c", WAITS]];
    p.podman(&run.concat()).exits(0);
    let unit = scope(&p, "x");
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "Slice"), if is_root() { "machine.slice" } else { "user.slice" });
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
    assert_eq!(property(&unit, "TasksMax"), "50");
    assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "500ms");
    let files = ["cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"];
    assert_eq!(p.exec(&[], "x", &files).exits(0).out, "67108864\n50\n");
    let stats = ["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "x"];
    let stats = p.podman(&stats).exits(0).out;
    assert!(stats.contains("/ 67.11MB "), "{stats}");
    p.podman(&["update", "--memory", "128m", "x"]).exits(0);
    assert_eq!(property(&unit, "MemoryMax"), "134217728");
    assert!(cgroup(&unit).join("memory.max").exists());
    p.podman(&["pause", "x"]).exits(0);
    assert_eq!(p.inspect("x", "{{.State.Status}}"), "paused");
    p.podman(&["unpause", "x"]).exits(0);
    p.podman(&["stop", "--time", "20", "x"]).exits(0);
    assert_eq!(p.inspect("x", "{{.State.ExitCode}}"), "4");
    assert_ne!(property(&unit, "ActiveState"), "active");
    p.podman(&["rm", "x"]).exits(0);
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
fn output_and_codes() {
    let p = podman_with_systemd!();
    let script = "echo out; echo err >&2; exit 7";
    let run = p.podman(&["run", "--rm", IMAGE, "sh", "-c", script]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    p.podman(&["run", "--rm", IMAGE, "nosuch"]).exits(127);
    p.podman(&["run", "--rm", IMAGE, "/etc"]).exits(126);
}

#[test]
fn too_much_memory() {
    let p = podman_with_systemd!();
    let hog = ["tail", "-c", "90000000", "/dev/zero"];
    let run = ["run", "--name", "x", "--memory", "20m", "--memory-swap", "20m", IMAGE];
    p.podman(&[&run[..], &hog].concat()).exits(137);
    // Whether podman calls it `OOMKilled` is a race of conmon, which reads the cgroup, with
    // systemd, which removes it.
}

#[test]
fn a_pod() {
    let p = podman_with_systemd!();
    let pause = format!("{PAUSE} -P");
    let pod = ["pod", "create", "--name", "pod", "--network", "none", "--infra-command", &pause];
    p.podman(&pod).exits(0);
    let run =
        ["run", "-d", "--pod", "pod", "--name", "x", "--memory", "64m", IMAGE, "sleep", "1000"];
    p.podman(&run).exits(0);
    let unit = scope(&p, "x");
    let (slice, above) = (property(&unit, "Slice"), if is_root() { "machine" } else { "user" });
    assert!(slice.starts_with(&format!("{above}-libpod_pod_")), "{slice}");
    assert!(cgroup(&unit).join("memory.max").exists());
    p.podman(&["pod", "rm", "--force", "--time", "0", "pod"]).exits(0);
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
fn a_user_namespace_of_podmans_choice() {
    let p = podman_with_systemd!();
    let script =
        "cat /proc/self/uid_map; id -u; echo $$ >/dev/null && mkdir /made && stat -c %u /made";
    let run = ["run", "--rm", "--userns=auto:size=2000", IMAGE, "sh", "-c", script];
    let seen = p.podman(&run).ok().out;
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!((words[0], &words[2..]), ("0", &["2000", "0", "0"][..]), "{seen}");
    assert_ne!(words[1], "0", "{seen}");
}

/// C16: an unprivileged user's podman with the other cgroup manager: a cgroup beside its own, in
/// what systemd has delegated.
#[test]
fn limits_without_the_manager_of_systemd() {
    let p = podman_with_systemd!();
    skip_if!(is_root().then_some("needs an unprivileged user"));
    let own = fs::read_to_string("/proc/self/cgroup").expect("read");
    let above = own.trim().strip_prefix("0::").and_then(|path| Some(path.rsplit_once('/')?.0));
    let procs = format!("/sys/fs/cgroup{}/cgroup.procs", above.unwrap_or_default());
    let delegated = fs::OpenOptions::new().write(true).open(&procs).is_ok();
    skip_if!((!delegated).then_some("the cgroup above this one is not delegated"));
    let run = ["--cgroup-manager", "cgroupfs", "run", "--rm", "-m", "40m", IMAGE];
    let run = p.podman(&[&run[..], &["cat", "/sys/fs/cgroup/memory.max"]].concat());
    assert_eq!(run.ok().out, "41943040\n");
}

/// C7: without a cgroup namespace the host's tree is there, and in it the scope, which is made
/// after the mounts are planned.
#[test]
fn the_cgroup_namespace_of_the_host() {
    let p = podman_with_systemd!();
    let script = "cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) && cat cgroup.procs | head -1";
    for options in [&[][..], &["--userns=auto:size=2000"]] {
        let run = [&["run", "--rm", "--cgroupns=host"], options, &[IMAGE, "sh", "-c", script]];
        assert_eq!(p.podman(&run.concat()).ok().out, "1\n", "{options:?}");
    }
}

/// What `kube generate` writes of a container, `kube play` makes a pod of.
#[test]
fn kubernetes_yaml() {
    let p = podman_with_systemd!();
    // podman's own pause, which is not in our image.
    let conf = fs::read_to_string(p.path("containers.conf")).expect("read");
    let (before, after) = conf.split_once("infra_image = ").expect("infra_image");
    let (_, after) = after.split_once('\n').expect("a line");
    fs::write(p.path("containers.conf"), format!("{before}{after}")).expect("write");
    let create = ["create", "--name", "x", "--memory", "64m", IMAGE, "sh", "-c", WAITS];
    p.podman(&create).exits(0);
    let yaml = p.podman(&["kube", "generate", "x"]).exits(0).out;
    p.podman(&["rm", "x"]).exits(0);
    fs::write(p.path("pod.yaml"), &yaml).expect("write");
    p.podman(&["kube", "play", "--network", "none", &p.path("pod.yaml")]).exits(0);
    let name = p.podman(&["ps", "--format", "{{.Names}}", "--filter", "name=x-pod-x"]).ok().out;
    let unit = scope(&p, name.trim());
    assert_eq!(property(&unit, "MemoryMax"), "67108864", "{yaml}");
    p.podman(&["kube", "down", &p.path("pod.yaml")]).exits(0);
    assert_eq!(p.podman(&["ps", "--all", "--quiet"]).ok().out, "");
    p.podman(&["image", "rm", "--all", "--force"]).exits(0);
}

/// pasta, an unprivileged user's network: a port of the host leads into the container.
#[test]
fn a_port_through_pasta() {
    skip_if!(is_root().then_some("root has bridges"));
    skip_if!(podman::installed("pasta").is_none().then_some("pasta is not installed"));
    let p = podman_with_systemd!();
    let serve = ["nc", "-ll", "-p", "80", "-e", "echo", "from inside"];
    let options = ["--network", "pasta", "--publish", "127.0.0.1:8765:80"];
    let run = [&["run", "-d", "--name", "x"], &options[..], &[IMAGE], &serve].concat();
    p.podman(&run).exits(0);
    let ask =
        "for i in 1 2 3 4 5 6 7 8 9; do busybox nc -w 5 127.0.0.1 8765 && break; sleep 0.5; done";
    let said = p.on_the_host(&["sh", "-c", ask]).done();
    assert_eq!(said.out, "from inside\n", "{said:?}");
}
