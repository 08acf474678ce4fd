//! Device filters that are cached in bpffs: they are reused, and no container gets one of other
//! rules.

use std::process::{Child, Command};

use integration::*;

/// Says whether /dev/kmsg can be opened.
const TRY: &str =
    "test -e /kmsg || mknod /kmsg c 1 11; (: </kmsg) 2>/dev/null && echo open || echo denied";

/// A mount namespace with a pure cgroup v2 tree and a bpffs, for several calls.
struct Machine(Child);

impl Machine {
    fn new() -> Self {
        let script = "test -e /sys/fs/cgroup/cgroup.controllers || mount -t cgroup2 none /sys/fs/cgroup; \
                      mount -t bpf -o mode=700 none /sys/fs/bpf && exec sleep 1000";
        let words = ["-m", "--propagation", "private", "sh", "-c", script];
        let child = Command::new("unshare").args(words).spawn();
        let machine = Self(child.expect("unshare"));
        assert!(call::within(call::DEADLINE, || machine.is_ready().then_some(())).is_some());
        machine
    }

    fn is_ready(&self) -> bool {
        self.says("stat -f -c %T /sys/fs/bpf; cat /sys/fs/cgroup/cgroup.controllers >/dev/null && echo v2")
            .ends_with("bpf_fs\nv2\n")
    }

    fn prefix(&self) -> [String; 4] {
        ["nsenter".into(), "--target".into(), self.0.id().to_string(), "--mount".into()]
    }

    /// What a script prints there.
    fn says(&self, script: &str) -> String {
        let [nsenter, options @ ..] = self.prefix();
        let output = Command::new(nsenter).args(options).args(["sh", "-c", script]).output();
        String::from_utf8(output.expect("nsenter").stdout).expect("utf-8")
    }

    /// The kept filters, each with the number of its file.
    fn kept(&self) -> String {
        self.says("ls -i /sys/fs/bpf/davit")
    }

    /// A container that says whether it can open /dev/kmsg.
    fn container(&self, allowed: &[(i64, i64)]) -> Container {
        let prefix = self.prefix();
        let allow = |(major, minor): &(i64, i64)| json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rw" });
        Container::sh(TRY).by(&prefix.each_ref().map(String::as_str)).with(|c| {
            config::set_capabilities(c, &["CAP_MKNOD", "CAP_SYSLOG"]);
            c["linux"]["resources"]["devices"] = [json!({ "allow": false, "access": "rwm" })]
                .into_iter()
                .chain(allowed.iter().map(allow))
                .collect();
        })
    }

    fn closed(&self) -> Container {
        self.container(&[(10, 229)])
    }

    /// One that may, with a filter that is kept beside that of [`Machine::closed`].
    fn open(&self) -> Container {
        let beside = |number: i64| {
            self.says("rm -f /sys/fs/bpf/davit/*");
            let open = self.container(&[(1, 11), (10, number)]);
            assert_eq!(self.closed().run().ok().out, "denied\n");
            assert_eq!(open.run().ok().out, "open\n");
            (self.kept().lines().count() == 2).then_some(open)
        };
        (100..200).find_map(beside).expect("two places")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

macro_rules! needs_root_of_the_machine {
    () => {
        davit_only!("other runtimes load a filter for each container");
        skip_if!(fixture::missing(&["nsenter", "unshare"]));
    };
}

#[test]
fn a_filter_is_loaded_once() {
    needs_root_of_the_machine!();
    let machine = Machine::new();
    assert_eq!(machine.closed().run().ok().out, "denied\n");
    let kept = machine.kept();
    assert_eq!(kept.lines().count(), 1, "{kept}");
    assert_eq!(machine.closed().run().ok().out, "denied\n");
    assert_eq!(machine.kept(), kept);
    assert_eq!(machine.says("stat -c '%a %u' /sys/fs/bpf/davit"), "700 0\n");
}

#[test]
fn two_containers_share_it_and_an_update_changes_one() {
    needs_root_of_the_machine!();
    let machine = Machine::new();
    let loops = |c: Container| c.with(|c| c["process"]["args"] = json!(["sleep", "1000"]));
    let (one, other) = (loops(machine.closed()), loops(machine.closed()));
    for c in [&one, &other] {
        c.create().start();
    }
    one.call(&["update", "--device-allow", "c 1:11 rw", &one.id]).done().ok();
    assert_eq!((one.ask(TRY), other.ask(TRY)), ("open\n".into(), "denied\n".into()));
    for c in [&one, &other] {
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn one_of_other_rules_is_not_taken() {
    needs_root_of_the_machine!();
    let machine = Machine::new();
    let open = machine.open();
    machine.says("cd /sys/fs/bpf/davit; set -- *; mv $1 moved; mv $2 $1; mv moved $2");
    assert_eq!(machine.closed().run().ok().out, "denied\n");
    assert_eq!(open.run().ok().out, "open\n");
}

#[test]
fn nor_what_somebody_else_can_have_put_there() {
    needs_root_of_the_machine!();
    for change in ["chmod 777", "chown 1000"] {
        let machine = Machine::new();
        machine.says(&format!("mkdir /sys/fs/bpf/davit; {change} /sys/fs/bpf/davit"));
        assert_eq!(machine.closed().run().ok().out, "denied\n", "{change}");
        assert_eq!(machine.kept(), "", "{change}");
    }
}
