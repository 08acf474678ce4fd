//! `features`: the features that are built in, regardless of the host (features.md,
//! features-linux.md).

use std::collections::BTreeMap;

use davit_namespaces::Kind;
use davit_privileges::memory_policy::{FLAGS, MODES};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::annotations::KNOWN;
use crate::state::OCI_VERSION;

/// The oldest version of the specification whose config.json is accepted.
const OCI_VERSION_MIN: &str = "1.0.0";

/// Every namespace.
const NAMESPACES: [Kind; 8] = [
    Kind::Cgroup,
    Kind::Ipc,
    Kind::Mount,
    Kind::Network,
    Kind::Pid,
    Kind::Time,
    Kind::User,
    Kind::Uts,
];

/// The features document, with the annotations of the program.
#[must_use]
pub fn features(about_the_program: &[(&str, &str)]) -> Value {
    let known = KNOWN.join(",");
    let mut annotations: BTreeMap<&str, &str> = about_the_program.iter().copied().collect();
    annotations.insert("run.davit.config.annotations", &known);
    json!({
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop"
        ],
        "mountOptions": davit_rootfs::supported::MOUNT_OPTIONS.as_slice(),
        "linux": {
            "namespaces": NAMESPACES.map(Kind::name),
            "capabilities": davit_privileges::capability::names().collect::<Vec<_>>(),
            "cgroup": {
                "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true
            },
            "seccomp": seccomp_features(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": sorted(&MODES.map(|(mode, _)| mode)),
                "flags": sorted(&FLAGS.map(|(flag, _)| flag))
            },
            "mountExtensions": { "idmap": { "enabled": davit_rootfs::supported::ID_MAPPED_MOUNTS } },
            "netDevices": { "enabled": true }
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": KNOWN
    })
}

fn seccomp_features() -> Value {
    use davit_seccomp::supported::{
        ACTIONS, ARCHITECTURES, KNOWN_FLAGS, OPERATORS, SUPPORTED_FLAGS,
    };
    json!({
        "enabled": true,
        "actions": sorted(&ACTIONS),
        "operators": sorted(&OPERATORS),
        "archs": sorted(&ARCHITECTURES.map(davit_seccomp::Arch::name)),
        "knownFlags": sorted(&KNOWN_FLAGS),
        "supportedFlags": sorted(&SUPPORTED_FLAGS)
    })
}

/// The names that config.json has for these, in alphabetical order.
fn sorted(items: &[impl Serialize]) -> Vec<String> {
    let name = |item| serde_json::to_value(item).ok()?.as_str().map(str::to_owned);
    let mut names: Vec<String> = items.iter().filter_map(name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Features, Spec};

    use super::*;
    use crate::config::check::check;

    #[test]
    fn the_document_is_one() {
        let document = features(&[("run.davit.version", "1")]);
        let parsed: Features = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(parsed.oci_version_max(), "1.3.0");
        for (pointer, count) in [
            ("/hooks", 6),
            ("/mountOptions", davit_rootfs::supported::MOUNT_OPTIONS.len()),
            ("/linux/namespaces", 8),
            ("/linux/capabilities", 41),
            ("/linux/seccomp/actions", davit_seccomp::supported::ACTIONS.len()),
            ("/linux/seccomp/operators", 7),
            ("/linux/seccomp/archs", 8),
            ("/linux/seccomp/knownFlags", 4),
            ("/linux/memoryPolicy/modes", 7),
            ("/linux/memoryPolicy/flags", 3),
        ] {
            let list = document.pointer(pointer).and_then(Value::as_array);
            assert_eq!(list.map(Vec::len), Some(count), "{pointer}");
        }
    }

    /// The document and the code change together: this test fails if only one of them does.
    #[test]
    fn what_is_said_to_be_off_is_refused() {
        let spec = |process: Value, linux: Value| -> Spec {
            let mut spec = json!({
                "ociVersion": "1.3.0", "root": { "path": "rootfs" }, "linux": linux,
                "process": { "cwd": "/", "args": ["sh"], "user": { "uid": 0, "gid": 0 } },
            });
            let object = spec["process"].as_object_mut().unwrap();
            object.extend(process.as_object().unwrap().clone());
            serde_json::from_value(spec).unwrap()
        };
        let document = features(&[]);
        let policy = json!({ "mode": "MPOL_BIND", "nodes": "0" });
        for (pointer, process, linux) in [
            ("/linux/apparmor/enabled", json!({ "apparmorProfile": "x" }), json!({})),
            ("/linux/selinux/enabled", json!({ "selinuxLabel": "x" }), json!({})),
            ("/linux/memoryPolicy/modes", json!({}), json!({ "memoryPolicy": policy })),
        ] {
            let refused = check(&spec(process, linux), true).is_err();
            let said = document.pointer(pointer).unwrap();
            let on = said.as_bool().unwrap_or_else(|| !said.as_array().unwrap().is_empty());
            assert_eq!(on, !refused, "{pointer}");
        }
    }
}
