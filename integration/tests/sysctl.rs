//! linux.sysctl: kernel parameters of the container's namespaces.

use integration::config::drop_namespace;
use integration::*;

#[test]
fn sysctls() {
    spec!();
    let c = Container::sh("cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/msgmax fs/mqueue/msg_max")
        .with(|c| {
            c["linux"]["sysctl"] = json!({
                "net.ipv4.ip_forward": "1", "net.core.somaxconn": "77", "kernel.msgmax": "65535", "fs.mqueue.msg_max": "20",
            });
        });
    assert_eq!(c.run().ok().out, "1\n77\n65535\n20\n");
}

#[test]
fn a_sysctl_with_a_slash_in_a_name() {
    spec!();
    fails_with!("runc", "1.1 knows only dots");
    fails_with!("crun", "replaces every dot");
    let c = Container::sh("cat /proc/sys/net/ipv4/conf/lo/forwarding")
        .with(|c| c["linux"]["sysctl"] = json!({ "net/ipv4/conf/lo/forwarding": "1" }));
    assert_eq!(c.run().ok().out, "1\n");
}

#[test]
fn sysctls_without_their_namespace_are_refused() {
    spec!();
    for (name, kind) in [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.msgmax", "ipc"),
        ("kernel.shmmax", "ipc"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ] {
        let c = Container::new(&["true"]).with(|c| {
            drop_namespace(c, kind);
            if kind == "uts" {
                c.as_object_mut().expect("config").remove("hostname");
            }
            c["linux"]["sysctl"] = json!({ name: "1" });
        });
        c.run().refuses(&["linux.sysctl", name, kind]);
    }
    for name in [
        "vm.swappiness",
        "kernel.pid_max",
        "fs.file-max",
        "kernel.core_pattern",
        "bogus",
        "net.../../kernel.x",
    ] {
        let c = Container::new(&["true"]).with(|c| c["linux"]["sysctl"] = json!({ name: "1" }));
        c.run().refuses(&["linux.sysctl", name]);
    }
}

#[test]
fn a_sysctl_that_does_not_exist_is_refused() {
    spec!();
    let c = Container::new(&["true"])
        .with(|c| c["linux"]["sysctl"] = json!({ "net.core.nosuch": "1" }));
    c.run().refuses(&["linux.sysctl", "net.core.nosuch", "no such file or directory"]);
}

/// A12: as crun; the parameter beat the field in silence.
#[test]
fn a_domainname_in_sysctl_beside_the_field_is_refused() {
    davit_only!("runc 1.1 knows no domainname");
    for name in ["kernel.domainname", "kernel/domainname"] {
        let c = Container::sh("cat /proc/sys/kernel/domainname").with(|c| {
            c["domainname"] = "of-the-field".into();
            c["linux"]["sysctl"] = json!({ name: "of-the-parameter" });
        });
        c.run().refuses(&[
            "linux.sysctl",
            "kernel.domainname",
            "conflicts with the field domainname",
        ]);
    }
    let alone = Container::sh("cat /proc/sys/kernel/domainname").with(|c| {
        c["linux"]["sysctl"] = json!({ "kernel.domainname": "of-the-parameter" });
    });
    assert_eq!(alone.run().ok().out, "of-the-parameter\n");
    for hostname in [json!("x"), Value::Null] {
        let c = Container::new(&["true"]).with(|c| {
            c["hostname"] = hostname;
            c["linux"]["sysctl"] = json!({ "kernel.hostname": "y" });
        });
        c.run().refuses(&["kernel.hostname", "conflicts with the field hostname"]);
    }
}
