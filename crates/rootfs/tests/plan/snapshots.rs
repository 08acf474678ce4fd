//! Whole plans.

use davit_rootfs::{Cgroups, Hierarchy};
use serde_json::{Value, json};

use super::{config, host, listing, with_console};

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_default_configuration() {
    let config = read(include_str!("default.json"));
    insta::assert_snapshot!(listing(&config, &with_console(host())));
}

#[test]
fn a_configuration_of_podman() {
    let config = read(include_str!("podman.json"));
    insta::assert_snapshot!(listing(&config, &with_console(host())));
}

#[test]
fn a_configuration_of_podman_with_a_user_namespace() {
    let config = read(include_str!("podman.json"));
    let mut host = with_console(host());
    host.user_namespace = true;
    insta::assert_snapshot!(listing(&config, &host));
}

#[test]
fn the_default_configuration_of_an_unprivileged_user() {
    let config = read(include_str!("default.json"));
    let mut host = with_console(host());
    (host.user_namespace, host.privileged_parent) = (true, false);
    insta::assert_snapshot!(listing(&config, &host));
}

#[test]
fn cgroup_hierarchies_of_version_1() {
    let hierarchy = |name: &str, controllers: &[&str]| Hierarchy {
        mountpoint: format!("/sys/fs/cgroup/{name}").into(),
        path: "/machine/web".into(),
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut host = host();
    host.cgroups = Some(Cgroups::Several(vec![
        hierarchy("cpu,cpuacct", &["cpu", "cpuacct"]),
        hierarchy("memory", &["memory"]),
        hierarchy("systemd", &["name=systemd"]),
        hierarchy("unified", &[]),
    ]));
    let mount = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }]);
    let mut config = config(&mount);
    let joined = listing(&config, &host);
    config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "cgroup" }]);
    insta::assert_snapshot!(format!(
        "{joined}\nwith a cgroup namespace:\n{}",
        listing(&config, &host)
    ));
}

#[test]
fn a_cgroup_in_a_user_namespace_is_read_only_unless_its_namespace_is_new() {
    let mut host = host();
    (host.user_namespace, host.privileged_parent) = (true, false);
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["rw"] });
    let lines = super::one_mount(mount, &host).unwrap();
    assert_eq!(lines, [r#"bind "/sys/fs/cgroup" -> "/sys/fs/cgroup" ro"#]);
}

#[test]
fn layers_ephemeral_and_no_pivot() {
    let mut config = config(&json!([]));
    config["root"] = json!({ "path": "", "readonly": true });
    config["annotations"] = json!({
        "run.davit.root.layers": r"/layers/2:layers\:1",
        "run.davit.root.ephemeral": "true",
    });
    let mut host = host();
    host.no_pivot = true;
    host.proc_and_sys = vec!["/sys".into(), "/proc".into()];
    insta::assert_snapshot!(listing(&config, &host));
}

#[test]
fn no_mount_namespace() {
    let mut config = config(&json!([]));
    config["linux"] = json!({ "namespaces": [{ "type": "pid" }] });
    insta::assert_snapshot!(listing(&config, &host()));
}

#[test]
fn a_joined_mount_namespace_is_not_the_parents() {
    let mut config = config(&json!([
        { "destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind"] },
    ]));
    let mut host = host();
    host.user_namespace = true;
    let slots = |config: &Value| listing(config, &host).matches("into slot").count();
    assert_eq!(slots(&config), 2);
    config["linux"]["namespaces"][0]["path"] = json!("/proc/1/ns/mnt");
    assert_eq!(slots(&config), 0);
}
