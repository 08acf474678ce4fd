//! `linux.netDevices`: devices of the host in the container. The host is a network namespace of the
//! test's own.

use integration::*;

/// In a network namespace of its own: makes devices, calls the runtime, and shows what is left.
fn host(c: Container, setup: &str) -> Container {
    let script = format!("set -e; {setup}\nset +e; \"$@\"; code=$?; ip -o link >&3; exit $code");
    let after = c.path("after");
    let script = format!("exec 3>{after}; {script}");
    c.by(&["unshare", "-n", "sh", "-c", &script, "sh"])
}

fn after(c: &Container) -> String {
    std::fs::read_to_string(c.dir().join("after")).expect("read")
}

const VETH: &str = "ip link add dv0 type veth peer name dv1";

/// Why there can be no devices to move here, if so.
fn needs_veth() -> Option<&'static str> {
    let script = format!("{VETH} 2>/dev/null");
    let made = std::process::Command::new("unshare").args(["-n", "sh", "-c", &script]).status();
    (!made.is_ok_and(|status| status.success())).then_some("needs ip and a kernel with veth")
}

macro_rules! net_devices {
    () => {
        davit_only!("the runtimes of distributions are too old");
        skip_if!(needs_veth());
    };
}

#[test]
fn a_device_moves_with_its_addresses() {
    net_devices!();
    let setup = format!(
        "{VETH}
        ip link set dv0 mtu 1300
        ip link set dv1 up
        ip addr add 192.0.2.7/24 brd + dev dv0
        ip addr add 198.51.100.1 peer 198.51.100.2/32 dev dv0
        ip addr add 192.0.2.99/24 dev dv0 valid_lft 100 preferred_lft 100
        ip addr add 169.254.1.1/16 dev dv0 scope link
        ip -6 addr add 2001:db8::7/64 dev dv0 nodad
        ip link set dv0 up"
    );
    let script =
        "ip addr show dev net9; ip -o link; cat /sys/class/net/net9/mtu; ip route show dev net9";
    for user_namespace in [false, true] {
        let c = Container::sh(script).with(|c| {
            c["linux"]["netDevices"] = json!({ "dv0": { "name": "net9" } });
            if user_namespace {
                config::set_userns(c, 100_000, 65536);
            }
        });
        let c = host(c, &setup);
        let out = c.run().ok().out;
        for part in [
            "inet 192.0.2.7/24 brd 192.0.2.255",
            "inet 198.51.100.1 peer 198.51.100.2/32",
            "inet6 2001:db8::7/64 scope global",
            "UP,",
            "\n1300\n",
            "192.0.2.0/24",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
        for part in ["192.0.2.99", "169.254.1.1", "dv0"] {
            assert!(!out.contains(part), "{part}: {out}");
        }
        // It ended with its namespace: it is no piece of hardware.
        assert!(!after(&c).contains("dv0"), "{}", after(&c));
    }
}

#[test]
fn several_devices_keep_their_names() {
    net_devices!();
    let c = Container::sh("ls /sys/class/net")
        .with(|c| c["linux"]["netDevices"] = json!({ "dv1": {}, "dv0": { "name": "" } }));
    assert_eq!(host(c, VETH).run().ok().out, "dv0\ndv1\nlo\n");
}

#[test]
fn the_kernel_may_number_them() {
    net_devices!();
    let c = Container::sh("ls /sys/class/net").with(|c| {
        c["linux"]["netDevices"] = json!({ "dv1": { "name": "n%d" }, "dv0": { "name": "n%d" } });
    });
    assert_eq!(host(c, VETH).run().ok().out, "lo\nn0\nn1\n");
}

#[test]
fn parameters_of_a_device_find_it() {
    net_devices!();
    let c = Container::sh("cat /proc/sys/net/ipv4/conf/n0/forwarding").with(|c| {
        c["linux"]["netDevices"] = json!({ "dv0": { "name": "n0" } });
        c["linux"]["sysctl"] = json!({ "net.ipv4.conf.n0.forwarding": "1" });
    });
    assert_eq!(host(c, VETH).run().ok().out, "1\n");
}

#[test]
fn into_a_namespace_that_is_joined() {
    net_devices!();
    let join = |name: &str| {
        let c = Container::sh("ls /sys/class/net");
        let setup = [
            "unshare",
            "-n",
            "sh",
            "-c",
            "ip link add n0 type veth peer name n1; echo made; exec sleep 60",
        ];
        let mut other = c.host(&setup).spawn();
        other.until_out("made");
        let path = format!("/proc/{}/ns/net", other.pid());
        let c = c.with(|c| {
            config::set_namespace(c, "network", Some(&path));
            c["linux"]["netDevices"] = json!({ "dv0": { "name": name } });
        });
        (host(c, VETH), other)
    };
    let (c, _other) = join("n%d");
    assert_eq!(c.run().ok().out, "lo\nn0\nn1\nn2\n");
    let (c, _other) = join("n0");
    c.run().refuses(&["linux.netDevices[\"dv0\"]", "\"n0\"", "file exists"]);
}

#[test]
fn faults_are_named() {
    net_devices!();
    for (devices, says) in [
        (json!({ "dv7": {} }), ["linux.netDevices[\"dv7\"]", "no such device"]),
        (json!({ "lo": {} }), ["linux.netDevices[\"lo\"]", "loopback"]),
        (json!({ "dv0": { "name": "lo" } }), ["linux.netDevices[\"dv0\"].name", "loopback"]),
        (json!({ "dv0": { "name": "a/b" } }), ["linux.netDevices[\"dv0\"].name", "character"]),
        (
            json!({ "dv0": { "name": "sixteen-letters." } }),
            ["linux.netDevices[\"dv0\"].name", "15 bytes"],
        ),
        (
            json!({ "dv0": { "name": "dv1" }, "dv1": {} }),
            ["linux.netDevices[\"dv1\"].name", "another device"],
        ),
    ] {
        let c = Container::new(&["true"]).with(|c| c["linux"]["netDevices"] = devices);
        let c = host(c, VETH);
        c.run().refuses(&says);
        assert!(after(&c).contains("dv0"), "it stays: {}", after(&c));
    }
    let c = Container::new(&["true"]).with(|c| {
        c["linux"]["netDevices"] = json!({ "dv0": {} });
        let list = c["linux"]["namespaces"].as_array_mut().expect("a list");
        list.retain(|namespace| namespace["type"] != "network");
    });
    host(c, VETH).run().refuses(&["linux.netDevices", "network namespace"]);
}

#[test]
fn a_device_that_may_not_move() {
    net_devices!();
    let c = Container::new(&["true"])
        .with(|c| c["linux"]["netDevices"] = json!({ "br0": { "name": "x" } }));
    let c = host(c, "ip link add br0 type bridge");
    c.run().refuses(&["linux.netDevices[\"br0\"]", "move into the container as \"x\""]);
}

#[test]
fn the_plan_tells() {
    net_devices!();
    let c = Container::new(&["true"]).with(|c| c["linux"]["netDevices"] = json!({ "dv0": {} }));
    let c = host(c, &format!("{VETH}; ip addr add 192.0.2.7/24 dev dv0"));
    c.write();
    let out = c.call(&["explain", &c.path("bundle")]).done().ok().out;
    let told = "linux.netDevices[\"dv0\"]: fetch as \"dv0\", with 192.0.2.7/24, up";
    assert!(out.contains(told), "{out}");
}
