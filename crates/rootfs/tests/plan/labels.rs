//! `linux.mountLabel`: which mounts get it, and as what.

use davit_rootfs::{Action, ContextType, Host};
use serde_json::{Value, json};

use super::{config, host, try_plan};

const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

fn labelled(mount: Value, host: &Host) -> Action {
    let mut config = config(&json!([mount]));
    config["linux"]["mountLabel"] = LABEL.into();
    let ops = try_plan(&config, host).unwrap();
    ops.into_iter().find(|op| op.origin.field.to_string() == "mounts[0]").unwrap().action
}

fn mount(fstype: &str, options: &[&str]) -> Value {
    json!({ "destination": "/mnt", "type": fstype, "source": fstype, "options": options })
}

fn settings(action: &Action) -> Vec<String> {
    let settings = match action {
        Action::Mount { filesystem, .. } => &filesystem.settings,
        Action::Overlay { overlay, .. } => &overlay.settings,
        other => panic!("{other:?}"),
    };
    let text = |setting: &davit_rootfs::FsOption| match setting {
        davit_rootfs::FsOption::Flag(name) => name.to_str().unwrap().to_owned(),
        davit_rootfs::FsOption::Text(key, value) => {
            format!("{}={}", key.to_str().unwrap(), value.to_str().unwrap())
        }
    };
    settings.iter().map(text).collect()
}

#[test]
fn without_selinux_nothing_has_it_which_is_said() {
    assert!(settings(&labelled(mount("tmpfs", &[]), &host())).is_empty());
    let mut config = config(&json!([]));
    config["linux"]["mountLabel"] = LABEL.into();
    let spec = serde_json::from_value(config).unwrap();
    let said = davit_rootfs::without_effect(&spec, &host());
    assert_eq!(said, ["linux.mountLabel: has no effect: this kernel has no SELinux"]);
    assert!(davit_rootfs::without_effect(&spec, &selinux()).is_empty());
}

fn selinux() -> Host {
    Host { selinux: true, ..host() }
}

#[test]
fn new_file_systems_have_it_whole() {
    for fstype in ["tmpfs", "devpts", "ramfs", "ext4"] {
        let action = labelled(mount(fstype, &["nosuid"]), &selinux());
        assert_eq!(settings(&action), [format!("context={LABEL}")], "{fstype}");
    }
    let action = labelled(mount("overlay", &["lowerdir=/a:/b"]), &selinux());
    assert_eq!(settings(&action), [format!("context={LABEL}")]);
}

#[test]
fn the_policy_labels_the_kernels_own() {
    for fstype in ["sysfs", "mqueue"] {
        assert!(settings(&labelled(mount(fstype, &[]), &selinux())).is_empty(), "{fstype}");
    }
}

#[test]
fn a_mount_that_chooses_keeps_its_choice() {
    for own in ["context=a:b:c", "fscontext=a:b:c", "rootcontext=a:b:c", "defcontext=a:b:c"] {
        assert_eq!(settings(&labelled(mount("tmpfs", &[own]), &selinux())), [own]);
    }
}

#[test]
fn the_annotation_says_as_what() {
    for kind in ContextType::ALL {
        let host = Host { mount_context: kind, ..selinux() };
        let action = labelled(mount("tmpfs", &[]), &host);
        assert_eq!(settings(&action), [format!("{}={LABEL}", kind.name())]);
    }
}

#[test]
fn mount_of_old_gets_it_in_quotes() {
    let action = labelled(mount("tmpfs", &["size=1m", "silent"]), &selinux());
    let Action::LegacyMount { data, .. } = action else { panic!("{action:?}") };
    assert_eq!(data.to_str().unwrap(), format!("size=1m,context=\"{LABEL}\""));
}

#[test]
fn binds_have_labels_already() {
    let bind =
        json!({ "destination": "/mnt", "type": "bind", "source": "/srv", "options": ["bind"] });
    assert!(matches!(labelled(bind, &selinux()), Action::Bind { .. }));
}
