//! Hints for an unprivileged user about missing ids, directories and packages (D3).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use integration::*;

const UID: u32 = 4711;

/// A container of that user, whose words also map the ids from 100000 on, called by means of these
/// words.
fn container(more: bool, before: &[&str]) -> Container {
    let c = Container::new(&["true"]).with(|c| config::make_rootless(c, UID, UID));
    let c = match more {
        true => c.with(|c| {
            let more = json!({ "containerID": 1, "hostID": 100_000, "size": 10 });
            for maps in ["uidMappings", "gidMappings"] {
                config::push(&mut c["linux"][maps], more.clone());
            }
        }),
        false => c,
    };
    let user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "--inh-caps=-all"];
    let c = c.by(&[before, &user].concat());
    c.give_to(UID);
    c
}

fn run(c: &Container) -> Outcome {
    run_with(c, "/usr/bin:/bin")
}

fn run_with(c: &Container, path: &str) -> Outcome {
    c.write();
    chown(c.bundle().join("config.json"), Some(UID), Some(UID)).expect("chown");
    let run = c.run_call(&[]).env("XDG_RUNTIME_DIR", c.path("")).env("PATH", path).done();
    c.assert_nothing_left();
    run
}

/// Words that call with these texts as /etc/passwd, /etc/subuid and /etc/subgid.
fn with_files(c: &Container, subuid: &str, subgid: &str) -> Vec<String> {
    let passwd = format!("root:x:0:0::/root:/bin/sh\nann:x:{UID}:{UID}::/:/bin/sh\n");
    let etc = c.path("etc");
    fs::create_dir(&etc).expect("mkdir");
    for (name, text) in [("passwd", passwd.as_str()), ("subuid", subuid), ("subgid", subgid)] {
        fs::write(format!("{etc}/{name}"), text).expect("write");
    }
    let script = format!("mount -t overlay -o lowerdir={etc}:/etc overlay /etc && exec \"$@\"");
    ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

#[test]
fn helpers_that_are_not_installed() {
    davit_only!("other runtimes say less");
    skip_if!(skip::rootless_fails(UID));
    let c = container(true, &[]);
    let empty = c.path("io");
    let setpriv = c.by(&["/usr/bin/setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"]);
    run_with(&setpriv, &empty).refuses(&[
        "linux.uidMappings: newuidmap: no such file or directory",
        "hint: newuidmap is not installed: it is in the package uidmap (Debian, Ubuntu)",
    ]);
}

#[test]
fn users_and_ids_that_are_not_there() {
    davit_only!("other runtimes say less");
    skip_if!(skip::rootless_fails(UID));
    let nameless = container(true, &[]);
    run(&nameless).refuses(&["newuidmap: ", "newuidmap needs a line in /etc/passwd for uid 4711"]);
    let rows = [
        (
            "",
            "",
            "linux.uidMappings",
            "/etc/subuid does not assign the 10 ids from 100000 to ann: it needs a line such as ann:100000:10",
        ),
        (
            "ann:100000:9\n",
            "",
            "linux.uidMappings",
            "/etc/subuid does not assign the 10 ids from 100000 to ann",
        ),
        (
            "ann:100000:10\n",
            "",
            "linux.gidMappings",
            "/etc/subgid does not assign the 10 ids from 100000 to ann",
        ),
    ];
    for (subuid, subgid, field, hint) in rows {
        let scratch = Container::new(&["true"]);
        let before = with_files(&scratch, subuid, subgid);
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        run(&container(true, &before)).refuses(&[field, hint]);
    }
    let scratch = Container::new(&["true"]);
    let before = with_files(&scratch, "ann:100000:10\n", "ann:100000:10\n");
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    run(&container(true, &before)).ok();
    // The same by a helper without its privilege.
    let c = container(true, &before);
    let tools = c.path("tools");
    fs::create_dir(&tools).expect("mkdir");
    for name in ["newuidmap", "newgidmap"] {
        let copy = format!("{tools}/{name}");
        fs::copy(format!("/usr/bin/{name}"), &copy).expect("copy");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let path = format!("{tools}:/usr/bin:/bin");
    run_with(&c, &path).refuses(&["linux.uidMappings: newuidmap: ", "must be setuid root"]);
}

#[test]
fn ids_of_others() {
    davit_only!("other runtimes say less");
    skip_if!(skip::rootless_fails(UID));
    let c = container(false, &[]).with(|c| c["linux"]["uidMappings"][0]["hostID"] = 5.into());
    run(&c).refuses(&["operation not permitted", "hostID 4711 of linux.uidMappings"]);
    let c = container(false, &[]).with(|c| {
        c["mounts"][2]["options"] = json!(["newinstance", "gid=5"]);
    });
    run(&c).refuses(&["invalid argument", "gid=5: linux.gidMappings does not map 5"]);
}

#[test]
fn directories_of_others() {
    davit_only!("other runtimes say less");
    skip_if!(skip::rootless_fails(UID));
    let others = Container::new(&["true"]);
    let closed = others.path("closed");
    fs::create_dir_all(format!("{closed}/data")).expect("mkdir");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    let hint = format!(
        "{closed} is mode 0700 of 0:0; uid 0 of the container's user namespace is uid {UID} here"
    );
    let data = format!("{closed}/data");
    let c = container(false, &[]).with(|c| config::add_mount(c, "/mnt", "bind", &data, &["bind"]));
    run(&c).refuses(&["open_tree: permission denied", &hint]);
    let c = container(false, &[]).with(|c| c["root"]["path"] = data.as_str().into());
    run(&c).refuses(&["root.path", "permission denied", &hint]);
}

#[test]
fn limits_above_the_own() {
    davit_only!("other runtimes say: operation not permitted");
    skip_if!(skip::rootless_fails(UID));
    let c = container(false, &["prlimit", "--nofile=512:512"]);
    run(&c).refuses(&["process.rlimits[0] RLIMIT_NOFILE", "needs CAP_SYS_RESOURCE"]);
}

#[test]
fn nodes_that_the_host_does_not_have() {
    davit_only!("other runtimes say less");
    skip_if!(skip::rootless_fails(UID));
    let c = container(false, &[]).with(|c| {
        let node = json!({ "path": "/dev/nosuch", "type": "c", "major": 10, "minor": 250 });
        config::push(&mut c["linux"]["devices"], node);
    });
    run(&c).refuses(&[
        "linux.devices[0] \"/dev/nosuch\": open_tree: no such file or directory",
        "/dev/nosuch is not there on the host; in this user namespace the host's node is bind mounted",
    ]);
}
