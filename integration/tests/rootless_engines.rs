//! An unprivileged user with subordinate ids: pods and builds of podman, and the runtime called by
//! hand.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use integration::podman::{self, IMAGE, PAUSE, Podman, USER};
use integration::*;

/// Makes a [`Podman`] of an unprivileged user, or ends the test where there can be none.
macro_rules! rootless {
    () => {{
        spec!();
        skip_if!(podman::missing_for_users());
        Podman::rootless()
    }};
}

#[test]
fn a_pod() {
    let p = rootless!();
    let infra = format!("{PAUSE} -P");
    p.podman(&["pod", "create", "--name", "pod", "--infra-command", &infra]).exits(0);
    p.start("one", &["--pod", "pod"], &["sleep", "1000"]);
    let script = "readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts";
    let one = p.exec(&[], "one", &["sh", "-c", script]).ok().out;
    assert_eq!(p.sh(&["--pod", "pod"], script), one);
    p.podman(&["pod", "stop", "--time", "0", "pod"]).exits(0);
    p.podman(&["pod", "rm", "--force", "pod"]).exits(0);
}

#[test]
fn a_build() {
    let p = rootless!();
    let context = p.path("user/context");
    fs::create_dir(&context).expect("mkdir");
    let file = format!("FROM {IMAGE}\nRUN echo made >/made && id -u >>/made\n");
    fs::write(format!("{context}/Containerfile"), file).expect("write");
    let own = Command::new("chown").args(["-R", &format!("{USER}:{USER}"), &context]).status();
    assert!(own.is_ok_and(|status| status.success()));
    let build = ["build", "--isolation", "oci", "--network", "none", "--tag", "made", &context];
    p.podman(&build).exits(0);
    let run = p.podman(&["run", "--rm", "localhost/made", "cat", "/made"]);
    assert_eq!(run.ok().out, "made\n0\n");
}

const MAPS: &str = "id -u; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; echo >/new && stat -c %u:%g /new";

/// The maps of several ranges that only newuidmap and newgidmap may write.
#[test]
fn a_bundle() {
    let p = rootless!();
    let id = bundle(&p, |c| {
        config::set_namespace(c, "user", None);
        let maps = json!([
            { "containerID": 0, "hostID": USER, "size": 1 },
            { "containerID": 1, "hostID": 500_000, "size": 65535 },
        ]);
        c["linux"]["uidMappings"] = maps.clone();
        c["linux"]["gidMappings"] = maps;
    });
    let seen = run(&p, &[], &id).ok().out;
    let map = format!(" 0 {USER} 1\n 1 500000 65535\n");
    assert_eq!(seen, format!("0\n{map}{map}0:0\n"));
}

/// A caller that is root of a user namespace already, as below `podman unshare`.
#[test]
fn a_bundle_below_podman_unshare() {
    let p = rootless!();
    let id = bundle(&p, |_| {});
    let seen = run(&p, &["podman", "unshare"], &id).ok().out;
    assert!(seen.starts_with(&format!("0\n 0 {USER} 1\n")), "{seen}");
    assert!(seen.ends_with("0:0\n"), "{seen}");
}

/// A bundle of the user's own; returns the container's id.
fn bundle(p: &Podman, edit: impl FnOnce(&mut Value)) -> String {
    let id = unique();
    let mut config = config::default(&["/bin/sh", "-c", MAPS], "");
    let linux = config["linux"].as_object_mut().expect("linux");
    linux.remove("cgroupsPath");
    linux.remove("resources");
    config::drop_mount(&mut config, "/sys/fs/cgroup");
    edit(&mut config);
    let place = p.dir().join("user/bundle");
    rootfs::make(&place.join("rootfs"));
    fs::write(place.join("config.json"), config.to_string()).expect("write");
    let own = Command::new("chown").args(["-Rh", &format!("{USER}:{USER}")]).arg(&place).status();
    assert!(own.is_ok_and(|status| status.success()));
    chown(p.dir().join("user"), Some(USER), Some(USER)).expect("chown");
    id
}

fn run(p: &Podman, before: &[&str], id: &str) -> Outcome {
    let (binary, bundle) =
        (runtime::runtime().path.to_str().expect("utf-8"), p.path("user/bundle"));
    p.on_the_host(&[before, &[binary, "run", "--bundle", &bundle, id]].concat()).done()
}

/// `podman play kube` makes the pod, its pause container (of an image that it builds by itself) and
/// the containers.
#[test]
fn play_kube() {
    let p = rootless!();
    let conf = fs::read_to_string(p.path("containers.conf")).expect("read");
    let (before, after) = conf.split_once("infra_image = ").expect("infra_image");
    let (_, after) = after.split_once('\n').expect("a line");
    fs::write(p.path("containers.conf"), format!("{before}{after}")).expect("write");
    let container = |name: &str, script: &str| json!({ "name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script] });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "team" },
        "spec": { "hostname": "team", "restartPolicy": "Never", "containers": [
            container("listener", "trap 'exit 0' TERM; while :; do sleep 0.05; done"),
            container("talker", "hostname; exit 3"),
        ] }
    });
    fs::write(p.path("pod.yaml"), pod.to_string()).expect("write");
    p.podman(&["play", "kube", "--network", "none", &p.path("pod.yaml")]).exits(0);
    assert_eq!(p.wait("team-talker"), 3);
    assert_eq!(p.podman(&["logs", "team-talker"]).ok().out, "team\n");
    assert_eq!(p.exec(&[], "team-listener", &["/bin/hostname"]).ok().out, "team\n");
    p.podman(&["play", "kube", "--down", &p.path("pod.yaml")]).exits(0);
    assert_eq!(p.podman(&["ps", "--all", "--quiet"]).ok().out, "");
    p.podman(&["image", "rm", "--all", "--force"]).exits(0);
}
