//! features: valid against the specification, quiet, and true: what it lists works, what it denies
//! is refused.

use std::collections::BTreeSet;

use integration::*;

fn features(c: &Container) -> Value {
    c.call(&["features"]).done().ok().json()
}

fn list(document: &Value, pointer: &str) -> BTreeSet<String> {
    let list = document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    list.as_array()
        .expect(pointer)
        .iter()
        .map(|name| name.as_str().expect(pointer).into())
        .collect()
}

#[test]
fn a_document_of_the_specification() {
    spec!();
    fails_with!("crun", "1.8 has no features");
    let document = features(&Container::new(&["true"]));
    for key in ["ociVersionMin", "ociVersionMax"] {
        assert!(document[key].as_str().is_some_and(|version| version.starts_with("1.")), "{key}");
    }
    for (pointer, some) in [
        ("/hooks", &["prestart", "createRuntime", "poststop"][..]),
        ("/mountOptions", &["bind", "rro", "rbind", "tmpcopyup", "rshared", "nosymfollow"]),
        ("/linux/namespaces", &["cgroup", "ipc", "mount", "network", "pid", "user", "uts"]),
        ("/linux/capabilities", &["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]),
        ("/linux/seccomp/actions", &["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_ALLOW"]),
        ("/linux/seccomp/operators", &["SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"]),
        ("/linux/seccomp/archs", &["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]),
    ] {
        let found = list(&document, pointer);
        assert!(some.iter().all(|name| found.contains(*name)), "{pointer}: {found:?}");
    }
    assert_eq!(document["linux"]["seccomp"]["enabled"], true);
    assert_eq!(document["linux"]["cgroup"]["v1"], true);
    assert_eq!(document["linux"]["cgroup"]["v2"], true);
}

#[test]
fn it_needs_no_state_and_no_bundle() {
    davit_only!("promised by davit only");
    let c = Container::new(&["true"]);
    let call = c.host(&[&runtime::runtime().path.to_string_lossy(), "features"]);
    let out = call.without_env().dir("/").done().ok();
    assert_eq!(out.json(), features(&c));
    c.call(&["features", "more"]).done().refuses(&["more"]);
}

#[test]
fn both_versions_are_accepted() {
    spec!();
    fails_with!("crun", "1.8 has no features");
    let mut c = Container::new(&["true"]);
    let document = features(&c);
    for key in ["ociVersionMin", "ociVersionMax"] {
        c.config["ociVersion"] = document[key].clone();
        c.run().ok();
    }
}

#[test]
fn every_mount_option_is_taken() {
    davit_only!("runc lists options that it then refuses: defaults, acl");
    let c = Container::new(&["true"]);
    for option in list(&features(&c), "/mountOptions") {
        // A bind mount takes no option of a file system, so none of these is one.
        let bind = |c: &mut Value| {
            let mut mount = config::mount("/mnt", "bind", "/etc", &["rbind", &option]);
            if option.ends_with("idmap") {
                let maps = json!([{ "containerID": 0, "hostID": 0, "size": 1000 }]);
                mount["uidMappings"] = maps.clone();
                mount["gidMappings"] = maps;
            }
            config::push(&mut c["mounts"], mount);
        };
        let tmpfs = |c: &mut Value| config::add_mount(c, "/mnt", "tmpfs", "tmpfs", &[&option]);
        let works = [
            Container::new(&["true"]).with(bind).run().code,
            Container::new(&["true"]).with(tmpfs).run().code,
        ];
        assert!(works.contains(&0), "{option}: {works:?}");
    }
}

#[test]
fn every_capability_and_namespace_is_taken() {
    davit_only!("runc lists capabilities that an old kernel may lack");
    let c = Container::new(&["true"]);
    let document = features(&c);
    let names = list(&document, "/linux/capabilities");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = Container::new(&["true"]).with(|c| config::set_capabilities(c, &names));
    // The host may lack one.
    all.run().warns(&[]);
    let all = Container::new(&["true"]).with(|c| {
        config::set_userns(c, 100_000, 65536);
        for kind in list(&document, "/linux/namespaces") {
            config::set_namespace(c, &kind, None);
        }
    });
    all.run().ok();
}

#[test]
fn every_name_of_seccomp_is_taken() {
    davit_only!("the spec's rules on errnoRet and on flags differ between other runtimes");
    let c = Container::new(&["true"]);
    let document = features(&c);
    let profile = |syscall: Value, archs: Value, flags: Value| {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "flags": flags,
            "syscalls": [syscall]
        })
    };
    let run = |profile: Value| {
        Container::new(&["true"]).with(|c| c["linux"]["seccomp"] = profile).run().ok();
    };
    let archs = document["linux"]["seccomp"]["archs"].clone();
    // Those that need an agent have it in seccomp_listener.rs.
    let no_agent = |name: &String| name != "SCMP_ACT_NOTIFY" && !name.contains("WAIT_KILLABLE");
    for action in list(&document, "/linux/seccomp/actions").into_iter().filter(no_agent) {
        run(profile(json!({ "names": ["reboot"], "action": action }), json!([]), json!([])));
    }
    for op in list(&document, "/linux/seccomp/operators") {
        let args = json!([{ "index": 0, "value": 1, "valueTwo": 1, "op": op }]);
        let rule = json!({ "names": ["reboot"], "action": "SCMP_ACT_ERRNO", "args": args });
        run(profile(rule, archs.clone(), json!([])));
    }
    for flag in list(&document, "/linux/seccomp/supportedFlags").into_iter().filter(no_agent) {
        let rule = json!({ "names": ["reboot"], "action": "SCMP_ACT_ERRNO" });
        run(profile(rule, json!([]), json!([flag])));
    }
}

#[test]
fn what_is_off_is_refused() {
    davit_only!("other runtimes ignore some of it in silence");
    let document = features(&Container::new(&["true"]));
    let off = |pointer: &str| document.pointer(pointer).is_none_or(|value| *value == false);
    let maps = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    for (pointer, edit) in [
        ("/linux/apparmor/enabled", json!({ "process": { "apparmorProfile": "x" } })),
        ("/linux/selinux/enabled", json!({ "process": { "selinuxLabel": "x" } })),
        (
            "/linux/mountExtensions/idmap/enabled",
            json!({ "mounts": [{
                "destination": "/mnt", "type": "bind", "source": "/tmp", "options": ["bind"],
                "uidMappings": maps, "gidMappings": maps
            }] }),
        ),
    ] {
        if !off(pointer) {
            continue;
        }
        let c = Container::new(&["true"]).with(|c| {
            for (part, fields) in edit.as_object().expect("an object") {
                match fields.as_array() {
                    Some(items) => {
                        items.iter().for_each(|item| config::push(&mut c[part], item.clone()))
                    }
                    None => {
                        for (key, value) in fields.as_object().expect("an object") {
                            c[part][key] = value.clone();
                        }
                    }
                }
            }
        });
        c.run().refuses(&["not supported yet"]);
    }
}
